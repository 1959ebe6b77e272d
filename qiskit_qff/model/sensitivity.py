r"""How the amplitudes of every atom move when atoms move: what turns measured dE/dx into forces.

.. math:: F_a = -\sum_i \frac{\partial E_i}{\partial x_i} \cdot \frac{\partial x_i}{\partial R_a},\qquad
          x_i = (1, T(D_i - \bar D), 0\ldots)

with a running over all Cartesian components of all atoms. The exact force field never forms this Jacobian; it
serves the strategies that measure energies or gradients one frame at a time.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qiskit_qff.descriptors.channels import make_tables
from qiskit_qff.descriptors.kernels import atom_channels
from qiskit_qff.encoding.amplitudes import amplitude_vectors
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.neighbors import NeighborList, neighbor_list
from qiskit_qff.structures.species import species_index

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Environments:
    """The atoms of one frame as the circuits see them."""

    amplitudes: dict[int, FloatArray]
    """x of the atoms of each species, shape ``(n_s, 2**n)``, in the order of the frame."""
    slopes: dict[int, FloatArray]
    """dx/dR of the same atoms in 1/Å, shape ``(n_s, 3 n_atoms, 2**n)``."""
    energy_offset: float
    """Reference energies and core repulsion of the frame, in eV."""
    force_offset: FloatArray
    """Forces of the core repulsion, shape ``(n_atoms, 3)``, in eV/Å."""

    def energy_weights(self, species: int) -> FloatArray:
        """W with ``E_s = Tr(M W)``, the sum of ``x x^T``, shape ``(2**n, 2**n)``."""
        x = self.amplitudes[species]
        return np.asarray(x.T @ x)

    def force_weights(self, species: int) -> FloatArray:
        """W with ``F_a = Tr(M W_a)``, symmetric, shape ``(3 n_atoms, 2**n, 2**n)``, in 1/Å."""
        half = -np.einsum("iaj,ik->ajk", self.slopes[species], self.amplitudes[species], optimize=True)
        return np.asarray(half + half.transpose(0, 2, 1))


def environments(field: ForceField, frame: Frame) -> Environments:
    """Amplitudes of a frame and their derivatives with respect to all positions.

    Args:
        field: the model.
        frame: the structure.

    Raises:
        DataError: if an atom is of a species the model does not know.
    """
    kinds = species_index(frame.numbers, field.species, where=frame.where)
    neighbors = neighbor_list(frame.positions, frame.cell, frame.pbc, field.cutoff)
    core_energies, core_forces, _ = field.repulsion.evaluate(kinds, neighbors)
    references = np.array([model.reference_energy for model in field.models])
    amplitudes, slopes = {}, {}
    for s, model in enumerate(field.models):
        amplitudes[model.number], slopes[model.number] = _of_species(field, s, kinds, neighbors)
    return Environments(
        amplitudes=amplitudes,
        slopes=slopes,
        energy_offset=float(references[kinds].sum() + core_energies.sum()),
        force_offset=core_forces,
    )


def _of_species(
    field: ForceField, s: int, kinds: NDArray[np.int64], neighbors: NeighborList
) -> tuple[FloatArray, FloatArray]:
    """Amplitudes of the atoms of one species and their derivatives."""
    model = field.models[s]
    sets = {m.number: m.compression.channels for m in field.models}
    tables = make_tables(sets, field.cutoff, core_start=field.repulsion.outer)
    atoms = np.flatnonzero(kinds == s)
    n_channels, size = model.compression.channels.n_channels, 2**model.ansatz.n_qubits
    values = np.empty((len(atoms), n_channels))
    slopes = np.zeros((len(atoms), len(kinds), 3, size))
    for row, atom in enumerate(atoms):
        low, high = neighbors.first[atom], neighbors.first[atom + 1]
        others = neighbors.neighbor[low:high]
        jacobian = np.empty((high - low, 3, n_channels))
        atom_channels(
            tables, s, neighbors.vectors[low:high], neighbors.distances[low:high], kinds[others], values[row], jacobian
        )
        moved = jacobian @ model.compression.matrix.T
        used = slice(1, 1 + model.compression.n_features)
        # A neighbour may be an image of the atom itself or appear several times: add, never assign.
        np.add.at(slopes[row, :, :, used], others, moved)
        slopes[row, atom, :, used] -= moved.sum(axis=0)
    x = amplitude_vectors(model.compression.apply(values), n_qubits=model.ansatz.n_qubits)
    return x, slopes.reshape(len(atoms), 3 * len(kinds), size)
