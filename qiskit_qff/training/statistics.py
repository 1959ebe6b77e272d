"""Two passes over the data, each O(1) in memory: sums for choosing channels, sums for training.

After the second pass the loss of any circuit is a quadratic form in the entries of the registers' M; later steps need
only the accumulated sums, and cost the same for 60 and for 60,000 frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.compression.compressor import PoolStatistics
from qiskit_qff.compression.linear_map import LinearMap
from qiskit_qff.compression.normal_equations import NormalEquations
from qiskit_qff.descriptors.blocks import channel_values
from qiskit_qff.descriptors.channels import ChannelSet
from qiskit_qff.descriptors.design_rows import linear_design, quadratic_design
from qiskit_qff.descriptors.pool import PoolSettings, build_channels
from qiskit_qff.descriptors.tables import ChannelTables, make_tables
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.neighbors import neighbor_list
from qiskit_qff.structures.species import species_index
from qiskit_qff.training.design import (
    LossWeights,
    Progress,
    add_frame,
    eliminate_last,
    energy_of,
)
from qiskit_qff.training.moments import Moments
from qiskit_qff.training.pool_shapes import reshaped
from qiskit_qff.training.references import References, fit_references
from qiskit_qff.training.workers import Workers, sum_frames

BLOCK = 128
"""Energies that are added to the Gram matrix at once."""
FrameProgress = Callable[[int], None]
"""Called with the number of frames done."""


@dataclass(frozen=True)
class QuadraticStatistics:
    """The loss as a quadratic form in the upper triangles of all registers' M and the reference energies."""

    species: tuple[int, ...]
    """Atomic numbers, ascending."""
    owners: IntArray
    """Index of the species of each register, shape ``(R,)``, ascending."""
    sizes: IntArray
    """Amplitudes in use, d_r + 1, of each register, shape ``(R,)``."""
    starts: IntArray
    """Where the triangle of each register begins, shape ``(R + 1,)``; the r reference energies follow."""
    equations: NormalEquations
    """Completed sums over ``Q + r`` columns, per frame (divided by their number)."""
    references: References
    """Space of the reference energies, and those taken off beforehand."""


def find_shortest(frames: Sequence[Frame], species: Sequence[int], r_cut: float, progress: Progress) -> FloatArray:
    """Shortest distance of every pair of species.

    Args:
        frames: The frames.
        species: Atomic numbers.
        r_cut: How far to look, in Å.
        progress: Called as work proceeds.

    Returns:
        Shape ``(S, S)``, in Å; ``inf`` for pairs that never come within the cutoff.
    """
    table = np.full((len(species), len(species)), np.inf)
    for k, frame in enumerate(frames):
        progress("distances", k, len(frames))
        kinds = species_index(frame.numbers, species, where=frame.where)
        neighbors = neighbor_list(frame.positions, frame.cell, frame.pbc, r_cut)
        np.minimum.at(table, (kinds[neighbors.centers], kinds[neighbors.neighbor]), neighbors.distances)
    progress("distances", len(frames), len(frames))
    shortest: FloatArray = np.minimum(table, table.T)
    return shortest


def pool_statistics(
    frames: Sequence[Frame],
    species: tuple[int, ...],
    shortest: FloatArray,
    *,
    settings: PoolSettings,
    weights: LossWeights,
    progress: Progress,
    others: Sequence[Frame] = (),
    workers: Workers | None = None,
) -> PoolStatistics:
    """Sums over the whole pool.

    A frame has hundreds of forces but one energy: channels that explain the energies of a hundred frames by chance
    are easily found. So further frames may take part with their energies alone, which cost little; all energies
    together keep the weight that those of ``frames`` would have had.

    Args:
        frames: Frames to choose channels by.
        species: Atomic numbers, ascending.
        shortest: Shortest distance of every pair, shape ``(S, S)``, in Å.
        settings: Pool settings.
        weights: The loss.
        progress: Called as work proceeds.
        others: Further frames of which only energies are used.
        workers: Processes to sum on; this one by default.
    """
    sets = {
        z: build_channels(
            z, {t: shortest[s, k] for k, t in enumerate(species) if np.isfinite(shortest[s, k])}, settings
        )
        for s, z in enumerate(species)
    }
    statistics = channel_statistics(
        frames, species, sets, r_cut=settings.r_cut, weights=weights, progress=progress, others=others, workers=workers
    )
    return reshaped(statistics, settings)


