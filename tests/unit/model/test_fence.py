"""Walls around the training domain: nothing inside, conservative and smooth outside, and holding what falls."""

import numba
import numpy as np
import pytest
from contracts.force_field.contract import evaluate
from contracts.force_field.lennard_jones import mixed_crystal
from contracts.force_field.quantum_model import labelled_frames, small_quantum_model
from eightwise import eightwise

from qiskit_qff.descriptors.derivatives import WIDTH, Fence, fence_energy
from qiskit_qff.descriptors.eights import load, store


@pytest.fixture(scope="module")
def field():
    return small_quantum_model()


@pytest.fixture(scope="module")
def fenced(field):
    return field.within_walls()


def outside():
    """Farther from the crystal than any training frame."""
    return mixed_crystal(2, seed=5, rattle=0.45)


def wall_energy(field, fenced, atoms):
    return float(evaluate(fenced, atoms).energy - evaluate(field, atoms).energy)


def test_training_frames_do_not_feel_the_walls(field, fenced):
    for frame in labelled_frames():
        one, other = (evaluate(potential, frame.to_atoms()) for potential in (fenced, field))
        np.testing.assert_array_equal(one.energies, other.energies)
        np.testing.assert_array_equal(one.forces, other.forces)


def test_outside_costs_energy_and_forces_are_its_slope(field, fenced):
    atoms = outside()
    assert wall_energy(field, fenced, atoms) > 0.1
    found = evaluate(fenced, atoms)
    np.testing.assert_allclose(found.forces.sum(axis=0), 0.0, atol=1e-9)
    for atom, axis in ((0, 0), (3, 1), (9, 2)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * 1e-5
            energies.append(evaluate(fenced, moved).energy)
        slope = -(energies[0] - energies[1]) / 2e-5
        assert found.forces[atom, axis] == pytest.approx(slope, rel=1e-6, abs=1e-6 * np.abs(found.forces).max())
    strain = np.eye(3)
    strain[0, 1] = 1e-5
    energies = []
    for change in (strain, 2.0 * np.eye(3) - strain):
        moved = atoms.copy()
        moved.set_cell(atoms.cell.array @ change, scale_atoms=True)
        energies.append(evaluate(fenced, moved).energy)
    sheared = 0.5 * (found.virial + found.virial.T)[0, 1]
    assert (energies[0] - energies[1]) / 2e-5 == pytest.approx(sheared, rel=1e-5, abs=1e-5 * np.abs(found.virial).max())


@numba.njit
def one_channel(place, fence):
    """Energy and slope of atoms with one channel."""
    centred, gradient = np.empty((1, 8)), np.zeros((1, 8))
    store(centred, 0, place)
    return fence_energy(fence, 0, centred, 1, gradient, np.empty((1, 8))), load(gradient, 0)


def test_a_wall_has_two_continuous_derivatives_and_stays_soft():
    """Along one channel with walls at -1 and 2 and slope 3."""
    starts = np.array([0, 1])
    fence = Fence(np.array([1.0]), starts, np.array([-1.0]), np.array([2.0]), starts, np.array([3.0]))
    places = np.linspace(-30.0 * WIDTH, 30.0 * WIDTH, 60_001)
    energies, slopes = eightwise(one_channel, places, fence)
    inside = (places >= -1.0) & (places <= 2.0)
    assert not energies[inside].any()
    assert not slopes[inside].any()
    assert (energies[~inside] > 0.0).all()
    np.testing.assert_allclose(np.gradient(energies, places)[1:-1], slopes[1:-1], atol=1e-5)
    curvature = np.gradient(slopes, places)
    assert np.abs(np.diff(curvature)).max() < 0.02 / WIDTH  # a jump anywhere would show at its height, in eV
    assert curvature.max() < 0.64 * 3.0 / WIDTH
    np.testing.assert_allclose(np.abs(slopes[[0, -1]]), 3.0, rtol=0.01)


def test_qff_md_runs_within_walls_and_does_not_go_on_without(field, tmp_path, qff):
    field.save(tmp_path / "model.json")
    mixed_crystal(2, rattle=0.1).write(tmp_path / "start.extxyz")
    arguments = ["md", tmp_path / "model.json", tmp_path / "start.extxyz", "--out", tmp_path / "run"]
    done, _ = qff(*arguments, "--steps", 10, "--temperature", 20)
    assert (done["steps"], done["fence"]) == (10, True)
    _, error = qff(*arguments, "--no-fence", "--steps", 20, "--temperature", 20, code=2)
    assert "another model" in error
