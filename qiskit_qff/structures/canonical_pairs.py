"""Pairs in one fixed order: by centre, then neighbour, then shift, whatever order a search found them in.

Sums over neighbours then come out the same to the last bit whenever a list was built, and on any number of threads.

PERF: neighbour and shift of a pair fit into one integer whose order is theirs, so a row is sorted as some tens of
numbers that lie side by side: three times faster than comparing pairs where they are.
"""

import numba
import numpy as np

from qiskit_qff.array_types import Int32Array, IntArray
from qiskit_qff.cores import on_free_threads

_LONG_ROW = 500  # neighbours per atom from which on a general sort is faster
_LEAST_ATOMS = 500  # fewer are not worth waking threads for
_BITS = 8  # for a component of a shift
_ZERO = 1 << (_BITS - 1)  # what stands for no shift


def canonical_pairs(n_atoms: int, pairs: IntArray, shifts: Int32Array) -> tuple[IntArray, IntArray, Int32Array]:
    """Pairs as compressed rows, each row sorted by neighbour, then shift.

    Args:
        n_atoms: Number of centres.
        pairs: Centre and neighbour of each pair, shape ``(n_pairs, 2)``.
        shifts: Cell vectors added to the neighbour, shape ``(n_pairs, 3)``.

    Returns:
        Where each row begins, shape ``(n_atoms + 1,)``, neighbours and shifts.
    """
    fits = not len(shifts) or (shifts.min() >= -_ZERO and shifts.max() < _ZERO)
    if not fits or len(pairs) >= _LONG_ROW * n_atoms:
        order = np.lexsort((shifts[:, 2], shifts[:, 1], shifts[:, 0], pairs[:, 1], pairs[:, 0]))
        first = np.searchsorted(pairs[order, 0], np.arange(n_atoms + 1))
        return first, pairs[order, 1], shifts[order]
    first, keys = _rows(n_atoms, pairs, shifts)
    sorted_shifts = np.empty((len(keys), 3), dtype=np.int32)
    if n_atoms >= _LEAST_ATOMS:
        on_free_threads(_sort_rows_threaded, _sort_rows, first, keys, sorted_shifts)
    else:
        _sort_rows(first, keys, sorted_shifts)
    return first, keys, sorted_shifts


@numba.njit(cache=True, nogil=True)
def _rows(n_atoms: int, pairs: IntArray, shifts: Int32Array) -> tuple[IntArray, IntArray]:
    """Counting sort by centre: where rows begin, and each pair's neighbour and shift as one number."""
    first = np.zeros(n_atoms + 1, dtype=np.int64)
    for pair in range(len(pairs)):
        first[pairs[pair, 0] + 1] += 1
    for i in range(n_atoms):
        first[i + 1] += first[i]
    keys, filled = np.empty(len(pairs), dtype=np.int64), first[:n_atoms].copy()
    for pair in range(len(pairs)):
        i, key = pairs[pair, 0], pairs[pair, 1]
        for axis in range(3):
            key = (key << _BITS) + shifts[pair, axis] + _ZERO
        keys[filled[i]] = key
        filled[i] += 1
    return first, keys


@numba.njit(cache=True, nogil=True)
def _sort_rows(first: IntArray, keys: IntArray, shifts: Int32Array) -> None:
    """Sort every row; numbers become neighbours and shifts."""
    for i in range(first.shape[0] - 1):
        _sort_row(first[i], first[i + 1], keys, shifts)


@numba.njit(cache=True, parallel=True)
def _sort_rows_threaded(first: IntArray, keys: IntArray, shifts: Int32Array) -> None:
    """As ``_sort_rows``, on as many threads as numba may use."""
    for i in numba.prange(first.shape[0] - 1):
        _sort_row(first[i], first[i + 1], keys, shifts)


@numba.njit(cache=True, inline="always")
def _sort_row(begin: int, end: int, keys: IntArray, shifts: Int32Array) -> None:
    """Sort one row by insertion, because it has some tens of entries, and take its numbers apart."""
    for k in range(begin + 1, end):
        key, place = keys[k], k
        while place > begin and keys[place - 1] > key:
            keys[place] = keys[place - 1]
            place -= 1
        keys[place] = key
    mask = (1 << _BITS) - 1
    for k in range(begin, end):
        key = keys[k]
        shifts[k, 2] = (key & mask) - _ZERO
        shifts[k, 1] = ((key >> _BITS) & mask) - _ZERO
        shifts[k, 0] = ((key >> (2 * _BITS)) & mask) - _ZERO
        keys[k] = key >> (3 * _BITS)