def channel_statistics(
    frames: Sequence[Frame],
    species: tuple[int, ...],
    sets: dict[int, ChannelSet],
    *,
    r_cut: float,
    weights: LossWeights,
    progress: Progress,
    others: Sequence[Frame] = (),
    workers: Workers | None = None,
    stage: str = "pool",
) -> PoolStatistics:
    """Sums over given channels.

    Args:
        frames: As for :func:`pool_statistics`, like all that is not told here.
        species: Atomic numbers, ascending.
        sets: The channels of each species.
        r_cut: Cutoff radius in Å.
        weights: The loss.
        progress: Called as work proceeds.
        others: Further frames of which only energies are used.
        workers: Processes to sum on.
        stage: What to call the work.
    """
    tables = make_tables(sets, r_cut)
    shared = replace(weights, energy_scale=weights.energy_scale * float(np.sqrt(1.0 + len(others) / len(frames))))
    work = _PoolWork(tables, species, fit_references([*frames, *others], species), shared)
    sums = sum_frames(work, frames, stage=stage, progress=progress, workers=workers)
    if others:
        sums.merge(sum_frames(_EnergyWork(work), others, stage="energies", progress=progress, workers=workers))
    sums.equations.symmetric()
    moments = sums.moments
    return PoolStatistics(
        sets, tables, moments.mean(), moments.covariance(), eliminate_last(sums.equations, work.references.count)
    )


@dataclass(eq=False)
class _PoolSums:
    """What is summed over the whole pool."""

    equations: NormalEquations
    """Loss of linear models, reference energies last."""
    moments: Moments
    """Means and covariances of the channels."""

    def merge(self, other: _PoolSums) -> None:
        """Add the sums over other frames."""
        self.equations.merge(other.equations)
        self.moments.merge(other.moments)


@dataclass(frozen=True, eq=False)
class _PoolWork:
    """Sums over the pool; travels to other processes."""

    tables: ChannelTables
    """All channels."""
    species: tuple[int, ...]
    """Atomic numbers, ascending."""
    references: References
    """Space of the reference energies, and those already taken off."""
    weights: LossWeights
    """The loss."""

    @property
    def n_bytes(self) -> int:
        """Memory of the sums."""
        return 8 * (int(self.tables.channel_start[-1]) + self.references.count) ** 2

    def __call__(self, frames: Sequence[Frame], progress: FrameProgress | None = None) -> _PoolSums:
        """Sum over some frames."""
        tables, n_species, n_columns = self.tables, len(self.species), int(self.tables.channel_start[-1])
        width = n_columns + self.references.count
        sums = _PoolSums(NormalEquations.empty(width), Moments(tables))
        for k, frame in enumerate(frames):
            if progress is not None:
                progress(k)
            kinds = species_index(frame.numbers, self.species, where=frame.where)
            neighbors = neighbor_list(frame.positions, frame.cell, frame.pbc, tables.r_cut)
            rows = np.empty(n_columns), np.empty((self.weights.n_rows(frame), width))
            forces, virial = np.split(rows[1], [3 * frame.n_atoms])
            values = np.empty((frame.n_atoms, int(np.diff(tables.channel_start).max())))
            linear_design(
                tables, neighbors.first, neighbors.neighbor, neighbors.vectors, neighbors.distances, kinds,
                rows[0], forces, virial, values,
            )  # fmt: skip
            sums.moments.add(kinds, values)
            counts = np.bincount(kinds, minlength=n_species).astype(np.float64)
            add_frame(sums.equations, frame, rows, counts, self.references, self.weights)
        return sums


@dataclass(frozen=True, eq=False)
class _EnergyWork:
    """The same sums of frames whose forces are left out; travels to other processes."""

    pool: _PoolWork
    """Channels, references and loss."""

    @property
    def n_bytes(self) -> int:
        """Memory of the sums."""
        return self.pool.n_bytes

    def __call__(self, frames: Sequence[Frame], progress: FrameProgress | None = None) -> _PoolSums:
        """Sum over some frames."""
        pool, tables, n_species = self.pool, self.pool.tables, len(self.pool.species)
        starts, width = tables.channel_start, int(tables.channel_start[-1]) + self.pool.references.count
        sums, rows, used = _PoolSums(NormalEquations.empty(width), Moments(tables)), np.zeros((BLOCK, width)), 0
        labels, weights = np.empty(BLOCK), np.empty(BLOCK)
        for k, frame in enumerate(frames):
            if progress is not None:
                progress(k)
            kinds = species_index(frame.numbers, pool.species, where=frame.where)
            near = neighbor_list(frame.positions, frame.cell, frame.pbc, tables.r_cut)
            values = channel_values(tables, near.first, near.neighbor, near.vectors, near.distances, kinds)
            sums.moments.add(kinds, values)
            for s in range(n_species):
                rows[used, starts[s] : starts[s + 1]] = values[kinds == s, : starts[s + 1] - starts[s]].sum(axis=0)
            counts = np.bincount(kinds, minlength=n_species).astype(np.float64)
            rows[used, starts[-1] :], labels[used] = energy_of(frame, counts, pool.references)
            weights[used] = pool.weights.energy_weight(frame.n_atoms)
            used += 1
            if used == BLOCK or k == len(frames) - 1:
                # PERF: one product of many rows; row by row the Gram matrix would pass through memory every time.
                sums.equations.add(rows[:used], labels[:used], weights[:used])
                used = 0
        return sums


