r"""Passes over the data: sums for choosing channels, sums for training, and where the training atoms are.

The sums do not grow with the number of frames. After those for training the loss of any circuit is a quadratic form in
the entries of the registers' M, and later steps cost the same for 60 and for 60,000 frames.

Frames are divided among threads, and the sums of the parts are merged in order. Parts depend on the number of threads
alone, never on which of them is done first: a run can be repeated to the last bit. Against one thread the sums differ
by rounding, 1e-15 of their size.

*Reference energies*, as many as the data can tell apart. A frame with :math:`n_s` atoms of species s has the reference
energy :math:`\sum_s n_s e_s`. Frames of one composition determine one number of these S, and in general the frames
determine as many as the matrix C of their compositions has rank r: energies e that differ by a vector orthogonal to all
its rows are the same model on these data. So r numbers c are fitted, coordinates in the row space of C,

.. math:: e = e_0 + R\,c,\qquad C = U \Sigma V^T,\; R = (V_1, \dots, V_r),

and :math:`e_0`, what is taken off the labels beforehand, is the least-squares solution in the same space, no number
beside c. R knows compositions only, no label. For frames of another composition this is the smallest solution, the
usual choice where data say nothing.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from dataclasses import dataclass, field, replace
from typing import Protocol, Self, TypeVar

import numba
import numpy as np
from ase.data import atomic_numbers
from threadpoolctl import threadpool_limits

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.compression.least_squares import NormalEquations
from qiskit_qff.compression.selection import LinearMap, PoolStatistics, register_maps
from qiskit_qff.descriptors.blocks import Surroundings, channel_values
from qiskit_qff.descriptors.channels import (
    ChannelSet,
    ChannelTables,
    OwnSet,
    OwnTables,
    PoolSettings,
    build_channels,
    cosine_powers,
    make_tables,
    with_angular_functions,
)
from qiskit_qff.descriptors.derivatives import (
    STRAIN_COLUMNS,
    STRAIN_ROWS,
    DesignRows,
    RegisterMaps,
    linear_design,
    quadratic_design,
    thread_pool,
)
from qiskit_qff.errors import DataError
from qiskit_qff.model.config import TrainConfig
from qiskit_qff.structures.frame import Frame, species_index
from qiskit_qff.structures.neighbors import neighbor_list

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, the work done and the work in all."""

SUMS_LIMIT = 256 * 2**20
"""Bytes that the sums of all threads may take together, unless those of one take more."""
BLOCK = 64
"""Energies that are added to the Gram matrix at once."""
MOMENT_BLOCK = 256
"""Atoms whose products are added to the moments at once."""
ROWS_AT_ONCE = 256
"""Rows of a large matrix that are updated together."""
SAME = 1e-10
"""Singular values below this, relative to the largest, are rounding: compositions are fractions of whole numbers, and
two cells of 10,000 atoms that differ by one atom are 1e-4 apart."""


def silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


class Sums(Protocol):
    """Sums over some frames, and the memory that they take."""

    n_bytes: int

    def add(self, frame: Frame) -> None: ...  # noqa: D102

    def merge(self, other: Self) -> None: ...  # noqa: D102


S = TypeVar("S", bound=Sums)


def n_threads() -> int:
    """Threads to sum on: what ``OMP_NUM_THREADS`` says, else as many as the process may use cores."""
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(asked) if asked.isdecimal() and int(asked) else numba.get_num_threads()


