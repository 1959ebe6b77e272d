"""Neighbours of the first of many points, against a tree search; and the force field on them."""

import numpy as np
import pytest
from contracts.force_field.lennard_jones import mixed_crystal
from contracts.force_field.quantum_model import small_quantum_model
from scipy.spatial import cKDTree

from qiskit_qff.structures.frame import species_index
from qiskit_qff.structures.neighbors import NeighborList, neighbor_list
from qiskit_qff.structures.point_neighbors import pairs_within, point_neighbors


@pytest.mark.parametrize(
    ("n_points", "box", "cutoff"),
    [(50, 8.0, 3.0), (1000, 30.0, 3.0), (40, 500.0, 4.0), (300, (100.0, 1.0, 1.0), 2.0), (1, 5.0, 2.0), (2, 3.0, 4.0)],
)
def test_agrees_with_a_tree(rng, n_points, box, cutoff):
    points = rng.random((n_points, 3)) * box
    n_centers = max(1, n_points // 2)
    first, neighbor = point_neighbors(points, n_centers, cutoff)
    expected = cKDTree(points).query_ball_point(points[:n_centers], cutoff)
    for i in range(n_centers):
        assert sorted(neighbor[first[i] : first[i + 1]]) == sorted(set(expected[i]) - {i})


def test_no_centers():
    first, neighbor = point_neighbors(np.eye(3), 0, 2.0)
    assert first.tolist() == [0]
    assert len(neighbor) == 0


def test_explicit_images_give_the_periodic_forces():
    """A cell with its images written out, as domain decomposition does it: forces on images belong to their atom."""
    atoms = mixed_crystal(2, rattle=0.1)
    field = small_quantum_model()
    images, owner = [atoms.positions], [np.arange(len(atoms))]
    for shift in np.ndindex(3, 3, 3):
        if shift != (1, 1, 1):
            images.append(atoms.positions + (np.array(shift) - 1) @ atoms.cell.array)
            owner.append(np.arange(len(atoms)))
    points, owner = np.concatenate(images), np.concatenate(owner)
    all_first, all_neighbor = point_neighbors(points, len(atoms), field.cutoff + 0.5)
    first, neighbor = np.empty_like(all_first), np.empty_like(all_neighbor)
    vectors, distances = np.empty((len(neighbor), 3)), np.empty(len(neighbor))
    count = pairs_within(points, all_first, all_neighbor, field.cutoff**2, first, neighbor, vectors, distances)
    neighbors = NeighborList(
        first, neighbor[:count], vectors[:count], distances[:count], np.zeros((count, 3), np.int32)
    )
    kinds = species_index(atoms.numbers, field.species, where="crystal")
    here = field.folded.evaluate(kinds[owner], neighbors)
    there = field.folded.evaluate(kinds, neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, field.cutoff))
    forces = np.zeros((len(atoms), 3))
    np.add.at(forces, owner, here.forces)
    np.testing.assert_allclose(here.energies, there.energies, atol=1e-12)
    np.testing.assert_allclose(forces, there.forces, atol=1e-12)
    np.testing.assert_allclose(here.virial, there.virial, atol=1e-11)
