"""Neighbour lists against all images tried one by one, and lists kept through a simulation against fresh ones."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from qiskit_qff.structures.neighbors import NeighborList, VerletList, neighbor_list


def pair_keys(centers, neighbor):
    return [tuple(row) for row in np.column_stack([centers, neighbor]).tolist()]


def assert_same(found: NeighborList, wanted: NeighborList):
    assert np.array_equal(found.first, wanted.first)
    assert np.array_equal(found.neighbor, wanted.neighbor)
    assert np.array_equal(found.vectors, wanted.vectors)
    assert np.array_equal(found.distances, wanted.distances)


@st.composite
def boxes(draw):
    """Positions, cell, pbc and cutoff: triclinic and tiny cells, absent vectors, atoms far outside."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pbc = np.array(draw(st.tuples(st.booleans(), st.booleans(), st.booleans())))
    cell = np.diag(rng.uniform(2.5, 7.0, 3)) + rng.uniform(-1.0, 1.0, (3, 3))
    if draw(st.booleans()):
        cell[~pbc] = 0.0
    n_atoms = draw(st.integers(1, 5))
    spread = draw(st.sampled_from([3.0, 15.0]))
    return rng.uniform(-spread, spread, (n_atoms, 3)), cell, pbc, rng.uniform(1.0, 5.0)


def all_pairs(positions, cell, pbc, cutoff):
    """Every image that can matter, tried one by one; sorted keys and vectors."""
    spanned = np.where(pbc[:, None], cell, 0.0)
    full = np.linalg.pinv(spanned)  # fractional coordinates along the periodic directions
    reach = np.abs(positions @ full).max(axis=0) * 2 + cutoff * np.linalg.norm(full, axis=0) + 1
    ranges = [np.arange(-int(n), int(n) + 1) if period else [0] for n, period in zip(reach, pbc, strict=True)]
    shifts = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    keys, vectors = [], []
    for i in range(len(positions)):
        for j in range(len(positions)):
            separations = positions[j] - positions[i] + shifts @ spanned
            near = (separations**2).sum(axis=1) < cutoff**2
            near &= (shifts != 0).any(axis=1) | (i != j)
            keys += [(i, j)] * int(near.sum())
            vectors += separations[near].tolist()
    return keys, np.array(vectors).reshape(-1, 3)


@settings(max_examples=60, deadline=None)
@given(boxes())
def test_same_pairs_as_trying_every_image(box):
    positions, cell, pbc, cutoff = box
    found = neighbor_list(positions, cell, pbc, cutoff)
    keys, vectors = all_pairs(positions, cell, pbc, cutoff)
    assert pair_keys(found.centers, found.neighbor) == keys
    np.testing.assert_allclose(found.vectors, vectors, atol=1e-10)
    np.testing.assert_allclose(found.distances, np.linalg.norm(vectors, axis=1), atol=1e-10)


@settings(max_examples=30, deadline=None)
@given(boxes(), st.integers(0, 2**32 - 1))
def test_list_kept_over_moves_and_strains_equals_a_fresh_one(box, seed):
    positions, cell, pbc, cutoff = box
    rng = np.random.default_rng(seed)
    kept = VerletList(cutoff, skin=0.8)
    for _ in range(12):
        assert_same(kept.update(positions, cell, pbc), neighbor_list(positions, cell, pbc, cutoff))
        strain = np.eye(3) + rng.normal(0.0, 0.005, (3, 3))
        positions = (positions + rng.normal(0.0, 0.08, positions.shape)) @ strain
        cell = cell @ strain
