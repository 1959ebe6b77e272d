r"""Exchange: after forward selection, swap chosen channels for better ones, and don't stop at the first minimum.

Forward selection never takes a choice back, though an early channel may be superfluous once later ones are in.

*Descent.* Every step makes the swap of one chosen for one other column that lowers the squared error most, until none
does. With :math:`A = G_{SS}^{-1}`, :math:`\beta = A b_S`, :math:`Z = A G_{S\cdot}`, the residual moments
:math:`r = b - G_{\cdot S}\beta` and norms :math:`n_c = G_{cc} - G_{cS} Z_c`, the drop by taking c for k is exactly

.. math:: \frac{(r_c + Z_{kc}\beta_k/A_{kk})^2}{n_c + Z_{kc}^2/A_{kk}} - \frac{\beta_k^2}{A_{kk}},

so all k·C swaps of one step cost little more than one.

*Kicks.* Descent ends in one of many minima. Each round replaces some columns at random, descends again and keeps
the result if it is better (iterated local search). The error on frames that took no part falls with that on those
that did: see RESULTS.md.

References:
    P. Pudil, J. Novovičová and J. Kittler, Pattern Recognit. Lett. 15, 1119 (1994),
    doi:10.1016/0167-8655(94)90127-9 (floating search).
    H. R. Lourenço, O. C. Martin and T. Stützle, Iterated Local Search, in: Handbook of Metaheuristics (2003),
    doi:10.1007/0-306-48056-5_11.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np
from scipy.linalg import LinAlgError, cho_solve, cholesky

from qiskit_qff.array_types import BoolArray, FloatArray, IntArray
from qiskit_qff.compression.compressor import SizeLimits

KICKS = (0.1, 0.2)
"""Fractions of the columns that a kick replaces; drawn anew for every kick."""
DEPENDENT = 1e-8
"""As in forward selection: a column this close to a combination of others is never taken."""
SAME_GAIN = 1e-7
"""Columns whose gains differ by less than this fraction are alike, and the first of them is taken: a pair of species
seen from either side gives two columns of equal gain, and rounding must not choose."""
LEAST_GAIN = 1e-7
"""A swap must explain this fraction more to be made."""


@dataclass(frozen=True, eq=False)
class _Problem:
    """Least squares on at most so many columns."""

    gram: FloatArray
    """G, shape ``(C, C)``."""
    moment: FloatArray
    """b, shape ``(C,)``."""
    owner: IntArray
    """Species index of each column, shape ``(C,)``."""
    candidates: IntArray
    """Columns that may come in."""
    limits: SizeLimits
    """Most columns of one species."""
    dependent: float
    """Least fraction of a column's norm that must be new."""


def exchange_columns(
    gram: FloatArray,
    moment: FloatArray,
    columns: IntArray,
    owner: IntArray,
    limits: SizeLimits,
    *,
    rounds: int = 0,
    rng: np.random.Generator | None = None,
    eligible: BoolArray | None = None,
    dependent: float = DEPENDENT,
    progress: Callable[[int], None] | None = None,
) -> IntArray:
    """Improve a selection by swaps.

    Args:
        gram: G, shape ``(C, C)``.
        moment: b, shape ``(C,)``.
        columns: Chosen columns, shape ``(k,)``.
        owner: Species index of each column, shape ``(C,)``; every species keeps ``limits.least`` columns.
        limits: Most columns of one species.
        rounds: Number of kicks; none by default.
        rng: Source of the kicks; needed if there are any.
        eligible: Which columns may come in, shape ``(C,)``; all by default.
        dependent: A column of whose norm less than this fraction is new does not come in.
        progress: Called with the number of rounds done.

    Returns:
        The improved selection, or the one given where its columns depend on each other, ascending, shape ``(k,)``: the
        order in which swaps came about means nothing, but circuits that differ in it end in different minima.
    """
    free = np.diagonal(gram) > 0.0
    candidates = np.flatnonzero(free if eligible is None else free & eligible)
    problem = _Problem(gram, moment, owner, candidates, limits, dependent)
    try:
        best, explained = _descend(problem, columns)
    except LinAlgError:
        # Fewer data than columns: those of the greedy choice depend on each other, and no swap can be told from none.
        return np.sort(columns)
    for k in range(rounds if rng is not None else 0):
        if progress is not None:
            progress(k)
        assert rng is not None  # for the type checker: without a generator the range is empty
        try:
            trial, reached = _descend(problem, _kicked(problem, best, rng))
        except LinAlgError:
            # The kick took columns that depend on each other.
            continue
        if reached > explained * (1.0 + LEAST_GAIN):
            best, explained = trial, reached
    return np.sort(best)


