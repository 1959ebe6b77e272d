r"""How the amplitudes of every atom move when atoms move: what turns measured dE/dx into forces and stresses.

.. math:: F_a = -\sum_i \frac{\partial E_i}{\partial x_i} \cdot \frac{\partial x_i}{\partial R_a},\qquad
          V_{cd} = \sum_i \frac{\partial E_i}{\partial x_i} \cdot \frac{\partial x_i}{\partial\epsilon_{cd}},\qquad
          x_i = (1, y_i, 0\ldots)

for every register with its features y of :math:`T(D_i - \bar D)`, with a running over all Cartesian components of all
atoms and a strain ε that moves every neighbour vector by :math:`\epsilon r`; the stress is V over the cell's volume.
The exact force field never forms this Jacobian; it serves the strategies that measure energies or gradients one frame
at a time.
"""

from dataclasses import dataclass

import numpy as np

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.descriptors.design_rows import channel_jacobian
from qiskit_qff.encoding.tree import amplitude_vectors
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.species_model import RegisterKey
from qiskit_qff.structures.frame import Frame, species_index
from qiskit_qff.structures.neighbors import NeighborList, neighbor_list


@dataclass(frozen=True, eq=False)
class Environments:
    """The atoms of one frame as the circuits see them."""

    amplitudes: dict[RegisterKey, FloatArray]
    """x of the atoms in each register, shape ``(n_s, 2**n)``, in the order of the frame."""
    reaches: dict[RegisterKey, list[tuple[IntArray, FloatArray]]]
    """dx/dR of the same atoms in 1/Å, where it is not zero: indices of Cartesian components among all of the frame, all
    different, shape ``(3 k,)``, and a row for each of them, shape ``(3 k, 2**n)``; k is a handful in any frame."""
    strains: dict[RegisterKey, FloatArray]
    """dx/dε of the same atoms for a symmetric strain, shape ``(n_s, 9, 2**n)``."""
    energy_offset: float
    """Reference energies and core repulsion of the frame, in eV."""
    force_offset: FloatArray
    """Forces of the core repulsion, shape ``(n_atoms, 3)``, in eV/Å."""
    virial_offset: FloatArray
    """dE/dε of the core repulsion, symmetric, shape ``(3, 3)``, in eV."""

    def energy_weights(self, register: RegisterKey) -> FloatArray:
        """W with ``E_r - n_s M_00 = Tr(M W)``, the sum of ``x x^T - e_0 e_0^T``, shape ``(2**n, 2**n)``.

        The mean environment, x = e_0, has its trained energy whatever a device says of M_00; a measured M gives the
        difference to it. An error of M_00 would otherwise count once for every atom.
        """
        x = self.amplitudes[register]
        weights = x.T @ x
        weights[0, 0] -= len(x)
        return np.asarray(weights)

    def force_weights(self, register: RegisterKey) -> FloatArray:
        """W with ``F_a = Tr(M W_a)``, symmetric, shape ``(3 n_atoms, 2**n, 2**n)``, in 1/Å."""
        size = self.amplitudes[register].shape[1]
        half = np.zeros((self.force_offset.size, size, size))
        for (coordinates, rows), x in zip(self.reaches[register], self.amplitudes[register], strict=True):
            half[coordinates] -= rows[:, :, None] * x
        return np.asarray(half + half.transpose(0, 2, 1))

    def virial_weights(self, register: RegisterKey) -> FloatArray:
        """W with ``dE_s/dε = Tr(M W_cd)``, symmetric, shape ``(9, 2**n, 2**n)``."""
        half = np.einsum("iaj,ik->ajk", self.strains[register], self.amplitudes[register], optimize=True)
        return np.asarray(half + half.transpose(0, 2, 1))


def environments(field: ForceField, frame: Frame) -> Environments:
    """Amplitudes of a frame and their derivatives with respect to all positions."""
    kinds = species_index(frame.numbers, field.species, where=frame.where)
    neighbors = neighbor_list(frame.positions, frame.cell, frame.pbc, field.cutoff)
    core_energies, core_forces, core_virial = field.repulsion.evaluate(kinds, neighbors)
    references = np.array([model.reference_energy for model in field.models])
    values, jacobian = channel_jacobian(
        field.folded.tables, neighbors.first, neighbors.neighbor, neighbors.vectors, neighbors.distances, kinds
    )
    amplitudes, reaches, strains = {}, {}, {}
    for s, model in enumerate(field.models):
        compression, atoms = model.compression, np.flatnonzero(kinds == s)
        n_channels = compression.channels.n_channels
        features = compression.apply(values[atoms, :n_channels])
        moved = [_moved(neighbors, jacobian, compression.matrix, atom) for atom in atoms.tolist()]
        for k, (register, place) in enumerate(zip(model.registers, model.slices, strict=True)):
            key, size = (model.number, k), 2**register.n_qubits
            amplitudes[key] = amplitude_vectors(features[:, place], n_qubits=register.n_qubits)
            reaches[key] = [(coordinates, _padded(rows[:, place], size)) for coordinates, rows, _ in moved]
            strained = np.array([strain for *_, strain in moved]).reshape(len(atoms), 9, features.shape[1])
            strains[key] = _padded(strained[..., place], size)
    return Environments(
        amplitudes=amplitudes,
        reaches=reaches,
        strains=strains,
        energy_offset=float(references[kinds].sum() + core_energies.sum()),
        force_offset=core_forces,
        virial_offset=0.5 * (core_virial + core_virial.T),
    )


def _padded(slopes: FloatArray, size: int) -> FloatArray:
    """Derivatives of x = (1, y, 0...) from those of y, which are the last axis."""
    padded = np.zeros((*slopes.shape[:-1], size))
    padded[..., 1 : 1 + slopes.shape[-1]] = slopes
    return padded


def _moved(
    neighbors: NeighborList, jacobian: FloatArray, matrix: FloatArray, atom: int
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Cartesian components that an atom's features y depend on, dy/dR, and dy/dε of a symmetric strain, ``(9, d)``."""
    own = slice(neighbors.first[atom], neighbors.first[atom + 1])
    moved = jacobian[own, :, : matrix.shape[1]] @ matrix.T
    # A neighbour may be an image of the atom itself or appear several times: add, never assign.
    touched, place = np.unique(np.append(neighbors.neighbor[own], atom), return_inverse=True)
    by_atom = np.zeros((len(touched), *moved.shape[1:]))
    np.add.at(by_atom, place[:-1], moved)
    by_atom[place[-1]] -= moved.sum(axis=0)
    strain = np.einsum("pcj,pd->cdj", moved, neighbors.vectors[own])
    coordinates = (3 * touched[:, None] + np.arange(3)).ravel()
    symmetric = 0.5 * (strain + strain.transpose(1, 0, 2))
    return coordinates, by_atom.reshape(len(coordinates), -1), symmetric.reshape(9, -1)
