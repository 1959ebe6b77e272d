"""The ASE calculator: properties, errors, and what it spares from step to step."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.test import gradient_test
from contracts.force_field.lennard_jones import LennardJones, mixed_crystal

from qiskit_qff.simulation.calculator import QFFCalculator


@pytest.fixture
def crystal():
    atoms = mixed_crystal(rattle=0.1)
    atoms.calc = QFFCalculator(LennardJones())
    return atoms


def test_forces_are_the_gradient(crystal):
    analytic, numeric = gradient_test(crystal, indices=[0, 5, 17])
    np.testing.assert_allclose(analytic, numeric, atol=1e-7)


def test_stress_is_the_strain_derivative(crystal):
    from ase.calculators.fd import calculate_numerical_stress

    np.testing.assert_allclose(
        crystal.get_stress(voigt=False), calculate_numerical_stress(crystal, eps=1e-5, voigt=False), atol=1e-8
    )


def test_energies_sum_to_the_energy(crystal):
    energies = crystal.get_potential_energies()
    assert energies.shape == (len(crystal),)
    assert energies.sum() == pytest.approx(crystal.get_potential_energy(), abs=1e-12)
    assert crystal.get_potential_energy(force_consistent=True) == crystal.get_potential_energy()


def test_small_moves_keep_the_neighbors(crystal):
    rng = np.random.default_rng(1)
    for _ in range(5):
        crystal.positions += 0.02 * rng.standard_normal(crystal.positions.shape)
        kept = crystal.get_forces()
        fresh = crystal.copy()
        fresh.calc = QFFCalculator(LennardJones())
        np.testing.assert_array_equal(kept, fresh.get_forces())
    assert crystal.calc._verlet_list.n_builds < 5


def test_free_atom_and_changing_number_of_atoms():
    calculator = QFFCalculator(LennardJones())
    for n in (1, 3, 2):
        atoms = Atoms(f"Ar{n}", positions=4.0 * np.eye(3)[:n], calculator=calculator)
        assert atoms.get_forces().shape == (n, 3)
    assert calculator.n_neighbors.tolist() == [1, 1]