def _kicked(problem: _Problem, columns: IntArray, rng: np.random.Generator) -> IntArray:
    """Some columns replaced by random ones of the same species, so that every limit still holds."""
    trial = columns.copy()
    count = max(1, round(float(rng.choice(KICKS)) * len(columns)))
    for place in rng.choice(len(columns), count, replace=False):
        mine = problem.owner[trial[place]]
        others = np.setdiff1d(problem.candidates[problem.owner[problem.candidates] == mine], trial)
        if len(others):
            trial[place] = rng.choice(others)
    return trial


def _descend(problem: _Problem, columns: IntArray) -> tuple[IntArray, float]:
    """Best swap after best swap until none helps: the columns, and the drop in squared error that they explain.

    Raises:
        LinAlgError: If the columns depend on each other.
    """
    chosen, candidates = columns.copy(), problem.candidates
    diagonal, moment, owner = np.diagonal(problem.gram)[candidates], problem.moment, problem.owner
    rows = problem.gram[np.ix_(chosen, candidates)]
    explained = -np.inf
    while True:
        scale = 1.0 / np.sqrt(np.diagonal(problem.gram)[chosen])
        scaled = problem.gram[np.ix_(chosen, chosen)] * np.outer(scale, scale)
        factor = cholesky(scaled + 1e-12 * np.eye(len(chosen)), lower=True)
        inverse = cho_solve((factor, True), np.eye(len(chosen))) * np.outer(scale, scale)
        coefficients = inverse @ moment[chosen]
        reached = float(coefficients @ moment[chosen])
        # NOTE: rounding could make two columns swap for ever; the error must really fall.
        if reached <= explained:
            return chosen, reached
        explained = reached
        projected = inverse @ rows
        residual = moment[candidates] - coefficients @ rows
        norms = diagonal - np.einsum("kc,kc->c", rows, projected)
        norms[(norms <= problem.dependent * diagonal) | np.isin(candidates, chosen)] = 0.0
        counts = np.bincount(owner[chosen], minlength=int(owner.max()) + 1)
        gain, place, column = _best_swap(
            projected, residual, norms, coefficients, np.diagonal(inverse).copy(),
            owner[chosen], owner[candidates], counts >= problem.limits.per_species,
            counts <= problem.limits.least,
        )  # fmt: skip
        if gain <= LEAST_GAIN * explained:
            return chosen, explained
        chosen[place] = candidates[column]
        rows[place] = problem.gram[chosen[place], candidates]


@numba.njit(cache=True)
def _best_swap(
    projected: FloatArray,
    residual: FloatArray,
    norms: FloatArray,
    coefficients: FloatArray,
    inverse: FloatArray,
    chosen_owner: IntArray,
    owner: IntArray,
    full: BoolArray,
    alone: BoolArray,
) -> tuple[float, int, int]:
    """Largest drop in squared error by one swap, and which chosen and which other column it swaps.

    A species that is full takes a column only for one of its own; one that has the fewest it may have gives one only
    for its own.
    """
    best, place, column = -np.inf, -1, -1
    for k in range(projected.shape[0]):
        inverted = 1.0 / inverse[k]
        cost = coefficients[k] * coefficients[k] * inverted
        pull = coefficients[k] * inverted
        mine = chosen_owner[k]
        for c in range(projected.shape[1]):
            if norms[c] <= 0.0 or (owner[c] != mine and (full[owner[c]] or alone[mine])):
                continue
            moment = residual[c] + projected[k, c] * pull
            gain = moment * moment / (norms[c] + projected[k, c] * projected[k, c] * inverted) - cost
            # NOTE: a swap's gain is a small difference, rounded like its parts.
            if place < 0 or gain > best + SAME_GAIN * (abs(best) + cost):
                best, place, column = gain, k, c
    return best, place, column
