"""Passes over the data, each O(1) in memory: sums for choosing channels, and sums for training.

After the second pass the loss of any circuit is a quadratic form in the entries of the registers' M; later steps need
only the accumulated sums, and cost the same for 60 and for 60,000 frames.

Frames are divided among threads, and the sums of the parts are merged in order. Parts depend on the number of threads
alone, never on which of them is done first: a run can be repeated to the last bit. Against one thread the sums differ
by rounding, 1e-15 of their size.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from dataclasses import dataclass, replace
from typing import Protocol, Self, TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.compression.linear_map import LinearMap
from qiskit_qff.compression.normal_equations import NormalEquations
from qiskit_qff.compression.selection import PoolStatistics
from qiskit_qff.cores import n_cores, thread_pool
from qiskit_qff.descriptors.blocks import channel_values
from qiskit_qff.descriptors.channels import ChannelSet, ChannelTables, make_tables
from qiskit_qff.descriptors.design_rows import linear_design, quadratic_design
from qiskit_qff.descriptors.functions import cosine_powers
from qiskit_qff.descriptors.pool import PoolSettings, build_channels, with_angular_functions
from qiskit_qff.structures.frame import Frame, species_index
from qiskit_qff.structures.neighbors import neighbor_list
from qiskit_qff.training.loss import (
    LossWeights,
    Progress,
    References,
    add_frame,
    eliminate_last,
    energy_of,
    fit_references,
)

SUMS_LIMIT = 256 * 2**20
"""Bytes that the sums of all threads may take together, unless those of one take more."""
BLOCK = 64
"""Energies that are added to the Gram matrix at once."""
MOMENT_BLOCK = 256
"""Atoms whose products are added to the moments at once."""


class Sums(Protocol):
    """Sums over some frames."""

    @property
    def n_bytes(self) -> int:
        """Memory that they take."""

    def add(self, frame: Frame) -> None:
        """Add a frame."""

    def merge(self, other: Self) -> None:
        """Add the sums over other frames."""


S = TypeVar("S", bound=Sums)


def n_threads() -> int:
    """Threads to sum on: what ``OMP_NUM_THREADS`` says, else as many as the process may use cores."""
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(asked) if asked.isdecimal() and int(asked) else n_cores()


def sum_frames(
    empty: Callable[[], S],
    frames: Sequence[Frame],
    *,
    stage: str,
    progress: Progress,
    threads: int | None = None,
) -> S:
    """Sum over frames.

    Args:
        frames: All frames, at least one.
        threads: How many at most; :func:`n_threads` by default.
    """
    total = empty()
    count = min(n_threads() if threads is None else threads, len(frames), max(1, SUMS_LIMIT // total.n_bytes))
    if count == 1:
        for k, frame in enumerate(frames):
            progress(stage, k, len(frames))
            total.add(frame)
        progress(stage, len(frames), len(frames))
        return total
    bounds = [k * len(frames) // count for k in range(count + 1)]
    parts = [total, *(empty() for _ in range(count - 1))]
    lock, stopped, done = threading.Lock(), threading.Event(), itertools.count()

    def add_part(sums: S, low: int, high: int) -> None:
        for frame in frames[low:high]:
            if stopped.is_set():  # another thread failed, or the user interrupted
                return
            with lock:
                progress(stage, next(done), len(frames))
            sums.add(frame)

    # PERF: one thread of the numerical libraries for each of ours; more get in each other's way.
    with threadpool_limits(1, "blas"), thread_pool(count) as executor:
        pairs = zip(parts, itertools.pairwise(bounds), strict=True)
        futures = [executor.submit(add_part, sums, low, high) for sums, (low, high) in pairs]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            stopped.set()
        for future in futures:
            future.result()
    parts.pop(0)
    while parts:  # let go of each as soon as it is merged
        total.merge(parts.pop(0))
    progress(stage, len(frames), len(frames))
    return total


def find_shortest(frames: Sequence[Frame], species: Sequence[int], r_cut: float, progress: Progress) -> FloatArray:
    """Shortest distance of every pair of species.

    Args:
        r_cut: How far to look, in Å.

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
) -> PoolStatistics:
    """Sums over the whole pool of simple channels.

    Args:
        shortest: Shortest distance of every pair, shape ``(S, S)``, in Å.
    """
    sets = {}
    for s, z in enumerate(species):
        near = {t: shortest[s, k] for k, t in enumerate(species) if np.isfinite(shortest[s, k])}
        sets[z] = build_channels(z, near, settings)
    statistics = channel_statistics(
        frames, sets, r_cut=settings.r_cut, weights=weights, progress=progress, others=others
    )
    return _with_angular_functions(statistics, settings)