def sum_frames(
    empty: Callable[[], S],
    frames: Sequence[Frame],
    *,
    stage: str,
    progress: Progress,
) -> S:
    """Sum over at least one frame, on several threads."""
    total = empty()
    count = min(n_threads(), len(frames), max(1, SUMS_LIMIT // total.n_bytes))
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
    """Shortest distance of every pair of species in Å, shape ``(S, S)``; ``inf`` where it is beyond the cutoff."""
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
    """Sums over the whole pool of simple channels; shortest distances of pairs, shape ``(S, S)``, place them."""
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
    sets: Mapping[int, ChannelSet | OwnSet],
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

    def __init__(self, tables: ChannelTables | OwnTables) -> None:
        self._species: list[int] = tables.species.tolist()
        self._widths = np.diff(tables.channel_start)
        self._counts = np.zeros(len(self._species))
        self._shifts: list[FloatArray | None] = [None] * len(self._species)
        self._sums = [np.zeros(width) for width in self._widths]
        self._squares = [np.zeros((width, width)) for width in self._widths]
        self._waiting: list[list[FloatArray]] = [[] for _ in self._widths]

    def add(self, kinds: IntArray, values: FloatArray) -> None:
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
        # PERF: many atoms at once; with those of one frame the matrix of squares passes through memory every time,
        # which took a fifth of a training.
        if self._waiting[s]:
            rows = np.concatenate(self._waiting[s])
            self._squares[s] += rows.T @ rows
            self._waiting[s] = []

    def merge(self, other: _Moments) -> None:
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
        for s in range(len(self._widths)):
            self._settle(s)
        return {
            z: square / count - np.outer(total / count, total / count)
            for z, square, total, count in zip(self._species, self._squares, self._sums, self._counts, strict=True)
        }


def channel_rows(tables: ChannelTables | OwnTables, frame: Frame) -> tuple[FloatArray, FloatArray]:
    """Design rows of a model that is linear in channels, for one frame.

    Returns:
        Channel sums, shape ``(C,)``, and end to end minus their gradient and their derivative by strain as xx, yy, zz,
        yz, xz, xy, shape ``(3 n + 6, C)``.
    """
    width = int(tables.channel_start[-1])
    energy, others = np.empty(width), np.empty((3 * frame.n_atoms + 6, width))
    _fill_rows(tables, frame, DesignRows.of(energy, others, frame.n_atoms))
    return energy, others


def _fill_rows(tables: ChannelTables | OwnTables, frame: Frame, rows: DesignRows) -> tuple[IntArray, FloatArray]:
    """Fill the design rows of a frame; species index and channels of its atoms, shapes ``(n,)`` and ``(n, K)``."""
    near = Surroundings.in_frame(frame, tables)
    values = np.empty((frame.n_atoms, int(np.diff(tables.channel_start).max())))
    linear_design(tables, near, rows, values)
    return near.kinds, values


class _PoolSums:
    """Loss of linear models and moments of all channels."""

    def __init__(self, tables: ChannelTables | OwnTables, references: References, weights: LossWeights) -> None:
        self.tables, self.references, self.weights = tables, references, weights
        self.n_channels = int(tables.channel_start[-1])
        self.equations = NormalEquations.empty(self.n_channels + references.count)
        self.n_bytes = self.equations.gram.nbytes
        self.moments = _Moments(tables)

    def add(self, frame: Frame) -> None:
        rows = np.empty((self.weights.n_rows(frame) + 1, len(self.equations.moment)))
        design = DesignRows.of(rows[-1, : self.n_channels], rows[:-1], frame.n_atoms)
        kinds, values = _fill_rows(self.tables, frame, design)
        self.moments.add(kinds, values)
        counts = np.bincount(kinds, minlength=len(self.tables.species)).astype(np.float64)
        add_frame(self.equations, frame, rows, counts, self.references, self.weights)

    def merge(self, other: _PoolSums) -> None:
        self.equations.merge(other.equations)
        self.moments.merge(other.moments)


def _add_energies(sums: _PoolSums, frames: Sequence[Frame], progress: Progress) -> None:
    """Add the energies and moments of frames whose forces are left out."""
    tables, starts = sums.tables, sums.tables.channel_start

    def evaluate(frame: Frame) -> tuple[IntArray, FloatArray]:
        near = Surroundings.in_frame(frame, tables)
        return near.kinds, channel_values(tables, near)

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
                for s in range(len(tables.species)):
                    rows[k, starts[s] : starts[s + 1]] = values[kinds == s, : starts[s + 1] - starts[s]].sum(axis=0)
                counts = np.bincount(kinds, minlength=len(tables.species)).astype(np.float64)
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
    covariance, sets = {}, {}
    for s, number in enumerate(statistics.tables.species.tolist()):
        channels = statistics.sets[number]
        assert isinstance(channels, ChannelSet)
        sets[number], n_two = with_angular_functions(channels, settings), len(channels.pair_species)
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
    tables = make_tables(sets, statistics.tables.r_cut)
    return PoolStatistics(sets, tables, mean, covariance, NormalEquations(gram, moment, statistics.equations.constant))


def _mixed(values: FloatArray, rows: FloatArray) -> FloatArray:
    """Columns of pure degree combined by the rows, couple by couple; the shape stays."""
    blocks = values.reshape(*values.shape[:-1], -1, len(rows))
    mixed: FloatArray = (blocks @ rows.T).reshape(values.shape)
    return mixed


@dataclass(frozen=True)
class QuadraticStatistics:
    """The loss as a quadratic form in the upper triangles of all registers' M and the reference energies."""

    species: tuple[int, ...]  # atomic numbers, ascending
    owners: IntArray  # index of the species of each register, shape ``(R,)``, ascending
    sizes: IntArray  # amplitudes in use, d_r + 1, of each register, shape ``(R,)``
    starts: IntArray  # where the triangle of each register begins, shape ``(R + 1,)``; the r reference energies follow
    equations: NormalEquations  # completed sums over ``Q + r`` columns, per frame (divided by their number)
    references: References  # space of the reference energies, and those taken off beforehand


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
        registers: Features of each register, per atomic number.
        r_cut: Cutoff radius in Å.
    """
    species, references = tuple(maps), fit_references(frames, tuple(maps))
    tables, flat = make_tables({z: m.channels for z, m in maps.items()}, r_cut), register_maps(maps, registers)
    sums = sum_frames(
        lambda: _QuadraticSums(tables, flat, references, weights), frames, stage="statistics", progress=progress
    )
    equations = sums.equations
    equations.symmetric()
    equations.gram /= len(frames)
    equations.moment /= len(frames)
    equations.constant /= len(frames)
    owners, _, counts = flat.registers.T
    return QuadraticStatistics(species, owners, counts + 1, flat.column_start, equations, references)


class _QuadraticSums:
    """Sums over products of features inside registers."""

    def __init__(
        self, tables: ChannelTables | OwnTables, maps: RegisterMaps, references: References, weights: LossWeights
    ) -> None:
        self.tables, self.maps, self.references, self.weights = tables, maps, references, weights
        self.n_columns = int(maps.column_start[-1])
        self.equations = NormalEquations.empty(self.n_columns + references.count)
        self.n_bytes = self.equations.gram.nbytes

    def add(self, frame: Frame) -> None:
        near = Surroundings.in_frame(frame, self.tables)
        rows = np.empty((self.weights.n_rows(frame) + 1, len(self.equations.moment)))
        design = DesignRows.of(rows[-1, : self.n_columns], rows[:-1], frame.n_atoms)
        quadratic_design(self.tables, self.maps, near, design)
        counts = np.bincount(near.kinds, minlength=len(self.tables.species)).astype(np.float64)
        add_frame(self.equations, frame, rows, counts, self.references, self.weights)

    def merge(self, other: _QuadraticSums) -> None:
        self.equations.merge(other.equations)


def training_features(
    frames: Sequence[Frame], maps: dict[int, LinearMap], *, r_cut: float, progress: Progress
) -> tuple[list[list[FloatArray]], list[FloatArray]]:
    """Features of all training atoms, and what the products of those of an atom add up to.

    Args:
        r_cut: Cutoff radius in Å.

    Returns:
        Per species the features in each frame, shapes ``(n, d)``, and the sum of ``y y^T``, shape ``(d, d)``.
    """
    tables = make_tables({z: m.channels for z, m in maps.items()}, r_cut)
    found = sum_frames(lambda: _Features(tables, maps), frames, stage="posterior", progress=progress)
    return found.features, found.squares


class _Features:
    """Features of atoms, and sums of their products, per species."""

    n_bytes = 1
    """What is kept does not depend on the number of threads."""

    def __init__(self, tables: ChannelTables | OwnTables, maps: dict[int, LinearMap]) -> None:
        self._tables, self._maps = tables, maps
        self.features: list[list[FloatArray]] = [[] for _ in maps]
        self.squares = [np.zeros((m.n_features, m.n_features)) for m in maps.values()]

    def add(self, frame: Frame) -> None:
        near = Surroundings.in_frame(frame, self._tables)
        values = channel_values(self._tables, near)
        for s, m in enumerate(self._maps.values()):
            own = m.apply(values[near.kinds == s, : m.channels.n_channels])
            self.features[s].append(own)
            self.squares[s] += own.T @ own

    def merge(self, other: _Features) -> None:
        for s, square in enumerate(other.squares):
            self.features[s] += other.features[s]
            self.squares[s] += square


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    r"""The loss of a frame.

    .. math:: (\Delta E / N\sigma_E)^2 + \frac{1}{3N}\sum f_Z (\Delta F/\sigma_F)^2
              + \frac 1 9 \sum_{\alpha\beta} (\Delta\sigma_{\alpha\beta}/\sigma_S)^2

    The last term, over all nine components so that it does not depend on the axes, is there for frames with a stress
    where a scale for it is set.
    """

    energy_scale: float = 3e-3  # σ_E in eV/atom
    force_scale: float = 0.1  # σ_F in eV/Å
    element_weights: dict[int, float] = field(default_factory=dict)
    """Factor on the weight of an element's forces per atomic number; 1 where there is none."""
    stress_scale: float | None = None  # σ_S in eV/Å³; None where stresses are not fitted

    def has_stress(self, frame: Frame) -> bool:
        """Whether the stress of a frame counts; without three periods there is none."""
        return self.stress_scale is not None and frame.stress is not None and bool(frame.pbc.all())

    def n_rows(self, frame: Frame) -> int:
        """Rows of a frame beside that of its energy: its force components, and six of the stress where it counts."""
        return 3 * frame.n_atoms + (6 if self.has_stress(frame) else 0)

    def row_labels(self, frame: Frame) -> FloatArray:
        """Labels of these rows: forces in eV/Å, and six components of the virial (stress times volume) in eV."""
        forces = self.force_labels(frame)
        if frame.stress is None or not self.has_stress(frame):
            return forces
        return np.append(forces, frame.volume * frame.stress[STRAIN_ROWS, STRAIN_COLUMNS])

    def row_weights(self, frame: Frame) -> FloatArray:
        """Weights of these rows."""
        forces = self.force_weights(frame.numbers)
        if self.stress_scale is None or not self.has_stress(frame):
            return forces
        # Off the diagonal each component stands for two.
        shares = np.array([1.0, 1.0, 1.0, 2.0, 2.0, 2.0]) / 9.0
        return np.append(forces, shares / (self.stress_scale * frame.volume) ** 2)

    def force_weights(self, numbers: IntArray) -> FloatArray:
        """Weight of every force component of these atomic numbers, shape ``(3 n,)``."""
        variance = self.force_scale**2
        factors = np.array([self.element_weights.get(int(z), 1.0) for z in numbers])
        weights: FloatArray = np.repeat(factors / (variance * 3 * len(numbers)), 3)
        return weights

    def energy_weight(self, n_atoms: int) -> float:
        """Weight of a frame's energy."""
        return float((n_atoms * self.energy_scale) ** -2)

    def force_labels(self, frame: Frame) -> FloatArray:
        """Force labels of a frame without their mean, which no force field can have, shape ``(3 n,)``, in eV/Å."""
        assert frame.forces is not None  # data that lack some are refused before
        forces: FloatArray = frame.forces - frame.forces.mean(axis=0)
        return forces.ravel()

    @classmethod
    def of(cls, config: TrainConfig) -> LossWeights:
        """The loss of a configuration in eV and Å."""
        loss = config.loss
        return cls(
            energy_scale=1e-3 * loss.energy_scale_mev_per_atom,
            force_scale=1e-3 * loss.force_scale_mev_per_ang,
            element_weights={atomic_numbers[s]: f for s, f in loss.element_weights.items()},
            stress_scale=None if loss.stress_scale_mev_per_ang3 is None else 1e-3 * loss.stress_scale_mev_per_ang3,
        )


def check_stresses(frames: Sequence[Frame], weights: LossWeights) -> None:
    """Refuse training frames without any stress where stresses are to be fitted."""
    if weights.stress_scale is not None and not any(map(weights.has_stress, frames)):
        raise DataError(
            f"loss.stress_scale_mev_per_ang3 is set, but none of the {len(frames)} training frames has a stress (and "
            "three periods); leave it out (null), or label frames with stresses. 'qff validate' counts them."
        )


@dataclass(frozen=True, eq=False)
class References:
    """The space in which reference energies are fitted, and where the fit begins."""

    baseline: FloatArray  # energies e_0 taken off the labels beforehand, inside the space, shape ``(S,)``, in eV
    directions: FloatArray  # R, orthonormal columns, shape ``(S, r)``

    @property
    def count(self) -> int:
        """r: how many independent numbers the data determine."""
        return int(self.directions.shape[1])

    def energies(self, coordinates: FloatArray) -> FloatArray:
        """Reference energy of every species, shape ``(S,)``, for coordinates c, shape ``(r,)``, in eV."""
        found: FloatArray = self.baseline + self.directions @ coordinates
        return found


def compositions(frames: Sequence[Frame], species: Sequence[int]) -> FloatArray:
    """Atoms of each species in every frame, shape ``(F, S)``."""
    return np.array([[np.count_nonzero(f.numbers == z) for z in species] for f in frames], dtype=np.float64)


def composition_directions(counts: FloatArray) -> FloatArray:
    """Orthonormal basis, shape ``(S, r)``, of the row space of compositions, whatever the sizes of the cells."""
    # Fractions, so that a small cell counts as much as a large one; each composition once, so that neither the number
    # of frames nor their order matters.
    distinct = np.unique(counts / counts.sum(axis=1, keepdims=True), axis=0)
    _, values, rows = np.linalg.svd(distinct, full_matrices=False)
    directions = rows[values > SAME * values[0]].T
    largest = np.abs(directions).argmax(axis=0)
    signed: FloatArray = directions * np.sign(directions[largest, np.arange(directions.shape[1])])
    return signed


def reference_count(frames: Sequence[Frame], species: Sequence[int]) -> int:
    """How many independent reference energies some frames determine."""
    return int(composition_directions(compositions(frames, species)).shape[1])


def fit_references(frames: Sequence[Frame], species: Sequence[int]) -> References:
    """Least-squares energy per atom of each species, and the space of those that the data can tell apart."""
    counts = compositions(frames, species)
    directions = composition_directions(counts)
    size = counts.sum(axis=1)
    energies = np.array([f.energy for f in frames], dtype=np.float64)
    columns = (counts / size[:, None]) @ directions
    scale = np.linalg.norm(columns, axis=0)
    solution = np.linalg.lstsq(columns / scale, energies / size, rcond=None)[0] / scale
    return References(directions @ solution, directions)


def add_frame(
    equations: NormalEquations,
    frame: Frame,
    rows: FloatArray,
    counts: FloatArray,
    references: References,
    weights: LossWeights,
) -> None:
    """Add one frame's rows, columns of the r reference energies last.

    Args:
        equations: Sums over ``C + r`` columns.
        rows: Those of forces and, where the loss has it, the virial, whose last r columns are zero, then that of the
            energy, whose last r columns are filled in here; shape ``(n_rows + 1, C + r)``. Overwritten.
        counts: Atoms of each species, shape ``(S,)``.
    """
    rows[-1, rows.shape[1] - references.count :], label = energy_of(frame, counts, references)
    # PERF: forces and energy in one product, so that the Gram matrix passes through memory once.
    equations.add(
        rows,
        np.append(weights.row_labels(frame), label),
        np.append(weights.row_weights(frame), weights.energy_weight(frame.n_atoms)),
    )


def energy_of(frame: Frame, counts: FloatArray, references: References) -> tuple[FloatArray, float]:
    """Coefficients of the r reference energies in a frame's energy, and what is left to explain of its label in eV."""
    return counts @ references.directions, float(frame.energy or 0.0) - float(counts @ references.baseline)


def eliminate_last(equations: NormalEquations, count: int) -> NormalEquations:
    """Minimise over the last columns exactly: sums over the others whose loss is the minimum over those."""
    head = slice(0, len(equations.moment) - count)
    tail = slice(len(equations.moment) - count, None)
    corner = equations.gram[tail, tail]
    # In units of the diagonal: one composition may be rare, or differ little from another.
    scale = 1.0 / np.sqrt(np.maximum(np.diagonal(corner), 1e-300))
    inverse = np.linalg.pinv(corner * np.outer(scale, scale), rcond=1e-12, hermitian=True) * np.outer(scale, scale)
    coupling = equations.gram[head, tail]
    # PERF: updated in place, some rows at a time; the product of all would take as much memory as the Gram matrix.
    thin = coupling @ inverse
    for begin in range(0, len(thin), ROWS_AT_ONCE):
        rows = slice(begin, min(begin + ROWS_AT_ONCE, len(thin)))
        equations.gram[rows, head] -= thin[rows] @ coupling.T
    moment = equations.moment[head] - coupling @ (inverse @ equations.moment[tail])
    constant = equations.constant - float(equations.moment[tail] @ inverse @ equations.moment[tail])
    return NormalEquations(equations.gram[head, head], moment, constant)
