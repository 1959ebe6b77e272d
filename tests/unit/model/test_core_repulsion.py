"""The ZBL core repulsion against an independent scalar formula and finite differences."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from qiskit_qff.errors import ModelFileError
from qiskit_qff.model.core_repulsion import (
    COULOMB_CONSTANT,
    CoreRepulsion,
    shortest_pair_distances,
)

SPECIES = (1, 16, 40)


def reference_zbl(r, z1, z2):
    """The universal potential, written down once more from LAMMPS ``pair_style zbl``."""
    a = 0.46850 / (z1**0.23 + z2**0.23)
    x = r / a
    phi = (
        0.18175 * math.exp(-3.19980 * x)
        + 0.50986 * math.exp(-0.94229 * x)
        + 0.28022 * math.exp(-0.40290 * x)
        + 0.02817 * math.exp(-0.20162 * x)
    )
    return 14.399645 * z1 * z2 / r * phi


def all_pairs(positions):
    """A full neighbour list of a free cluster by brute force."""
    n = len(positions)
    first, neighbor, vectors = [0], [], []
    for i in range(n):
        for j in range(n):
            if i != j:
                neighbor.append(j)
                vectors.append(positions[j] - positions[i])
        first.append(len(neighbor))
    vectors = np.array(vectors).reshape(-1, 3)
    return SimpleNamespace(
        first=np.array(first, dtype=np.int64),
        neighbor=np.array(neighbor, dtype=np.int64),
        vectors=vectors,
        distances=np.linalg.norm(vectors, axis=1),
    )


@pytest.fixture
def repulsion():
    shortest = {(1, 1): 1.8, (16, 1): 1.3, (16, 16): 3.0, (40, 16): 2.4}
    return CoreRepulsion.from_shortest_distances(SPECIES, shortest)


@pytest.fixture
def cluster():
    positions = np.array([[0.0, 0.0, 0.0], [0.7, 0.1, 0.2], [0.2, 1.3, -0.1], [5.0, 5.0, 5.0], [1.1, 0.9, 0.8]])
    return np.array([0, 1, 2, 1, 1]), positions


def test_unswitched_core_is_the_universal_potential(repulsion):
    bonded, apart = np.array([0.05, 0.2, 0.6, 0.8]), np.array([0.3, 1.0, 2.5])
    expected = [reference_zbl(r, 1, 16) for r in bonded]
    np.testing.assert_allclose(repulsion.pair_energy(1, 16, bonded), expected, rtol=1e-7)
    # Sulphur atoms that never came closer than 3.0 Å feel there what ZBL is at 2 x 1.05 Å.
    expected = [reference_zbl(r * 2.1 / 3.0, 16, 16) for r in apart]
    np.testing.assert_allclose(repulsion.pair_energy(16, 16, apart), expected, rtol=1e-7)
    assert pytest.approx(14.399645, rel=1e-6) == COULOMB_CONSTANT


def test_every_pair_is_positive_monotonic_and_smooth_at_its_end(repulsion):
    for a, first in enumerate(SPECIES):
        for b, second in enumerate(SPECIES):
            outer = repulsion.outer[a, b]
            r = np.linspace(0.1, outer, 2000)
            energy = repulsion.pair_energy(first, second, r)
            assert np.all(np.diff(energy) < 0)
            assert np.all(energy[:-1] > 0)
            assert energy[-1] == 0.0
            depth = (outer - repulsion.inner[a, b]) * np.array([0.04, 0.02, 0.01])
            tail = repulsion.pair_energy(first, second, outer - depth)
            assert np.all(tail[1:] < tail[:-1] / 7.0)  # like depth cubed: no jump in two derivatives


def test_reach_lies_below_training_distances_and_falls_back_to_radii(repulsion):
    assert repulsion.outer[0, 1] == pytest.approx(0.95 * 1.3)
    assert repulsion.outer[0, 0] < 1.8  # capped: H-H was only ever seen far apart
    assert repulsion.outer[0, 2] == pytest.approx(0.95 * 0.9 * (0.31 + 1.75))
    assert np.all(repulsion.inner < repulsion.outer)
    assert repulsion.scale[1, 1] == pytest.approx(2.1 / 3.0)
    assert repulsion.scale[0, 1] == 1.0


def test_forces_are_the_gradient(repulsion, cluster):
    index, positions = cluster
    _, forces, _ = repulsion.evaluate(index, all_pairs(positions))
    step = 1e-5
    for i in range(len(positions)):
        for k in range(3):
            energy = []
            for sign in (1, -1):
                moved = positions.copy()
                moved[i, k] += sign * step
                energy.append(repulsion.evaluate(index, all_pairs(moved))[0].sum())
            assert -(energy[0] - energy[1]) / (2 * step) == pytest.approx(forces[i, k], rel=1e-6, abs=1e-6)


def test_virial_is_the_strain_derivative(repulsion, cluster):
    index, positions = cluster
    virial = repulsion.evaluate(index, all_pairs(positions))[2]
    step = 1e-6
    numeric = np.zeros((3, 3))
    for k in range(3):
        for m in range(3):
            strain = np.zeros((3, 3))
            strain[k, m] = step
            up, down = (
                repulsion.evaluate(index, all_pairs(positions @ (np.eye(3) + s * strain).T))[0].sum() for s in (1, -1)
            )
            numeric[k, m] = (up - down) / (2 * step)
    np.testing.assert_allclose(virial, 0.5 * (numeric + numeric.T), rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(virial, virial.T)


def test_atoms_far_apart_feel_nothing(repulsion):
    energies, forces, virial = repulsion.evaluate(
        np.array([0, 2]), all_pairs(np.array([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]]))
    )
    assert not energies.any()
    assert not forces.any()
    assert not virial.any()


def test_dictionary_and_table_give_the_same_radii(repulsion):
    table = np.array([[1.8, 1.3, np.inf], [1.3, 3.0, 2.4], [np.inf, 2.4, np.inf]])
    from_table = CoreRepulsion.from_shortest_distances(SPECIES, table)
    np.testing.assert_array_equal(from_table.outer, repulsion.outer)


def test_round_trip_through_a_dictionary(repulsion):
    copy = CoreRepulsion.from_dict(repulsion.to_dict())
    assert copy.species == repulsion.species
    np.testing.assert_array_equal(copy.inner, repulsion.inner)
    np.testing.assert_array_equal(copy.outer, repulsion.outer)


@pytest.mark.parametrize(
    "damage",
    [{"scale": [[2.0] * 3] * 3}, {"inner": None}, {"inner": [[1.0]]}, {"outer": [[0.1] * 3] * 3}, {"species": "Li"}],
)
def test_malformed_document_is_refused(repulsion, damage):
    with pytest.raises(ModelFileError, match="core repulsion"):
        CoreRepulsion.from_dict({**repulsion.to_dict(), **damage})


def test_missing_key_is_refused(repulsion):
    document = repulsion.to_dict()
    del document["outer"]
    with pytest.raises(ModelFileError, match="outer"):
        CoreRepulsion.from_dict(document)


def test_shortest_distances_of_a_set(cluster):
    index, positions = cluster
    numbers = np.array(SPECIES)[index]
    table = shortest_pair_distances(SPECIES, [(numbers, all_pairs(positions))])
    assert table[0, 1] == pytest.approx(np.linalg.norm(positions[1]))
    assert table[0, 0] == np.inf
    np.testing.assert_array_equal(table, table.T)
