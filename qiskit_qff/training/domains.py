"""Where training was: second moments of the features over all training atoms, and their largest grade.

Two passes over the frames that form channel values alone, a few percent of the time of training. Both are sums (or a
maximum) over frames, so they run on several processes like everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.compression.linear_map import LinearMap
from qiskit_qff.descriptors.blocks import channel_values
from qiskit_qff.descriptors.tables import make_tables
from qiskit_qff.model.domain import TrainingDomain, directions_of, whitening_of
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.neighbors import neighbor_list
from qiskit_qff.structures.species import species_index
from qiskit_qff.training.design import Progress
from qiskit_qff.training.workers import Workers, sum_frames

FrameProgress = Callable[[int], None]


def training_domains(
    frames: Sequence[Frame],
    maps: dict[int, LinearMap],
    *,
    r_cut: float,
    progress: Progress,
    workers: Workers | None = None,
) -> dict[int, TrainingDomain]:
    """The training domain of every species.

    Args:
        frames: Training frames.
        maps: Compression of each species.
        r_cut: Cutoff radius in Å.
        progress: Called as work proceeds.
        workers: Processes to sum on; this one by default.
    """
    species = tuple(sorted(maps))
    ordered = tuple(maps[z] for z in species)
    sums = sum_frames(_MomentWork(species, ordered, r_cut), frames, stage="moments", progress=progress, workers=workers)
    moments = [square / count for square, count in zip(sums.squares, sums.counts, strict=True)]
    whitenings = tuple(whitening_of(moment) for moment in moments)
    directions = tuple(directions_of(moment) for moment in moments)
    work = _GradeWork(species, ordered, r_cut, whitenings, directions)
    extremes = sum_frames(work, frames, stage="grades", progress=progress, workers=workers)
    return {
        z: TrainingDomain(int(sums.counts[s]), moments[s], float(extremes.largest[s]), extremes.reaches[s])
        for s, z in enumerate(species)
    }


@dataclass(eq=False)
class _MomentSums:
    """Sums over atoms, per species."""

    counts: FloatArray
    squares: list[FloatArray]

    def merge(self, other: _MomentSums) -> None:
        """Add the sums over other frames."""
        self.counts += other.counts
        self.squares = [mine + theirs for mine, theirs in zip(self.squares, other.squares, strict=True)]


@dataclass(eq=False)
class _Extremes:
    """Largest grade of each species, and what it reaches along each direction."""

    largest: FloatArray
    reaches: list[FloatArray]

    def widen(self, s: int, along: FloatArray) -> None:
        """Take in atoms of a species, shape ``(n_s, d_s)``."""
        self.reaches[s] = _joined(self.reaches[s], np.stack([along.min(axis=0), along.max(axis=0)]))

    def merge(self, other: _Extremes) -> None:
        """Take in other frames."""
        self.largest = np.maximum(self.largest, other.largest)
        self.reaches = [_joined(mine, theirs) for mine, theirs in zip(self.reaches, other.reaches, strict=True)]


def _joined(one: FloatArray, other: FloatArray) -> FloatArray:
    """Least and largest of two reaches."""
    return np.stack([np.minimum(one[0], other[0]), np.maximum(one[1], other[1])])


@dataclass(frozen=True, eq=False)
class _MomentWork:
    """Second moments; travels to other processes."""

    species: tuple[int, ...]
    maps: tuple[LinearMap, ...]
    r_cut: float

    @property
    def n_bytes(self) -> int:
        """Memory of the sums."""
        return 8 * sum(m.n_features**2 for m in self.maps)

    def __call__(self, frames: Sequence[Frame], progress: FrameProgress | None = None) -> _MomentSums:
        """Sum over some frames."""
        sums = _MomentSums(np.zeros(len(self.maps)), [np.zeros((m.n_features, m.n_features)) for m in self.maps])
        for s, features in _features(frames, self.species, self.maps, self.r_cut, progress):
            sums.counts[s] += len(features)
            sums.squares[s] += features.T @ features
        return sums


@dataclass(frozen=True, eq=False)
class _GradeWork:
    """Largest grades and reaches; travels to other processes."""

    species: tuple[int, ...]
    maps: tuple[LinearMap, ...]
    r_cut: float
    whitenings: tuple[FloatArray, ...]
    directions: tuple[FloatArray, ...]

    @property
    def n_bytes(self) -> int:
        """Memory of the sums."""
        return 8 * sum(1 + 2 * len(v) for v in self.directions)

    def __call__(self, frames: Sequence[Frame], progress: FrameProgress | None = None) -> _Extremes:
        """Look at some frames."""
        # The mean environment, v = 0, is always inside.
        found = _Extremes(np.zeros(len(self.maps)), [np.zeros((2, len(v))) for v in self.directions])
        for s, features in _features(frames, self.species, self.maps, self.r_cut, progress):
            if len(features):
                lengths = np.linalg.norm(features @ self.whitenings[s].T, axis=1)
                found.largest[s] = max(found.largest[s], float(lengths.max()))
                found.widen(s, features @ self.directions[s].T)
        return found


def _features(
    frames: Sequence[Frame],
    species: tuple[int, ...],
    maps: tuple[LinearMap, ...],
    r_cut: float,
    progress: FrameProgress | None,
) -> Iterator[tuple[int, FloatArray]]:
    """Species index and features of its atoms, shape ``(n_s, d_s)``, frame by frame."""
    tables = make_tables({z: m.channels for z, m in zip(species, maps, strict=True)}, r_cut)
    for k, frame in enumerate(frames):
        if progress is not None:
            progress(k)
        kinds = species_index(frame.numbers, species, where=frame.where)
        near = neighbor_list(frame.positions, frame.cell, frame.pbc, r_cut)
        values = channel_values(tables, near.first, near.neighbor, near.vectors, near.distances, kinds)
        for s, m in enumerate(maps):
            yield s, m.apply(values[kinds == s, : m.channels.n_channels])
