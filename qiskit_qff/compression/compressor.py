"""The seam between a pool of hundreds of channels and the few numbers a register can hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.compression.linear_map import LinearMap
from qiskit_qff.compression.normal_equations import NormalEquations
from qiskit_qff.descriptors.channels import ChannelSet
from qiskit_qff.descriptors.tables import ChannelTables


@dataclass(frozen=True)
class PoolStatistics:
    """What a compressor may know of the training data: sums, never frames."""

    sets: dict[int, ChannelSet]
    """Pool of each species."""
    tables: ChannelTables
    """The same pools laid end to end; column c of everything below is channel c of these."""
    mean: FloatArray
    """Mean over the atoms of the species, shape ``(C,)``."""
    covariance: dict[int, FloatArray]
    """Covariance of the channels over the atoms of each species, shape ``(K_s, K_s)``."""
    equations: NormalEquations
    """Least squares of energies (free of reference energies) and forces on channel sums; completed G."""
    start: IntArray | None = None
    """Columns that were selected from a smaller pool, where there was one: a search may begin at them."""


@dataclass(frozen=True)
class SizeLimits:
    """How many features the registers and the parameter budget leave."""

    total: int
    """Features of all species together."""
    per_species: int
    """Most features of one species, 2^n - 1."""
    equal: bool
    """Whether every species must get the same number."""
    least: int = 1
    """Fewest features of one species."""

    def allow(self, counts: IntArray) -> bool:
        """Whether so many features of each species are not too many.

        Args:
            counts: Shape ``(S,)``.
        """
        return bool(counts.sum() <= self.total and counts.max() <= self.per_species)


class Compressor(Protocol):
    """Chooses or builds the features of every species."""

    def fit(self, statistics: PoolStatistics, limits: SizeLimits) -> dict[int, LinearMap]:
        """Compress the pool.

        Args:
            statistics: Sums over the training data.
            limits: Numbers of features allowed.

        Returns:
            A linear map per species.
        """
        ...
