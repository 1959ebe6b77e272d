"""The pool: every candidate channel of a system, placed by its own bond lengths and no labels.

Two-body candidates of a pair are narrow Gaussians (finer near the bond), broad Gaussians and inverse
powers; three-body candidates combine wide radial functions, and narrow ones that see bonded neighbours only, with
functions of the angle. All radii scale with the shortest distance of the pair seen in the training structures, so C-H
at 1.1 Å and La-O at 2.5 Å are both resolved without tuning. Broad, multi-scale candidates matter more than many fine
ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.descriptors.channels import ChannelSet
from qiskit_qff.descriptors.functions import cosine_powers, gaussian_rows, power_rows

BONDS = ((1.05, 0.2), (1.3, 0.5))
"""Three-body radial Gaussians of bonded neighbours: centre in units of the pair's shortest distance, width in Å."""
THREE_BODY_WIDTH = 0.75
"""Width in Å of the three-body radial Gaussians: they overlap, which beat finer ones on every set measured."""


@dataclass(frozen=True, kw_only=True)
class PoolSettings:
    """How large the pool is and how far it sees."""

    r_cut: float = 5.0
    """Cutoff radius in Å."""
    n_narrow: int = 14
    """Narrow two-body Gaussians per pair."""
    n_broad: int = 6
    """Broad two-body Gaussians per pair."""
    powers: tuple[float, ...] = (1.0, 2.0, 4.0, 6.0, 9.0, 12.0)
    """Exponents of the two-body inverse powers."""
    n_radial: int = 5
    """Radial functions per neighbour species in the three-body channels."""
    l_max: int = 4
    """Highest degree of the three-body channels."""
    bonds: bool = True
    """Whether there are three-body channels of bonded neighbours."""
    radial_pairs: Literal["all", "same"] = "all"
    """Whether a three-body channel may combine radial functions of different rank, or only the same."""

    def n_channels(self, n_species: int) -> int:
        """Number of channels per centre species."""
        two = n_species * (self.n_narrow + self.n_broad + len(self.powers))
        if self.radial_pairs == "all":
            slots = n_species * self.n_radial
            couples = slots * (slots + 1) // 2
        else:
            couples = self.n_radial * n_species * (n_species + 1) // 2
        bonded = n_species * len(BONDS) if self.bonds else 0
        return two + (couples + bonded * (bonded + 1) // 2) * (self.l_max + 1)


def two_body_rows(settings: PoolSettings, shortest: float) -> FloatArray:
    """Radial rows of the two-body candidates of one pair."""
    inner = 0.95 * shortest
    narrow = _spaced(inner, settings.r_cut, settings.n_narrow, stretch=1.5)
    gaps = np.gradient(narrow) if len(narrow) > 1 else np.ones_like(narrow)
    broad = np.linspace(inner, settings.r_cut, settings.n_broad)
    wide = np.full(settings.n_broad, (settings.r_cut - inner) / 4.0)
    return np.concatenate(
        [
            gaussian_rows(narrow, gaps),
            gaussian_rows(broad, wide),
            power_rows(np.asarray(settings.powers), shortest),
        ]
    )


def three_body_rows(settings: PoolSettings, shortest: float) -> FloatArray:
    """Radial rows of the three-body slots of one pair; those of bonded neighbours come last."""
    centers = np.linspace(0.8 * shortest, settings.r_cut - 0.5, settings.n_radial)
    wide = gaussian_rows(centers, np.full(settings.n_radial, THREE_BODY_WIDTH))
    if not settings.bonds:
        return wide
    ratios, widths = np.array(BONDS).T
    return np.concatenate([wide, gaussian_rows(ratios * shortest, widths)])


def _couple(a: int, b: int, settings: PoolSettings) -> bool:
    """Whether radial functions of these ranks make channels together: wide ones with wide ones, bonds with bonds."""
    if (a < settings.n_radial) != (b < settings.n_radial):
        return False
    return a >= settings.n_radial or settings.radial_pairs == "all" or a == b


def with_angular_functions(channels: ChannelSet, settings: PoolSettings) -> ChannelSet:
    """The same couples of radial functions, but with powers of the cosine, a basis of the same polynomials."""
    rows = cosine_powers(settings.l_max)
    degrees = [int(np.flatnonzero(row)[-1]) for row in rows]
    count = len(channels.triples) // len(rows)
    triples = channels.triples.copy()
    triples[:, 2] = np.tile(degrees, count)
    return replace(channels, triples=triples, angular=np.tile(rows, (count, 1)))


def _spaced(low: float, high: float, count: int, *, stretch: float) -> FloatArray:
    """Points from low to high whose spacing grows by a power law: finer near the bond."""
    return low + (high - low) * np.linspace(0.0, 1.0, count) ** stretch


def build_channels(center: int, shortest: dict[int, float], settings: PoolSettings) -> ChannelSet:
    """All candidates of one centre species, each angular function a Legendre polynomial.

    Args:
        shortest: Shortest distance in Å per neighbour atomic number; pairs that never come within the
            cutoff are absent and get no channels.
    """
    neighbors = sorted(shortest)
    pairs = [two_body_rows(settings, shortest[t]) for t in neighbors]
    slots = [three_body_rows(settings, shortest[t]) for t in neighbors]
    slot_species = np.repeat(neighbors, [len(rows) for rows in slots]).astype(np.int64)
    rank = np.concatenate([np.arange(len(rows)) for rows in slots]) if slots else np.zeros(0, dtype=int)
    triples = [
        (a, b, degree)
        for a in range(len(slot_species))
        for b in range(a, len(slot_species))
        if _couple(int(rank[a]), int(rank[b]), settings)
        for degree in range(settings.l_max + 1)
    ]
    return ChannelSet(
        center=center,
        pair_species=np.repeat(neighbors, [len(rows) for rows in pairs]).astype(np.int64),
        pair_rows=np.concatenate(pairs) if pairs else np.zeros((0, 4)),
        slot_species=slot_species,
        slot_rows=np.concatenate(slots) if slots else np.zeros((0, 4)),
        triples=np.asarray(triples, dtype=np.int64).reshape(-1, 3),
    )
