r"""A pool of products: the best simple channels of the pool before, and what they make together.

All products of all channels would be millions. Those of the channels that a model takes anyway are thousands, and the
gain is among them: each round takes the selected channels and their factors, fills up with the next ones in the order
of forward selection, and forms

- all products of two of these simple channels,
- every product that was selected, times each of them.

So the second round has products of three, and those of two with channels that only products made useful.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.compression.search import ColumnProblem, SizeLimits, select_columns
from qiskit_qff.compression.selection import PoolStatistics, eligible_columns, select_channels
from qiskit_qff.descriptors.channels import ChannelSet

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
    """Channels of the next pool.

    Returns:
        A channel set per species, and the columns there of the channels that were selected.
    """
    starts, species = statistics.tables.channel_start, statistics.tables.species.tolist()
    limits = SizeLimits(total=max(selected, len(species)), per_species=PER_SPECIES)
    taken = select_channels(statistics, limits, restarts=RESTARTS).columns
    leading = _leading(statistics)
    parts = []
    for s, number in enumerate(species):
        low, high = int(starts[s]), int(starts[s + 1])
        own = [int(c) - low for c in taken if low <= c < high]
        order = [int(c) - low for c in leading if low <= c < high]
        parts.append(_ranked(statistics.sets[number], own, order))
    count = _fitting(parts, most)
    sets: dict[int, ChannelSet] = {}
    columns: list[int] = []
    for s, (number, part) in enumerate(zip(species, parts, strict=True)):
        before = sum(own.n_channels for own in sets.values())
        mean = statistics.mean[starts[s] : starts[s + 1]]
        deviation = np.sqrt(np.maximum(np.diagonal(statistics.covariance[number]), 0.0))
        width = np.where(deviation > 0.0, WIDTH * deviation, 1.0)
        sets[number], place = _with_products(statistics.sets[number], part, mean, width, count)
        columns += [before + place[c] for c in part.selected]
    return sets, np.array(columns, dtype=np.int64)


@dataclass(frozen=True)
class _Ranked:
    """What one species forms products of."""

    selected: list[int]
    """Selected channels."""
    products: list[int]
    """Those of them that are products."""
    simple: list[int]
    """Simple channels that stay: those selected, the factors of selected products, then those that lead."""


def _ranked(channels: ChannelSet, selected: list[int], leading: Iterable[int]) -> _Ranked:
    """Simple channels of one species, the most important first."""
    products = [c for c in selected if c >= channels.n_simple]
    factors = sorted(set().union(*(channels.factors(c) for c in products)))
    needed = dict.fromkeys([c for c in selected if c < channels.n_simple] + factors)
    most = max(LEADING, len(needed))
    return _Ranked(selected, products, list(needed | dict.fromkeys(leading))[:most])


def _leading(statistics: PoolStatistics) -> IntArray:
    """Simple channels in the order of forward selection, at most :data:`LEADING` a species."""
    sets = [statistics.sets[number] for number in statistics.tables.species.tolist()]
    simple = np.concatenate([np.arange(s.n_channels) < s.n_simple for s in sets])
    limits, equations = SizeLimits(total=LEADING * len(sets), per_species=LEADING), statistics.equations
    eligible = simple & eligible_columns(statistics)
    return select_columns(
        ColumnProblem(equations.gram, equations.moment, equations.constant, statistics.owner, eligible, limits)
    ).columns


def _fitting(parts: Sequence[_Ranked], most: int) -> int:
    """Of how many simple channels a species products may be formed."""
    count = 0
    while count < max(len(part.simple) for part in parts):
        count += 1
        sizes = [min(count, len(part.simple)) for part in parts]
        if sum(k * (k + 1) // 2 + k * len(p.products) for k, p in zip(sizes, parts, strict=True)) > most:
            return count - 1
    return count


def _with_products(
    channels: ChannelSet, part: _Ranked, mean: FloatArray, width: FloatArray, count: int
) -> tuple[ChannelSet, dict[int, int]]:
    """The next pool of one species, and which channel of it each channel of this one became."""
    smaller, old = channels.subset(np.array(part.simple + part.products, dtype=np.int64))
    place = {int(c): k for k, c in enumerate(old)}
    factors = [place[c] for c in part.simple[:count]]
    there = {tuple(sorted(pair)) for pair in smaller.products.tolist()}
    wanted = [tuple(sorted((a, b))) for k, a in enumerate(factors) for b in factors[k:]]
    wanted += [(a, place[p]) for p in part.products for a in factors]
    pairs = np.array([pair for pair in wanted if pair not in there], dtype=np.int64).reshape(-1, 2)
    return smaller.with_products(pairs, mean[old][pairs], width[old][pairs]), place