def channel_statistics(
    frames: Sequence[Frame],
    sets: dict[int, ChannelSet],
    *,
    r_cut: float,
    weights: LossWeights,
    progress: Progress,
    others: Sequence[Frame] = (),
    stage: str = "pool",
) -> PoolStatistics:
    """Sums over given channels.

    A frame has hundreds of forces but one energy: channels that explain the energies of a hundred frames by chance
    are easily found. So further frames may take part with their energies alone, which cost little; all energies
    together keep the weight that those of ``frames`` would have had.

    Args:
        r_cut: Cutoff radius in Å.
    """
    tables, species = make_tables(sets, r_cut), tuple(sets)
    references = fit_references([*frames, *others], species)
    shared = replace(weights, energy_scale=weights.energy_scale * float(np.sqrt(1.0 + len(others) / len(frames))))
    sums = sum_frames(lambda: _PoolSums(tables, references, shared), frames, stage=stage, progress=progress)
    if others:
        _add_energies(sums, others, progress)
    sums.equations.symmetric()
    mean, covariance = sums.moments.mean(), sums.moments.covariance()
    return PoolStatistics(sets, tables, mean, covariance, eliminate_last(sums.equations, references.count))


class _Moments:
    """Running mean and covariance of the channels of each species, in one pass and without cancellation."""

    def __init__(self, tables: ChannelTables) -> None:
        self._species: list[int] = tables.species.tolist()
        self._widths = np.diff(tables.channel_start)
        self._counts = np.zeros(len(self._species))
        self._shifts: list[FloatArray | None] = [None] * len(self._species)
        self._sums = [np.zeros(width) for width in self._widths]
        self._squares = [np.zeros((width, width)) for width in self._widths]
        self._waiting: list[list[FloatArray]] = [[] for _ in self._widths]

    def add(self, kinds: IntArray, values: FloatArray) -> None:
        """Add the atoms of one frame."""
        for s, width in enumerate(self._widths):
            own = values[kinds == s, :width]
            if not len(own):
                continue
            shift = self._shifts[s]
            if shift is None:
                # NOTE: sums of deviations from the first frame's mean; raw squares would cancel badly.
                shift = self._shifts[s] = own.mean(axis=0)
            deviation = own - shift
            self._counts[s] += len(own)
            self._sums[s] += deviation.sum(axis=0)
            self._waiting[s].append(deviation)
            if sum(map(len, self._waiting[s])) >= MOMENT_BLOCK:
                self._settle(s)

    def _settle(self, s: int) -> None:
        """Add the products of what waits."""
        # PERF: many atoms at once; with those of one frame the matrix of squares passes through memory every time,
        # which took a fifth of a training.
        if self._waiting[s]:
            rows = np.concatenate(self._waiting[s])
            self._squares[s] += rows.T @ rows
            self._waiting[s] = []

    def merge(self, other: _Moments) -> None:
        """Add the sums over other frames."""
        for s, theirs in enumerate(other._shifts):
            self._settle(s)
            other._settle(s)
            if theirs is None:
                continue
            shift = self._shifts[s]
            if shift is None:
                shift = self._shifts[s] = theirs
            # Deviations from their shift become deviations from ours, exactly.
            count, total, apart = other._counts[s], other._sums[s], theirs - shift
            half = total + 0.5 * count * apart
            # PERF: row by row; whole outer products would take as much memory as the squares, several times.
            for k, squares in enumerate(other._squares[s]):
                self._squares[s][k] += squares + half[k] * apart + apart[k] * half
            self._sums[s] += total + count * apart
            self._counts[s] += count

    def mean(self) -> FloatArray:
        """Means end to end, shape ``(C,)``."""
        shifts = [0.0 if shift is None else shift for shift in self._shifts]
        return np.concatenate(
            [shift + total / n for shift, total, n in zip(shifts, self._sums, self._counts, strict=True)]
        )

    def covariance(self) -> dict[int, FloatArray]:
        """Covariance per species."""
        for s in range(len(self._widths)):
            self._settle(s)
        return {
            z: square / count - np.outer(total / count, total / count)
            for z, square, total, count in zip(self._species, self._squares, self._sums, self._counts, strict=True)
        }


def channel_rows(tables: ChannelTables, frame: Frame) -> tuple[FloatArray, FloatArray]:
    """Design rows of a model that is linear in channels, for one frame.

    Returns:
        Channel sums, shape ``(C,)``, and end to end minus their gradient and their derivative by strain as xx, yy, zz,
        yz, xz, xy, shape ``(3 n + 6, C)``.
    """
    width = int(tables.channel_start[-1])
    energy, others = np.empty(width), np.empty((3 * frame.n_atoms + 6, width))
    kinds = species_index(frame.numbers, tuple(tables.species.tolist()), where=frame.where)
    _fill_rows(tables, frame, kinds, energy, others)
    return energy, others


