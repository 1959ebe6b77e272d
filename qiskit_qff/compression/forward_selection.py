r"""Orthogonal forward selection: the channels that explain most energy and force, one at a time.

Each step takes the channel with the largest exact drop in squared error. After k steps the candidates are
orthogonal to the chosen ones, so the drop of candidate j is :math:`r_j^2 / d_j` with its residual moment r
and residual norm d; both follow from the Gram matrix by a pivoted Cholesky step. Plain matching pursuit,
which skips the orthogonalisation, was 30 % worse on real data.

References:
    S. Chen, S. A. Billings and W. Luo, Int. J. Control 50, 1873 (1989), doi:10.1080/00207178908953472.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from threadpoolctl import threadpool_limits

from qiskit_qff.array_types import BoolArray, FloatArray, IntArray
from qiskit_qff.compression.compressor import PoolStatistics, SizeLimits
from qiskit_qff.compression.exchange import SAME_GAIN, exchange_columns
from qiskit_qff.compression.feature_basis import FeatureBasis
from qiskit_qff.compression.linear_map import LinearMap

LEAST_DEVIATION = 5e-4
"""A channel that varies less than this over the training atoms is left out: radial functions have a peak of about one,
so standardised it would reach thousands wherever dynamics goes farther than the data."""
LEAST_SHARE = 0.1
"""A product that varies less than this share of what its factors do together is left out for the same reason."""
DEPENDENT = 1e-8
"""A candidate whose residual norm fell below this fraction is a combination of those taken."""


@dataclass(frozen=True)
class SelectionPath:
    """The order in which columns were taken."""

    columns: IntArray
    """Column numbers, shape ``(k,)``; in the order of choice, or ascending where exchanges followed."""
    losses: FloatArray
    """Squared error left after each greedy step, as a fraction of that with none, shape ``(k,)``."""


def select_columns(
    gram: FloatArray,
    moment: FloatArray,
    owner: IntArray,
    limits: SizeLimits,
    *,
    constant: float,
    eligible: BoolArray | None = None,
    first: Sequence[int] = (),
    dependent: float = DEPENDENT,
) -> SelectionPath:
    """Greedy orthogonal least squares on normal equations.

    Args:
        gram: G, shape ``(C, C)``.
        moment: b, shape ``(C,)``.
        owner: Species index of each column, shape ``(C,)``.
        limits: Numbers of columns allowed.
        constant: Squared error with no column, for the loss curve.
        eligible: Which columns may be taken, shape ``(C,)``; all by default.
        first: Columns that are taken before any other, but for those that may not be taken.
        dependent: A column of whose norm less than this fraction is new is not taken.

    Returns:
        The path; every species owns at least ``limits.least`` columns of it if it has so many independent ones.
    """
    norms = gram.diagonal().copy()
    floor = dependent * norms
    moments = moment.copy()
    factors = np.zeros((limits.total, len(moment)))
    free = norms > 0.0 if eligible is None else (norms > 0.0) & eligible
    counts = np.zeros(int(owner.max()) + 1, dtype=np.int64)
    columns: list[int] = []
    losses: list[float] = []
    left, waiting = constant, [int(column) for column in first]
    while len(columns) < limits.total:
        open_ = free & (norms > floor)
        missing = np.flatnonzero(counts < limits.least)
        if 0 < np.sum(limits.least - counts[missing]) >= limits.total - len(columns):
            open_ &= np.isin(owner, missing)
        gains = np.where(open_, moments**2 / np.where(open_, norms, 1.0), -1.0)
        # A pair of species seen from either side gives two columns of equal gain: rounding must not choose.
        best = int(np.argmax(gains >= (1.0 - SAME_GAIN) * gains.max()))
        while waiting and not open_[waiting[0]]:
            waiting.pop(0)
        if waiting:
            best = waiting.pop(0)
        if gains[best] < 0.0:
            break
        step = len(columns)
        scale = np.sqrt(norms[best])
        factor = (gram[best] - factors[:step, best] @ factors[:step]) / scale
        factors[step] = factor
        moments -= factor * (moments[best] / scale)
        norms -= factor**2
        left -= float(gains[best])
        free[best] = False
        counts[owner[best]] += 1
        if counts[owner[best]] >= limits.per_species:
            free[owner == owner[best]] = False
        columns.append(best)
        losses.append(left / constant)
    return SelectionPath(np.asarray(columns, dtype=np.int64), np.asarray(losses))


@dataclass(frozen=True)
class ForwardSelection:
    """Compressor that keeps single channels."""

    rounds: int = 0
    """Kicks of the search that follows the greedy choice; descent to the nearest minimum is always made."""
    seed: int = 0
    """Of the kicks: the same data give the same channels, whatever else is drawn."""
    basis: FeatureBasis = field(default_factory=FeatureBasis)
    """What becomes of the standardised channels."""
    dependent: float = DEPENDENT
    """Least fraction of a column's norm that must be new."""

    def fit(self, statistics: PoolStatistics, limits: SizeLimits) -> dict[int, LinearMap]:
        """Select channels against energies and forces.

        Args:
            statistics: Sums over the training data.
            limits: Numbers of features allowed.

        Returns:
            A linear map per species; where products are chosen, their factors are among its channels.
        """
        return self.maps(statistics, self.path(statistics, limits))

    def path(
        self, statistics: PoolStatistics, limits: SizeLimits, *, progress: Callable[[int], None] | None = None
    ) -> SelectionPath:
        """The selection itself, for reports.

        Args:
            statistics: Sums over the training data.
            limits: Numbers of features allowed.
            progress: Called with the number of kicks done.
        """
        starts = statistics.tables.channel_start
        owner = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        equations = statistics.equations
        total = min(limits.total, limits.per_species * (len(starts) - 1))
        bounded = replace(limits, total=total)
        eligible, first = eligible_columns(statistics), statistics.start
        fits = first is not None and bounded.allow(np.bincount(owner[first]))
        path = select_columns(
            equations.gram,
            equations.moment,
            owner,
            bounded,
            constant=equations.constant,
            eligible=eligible,
            first=first.tolist() if first is not None and fits else (),
            dependent=self.dependent,
        )
        if not len(path.columns):
            return path
        # PERF: a hundred rows gain nothing from threads of the BLAS library, and on a busy machine each of a thousand
        # calls waits for a thread that does not run: two minutes instead of seconds.
        with threadpool_limits(1, "blas"):
            better = exchange_columns(
                equations.gram,
                equations.moment,
                path.columns,
                owner,
                bounded,
                rounds=self.rounds,
                rng=np.random.default_rng(self.seed),
                eligible=eligible,
                dependent=self.dependent,
                progress=progress,
            )
        return SelectionPath(better, path.losses)

    def maps(self, statistics: PoolStatistics, path: SelectionPath) -> dict[int, LinearMap]:
        """Maps of a given selection.

        Args:
            statistics: Sums over the training data.
            path: The selection.
        """
        starts = statistics.tables.channel_start
        maps = {}
        for s, number in enumerate(statistics.tables.species.tolist()):
            inside = (path.columns >= starts[s]) & (path.columns < starts[s + 1])
            chosen = path.columns[inside] - starts[s]
            channels, kept = statistics.sets[number].subset(chosen)
            covariance = statistics.covariance[number][np.ix_(kept, kept)]
            deviation = np.sqrt(np.diagonal(covariance))
            scale = np.where(deviation > 0.0, 1.0 / np.where(deviation > 0.0, deviation, 1.0), 1.0)
            columns = starts[s] + kept
            scaled = np.diag(scale)[np.isin(kept, chosen)]
            matrix = self.basis.apply(scaled, statistics.equations.gram[np.ix_(columns, columns)], covariance)
            maps[number] = LinearMap(channels, statistics.mean[columns], matrix)
        return maps

    def sorted_maps(self, statistics: PoolStatistics, path: SelectionPath) -> dict[int, LinearMap]:
        """Maps of a given selection whose features are in order of the size of their linear coefficients.

        Registers hold successive features, so that large coefficients share a register with large ones: its shot noise
        grows with the length of its coefficients.

        Args:
            statistics: Sums over the training data.
            path: The selection.
        """
        maps = self.maps(statistics, path)
        linear, found, begin = linear_terms(statistics, path, maps), {}, 0
        for (number, own), count in zip(maps.items(), linear.counts, strict=True):
            order = np.argsort(-np.abs(linear.terms[begin : begin + count]), kind="stable")
            found[number], begin = replace(own, matrix=own.matrix[order]), begin + count
        return found


