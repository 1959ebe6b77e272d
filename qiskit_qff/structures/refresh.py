"""Fresh vectors for the pairs of a kept neighbour list, and those beyond the cutoff left out; on one thread or several.

With several threads rows are counted first, so that each thread knows where its rows go; the result is the same to
the last bit.
"""

import numba
import numpy as np

from qiskit_qff.array_types import FloatArray, Int32Array, IntArray

#: Fewer atoms than this are not worth waking threads for.
LEAST_ATOMS = 500
#: Counting first is half of the work once more: two threads gain nothing.
LEAST_THREADS = 3


@numba.njit(cache=True, nogil=True)
def refresh(
    points: FloatArray, cell: FloatArray, cutoff_squared: float, all_first: IntArray, all_neighbor: IntArray,
    all_shifts: Int32Array,
    first: IntArray, neighbor: IntArray, vectors: FloatArray, distances: FloatArray, shifts: Int32Array,
) -> int:  # fmt: skip
    """Copy the pairs now within the cutoff to the outputs, with fresh vectors.

    Args:
        points: Positions in Å, shape ``(n, 3)``.
        cell: Cell vectors in Å, shape ``(3, 3)``.
        cutoff_squared: In Å².
        all_first: Rows of the kept list, shape ``(n + 1,)``.
        all_neighbor: Its neighbours, shape ``(n_kept,)``.
        all_shifts: Its shifts, shape ``(n_kept, 3)``.
        first: Output rows, shape ``(n + 1,)``.
        neighbor: Output, room for ``n_kept``.
        vectors: Output in Å, room for ``(n_kept, 3)``.
        distances: Output in Å, room for ``n_kept``.
        shifts: Output, room for ``(n_kept, 3)``.

    Returns:
        How many pairs there are.
    """
    count = 0
    for i in range(points.shape[0]):
        first[i] = count
        count = _fill_row(
            i, count, points, cell, cutoff_squared, all_first, all_neighbor, all_shifts, neighbor, vectors, distances,
            shifts,
        )  # fmt: skip
    first[points.shape[0]] = count
    return count


@numba.njit(cache=True, parallel=True)
def refresh_threaded(
    points: FloatArray, cell: FloatArray, cutoff_squared: float, all_first: IntArray, all_neighbor: IntArray,
    all_shifts: Int32Array,
    first: IntArray, neighbor: IntArray, vectors: FloatArray, distances: FloatArray, shifts: Int32Array,
) -> int:  # fmt: skip
    """As :func:`refresh`, on as many threads as numba may use."""
    n_atoms = points.shape[0]
    first[0] = 0
    for i in numba.prange(n_atoms):
        count = 0
        for pair in range(all_first[i], all_first[i + 1]):
            x, y, z = _vector(i, pair, points, cell, all_neighbor, all_shifts)
            if x * x + y * y + z * z < cutoff_squared:
                count += 1
        first[i + 1] = count
    for i in range(n_atoms):
        first[i + 1] += first[i]
    for i in numba.prange(n_atoms):
        _fill_row(
            i, first[i], points, cell, cutoff_squared, all_first, all_neighbor, all_shifts, neighbor, vectors,
            distances, shifts,
        )  # fmt: skip
    return int(first[n_atoms])


@numba.njit(cache=True, inline="always")
def _vector(
    i: int, pair: int, points: FloatArray, cell: FloatArray, all_neighbor: IntArray, all_shifts: Int32Array
) -> tuple[float, float, float]:
    """From the centre to the neighbour's image."""
    j = all_neighbor[pair]
    a, b, c = all_shifts[pair, 0], all_shifts[pair, 1], all_shifts[pair, 2]
    return (
        points[j, 0] - points[i, 0] + (a * cell[0, 0] + b * cell[1, 0] + c * cell[2, 0]),
        points[j, 1] - points[i, 1] + (a * cell[0, 1] + b * cell[1, 1] + c * cell[2, 1]),
        points[j, 2] - points[i, 2] + (a * cell[0, 2] + b * cell[1, 2] + c * cell[2, 2]),
    )


@numba.njit(cache=True, inline="always")
def _fill_row(
    i: int, count: int, points: FloatArray, cell: FloatArray, cutoff_squared: float,
    all_first: IntArray, all_neighbor: IntArray, all_shifts: Int32Array,
    neighbor: IntArray, vectors: FloatArray, distances: FloatArray, shifts: Int32Array,
) -> int:  # fmt: skip
    """Write one row from place ``count`` on; gives the place after it."""
    for pair in range(all_first[i], all_first[i + 1]):
        x, y, z = _vector(i, pair, points, cell, all_neighbor, all_shifts)
        square = x * x + y * y + z * z
        if square < cutoff_squared:
            neighbor[count] = all_neighbor[pair]
            vectors[count, 0], vectors[count, 1], vectors[count, 2] = x, y, z
            distances[count] = np.sqrt(square)
            shifts[count, 0], shifts[count, 1], shifts[count, 2] = (
                all_shifts[pair, 0],
                all_shifts[pair, 1],
                all_shifts[pair, 2],
            )
            count += 1
    return count