def _fill_rows(
    tables: ChannelTables, frame: Frame, kinds: IntArray, energy: FloatArray, others: FloatArray
) -> FloatArray:
    """Write the design rows of a frame into the arrays given; the channels of its atoms, shape ``(n, K)``."""
    near = neighbor_list(frame.positions, frame.cell, frame.pbc, tables.r_cut)
    values = np.empty((frame.n_atoms, int(np.diff(tables.channel_start).max())))
    forces, virial = np.split(others, [3 * frame.n_atoms])
    linear_design(
        tables, near.first, near.neighbor, near.vectors, near.distances, kinds, energy, forces, virial, values
    )
    return values


class _PoolSums:
    """Loss of linear models and moments of all channels."""

    def __init__(self, tables: ChannelTables, references: References, weights: LossWeights) -> None:
        self.tables, self.references, self.weights = tables, references, weights
        self.species: tuple[int, ...] = tuple(tables.species.tolist())
        self.n_channels = int(tables.channel_start[-1])
        self.equations = NormalEquations.empty(self.n_channels + references.count)
        self.moments = _Moments(tables)

    @property
    def n_bytes(self) -> int:
        """Memory of the Gram matrix."""
        return self.equations.gram.nbytes

    def add(self, frame: Frame) -> None:
        """Add energy, forces and, where it counts, stress."""
        kinds = species_index(frame.numbers, self.species, where=frame.where)
        rows = np.empty((self.weights.n_rows(frame) + 1, len(self.equations.moment)))
        values = _fill_rows(self.tables, frame, kinds, rows[-1, : self.n_channels], rows[:-1])
        self.moments.add(kinds, values)
        counts = np.bincount(kinds, minlength=len(self.species)).astype(np.float64)
        add_frame(self.equations, frame, rows, counts, self.references, self.weights)

    def merge(self, other: _PoolSums) -> None:
        """Add the sums over other frames."""
        self.equations.merge(other.equations)
        self.moments.merge(other.moments)


def _add_energies(sums: _PoolSums, frames: Sequence[Frame], progress: Progress) -> None:
    """Add the energies and moments of frames whose forces are left out."""
    tables, starts = sums.tables, sums.tables.channel_start

    def evaluate(frame: Frame) -> tuple[IntArray, FloatArray]:
        kinds = species_index(frame.numbers, sums.species, where=frame.where)
        near = neighbor_list(frame.positions, frame.cell, frame.pbc, tables.r_cut)
        return kinds, channel_values(tables, near.first, near.neighbor, near.vectors, near.distances, kinds)

    # PERF: channels by threads, sums by one, so that no thread needs a Gram matrix; energies are few.
    with threadpool_limits(1, "blas"), thread_pool(n_threads()) as executor:
        for begin in range(0, len(frames), BLOCK):
            block = frames[begin : begin + BLOCK]
            rows, labels = np.zeros((len(block), len(sums.equations.moment))), np.empty(len(block))
            # A few frames ahead, not the whole block: channels of a large frame take tens of MiB.
            few = 2 * n_threads()
            parts = (executor.map(evaluate, block[start : start + few]) for start in range(0, len(block), few))
            ahead = itertools.chain.from_iterable(parts)
            for k, (kinds, values) in enumerate(ahead):
                progress("energies", begin + k, len(frames))
                sums.moments.add(kinds, values)
                for s in range(len(sums.species)):
                    rows[k, starts[s] : starts[s + 1]] = values[kinds == s, : starts[s + 1] - starts[s]].sum(axis=0)
                counts = np.bincount(kinds, minlength=len(sums.species)).astype(np.float64)
                rows[k, starts[-1] :], labels[k] = energy_of(block[k], counts, sums.references)
            sums.equations.add(rows, labels, np.array([sums.weights.energy_weight(frame.n_atoms) for frame in block]))
    progress("energies", len(frames), len(frames))


