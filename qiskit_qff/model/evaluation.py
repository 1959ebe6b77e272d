"""The fast path: a force field folded into the arrays that the kernels take, evaluated on neighbour lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.descriptors.channels import ChannelTables, make_tables
from qiskit_qff.descriptors.quadratic import Fence, no_fence, quadratic_forces
from qiskit_qff.model.core_repulsion import CoreRepulsion
from qiskit_qff.model.species_model import SpeciesModel
from qiskit_qff.structures.neighbors import NeighborList


@dataclass(frozen=True)
class Prediction:
    """What the force field says of one structure."""

    energies: FloatArray
    """Energy of each atom, shape ``(n,)``, in eV."""
    forces: FloatArray
    """Forces, shape ``(n, 3)``, in eV/Å."""
    virial: FloatArray
    """dE/dstrain, symmetric, shape ``(3, 3)``, in eV; divided by the volume it is the stress."""

    @property
    def energy(self) -> float:
        """Total energy in eV."""
        return float(self.energies.sum())

    def stress(self, volume: float) -> FloatArray:
        """Stress, ASE sign.

        Args:
            volume: Cell volume in Å^3.

        Returns:
            Shape ``(3, 3)``, in eV/Å^3.
        """
        return self.virial / volume


@dataclass(frozen=True)
class FoldedForceField:
    """Everything an energy needs: channels, and per species one quadratic form in them."""

    tables: ChannelTables
    means: FloatArray  # of the channels of all species end to end
    forms: FloatArray  # matrices B of all species, flattened end to end, in eV
    form_start: IntArray  # where each begins, shape ``(S + 1,)``
    references: FloatArray  # energy added to every atom of a species, shape ``(S,)``, in eV
    repulsion: CoreRepulsion
    fence: Fence  # walls around the training data; none unless a simulation asks for them

    @classmethod
    def of(
        cls,
        models: Sequence[SpeciesModel],
        matrices: Mapping[int, FloatArray],
        *,
        r_cut: float,
        repulsion: CoreRepulsion,
    ) -> FoldedForceField:
        """Fold each species' compression into its matrix M, given by atomic number."""
        forms = []
        for m in models:
            used = m.compression.n_features + 1
            forms.append(m.compression.fold(matrices[m.number][:used, :used]))
        return cls(
            tables=make_tables({m.number: m.compression.channels for m in models}, r_cut, core_start=repulsion.level),
            means=np.concatenate([m.compression.mean for m in models]),
            forms=np.concatenate([f.ravel() for f in forms]),
            form_start=np.concatenate([[0], np.cumsum([f.size for f in forms])]).astype(np.int64),
            references=np.array([m.reference_energy for m in models]),
            repulsion=repulsion,
            fence=no_fence(len(models)),
        )

    def evaluate(self, kinds: IntArray, neighbors: NeighborList) -> Prediction:
        """Energies of the centres of a neighbour list, and the forces they cause on all atoms of these kinds."""
        energies, forces, virial = quadratic_forces(
            self.tables, self.means, self.forms, self.form_start, self.fence,
            neighbors.first, neighbors.neighbor, neighbors.vectors, neighbors.distances, kinds,
        )  # fmt: skip
        n_centers = neighbors.n_atoms
        core_energies, core_forces, core_virial = self.repulsion.evaluate(kinds, neighbors)
        energies += self.references[kinds[:n_centers]] + core_energies
        forces[:n_centers] += core_forces
        virial += core_virial
        return Prediction(energies, forces, 0.5 * (virial + virial.T))
