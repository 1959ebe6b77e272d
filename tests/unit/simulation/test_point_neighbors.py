"""A force field on points whose periodic images are written out, as LAMMPS gives them."""

import numpy as np
from contracts.force_field.lennard_jones import mixed_crystal
from contracts.force_field.quantum_model import small_quantum_model

from qiskit_qff.simulation.lammps_coupling import pairs_within, point_neighbors
from qiskit_qff.structures.frame import species_index
from qiskit_qff.structures.neighbors import NeighborList, neighbor_list


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