def quadratic_statistics(
    frames: Sequence[Frame],
    maps: dict[int, LinearMap],
    registers: Mapping[int, Sequence[int]],
    *,
    r_cut: float,
    weights: LossWeights,
    progress: Progress,
    workers: Workers | None = None,
) -> QuadraticStatistics:
    """Sums over the products of features inside registers.

    Args:
        frames: Training frames.
        maps: Compression of each species.
        registers: Number of features of each register of a species, in order, by atomic number.
        r_cut: Cutoff radius in Å.
        weights: The loss.
        progress: Called as work proceeds.
        workers: Processes to sum on; this one by default.
    """
    species = tuple(sorted(maps))
    references = fit_references(frames, species)
    places = np.array(
        [
            (s, begin, count)
            for s, z in enumerate(species)
            for begin, count in zip(_starts(registers[z]).tolist(), registers[z], strict=False)
        ],
        dtype=np.int64,
    )
    work = _QuadraticWork(tuple(maps[z] for z in species), species, places, references, weights, r_cut)
    equations = sum_frames(work, frames, stage="statistics", progress=progress, workers=workers)
    equations.symmetric()
    equations.gram /= len(frames)
    equations.moment /= len(frames)
    equations.constant /= len(frames)
    return QuadraticStatistics(species, places[:, 0], places[:, 2] + 1, work.starts, equations, references)


@dataclass(frozen=True, eq=False)
class _QuadraticWork:
    """Sums over products of features; travels to other processes."""

    maps: tuple[LinearMap, ...]
    """Compression of each species."""
    species: tuple[int, ...]
    """Atomic numbers, ascending."""
    registers: IntArray
    """Species index, first feature and number of features of each register, shape ``(R, 3)``."""
    references: References
    """Space of the reference energies, and those already taken off."""
    weights: LossWeights
    """The loss."""
    r_cut: float
    """Cutoff radius in Å."""

    @property
    def starts(self) -> IntArray:
        """Where the triangle of each register begins, shape ``(R + 1,)``."""
        counts = self.registers[:, 2]
        return _starts(((counts + 1) * (counts + 2) // 2).tolist())

    @property
    def n_bytes(self) -> int:
        """Memory of the sums."""
        return 8 * (int(self.starts[-1]) + self.references.count) ** 2

    def __call__(self, frames: Sequence[Frame], progress: FrameProgress | None = None) -> NormalEquations:
        """Sum over some frames."""
        tables = make_tables({z: m.channels for z, m in zip(self.species, self.maps, strict=True)}, self.r_cut)
        dimensions = np.array([m.n_features for m in self.maps], dtype=np.int64)
        flat_maps, map_start = np.concatenate([m.matrix.ravel() for m in self.maps]), [m.matrix.size for m in self.maps]
        means, starts = np.concatenate([m.mean for m in self.maps]), self.starts
        n_species, n_columns = len(self.species), int(starts[-1])
        width = n_columns + self.references.count
        equations = NormalEquations.empty(width)
        for k, frame in enumerate(frames):
            if progress is not None:
                progress(k)
            kinds = species_index(frame.numbers, self.species, where=frame.where)
            neighbors = neighbor_list(frame.positions, frame.cell, frame.pbc, self.r_cut)
            rows = np.empty(n_columns), np.empty((self.weights.n_rows(frame), width))
            quadratic_design(
                tables, means, flat_maps, _starts(map_start), dimensions, self.registers, starts,
                neighbors.first, neighbors.neighbor, neighbors.vectors, neighbors.distances, kinds,
                rows[0], *np.split(rows[1], [3 * frame.n_atoms]),
            )  # fmt: skip
            counts = np.bincount(kinds, minlength=n_species).astype(np.float64)
            add_frame(equations, frame, rows, counts, self.references, self.weights)
        return equations


def _starts(lengths: Sequence[int]) -> IntArray:
    """Offsets of blocks laid end to end."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
