"""The posterior of a model from its training sums; see :mod:`qiskit_qff.model.uncertainty`.

Two passes over the frames that form channel values alone, a few percent of the time of training, tell where the
training atoms are. They keep one number an atom for the quantile.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.compression.linear_map import LinearMap
from qiskit_qff.descriptors.blocks import channel_values
from qiskit_qff.descriptors.channels import ChannelTables, make_tables
from qiskit_qff.model.uncertainty import QUANTILE, Posterior, lengths
from qiskit_qff.structures.frame import Frame, species_index
from qiskit_qff.structures.neighbors import neighbor_list
from qiskit_qff.training.loss import Progress
from qiskit_qff.training.statistics import QuadraticStatistics, sum_frames

SOFTEST = 1e-6
"""Directions in which the loss is softer than this, relative to the stiffest in unit-diagonal scaling, count as this
stiff: the quadratic form says nothing about what lies so far away."""
FLOOR = 1e-4
"""Smallest variance of a direction, in units of its features' mean squares, that is believed: training sets with fewer
atoms of a species than features have none in some."""


def posterior_of(
    frames: Sequence[Frame],
    maps: dict[int, LinearMap],
    statistics: QuadraticStatistics,
    *,
    r_cut: float,
    progress: Progress,
    threads: int | None = None,
) -> Posterior:
    """The posterior of unit noise.

    Args:
        statistics: Sums over the same frames.
        r_cut: Cutoff radius in Å.
        threads: How many at most.
    """
    covariance = linear_covariance(statistics)
    blocks, end = [], 0
    for own in maps.values():
        blocks.append(covariance[end : end + own.n_features, end : end + own.n_features])
        end += own.n_features
    tables = make_tables({z: m.channels for z, m in maps.items()}, r_cut)
    found = sum_frames(
        lambda: _Moments(tables, maps, blocks), frames, stage="grades", progress=progress, threads=threads
    )
    grades = [np.concatenate(parts) for parts in found.grades]
    directions = tuple(directions_of(square / len(own)) for square, own in zip(found.squares, grades, strict=True))
    reached = sum_frames(
        lambda: _Reach(tables, maps, directions), frames, stage="reach", progress=progress, threads=threads
    )
    return Posterior(
        covariance=covariance,
        edges=np.array([np.quantile(own, QUANTILE) for own in grades]),
        counts=np.array([len(own) for own in grades]),
        directions=directions,
        reach=np.concatenate(reached.reaches, axis=1),
    )


def directions_of(moments: FloatArray) -> FloatArray:
    """V with uncorrelated v = V y of variance one, or less in directions that hardly vary.

    Args:
        moments: Mean of ``y y^T`` over the training atoms, shape ``(d, d)``.

    Returns:
        Shape ``(d, d)``.
    """
    scale = np.sqrt(np.diagonal(moments))
    inverse = np.where(scale > 0.0, 1.0 / np.where(scale > 0.0, scale, 1.0), 1.0)
    values, vectors = np.linalg.eigh(moments * np.outer(inverse, inverse))
    directions: FloatArray = (vectors / np.sqrt(np.maximum(values, FLOOR))).T * inverse
    return directions


def linear_covariance(statistics: QuadraticStatistics) -> FloatArray:
    """Inverse of the Gram matrix of the model's linear terms.

    Returns:
        Of the features of all species and one reference energy a species, shape ``(P + S, P + S)``, in eV^2 per unit of
        loss. Combinations of reference energies that the compositions do not determine do not move.
    """
    starts, sizes, directions = statistics.starts, statistics.sizes, statistics.references.directions
    features = [np.arange(starts[r] + 1, starts[r] + sizes[r]) for r in range(len(sizes))]
    columns = np.concatenate([*features, np.arange(starts[-1], len(statistics.equations.moment))])
    n_features = len(columns) - directions.shape[1]
    units = np.ones(len(columns))
    units[:n_features] = 2.0  # the column of M_0a is 2 y_a
    gram = statistics.equations.gram[np.ix_(columns, columns)] / np.outer(units, units)
    diagonal = np.diagonal(gram)
    scale = 1.0 / np.sqrt(np.maximum(diagonal, 1e-14 * diagonal.max()))
    values, vectors = np.linalg.eigh(gram * np.outer(scale, scale))
    vectors = vectors * scale[:, None]
    inverse = (vectors / np.maximum(values, SOFTEST * values[-1])) @ vectors.T
    spread = np.zeros((n_features + len(directions), len(columns)))
    spread[:n_features, :n_features] = np.eye(n_features)
    spread[n_features:, n_features:] = directions
    covariance: FloatArray = spread @ inverse @ spread.T
    return 0.5 * (covariance + covariance.T)


class _Moments:
    """Unscaled grades of training atoms, and sums of products of their features, per species."""

    n_bytes = 1
    """Little, but for the grades."""

    def __init__(self, tables: ChannelTables, maps: dict[int, LinearMap], covariances: Sequence[FloatArray]) -> None:
        self._tables, self._maps, self._covariances = tables, maps, covariances
        self.grades: list[list[FloatArray]] = [[] for _ in maps]
        self.squares = [np.zeros((m.n_features, m.n_features)) for m in maps.values()]

    def add(self, frame: Frame) -> None:
        """Add a frame."""
        for s, features in enumerate(_features(self._tables, self._maps, frame)):
            self.grades[s].append(lengths(features, self._covariances[s]))
            self.squares[s] += features.T @ features

    def merge(self, other: _Moments) -> None:
        """Add the sums over other frames."""
        for s, square in enumerate(other.squares):
            self.grades[s] += other.grades[s]
            self.squares[s] += square


class _Reach:
    """Least and largest value of training atoms along each direction, per species."""

    n_bytes = 1
    """Little, whatever the model."""

    def __init__(self, tables: ChannelTables, maps: dict[int, LinearMap], directions: Sequence[FloatArray]) -> None:
        self._tables, self._maps, self._directions = tables, maps, directions
        # The mean environment, v = 0, is always inside.
        self.reaches = [np.zeros((2, len(own))) for own in directions]

    def add(self, frame: Frame) -> None:
        """Look at a frame."""
        for s, features in enumerate(_features(self._tables, self._maps, frame)):
            if len(features):
                along = features @ self._directions[s].T
                self._widen(s, np.stack([along.min(axis=0), along.max(axis=0)]))

    def merge(self, other: _Reach) -> None:
        """Take in other frames."""
        for s, reach in enumerate(other.reaches):
            self._widen(s, reach)

    def _widen(self, s: int, reach: FloatArray) -> None:
        """Take in the least and largest values of other atoms."""
        mine = self.reaches[s]
        self.reaches[s] = np.stack([np.minimum(mine[0], reach[0]), np.maximum(mine[1], reach[1])])


def _features(tables: ChannelTables, maps: dict[int, LinearMap], frame: Frame) -> list[FloatArray]:
    """Features of the atoms of each species, shapes ``(n_s, d_s)``."""
    kinds = species_index(frame.numbers, tuple(maps), where=frame.where)
    near = neighbor_list(frame.positions, frame.cell, frame.pbc, tables.r_cut)
    values = channel_values(tables, near.first, near.neighbor, near.vectors, near.distances, kinds)
    return [m.apply(values[kinds == s, : m.channels.n_channels]) for s, m in enumerate(maps.values())]