def _with_angular_functions(statistics: PoolStatistics, settings: PoolSettings) -> PoolStatistics:
    """Sums over channels of pure degree turned into those over the angular functions of the settings.

    The angular functions of a couple of radial functions are fixed combinations of its Legendre polynomials, so the
    sums need not be made again; and those over pure degrees are the cheapest, because each needs its own harmonics
    only. The Gram matrix is changed in place.
    """
    if settings.l_max == 0:
        return statistics
    rows, starts = cosine_powers(settings.l_max), statistics.tables.channel_start
    gram, moment, mean = statistics.equations.gram, statistics.equations.moment.copy(), statistics.mean.copy()
    covariance = {}
    for s, number in enumerate(statistics.tables.species.tolist()):
        n_two = len(statistics.sets[number].pair_species)
        three = slice(int(starts[s]) + n_two, int(starts[s + 1]))
        moment[three], mean[three] = _mixed(moment[three], rows), _mixed(mean[three], rows)
        # PERF: rows of the Gram matrix a few hundred at a time; a copy of it would take as much memory again.
        for begin in range(0, len(gram), 256):
            gram[begin : begin + 256, three] = _mixed(gram[begin : begin + 256, three], rows)
        for begin in range(0, len(gram), 256):
            gram[three, begin : begin + 256] = _mixed(gram[three, begin : begin + 256].T, rows).T
        own = statistics.covariance[number].copy()
        own[:, n_two:] = _mixed(own[:, n_two:], rows)
        own[n_two:] = _mixed(own[n_two:].T, rows).T
        covariance[number] = own
    sets = {number: with_angular_functions(channels, settings) for number, channels in statistics.sets.items()}
    tables = make_tables(sets, statistics.tables.r_cut, core_start=statistics.tables.core_start)
    return PoolStatistics(sets, tables, mean, covariance, NormalEquations(gram, moment, statistics.equations.constant))


def _mixed(values: FloatArray, rows: FloatArray) -> FloatArray:
    """Columns of pure degree combined by the rows, couple by couple; the shape stays."""
    blocks = values.reshape(*values.shape[:-1], -1, len(rows))
    mixed: FloatArray = (blocks @ rows.T).reshape(values.shape)
    return mixed


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


def quadratic_statistics(
    frames: Sequence[Frame],
    maps: dict[int, LinearMap],
    registers: Mapping[int, Sequence[int]],
    *,
    r_cut: float,
    weights: LossWeights,
    progress: Progress,
) -> QuadraticStatistics:
    """Sums over the products of features inside registers.

    Args:
        r_cut: Cutoff radius in Å.
    """
    species, references = tuple(maps), fit_references(frames, tuple(maps))
    places = np.array(
        [
            (s, begin, count)
            for s, z in enumerate(species)
            for begin, count in zip(_starts(registers[z]).tolist(), registers[z], strict=False)
        ],
        dtype=np.int64,
    )
    starts = _starts(((places[:, 2] + 1) * (places[:, 2] + 2) // 2).tolist())
    sums = sum_frames(
        lambda: _QuadraticSums(maps, r_cut, places, starts, references, weights),
        frames, stage="statistics", progress=progress,
    )  # fmt: skip
    equations = sums.equations
    equations.symmetric()
    equations.gram /= len(frames)
    equations.moment /= len(frames)
    equations.constant /= len(frames)
    return QuadraticStatistics(species, places[:, 0], places[:, 2] + 1, starts, equations, references)


class _QuadraticSums:
    """Sums over products of features inside registers."""

    def __init__(
        self,
        maps: dict[int, LinearMap],
        r_cut: float,
        registers: IntArray,
        starts: IntArray,
        references: References,
        weights: LossWeights,
    ) -> None:
        """Begin with no frames; registers are species index, first feature and number of features, ``(R, 3)``."""
        self.species, self.references, self.weights = tuple(maps), references, weights
        self.tables = make_tables({z: m.channels for z, m in maps.items()}, r_cut)
        own = maps.values()
        self.design = (
            np.concatenate([m.mean for m in own]),
            np.concatenate([m.matrix.ravel() for m in own]),
            _starts([m.matrix.size for m in own]),
            np.array([m.n_features for m in own], dtype=np.int64),
            registers,
            starts,
        )
        self.n_columns = int(starts[-1])
        self.equations = NormalEquations.empty(self.n_columns + references.count)

    @property
    def n_bytes(self) -> int:
        """Memory of the Gram matrix."""
        return self.equations.gram.nbytes

    def add(self, frame: Frame) -> None:
        """Add a frame."""
        kinds = species_index(frame.numbers, self.species, where=frame.where)
        near = neighbor_list(frame.positions, frame.cell, frame.pbc, self.tables.r_cut)
        rows = np.empty((self.weights.n_rows(frame) + 1, len(self.equations.moment)))
        energy, (forces, virial) = rows[-1, : self.n_columns], np.split(rows[:-1], [3 * frame.n_atoms])
        means, matrices, starts, sizes, registers, columns = self.design
        quadratic_design(
            self.tables, means, matrices, starts, sizes, registers, columns,
            near.first, near.neighbor, near.vectors, near.distances, kinds, energy, forces, virial,
        )  # fmt: skip
        counts = np.bincount(kinds, minlength=len(self.species)).astype(np.float64)
        add_frame(self.equations, frame, rows, counts, self.references, self.weights)

    def merge(self, other: _QuadraticSums) -> None:
        """Add the sums over other frames."""
        self.equations.merge(other.equations)


def _starts(lengths: Sequence[int]) -> IntArray:
    """Offsets of blocks laid end to end."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