@dataclass(frozen=True, eq=False)
class LinearTerms:
    """The linear model on the features of a selection, all species end to end."""

    counts: tuple[int, ...]
    """Features of each species."""
    terms: FloatArray
    """Coefficients, shape ``(d,)``, in eV."""
    gram: FloatArray
    """Second moments of the features in units of the loss, shape ``(d, d)``."""
    moment: FloatArray
    """Their moments with the labels, shape ``(d,)``."""


def linear_terms(statistics: PoolStatistics, path: SelectionPath, maps: dict[int, LinearMap]) -> LinearTerms:
    """Fit the linear model on the features of a selection.

    Args:
        statistics: Sums over the training data.
        path: The selection.
        maps: Its maps.
    """
    columns, starts = np.sort(path.columns), statistics.tables.channel_start
    counts, features = [], np.zeros((len(columns), len(columns)))
    for s, number in enumerate(statistics.tables.species.tolist()):
        mine = (columns >= starts[s]) & (columns < starts[s + 1])
        matrix = maps[number].matrix
        # Channels that are only factors of products have no part in a feature.
        features[np.ix_(mine, mine)] = matrix[:, matrix.any(axis=0)]
        counts.append(int(mine.sum()))
    gram = features @ statistics.equations.gram[np.ix_(columns, columns)] @ features.T
    moment = features @ statistics.equations.moment[columns]
    scale = 1.0 / np.sqrt(np.maximum(np.diagonal(gram), 1e-300))
    scaled = gram * np.outer(scale, scale) + 1e-12 * np.eye(len(gram))
    return LinearTerms(tuple(counts), scale * np.linalg.solve(scaled, scale * moment), gram, moment)


def eligible_columns(statistics: PoolStatistics) -> BoolArray:
    """Channels whose spread over the training atoms is worth standardising.

    Args:
        statistics: Sums over the training data.

    Returns:
        Shape ``(C,)``. A species with no such channel keeps those that vary at all.
    """
    parts = []
    for number in statistics.tables.species.tolist():
        deviation = np.sqrt(np.maximum(np.diagonal(statistics.covariance[number]), 0.0))
        enough = deviation >= LEAST_DEVIATION
        channels = statistics.sets[number]
        if len(channels.products):
            # A product of small factors is small, and worth as much as they are.
            for k, factors in enumerate(channels.products, channels.n_simple):
                enough[k] = enough[factors].all() and deviation[k] >= LEAST_SHARE * deviation[factors].prod()
        parts.append(enough if enough.any() else deviation > 0.0)
    return np.concatenate(parts)
