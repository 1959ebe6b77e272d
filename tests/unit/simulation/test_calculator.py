"""The ASE calculator: derivatives, and neighbours kept from step to step."""

import numpy as np
import pytest
from ase.calculators.fd import calculate_numerical_stress
from ase.calculators.test import gradient_test
from contracts.force_field.lennard_jones import LennardJones, mixed_crystal

from qiskit_qff.simulation.calculator import QFFCalculator


@pytest.fixture
def crystal():
    atoms = mixed_crystal(rattle=0.1)
    atoms.calc = QFFCalculator(LennardJones())
    return atoms


def test_forces_stress_and_energies_are_of_one_energy(crystal):
    analytic, numeric = gradient_test(crystal, indices=[0, 5, 17])
    np.testing.assert_allclose(analytic, numeric, atol=1e-7)
    stress = calculate_numerical_stress(crystal, eps=1e-5, voigt=False)
    np.testing.assert_allclose(crystal.get_stress(voigt=False), stress, atol=1e-8)
    assert crystal.get_potential_energies().sum() == pytest.approx(crystal.get_potential_energy(), abs=1e-12)


def test_kept_neighbors_give_the_forces_of_new_ones(crystal):
    rng = np.random.default_rng(1)
    for _ in range(5):
        crystal.positions += 0.02 * rng.standard_normal(crystal.positions.shape)
        fresh = crystal.copy()
        fresh.calc = QFFCalculator(LennardJones())
        np.testing.assert_array_equal(crystal.get_forces(), fresh.get_forces())
    assert crystal.calc._verlet_list.n_builds < 5
