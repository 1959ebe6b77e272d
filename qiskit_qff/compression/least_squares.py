r"""Weighted least squares as sums over frames: the memory does not depend on how many there are.

For design rows X, labels y and weights w the loss :math:`\sum w (X\beta - y)^2` is

.. math:: \beta^T G \beta - 2 b^T\beta + c,\qquad G = X^T W X,\; b = X^T W y,\; c = y^T W y.

Sums of two parts of the data add, so parts can be accumulated anywhere and merged.

Search for the columns of a least-squares problem that explain most, at most so many of them.

*Forward selection.* Each step takes the column with the largest exact drop in squared error. After k steps the
candidates are orthogonal to the chosen ones, so the drop of candidate j is :math:`r_j^2 / d_j` with its residual moment
r and residual norm d; both follow from the Gram matrix by a pivoted Cholesky step. Plain matching pursuit, which skips
the orthogonalisation, was 30 % worse on real data.

*Swaps.* Forward selection never takes a choice back, though an early column may be superfluous once later ones are in.
So every step of the descent that follows swaps one chosen for one other column, the swap that lowers the squared error
most, until none does. With :math:`A = G_{SS}^{-1}`, :math:`\beta = A b_S`, :math:`Z = A G_{S\cdot}`, the residual
moments :math:`r = b - G_{\cdot S}\beta` and norms :math:`n_c = G_{cc} - G_{cS} Z_c`, the drop by taking c for k is

.. math:: \frac{(r_c + Z_{kc}\beta_k/A_{kk})^2}{n_c + Z_{kc}^2/A_{kk}} - \frac{\beta_k^2}{A_{kk}},

so all k·C swaps of one step cost little more than one.

*Random restarts.* Descent ends in one of many minima. Each restart replaces some columns at random, descends again and
keeps the result if it is better (iterated local search). The error on held-out frames falls with that on training
frames.

References:
    S. Chen, S. A. Billings and W. Luo, Int. J. Control 50, 1873 (1989), doi:10.1080/00207178908953472.
    P. Pudil, J. Novovičová and J. Kittler, Pattern Recognit. Lett. 15, 1119 (1994),
    doi:10.1016/0167-8655(94)90127-9 (floating search).
    H. R. Lourenço, O. C. Martin and T. Stützle, Iterated Local Search, in: Handbook of Metaheuristics (2003),
    doi:10.1007/0-306-48056-5_11.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numba
import numpy as np
from numba.extending import get_cython_function_address
from scipy.linalg import LinAlgError, cho_solve, cholesky

from qiskit_qff.array_types import BoolArray, FloatArray, IntArray

_Pointer = ctypes.POINTER(ctypes.c_double)
_Count = ctypes.POINTER(ctypes.c_int)
# PERF: scipy.linalg.blas.dsyrk keeps the interpreter's lock, so threads would wait for each other in what takes half
# of a training's time; the same function called through ctypes does not.
_DSYRK = ctypes.CFUNCTYPE(
    None, ctypes.c_char_p, ctypes.c_char_p, _Count, _Count, _Pointer, _Pointer, _Count, _Pointer, _Pointer, _Count
)(get_cython_function_address("scipy.linalg.cython_blas", "dsyrk"))


@dataclass
class NormalEquations:
    """Running sums G, b, c; only the upper triangle of ``gram`` is kept up to date."""

    gram: FloatArray  # upper triangle of G, Fortran order, shape ``(C, C)``
    moment: FloatArray  # b, shape ``(C,)``
    constant: float = 0.0  # c

    @classmethod
    def empty(cls, n_columns: int) -> NormalEquations:
        """Sums over no data."""
        return cls(np.zeros((n_columns, n_columns), order="F"), np.zeros(n_columns))

    def add(self, rows: FloatArray, labels: FloatArray, weights: FloatArray) -> None:
        """Add weighted rows, shape ``(m, C)``; they are scaled in place and must not be used again."""
        root = np.sqrt(weights)
        rows *= root[:, None]
        scaled = labels * root
        # C-contiguous rows are their own transpose in Fortran order, so nothing is copied.
        assert rows.flags.c_contiguous and self.gram.flags.f_contiguous  # noqa: PT018
        assert rows.dtype == np.float64 and self.gram.shape == (rows.shape[1],) * 2  # noqa: PT018
        size, inner, one = ctypes.c_int(rows.shape[1]), ctypes.c_int(len(rows)), ctypes.c_double(1.0)
        matrix, gram = rows.ctypes.data_as(_Pointer), self.gram.ctypes.data_as(_Pointer)
        _DSYRK(b"U", b"N", size, inner, one, matrix, size, one, gram, size)
        self.moment += rows.T @ scaled
        self.constant += float(scaled @ scaled)

    def merge(self, other: NormalEquations) -> None:
        """Add the sums over another part of the data."""
        self.gram += other.gram
        self.moment += other.moment
        self.constant += other.constant

    def symmetric(self) -> FloatArray:
        """The whole of G, shape ``(C, C)``, completed in place."""
        # PERF: block by block; numpy.triu would hold three copies of a matrix that may fill 0.5 GiB.
        for start in range(0, len(self.gram), 512):
            stop = min(start + 512, len(self.gram))
            square = np.triu(self.gram[start:stop, start:stop])
            self.gram[start:stop, start:stop] = square + np.triu(square, 1).T
            self.gram[stop:, start:stop] = self.gram[start:stop, stop:].T
        return self.gram

    def loss(self, coefficients: FloatArray) -> float:
        """Loss of some coefficients; needs the completed G."""
        return float(coefficients @ (self.gram @ coefficients) - 2.0 * self.moment @ coefficients + self.constant)


DEPENDENT = 1e-8
"""A column of whose norm no more than this fraction is new is a combination of those chosen."""
SAME_GAIN = 1e-7
"""Columns whose gains differ by less than this fraction are alike, and the first of them is taken: a pair of species
seen from either side gives two columns of equal gain, and rounding must not choose."""
LEAST_GAIN = 1e-7
"""A swap must explain this fraction more to be made."""
REPLACED = (0.1, 0.2)
"""Fractions of the columns that a restart replaces; drawn anew for every restart."""
RIDGE = 1e-12
"""Tikhonov term as a fraction of the diagonal; so little that it only guards the Cholesky factor."""
REFRESH = 25
"""Swaps after which the fit is solved from scratch."""
NEARLY_DEPENDENT = 1e-6
"""A swap of a column of whose norm less than this fraction is new loses so many digits that solving from scratch is due
at once: random restarts take such columns."""


@dataclass(frozen=True)
class SizeLimits:
    """How many columns may be chosen."""

    total: int  # of all species together
    per_species: int  # of one species, at most
    least: int = 1  # of one species, at least, if it has so many independent ones


@dataclass(frozen=True, eq=False)
class ColumnProblem:
    """Least squares whose columns are to be chosen."""

    gram: FloatArray  # G, shape ``(C, C)``
    moment: FloatArray  # b, shape ``(C,)``
    constant: float  # squared error with no column
    owner: IntArray  # species index of each column, shape ``(C,)``
    eligible: BoolArray  # which columns may be chosen, shape ``(C,)``
    limits: SizeLimits  # numbers of columns allowed
    dependent: float = DEPENDENT  # A column of whose norm no more than this fraction is new is not taken


def select_columns(problem: ColumnProblem, first: Sequence[int] = ()) -> IntArray:
    """Greedy orthogonal least squares on normal equations: columns in the order of choice, some of them given first."""
    gram, owner, limits = problem.gram, problem.owner, problem.limits
    norms = gram.diagonal().copy()
    floor, moments = problem.dependent * norms, problem.moment.copy()
    factors = np.zeros((limits.total, len(moments)))
    free = (norms > 0.0) & problem.eligible
    counts = np.zeros(int(owner.max()) + 1, dtype=np.int64)
    columns: list[int] = []
    waiting = [int(column) for column in first]
    while len(columns) < limits.total:
        open_ = free & (norms > floor)
        missing = np.flatnonzero(counts < limits.least)
        if 0 < np.sum(limits.least - counts[missing]) >= limits.total - len(columns):
            open_ &= np.isin(owner, missing)
        gains = np.where(open_, moments**2 / np.where(open_, norms, 1.0), -1.0)
        best = int(np.argmax(gains >= (1.0 - SAME_GAIN) * gains.max()))
        while waiting and not open_[waiting[0]]:
            waiting.pop(0)
        if waiting:
            best = waiting.pop(0)
        if gains[best] < 0.0:
            break
        step, scale = len(columns), np.sqrt(norms[best])
        factor = (gram[best] - factors[:step, best] @ factors[:step]) / scale
        factors[step] = factor
        moments -= factor * (moments[best] / scale)
        norms -= factor**2
        free[best] = False
        counts[owner[best]] += 1
        if counts[owner[best]] >= limits.per_species:
            free[owner == owner[best]] = False
        columns.append(best)
    return np.asarray(columns, dtype=np.int64)


def swap_columns(
    problem: ColumnProblem,
    columns: IntArray,
    *,
    restarts: int = 0,
    rng: np.random.Generator | None = None,
    progress: Callable[[int], None] | None = None,
) -> IntArray:
    """Improve a selection by swaps.

    Args:
        columns: Chosen columns, shape ``(k,)``.

    Returns:
        The improved selection, or the one given where its columns depend on each other, ascending, shape ``(k,)``: the
        order in which swaps came about means nothing, but circuits that differ in it end in different minima.
    """
    candidates = np.flatnonzero((np.diagonal(problem.gram) > 0.0) & problem.eligible)
    try:
        best, explained = _descend(problem, candidates, columns)
    except LinAlgError:
        # Fewer data than columns: those of the greedy choice depend on each other, and no swap can be told from none.
        return np.sort(columns)
    for k in range(restarts if rng is not None else 0):
        if progress is not None:
            progress(k)
        assert rng is not None  # for the type checker: without a generator the range is empty
        try:
            trial, reached = _descend(problem, candidates, _some_replaced(problem, candidates, best, rng))
        except LinAlgError:
            # The restart took columns that depend on each other.
            continue
        if reached > explained * (1.0 + LEAST_GAIN):
            best, explained = trial, reached
    return np.sort(best)


def _some_replaced(
    problem: ColumnProblem, candidates: IntArray, columns: IntArray, rng: np.random.Generator
) -> IntArray:
    """Some columns replaced by random ones of the same species, so that every limit still holds."""
    trial = columns.copy()
    count = max(1, round(float(rng.choice(REPLACED)) * len(columns)))
    for place in rng.choice(len(columns), count, replace=False):
        mine = problem.owner[trial[place]]
        others = np.setdiff1d(candidates[problem.owner[candidates] == mine], trial)
        if len(others):
            trial[place] = rng.choice(others)
    return trial


class _Fit:
    """Least squares on some columns, kept up to date while columns are swapped.

    PERF: a swap changes everything here by terms of rank one, O(k C); solving anew is O(k² C), which with 300 columns
    took minutes.
    """

    def __init__(self, problem: ColumnProblem, candidates: IntArray, columns: IntArray) -> None:
        self._problem, self._candidates = problem, candidates
        self.chosen = columns.copy()
        self._rows = problem.gram[np.ix_(self.chosen, candidates)]
        self._diagonal = np.diagonal(problem.gram)[candidates].copy()
        self.solve()

    def solve(self) -> None:
        problem, chosen = self._problem, self.chosen
        scale = 1.0 / np.sqrt(np.diagonal(problem.gram)[chosen])
        scaled = problem.gram[np.ix_(chosen, chosen)] * np.outer(scale, scale)
        factor = cholesky(scaled + RIDGE * np.eye(len(chosen)), lower=True)
        self.inverse = cho_solve((factor, True), np.eye(len(chosen))) * np.outer(scale, scale)
        self.coefficients = self.inverse @ problem.moment[chosen]
        self.projected = self.inverse @ self._rows
        self.residual = problem.moment[self._candidates] - self.coefficients @ self._rows
        self.norms = self._diagonal - np.einsum("kc,kc->c", self._rows, self.projected)

    @property
    def explained(self) -> float:
        """Drop in squared error by all chosen columns together."""
        return float(self.coefficients @ self._problem.moment[self.chosen])

    def best_swap(self) -> tuple[float, int, int]:
        """Gain of the best swap, and which of the chosen and which of the candidates it swaps."""
        problem, owner = self._problem, self._problem.owner
        norms = self.norms.copy()
        norms[(norms <= problem.dependent * self._diagonal) | np.isin(self._candidates, self.chosen)] = 0.0
        counts = np.bincount(owner[self.chosen], minlength=int(owner.max()) + 1)
        return _best_swap(
            self.projected, self.residual, norms, self.coefficients, np.diagonal(self.inverse).copy(),
            owner[self.chosen], owner[self._candidates],
            (counts >= problem.limits.per_species)[None, :] | (counts <= problem.limits.least)[:, None],
        )  # fmt: skip

    def swap(self, place: int, column: int) -> float:
        """Replace a chosen column by a candidate.

        Returns:
            The fraction of their norm that is new in the one or the other, the smaller of the two.
        """
        inverse, projected = self.inverse, self.projected
        kept, pivot = inverse[place, place], inverse[:, place].copy()
        new = 1.0 / (kept * self._problem.gram[self.chosen[place], self.chosen[place]])
        gone, weight = projected[place].copy(), self.coefficients[place] / kept
        self.residual += gone * weight
        self.norms += gone * gone / kept
        self.coefficients -= pivot * weight
        _add_outer(inverse, pivot, pivot, -1.0 / kept)
        _add_outer(projected, pivot, gone, -1.0 / kept)
        # Row and column `place` are zero now, up to rounding, and the new column comes in there.
        inverse[place], inverse[:, place], projected[place], self.coefficients[place] = 0.0, 0.0, 0.0, 0.0
        incoming, shares = self._candidates[column], projected[:, column].copy()
        row = self._problem.gram[incoming, self._candidates]
        apart = row - shares @ self._rows
        norm = self.norms[column] + RIDGE * self._diagonal[column]
        weight = self.residual[column] / norm
        shares[place] = -1.0
        self.chosen[place], self._rows[place] = incoming, row
        self.residual -= apart * weight
        self.norms -= apart * apart / norm
        self.coefficients -= shares * weight
        _add_outer(inverse, shares, shares, 1.0 / norm)
        _add_outer(projected, shares, apart, -1.0 / norm)
        return float(min(new, norm / self._diagonal[column]))


def _descend(problem: ColumnProblem, candidates: IntArray, columns: IntArray) -> tuple[IntArray, float]:
    """Best swap after best swap until none helps: the columns, and the drop in squared error that they explain."""
    fit = _Fit(problem, candidates, columns)
    explained, swaps = fit.explained, 0
    while True:
        gain, place, column = fit.best_swap()
        if gain > LEAST_GAIN * fit.explained:
            new = fit.swap(place, column)
            swaps += 1
            if swaps < REFRESH and new > NEARLY_DEPENDENT:
                continue
        elif not swaps:
            return fit.chosen, explained
        # Rounding adds up over swaps: what they led to is solved from scratch before it counts.
        fit.solve()
        # NOTE: rounding could make two columns swap for ever; the error must really fall.
        if fit.explained <= explained:
            return fit.chosen, fit.explained
        explained, swaps = fit.explained, 0


@numba.njit(cache=True)
def _add_outer(matrix: FloatArray, left: FloatArray, right: FloatArray, factor: float) -> None:
    """Add ``factor * outer(left, right)`` in place, in one pass through memory."""
    for k in range(matrix.shape[0]):
        scaled = factor * left[k]
        for c in range(matrix.shape[1]):
            matrix[k, c] += scaled * right[c]


@numba.njit(cache=True)
def _best_swap(
    projected: FloatArray,
    residual: FloatArray,
    norms: FloatArray,
    coefficients: FloatArray,
    inverse: FloatArray,
    chosen_owner: IntArray,
    owner: IntArray,
    barred: BoolArray,
) -> tuple[float, int, int]:
    """Largest drop in squared error by one swap, and which chosen and which other column it swaps.

    Args:
        barred: Whether a species (row) may give no column for one of another (column), shape ``(S, S)``: one that has
            the fewest it may have gives none, one that is full takes none.
    """
    best, place, column = -np.inf, -1, -1
    for k in range(projected.shape[0]):
        inverted = 1.0 / inverse[k]
        cost = coefficients[k] * coefficients[k] * inverted
        pull = coefficients[k] * inverted
        mine = chosen_owner[k]
        for c in range(projected.shape[1]):
            if norms[c] <= 0.0 or (owner[c] != mine and barred[mine, owner[c]]):
                continue
            moment = residual[c] + projected[k, c] * pull
            gain = moment * moment / (norms[c] + projected[k, c] * projected[k, c] * inverted) - cost
            # NOTE: a swap's gain is a small difference, rounded like its parts.
            if place < 0 or gain > best + SAME_GAIN * (abs(best) + cost):
                best, place, column = gain, k, c
    return best, place, column
