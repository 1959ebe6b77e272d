r"""From a pool of hundreds of channels to the few features that registers hold: which channels, and in which basis.

Channels are chosen by energies and forces (:mod:`~qiskit_qff.compression.least_squares`). A linear map of the features,
y -> A y, then changes neither the channels nor what a tree circuit can fit, but it changes the readout: the model's
coefficients become :math:`A^{-T}\beta`, and the readout weights, and with them the noise of measured energies and
forces, grow with them. Two label-free choices keep them small.

*Decorrelation.* With G the second moments of the features' sums over frames and of their derivatives with respect to
positions, in units of the loss, noise scales with :math:`|A^{-T}\beta|^2\,\mathrm{tr}(A G A^T)`. If all directions
contributed alike to the forces, :math:`A = G^{-1/2}` would be best; if the coefficients of standardised channels were
alike, :math:`G^{-1/4}`. The exponent 3/8 lies between. The symmetric root keeps every feature close to its channel.

*Size.* The state is (1, y), normalised. A readout :math:`w(u\cdot x)^2` holds the linear term
:math:`2 w u_0 u_a y_a` beside the square :math:`w (u_a y_a)^2`; with features of order one a nearly linear model needs
:math:`u_0 \gg u_a` and a huge w, with small features :math:`u_0 \approx |u|/\sqrt 2` and the smallest w will do.

*Order.* Registers hold successive features, so features are sorted by the size of their linear coefficients: the shot
noise of a register grows with the length of its coefficients, and large ones share a register.

*Products.* All products of all channels would be millions. Those of the channels that a model takes anyway are
thousands, and the gain is among them: each round takes the selected channels and their factors, fills up with the next
ones in the order of forward selection, and forms

- all products of two of these simple channels,
- every product that was selected, times each of them.

So the second round has products of three, and those of two with channels that only products made useful.

What compression leaves of a pool: some channels, centred, and a linear map to d features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from qiskit_qff.array_types import BoolArray, FloatArray, IntArray
from qiskit_qff.compression.least_squares import (
    DEPENDENT,
    ColumnProblem,
    NormalEquations,
    SizeLimits,
    select_columns,
    swap_columns,
)
from qiskit_qff.descriptors.channels import ChannelSet, ChannelTables, OwnSet, OwnTables
from qiskit_qff.descriptors.derivatives import RegisterMaps
from qiskit_qff.errors import ConfigError, DataError

LEADING = 50
"""Simple channels per species that stay in the pool, unless more of them are selected."""
SELECTED = 96
"""Channels that are selected to form products: about as many as 99 parameters allow, whatever the budget is, so that
models of different size choose from one pool."""
WIDTH = 3.0
"""Standard deviations of a channel at which it levels off in products."""
RESTARTS = 10
"""Random restarts of the search for these channels; without any, the models were a few percent worse."""
PER_SPECIES = 63
"""Most of them of one species, so that no species alone fills the pool."""


def product_pool(
    statistics: PoolStatistics, *, most: int, selected: int = SELECTED
) -> tuple[dict[int, ChannelSet], IntArray]:
    """Channel sets of the next pool, and the columns there of the channels that were selected."""
    starts, species = statistics.tables.channel_start, statistics.tables.species.tolist()
    limits = SizeLimits(total=max(selected, len(species)), per_species=PER_SPECIES)
    taken = select_channels(statistics, limits, restarts=RESTARTS)
    leading = _leading(statistics)
    parts, old_sets = [], {}
    for s, number in enumerate(species):
        low, high = int(starts[s]), int(starts[s + 1])
        channels = statistics.sets[number]
        assert isinstance(channels, ChannelSet)  # others have no products
        chosen = (taken[(low <= taken) & (taken < high)] - low).tolist()
        order = (leading[(low <= leading) & (leading < high)] - low).tolist()
        products = [c for c in chosen if c >= channels.n_simple]
        factors = sorted(set().union(*(channels.factors(c) for c in products)))
        # Simple channels that stay: those selected, the factors of selected products, then those that lead.
        needed = dict.fromkeys([c for c in chosen if c < channels.n_simple] + factors)
        old_sets[number] = channels
        parts.append((list(needed | dict.fromkeys(order))[: max(LEADING, len(needed))], products, chosen))
    count = _fitting([(len(simple), len(products)) for simple, products, _ in parts], most)
    sets: dict[int, ChannelSet] = {}
    columns: list[int] = []
    for s, (number, (simple, products, chosen)) in enumerate(zip(species, parts, strict=True)):
        before = sum(own.n_channels for own in sets.values())
        smaller, old = old_sets[number].subset(np.array(simple + products, dtype=np.int64))
        place = {int(c): k for k, c in enumerate(old)}
        columns += [before + place[c] for c in chosen]
        factors = [place[c] for c in simple[:count]]
        there = {tuple(sorted(pair)) for pair in smaller.products.tolist()}
        wanted = [tuple(sorted((a, b))) for k, a in enumerate(factors) for b in factors[k:]]
        wanted += [(a, place[p]) for p in products for a in factors]
        pairs = np.array([pair for pair in wanted if pair not in there], dtype=np.int64).reshape(-1, 2)
        deviation = np.sqrt(np.maximum(np.diagonal(statistics.covariance[number]), 0.0))
        width = np.where(deviation > 0.0, WIDTH * deviation, 1.0)
        mean = statistics.mean[starts[s] : starts[s + 1]]
        sets[number] = smaller.with_products(pairs, mean[old][pairs], width[old][pairs])
    return sets, np.array(columns, dtype=np.int64)


def _leading(statistics: PoolStatistics) -> IntArray:
    """Simple channels in the order of forward selection, at most :data:`LEADING` a species."""
    sets = [statistics.sets[number] for number in statistics.tables.species.tolist()]
    simple = np.concatenate([np.arange(s.n_channels) < s.n_simple for s in sets])
    limits, equations = SizeLimits(total=LEADING * len(sets), per_species=LEADING), statistics.equations
    eligible = simple & eligible_columns(statistics)
    return select_columns(
        ColumnProblem(equations.gram, equations.moment, equations.constant, statistics.owner, eligible, limits)
    )


def _fitting(parts: Sequence[tuple[int, int]], most: int) -> int:
    """Of how many simple channels a species products may be formed, given its simple channels and its products."""
    for count in range(1, max(n_simple for n_simple, _ in parts) + 1):
        sizes = [(min(count, n_simple), n_products) for n_simple, n_products in parts]
        if sum(k * (k + 1) // 2 + k * n_products for k, n_products in sizes) > most:
            return count - 1
    return max(n_simple for n_simple, _ in parts)


LEAST_DEVIATION = 5e-4
"""A channel that varies less than this over the training atoms is left out: radial functions have a peak of about one,
so standardised it would reach thousands wherever dynamics goes farther than the data."""
ROUNDING = 1e-10
"""What varies less than this does not vary."""
LEAST_SHARE = 0.1
"""A product that varies less than this share of what its factors do together is left out for the same reason."""
EXPONENT = 0.375
"""Power of the second moments that is divided out; 1/2 would be whitening."""
FLOOR = 1e-10
"""Directions whose second moment falls below this fraction of the largest are not stretched any further."""
FEATURE_NORM = 0.03
"""Root-mean-square norm of the features of an atom, where the constant amplitude is 1."""


@dataclass(frozen=True)
class PoolStatistics:
    """What the selection may know of the training data: sums, never frames."""

    sets: Mapping[int, ChannelSet | OwnSet]  # pool of each species
    tables: ChannelTables | OwnTables  # these pools end to end; column c of everything below is channel c of them
    mean: FloatArray  # mean over the atoms of the species, shape ``(C,)``
    covariance: dict[int, FloatArray]  # covariance of the channels over the atoms of each species, shape ``(K_s, K_s)``
    equations: NormalEquations
    """Least squares of energies (free of reference energies) and forces on channel sums; completed G."""
    start: IntArray | None = None
    """Columns that were selected from a smaller pool, where there was one: a search may begin at them."""

    @property
    def owner(self) -> IntArray:
        """Species index of each column, shape ``(C,)``."""
        starts = self.tables.channel_start
        return np.repeat(np.arange(len(starts) - 1), np.diff(starts))


def select_channels(
    pool: PoolStatistics,
    limits: SizeLimits,
    *,
    restarts: int = 0,
    dependent: float = DEPENDENT,
    progress: Callable[[int], None] | None = None,
) -> IntArray:
    """Choose channels by energies and forces, ascending; the same data always give the same channels."""
    owner, equations, n_species = pool.owner, pool.equations, len(pool.sets)
    bounded = replace(limits, total=min(limits.total, limits.per_species * n_species))
    problem = ColumnProblem(
        equations.gram, equations.moment, equations.constant, owner, eligible_columns(pool), bounded, dependent
    )
    first: list[int] = []
    if pool.start is not None and len(pool.start) <= bounded.total:
        counts = np.bincount(owner[pool.start])
        first = pool.start.tolist() if counts.max() <= bounded.per_species else []
    columns = select_columns(problem, first)
    if not len(columns):
        return columns
    # PERF: a hundred rows gain nothing from threads of the BLAS library, and on a busy machine each of a thousand
    # calls waits for a thread that does not run: two minutes instead of seconds.
    with threadpool_limits(1, "blas"):
        return swap_columns(problem, columns, restarts=restarts, rng=np.random.default_rng(0), progress=progress)


def feature_maps(pool: PoolStatistics, columns: IntArray) -> dict[int, LinearMap]:
    """Linear map of each species from the chosen channels, features in order of the size of their linear coefficients.

    Where products are chosen, their factors are among the channels of the map.
    """
    starts, maps, found, begin = pool.tables.channel_start, {}, {}, 0
    for s, number in enumerate(pool.tables.species.tolist()):
        chosen = columns[(columns >= starts[s]) & (columns < starts[s + 1])] - starts[s]
        channels, kept = pool.sets[number].subset(chosen)
        covariance = pool.covariance[number][np.ix_(kept, kept)]
        deviation = np.sqrt(np.diagonal(covariance))
        scale = np.where(deviation > 0.0, 1.0 / np.where(deviation > 0.0, deviation, 1.0), 1.0)
        places = starts[s] + kept
        standardised = np.diag(scale)[np.isin(kept, chosen)]
        matrix = decorrelated(standardised, pool.equations.gram[np.ix_(places, places)])
        maps[number] = LinearMap(channels, pool.mean[places], sized(matrix, covariance, FEATURE_NORM))
    linear = linear_terms(pool, columns, maps)
    for (number, own), count in zip(maps.items(), linear.counts, strict=True):
        order = np.argsort(-np.abs(linear.terms[begin : begin + count]), kind="stable")
        found[number], begin = replace(own, matrix=own.matrix[order]), begin + count
    return found


def decorrelated(matrix: FloatArray, gram: FloatArray) -> FloatArray:
    """The map ``(T G T^T)^(-3/8) T``, whose features have second moments closer to the identity than those of T.

    Args:
        matrix: T, shape ``(d, K)``, features of comparable size.
        gram: Second moments of the K channels in the units of the loss, shape ``(K, K)``.
    """
    values, vectors = np.linalg.eigh(matrix @ gram @ matrix.T)
    kept = np.maximum(values, FLOOR * max(float(values[-1]), 1e-300))
    root: FloatArray = (vectors * kept**-EXPONENT) @ vectors.T
    return np.asarray(root @ matrix)


def sized(matrix: FloatArray, covariance: FloatArray, norm: float) -> FloatArray:
    """A map scaled so that the features of an atom have a given root-mean-square norm, if they vary at all."""
    present = float(np.sqrt(max(np.einsum("dk,kl,dl->", matrix, covariance, matrix, optimize=True), 0.0)))
    return matrix * (norm / present) if present > 0.0 else matrix


class LinearTerms(NamedTuple):
    """The linear model on the features of a selection, all species end to end."""

    counts: tuple[int, ...]  # features of each species
    terms: FloatArray  # coefficients, shape ``(d,)``, in eV
    gram: FloatArray  # second moments of the features in units of the loss, shape ``(d, d)``
    moment: FloatArray  # their moments with the labels, shape ``(d,)``


def linear_terms(pool: PoolStatistics, columns: IntArray, maps: dict[int, LinearMap]) -> LinearTerms:
    """Fit the linear model on the features of the chosen channels."""
    columns, starts = np.sort(columns), pool.tables.channel_start
    counts, features = [], np.zeros((len(columns), len(columns)))
    for s, number in enumerate(pool.tables.species.tolist()):
        mine = (columns >= starts[s]) & (columns < starts[s + 1])
        matrix = maps[number].matrix
        # Channels that are only factors of products have no part in a feature.
        features[np.ix_(mine, mine)] = matrix[:, matrix.any(axis=0)]
        counts.append(int(mine.sum()))
    gram = features @ pool.equations.gram[np.ix_(columns, columns)] @ features.T
    moment = features @ pool.equations.moment[columns]
    scale = 1.0 / np.sqrt(np.maximum(np.diagonal(gram), 1e-300))
    scaled = gram * np.outer(scale, scale) + 1e-12 * np.eye(len(gram))
    return LinearTerms(tuple(counts), scale * np.linalg.solve(scaled, scale * moment), gram, moment)


def eligible_columns(pool: PoolStatistics) -> BoolArray:
    """Channels whose spread over the training atoms is worth standardising, shape ``(C,)``.

    A species with no such channel keeps those that vary at all; rounding is no variation.
    """
    parts = []
    for number in pool.tables.species.tolist():
        deviation = np.sqrt(np.maximum(np.diagonal(pool.covariance[number]), 0.0))
        channels = pool.sets[number]
        # Features of other descriptors may be of any size.
        enough = deviation >= LEAST_DEVIATION * (1.0 if isinstance(channels, ChannelSet) else deviation.max() or 1.0)
        # A product of small factors is small, and worth as much as they are.
        for k, factors in enumerate(channels.products, channels.n_simple):
            enough[k] = enough[factors].all() and deviation[k] >= LEAST_SHARE * deviation[factors].prod()
        if not enough.any():
            enough = deviation > ROUNDING
        if not enough.any():
            raise DataError(
                f"all training atoms of atomic number {number} have the same surroundings, so that nothing can be "
                "learnt about them. Add frames in which these differ."
            )
        parts.append(enough)
    return np.concatenate(parts)


@dataclass(frozen=True)
class LinearMap:
    """Compression of one species: y = T (D - mean)."""

    channels: ChannelSet | OwnSet  # the channels D that must be computed
    mean: FloatArray  # mean of each channel over the training atoms, shape ``(K,)``
    matrix: FloatArray
    """T, shape ``(d, K)``: selected channels in their :mod:`basis <qiskit_qff.compression.selection>`, principal
    axes for PCA."""

    def __post_init__(self) -> None:
        """Check the shapes."""
        count = self.channels.n_channels
        if self.mean.shape != (count,) or self.matrix.ndim != 2 or self.matrix.shape[1] != count:
            raise ConfigError(
                f"compression of {count} channels has a mean of shape {self.mean.shape} and a matrix of shape "
                f"{self.matrix.shape}; ({count},) and (d, {count}) are expected."
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.matrix).all()):
            raise ConfigError("compression holds a number that is not finite.")

    @property
    def n_features(self) -> int:
        """Compressed size d."""
        return len(self.matrix)

    def apply(self, values: FloatArray) -> FloatArray:
        """Features y, shape ``(batch, d)``, of channel values D, shape ``(batch, K)``."""
        compressed: FloatArray = (values - self.mean) @ self.matrix.T
        return compressed

    def fold(self, form: FloatArray) -> FloatArray:
        """The form B with ``(1, D - mean) B (1, D - mean) = x M x``, where M is a form in x = (1, y)."""
        outer = np.zeros((self.n_features + 1, self.channels.n_channels + 1))
        outer[0, 0] = 1.0
        outer[1:, 1:] = self.matrix
        folded: FloatArray = outer.T @ form @ outer
        return 0.5 * (folded + folded.T)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists for a model file; a diagonal T is written as its diagonal."""
        diagonal = np.diagonal(self.matrix)
        compact = len(diagonal) > 0 and np.array_equal(self.matrix, np.diag(diagonal))
        return {
            "channels": self.channels.to_dict(),
            "mean": self.mean.tolist(),
            "scale" if compact else "matrix": diagonal.tolist() if compact else self.matrix.tolist(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LinearMap:
        """Read back what :meth:`to_dict` wrote."""
        matrix = np.diag(data["scale"]) if "scale" in data else np.asarray(data["matrix"], dtype=np.float64)
        kind = OwnSet if "descriptor" in data["channels"] else ChannelSet
        return cls(
            channels=kind.from_dict(data["channels"]),
            mean=np.asarray(data["mean"], dtype=np.float64),
            matrix=matrix.astype(np.float64),
        )


def register_maps(maps: Mapping[int, LinearMap], registers: Mapping[int, Sequence[int]]) -> RegisterMaps:
    """Features and registers of all species as the kernels take them.

    Args:
        registers: Features of each register, per atomic number.
    """
    places = [
        (s, begin, count)
        for s, number in enumerate(maps)
        for begin, count in zip(accumulate(registers[number], initial=0), registers[number], strict=False)
    ]
    return RegisterMaps(
        means=np.concatenate([m.mean for m in maps.values()]),
        matrices=np.concatenate([m.matrix.ravel() for m in maps.values()]),
        matrix_start=np.array([0, *accumulate(m.matrix.size for m in maps.values())], dtype=np.int64),
        registers=np.array(places, dtype=np.int64),
        column_start=np.array([0, *accumulate((n + 1) * (n + 2) // 2 for _, _, n in places)], dtype=np.int64),
    )
