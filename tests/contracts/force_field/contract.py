"""What every force field must obey, as checks that take a potential and a structure.

A potential has ``species``, ``cutoff`` and ``evaluate(numbers, neighbors)``; each check
raises an AssertionError. They are used on the quantum force field and on a Lennard-Jones reference, and can
be used on any new one.
"""

from pathlib import Path

import numpy as np
from ase import Atoms

from qiskit_qff.simulation.dynamics import MDSettings, run_dynamics
from qiskit_qff.structures.neighbors import neighbor_list

# Displacement of the five-point formula, in Å (or strain).
STEP = 1e-3
# Its points and weights: f' = sum w f(x + k h) / h, wrong by h^4 only.
POINTS = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))


def evaluate(potential, atoms):
    neighbors = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, potential.cutoff)
    return potential.evaluate(atoms.numbers.astype(np.int64), neighbors)


def strained(atoms, strain):
    moved = atoms.copy()
    moved.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    if not atoms.cell.rank:
        moved.positions = atoms.positions @ (np.eye(3) + strain)
    return moved


def check_forces(potential, atoms, *, indices=(0, 1), tolerance=1e-6):
    """Forces are minus the gradient, to 1e-6 eV/Å (relative to the largest, where that is above 1 eV/Å)."""
    forces = evaluate(potential, atoms).forces
    allowed = tolerance * max(1.0, np.abs(forces).max())
    for atom in indices:
        for axis in range(3):
            slope = 0.0
            for k, weight in POINTS:
                moved = atoms.copy()
                moved.positions[atom, axis] += k * STEP
                slope += weight * evaluate(potential, moved).energy / STEP
            assert abs(forces[atom, axis] + slope) < allowed, (atom, axis, forces[atom, axis], -slope)


def check_virial(potential, atoms, *, tolerance=1e-6):
    """The virial is the derivative of the energy with strain, to 1e-6 relative, and symmetric."""
    virial = evaluate(potential, atoms).virial
    np.testing.assert_allclose(virial, virial.T, rtol=1e-12, atol=1e-12)
    numeric = np.zeros((3, 3))
    for a in range(3):
        for b in range(a, 3):
            strain = np.zeros((3, 3))
            strain[a, b] += 0.5 * STEP
            strain[b, a] += 0.5 * STEP
            energies = ((w, evaluate(potential, strained(atoms, k * strain)).energy) for k, w in POINTS)
            numeric[a, b] = numeric[b, a] = sum(w * e for w, e in energies) / STEP
    assert np.abs(virial - numeric).max() < tolerance * np.abs(virial).max()


def check_rotation(potential, atoms, rotation, *, tolerance=1e-10):
    """Energies do not change, forces and virial turn with the structure."""
    before = evaluate(potential, atoms)
    turned = atoms.copy()
    turned.positions = atoms.positions @ rotation
    turned.set_cell(atoms.cell.array @ rotation)
    after = evaluate(potential, turned)
    np.testing.assert_allclose(after.energies, before.energies, atol=tolerance, rtol=0)
    np.testing.assert_allclose(after.forces, before.forces @ rotation, atol=tolerance, rtol=0)
    scale = max(1.0, np.abs(before.virial).max())
    np.testing.assert_allclose(after.virial, rotation.T @ before.virial @ rotation, atol=tolerance * scale, rtol=0)


def check_translation(potential, atoms, shift, *, tolerance=1e-10):
    """Nothing changes when the structure is moved, or atoms are replaced by periodic images."""
    before = evaluate(potential, atoms)
    moved = atoms.copy()
    moved.positions += shift
    moved.positions += np.where(atoms.pbc, np.arange(3) - 1, 0) @ atoms.cell.array
    after = evaluate(potential, moved)
    np.testing.assert_allclose(after.energies, before.energies, atol=tolerance, rtol=0)
    np.testing.assert_allclose(after.forces, before.forces, atol=tolerance, rtol=0)


def check_permutation(potential, atoms, order, *, tolerance=1e-10):
    """Names of atoms do not matter."""
    before, after = evaluate(potential, atoms), evaluate(potential, atoms[order])
    np.testing.assert_allclose(after.energies, before.energies[order], atol=tolerance, rtol=0)
    np.testing.assert_allclose(after.forces, before.forces[order], atol=tolerance, rtol=0)


def check_sums(potential, atoms, *, tolerance=1e-10):
    """Per-atom energies sum to the energy, and the net force vanishes."""
    prediction = evaluate(potential, atoms)
    assert prediction.energies.shape == (len(atoms),)
    assert abs(prediction.energies.sum() - prediction.energy) < tolerance
    assert np.abs(prediction.forces.sum(axis=0)).max() < tolerance


def check_isolated_atoms(potential):
    """A lone atom feels nothing, and distant atoms do not notice each other."""
    alone = {}
    for number in potential.species:
        for position in ([0.0, 0.0, 0.0], [3.0, -2.0, 50.0]):
            prediction = evaluate(potential, Atoms([number], positions=[position]))
            assert not prediction.forces.any()
            assert not prediction.virial.any()
            assert alone.setdefault(number, prediction.energy) == prediction.energy
    for first in potential.species:
        for second in potential.species:
            pair = evaluate(potential, Atoms([first, second], positions=[[0, 0, 0], [0, 0, 1.001 * potential.cutoff]]))
            assert abs(pair.energy - alone[first] - alone[second]) < 1e-12
            assert not pair.forces.any()


def check_cutoff_crossing(potential):
    """Energy and force fade out at the cutoff like h^3 and h^2, h below it: no jump in two derivatives."""
    for first in potential.species:
        for second in potential.species:
            depth = np.array([0.004, 0.002, 0.001]) * potential.cutoff
            energies, forces = [], []
            for h in (*depth, -1e-6):
                dimer = Atoms([first, second], positions=[[0, 0, 0], [0, 0, potential.cutoff - h]])
                prediction = evaluate(potential, dimer)
                energies.append(prediction.energy)
                forces.append(np.abs(prediction.forces).max())
            assert forces[-1] == 0.0
            rest = np.abs(np.array(energies[:-1]) - energies[-1])
            assert np.all(rest[1:] < rest[:-1] / 5.0 + 1e-11), rest
            fading = np.array(forces[:-1])
            assert np.all(fading[1:] < fading[:-1] / 3.0 + 1e-11), fading


def check_supercell(potential, atoms, *, tolerance=1e-9):
    """A repeated cell has the same energy per atom and the same forces."""
    small = evaluate(potential, atoms)
    repeats = tuple(2 if periodic else 1 for periodic in atoms.pbc)
    large = evaluate(potential, atoms * repeats)
    n_copies = int(np.prod(repeats))
    assert abs(large.energy / n_copies - small.energy) < tolerance * len(atoms)
    np.testing.assert_allclose(large.forces, np.tile(small.forces, (n_copies, 1)), atol=tolerance)


def check_energy_conservation(potential, atoms, directory: Path, *, temperature_k, timestep_fs, steps=400):
    """At constant energy the total energy drifts by less than 1 % of the kinetic energy a picosecond."""
    settings = MDSettings(temperature_k=temperature_k, steps=steps, timestep_fs=timestep_fs, ensemble="nve", interval=2)
    summary = run_dynamics(atoms, potential, settings, directory)
    kinetic_mev = 1.5 * 0.0862 * temperature_k
    assert abs(summary.drift_mev_per_atom_per_ps) < 0.01 * kinetic_mev
