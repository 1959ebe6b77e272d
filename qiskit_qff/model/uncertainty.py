r"""Uncertainty of energies and forces: how far the members of the committee stand from the model, times one factor.

Members differ from the model by :math:`\delta M = (\partial M/\partial p)\,\delta p`, so their energies and forces are
exactly linear in the deviations, and the spread is exactly proportional to the factor.

For an atom of the kinds that training has seen the errors come mostly from what the circuit cannot express, and the
factor takes care of their size; for others the members drift apart, and the spread grows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.errors import ConfigError
from qiskit_qff.model.evaluation import FoldedForceField
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.neighbors import NeighborList, neighbor_list
from qiskit_qff.structures.species import species_index


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """Expected errors of one structure, one standard deviation."""

    energy: float
    """Of the total energy, in eV."""
    forces: FloatArray
    """Of each force component of every atom, shape ``(n,)``, in eV/Å."""


@dataclass(frozen=True, eq=False)
class Committee:
    """The model and its members."""

    species: tuple[int, ...]
    """Atomic numbers, ascending."""
    r_cut: float
    """Cutoff radius in Å."""
    center: FoldedForceField
    """The model itself."""
    members: tuple[FoldedForceField, ...]
    """The others."""
    factor: float
    """What their spread is multiplied by; 1 where it was never compared with errors."""

    @classmethod
    def of(cls, field: ForceField) -> Committee:
        """Fold all members; an evaluation then takes as many times that of the model.

        Args:
            field: A trained model.

        Raises:
            ConfigError: If its file has no committee.
        """
        sizes = {0 if m.spread is None else len(m.spread.references) for m in field.models}
        if len(sizes) != 1 or sizes == {0}:
            raise ConfigError(
                "the model has no committee (its file is older, or it was trained on a backend); "
                "train it again with 'qff train'."
            )
        members = []
        for k in range(sizes.pop()):
            parts = [m.member_matrix(k) for m in field.models]
            folded = FoldedForceField.of(
                field.models,
                {m.number: matrix for m, (matrix, _) in zip(field.models, parts, strict=True)},
                r_cut=field.r_cut,
                repulsion=field.repulsion,
            )
            members.append(replace(folded, references=np.array([reference for _, reference in parts])))
        factor = 1.0 if field.uncertainty is None else field.uncertainty.factor
        return cls(field.species, field.r_cut, field.folded, tuple(members), factor)

    def evaluate(self, kinds: IntArray, neighbors: NeighborList) -> Uncertainty:
        """Uncertainty of a structure whose neighbours are known.

        Args:
            kinds: Species index of every atom, shape ``(n,)``.
            neighbors: Full list with at least the cutoff.
        """
        own = self.center.evaluate(kinds, neighbors)
        energy, forces = 0.0, np.zeros(len(kinds))
        for member in self.members:
            other = member.evaluate(kinds, neighbors)
            energy += (other.energy - own.energy) ** 2
            forces += ((other.forces - own.forces) ** 2).mean(axis=1)
        count = len(self.members)
        return Uncertainty(self.factor * float(np.sqrt(energy / count)), self.factor * np.sqrt(forces / count))

    def frame(self, frame: Frame) -> Uncertainty:
        """Uncertainty of one structure.

        Args:
            frame: The structure; its labels are not used.

        Raises:
            DataError: If an atom is of a species the model does not know.
        """
        kinds = species_index(frame.numbers, self.species, where=frame.where)
        return self.evaluate(kinds, neighbor_list(frame.positions, frame.cell, frame.pbc, self.r_cut))


def calibration_factor(errors: FloatArray, spreads: FloatArray) -> float:
    """The factor that makes spreads as large as errors, root mean square; their likelihood is largest there.

    Args:
        errors: Of force components, shape ``(n, 3)``.
        spreads: Of the same atoms, shape ``(n,)``, not zero.
    """
    return float(np.sqrt(np.mean((errors / spreads[:, None]) ** 2)))
