"""Extrapolation grades of structures: one number per atom, 1 where training was, above the limit where it was not.

Kept apart from energies and forces, whose kernels work on folded forms and never see features: a simulation pays for
grades only at the steps that ask for them. On lips83 they take 0.29 ms, the forces 0.44 ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qiskit_qff.array_types import BoolArray, FloatArray, IntArray
from qiskit_qff.descriptors.blocks import channel_values
from qiskit_qff.descriptors.tables import ChannelTables, make_tables
from qiskit_qff.errors import ConfigError
from qiskit_qff.model.domain import TrainingDomain
from qiskit_qff.model.species_model import SpeciesModel
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.neighbors import NeighborList, neighbor_list
from qiskit_qff.structures.species import species_index

MARGIN = 1.2
"""Grades up to so many times the largest one of the training atoms of a species count as known. With 100 training
frames of lips83 that is passed in 1 to 4 % of held-out frames of the same run, and in all frames of 3000 K melts."""


@dataclass(frozen=True, eq=False)
class Grades:
    """Grades of the atoms of one structure."""

    values: FloatArray
    """Grade of each atom, shape ``(n,)``; 1 is the root mean square of the training atoms."""
    limits: FloatArray
    """Largest grade that counts as known, by each atom's species, shape ``(n,)``."""

    @property
    def outside(self) -> BoolArray:
        """Which atoms the model extrapolates for, shape ``(n,)``; a grade that is no number is outside."""
        return ~(self.values <= self.limits)

    @property
    def worst(self) -> int:
        """Index of the atom that is farthest out, measured by its limit."""
        return int(np.argmax(np.where(np.isfinite(self.values), self.values / self.limits, np.inf)))


@dataclass(frozen=True, eq=False)
class Grader:
    """Everything a grade needs of a model."""

    species: tuple[int, ...]
    """Atomic numbers, ascending."""
    tables: ChannelTables
    """Channels in use, without a core."""
    models: tuple[SpeciesModel, ...]
    """One per species."""
    domains: tuple[TrainingDomain, ...]
    """One per species."""
    limits: FloatArray
    """Largest grade that counts as known, shape ``(S,)``."""
    r_cut: float
    """Cutoff radius in Å."""

    @classmethod
    def of(cls, models: Sequence[SpeciesModel], *, r_cut: float, limit: float | None = None) -> Grader:
        """Make ready.

        Args:
            models: Species of a force field.
            r_cut: Its cutoff radius in Å.
            limit: Largest grade that counts as known, for every species; by default :data:`MARGIN` times the
                largest one of each species' training atoms.

        Raises:
            ConfigError: If the model does not know its training domain, or the limit is not positive.
        """
        if limit is not None and not (np.isfinite(limit) and limit > 0.0):
            raise ConfigError(f"a grade limit must be a positive number; {limit} was given.")
        domains = tuple(m.domain for m in models if m.domain is not None)
        if len(domains) < len(models):
            raise ConfigError(
                "the model does not say where it was trained (its file is from before extrapolation grades); "
                "train it again with 'qff train'."
            )
        return cls(
            species=tuple(m.number for m in models),
            tables=make_tables({m.number: m.compression.channels for m in models}, r_cut),
            models=tuple(models),
            domains=domains,
            limits=np.array([MARGIN * d.largest if limit is None else limit for d in domains]),
            r_cut=r_cut,
        )

    def features(self, kinds: IntArray, neighbors: NeighborList) -> list[FloatArray]:
        """Features y of the atoms of each species, in the order of the structure.

        Args:
            kinds: Species index of every atom, shape ``(n,)``.
            neighbors: Full list with at least the cutoff.

        Returns:
            Per species, shape ``(n_s, d_s)``.
        """
        values = channel_values(
            self.tables, neighbors.first, neighbors.neighbor, neighbors.vectors, neighbors.distances, kinds
        )
        return [
            m.compression.apply(values[kinds == s, : m.compression.channels.n_channels])
            for s, m in enumerate(self.models)
        ]

    def evaluate(self, kinds: IntArray, neighbors: NeighborList) -> Grades:
        """Grades of a structure whose neighbours are known.

        Args:
            kinds: Species index of every atom, shape ``(n,)``.
            neighbors: Full list with at least the cutoff.
        """
        grades = np.empty(len(kinds))
        for s, (features, domain) in enumerate(zip(self.features(kinds, neighbors), self.domains, strict=True)):
            grades[kinds == s] = domain.grades(features)
        return Grades(grades, self.limits[kinds])

    def frame(self, frame: Frame) -> Grades:
        """Grades of one structure.

        Args:
            frame: The structure; its labels are not used.

        Raises:
            DataError: If an atom is of a species the model does not know.
        """
        return self.evaluate(*self.surroundings(frame))

    def surroundings(self, frame: Frame) -> tuple[IntArray, NeighborList]:
        """Species indices and neighbours of one structure.

        Args:
            frame: The structure.

        Raises:
            DataError: If an atom is of a species the model does not know.
        """
        kinds = species_index(frame.numbers, self.species, where=frame.where)
        return kinds, neighbor_list(frame.positions, frame.cell, frame.pbc, self.r_cut)
