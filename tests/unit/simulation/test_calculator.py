"""The ASE calculator: properties, errors, and what it spares from step to step."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.test import gradient_test
from contracts.force_field.lennard_jones import LennardJones, mixed_crystal

from qiskit_qff.errors import DataError
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


@pytest.mark.parametrize("pbc", [False, (True, True, False)])
def test_stress_needs_three_periods(crystal, pbc):
    crystal.pbc = pbc
    assert np.isfinite(crystal.get_potential_energy())
    with pytest.raises(PropertyNotImplementedError):
        crystal.get_stress()


def test_unknown_species_names_atom_and_model_species(crystal):
    crystal.numbers[7] = 3
    for _ in range(2):  # asking again must not slip through
        with pytest.raises(DataError, match=r"atom 7: element Li is unknown .* trained on Ar, Kr"):
            crystal.get_potential_energy()
    crystal.numbers[7] = 18
    assert np.isfinite(crystal.get_potential_energy())


def test_position_that_is_not_finite(crystal):
    crystal.get_forces()
    crystal.positions[4, 1] = np.nan
    with pytest.raises(DataError, match="atom 4"):
        crystal.get_forces()


def test_cell_without_volume(crystal):
    crystal.cell[2] = crystal.cell[1]
    with pytest.raises(DataError, match="no volume"):
        crystal.get_forces()


def test_two_atoms_on_one_site(crystal):
    crystal.positions[9] = crystal.positions[3] + crystal.cell[0]
    with pytest.raises(DataError, match=r"atoms 3 and 9 .* one site"):
        crystal.get_forces()


def test_free_atom_and_changing_number_of_atoms():
    calculator = QFFCalculator(LennardJones())
    for n in (1, 3, 2):
        atoms = Atoms(f"Ar{n}", positions=4.0 * np.eye(3)[:n], calculator=calculator)
        assert atoms.get_forces().shape == (n, 3)
    assert calculator.n_neighbors.tolist() == [1, 1]
