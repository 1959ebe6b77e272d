"""What every descriptor must obey, as checks that take a registered name, its arguments and a structure.

Each raises an AssertionError. They are used on two descriptors in ``test_contract.py``, and on one of yours by

    QFF_DESCRIPTOR="my_package:Mine" python -m pytest -n 0 tests/contracts/descriptor
"""

import numpy as np

from qiskit_qff.descriptors.blocks import Surroundings, channel_values
from qiskit_qff.descriptors.channels import OwnSet, OwnTables, make_descriptor, make_tables
from qiskit_qff.descriptors.derivatives import DesignRows, linear_design
from qiskit_qff.structures.frame import Frame

STEP = 1e-4  # Å, or strain
R_CUT = 4.0


def tables_of(name: str, arguments: dict, species=(29, 79)) -> OwnTables:
    """All features of a descriptor for some species."""
    size = make_descriptor(name, arguments, list(species), R_CUT).n_features
    return make_tables({z: OwnSet(z, name, arguments, np.arange(size)) for z in species}, R_CUT)


def near(tables, atoms) -> Surroundings:
    return Surroundings.in_frame(Frame.from_atoms(atoms), tables)


def values(tables, atoms):
    return channel_values(tables, near(tables, atoms))


def rows(tables, atoms):
    """Sums of all features, minus their gradient, and their derivative by strain."""
    size, n = int(tables.channel_start[-1]), len(atoms)
    found = DesignRows(np.empty(size), np.empty((3 * n, size)), np.empty((6, size)))
    linear_design(tables, near(tables, atoms), found, np.empty((n, size)))
    return found


def check_invariance(tables, atoms, rotation, order):
    """Rotations, translations, periodic images and the order of atoms change nothing."""
    expected, moved = values(tables, atoms), atoms[order]
    moved.positions = (moved.positions + np.array([0.3, -7.0, 2.0])) @ rotation
    moved.set_cell(atoms.cell.array @ rotation)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(values(tables, moved), expected[order], atol=1e-9 * scale)


def check_derivatives(tables, atoms, *, tolerance=1e-5):
    """Rows of forces and of strain are finite differences of the sums."""
    found, n = rows(tables, atoms), len(atoms)
    scale = max(np.abs(found.forces).max(), np.abs(found.virial).max())
    for place in (0, 3 * n - 1):
        step = np.zeros((n, 3))
        step.flat[place] = STEP
        ahead, behind = (rows(tables, shifted(atoms, sign * step)).energy for sign in (1, -1))
        np.testing.assert_allclose(found.forces[place], (behind - ahead) / (2 * STEP), atol=tolerance * scale)
    for k, (a, b) in enumerate(((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))):
        strain = np.zeros((3, 3))
        strain[a, b] = STEP
        ahead, behind = (rows(tables, strained(atoms, sign * strain)).energy for sign in (1, -1))
        np.testing.assert_allclose(found.virial[k], (ahead - behind) / (2 * STEP), atol=tolerance * scale)
    assert np.abs(found.forces.reshape(n, 3, -1).sum(axis=0)).max() < 1e-9 * scale


def check_extensivity(tables, atoms):
    """A repeated cell has the sums of its copies, and what is beyond the cutoff does not count."""
    one, many = rows(tables, atoms).energy, rows(tables, atoms * (2, 1, 1)).energy
    np.testing.assert_allclose(many, 2.0 * one, atol=1e-9 * np.abs(one).max())
    cluster = atoms[:4]
    cluster.cell, cluster.pbc = None, False
    pair = cluster + cluster
    pair.positions[4:] += [R_CUT + 10.0, 0.0, 0.0]
    np.testing.assert_allclose(rows(tables, pair).energy, 2.0 * rows(tables, cluster).energy, atol=1e-9)


def check_cutoff(tables, atoms, *, tolerance=1e-4):
    """Features have no jump where a neighbour passes the cutoff."""
    dimer = atoms[:2]
    dimer.cell, dimer.pbc = None, False
    inside, outside = (
        values(tables, shifted(dimer, [[0, 0, 0], [0, 0, R_CUT + h] - dimer.positions[1] + dimer.positions[0]]))
        for h in (-1e-6, 1e-6)
    )
    assert np.abs(inside - outside).max() < tolerance * np.abs(values(tables, atoms)).max()


def shifted(atoms, step):
    moved = atoms.copy()
    moved.positions += step
    return moved


def strained(atoms, strain):
    moved = atoms.copy()
    moved.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return moved
