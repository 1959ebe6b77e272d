"""The sweep of :mod:`~qiskit_qff.descriptors.quadratic` over blocks of atoms, on several threads.

Two threads must not add to the force on one atom at the same time, so every block of centres collects forces of its
own, over the window of atoms that it reaches; then each atom sums what the blocks have for it, in their order. Blocks
depend on the structure alone, so the result is the same to the last bit on any number of threads.
"""

import numba
import numpy as np

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.cores import on_free_threads
from qiskit_qff.descriptors.fence import Fence
from qiskit_qff.descriptors.quadratic import sweep
from qiskit_qff.descriptors.tables import ChannelTables

#: Blocks of centres; more threads than this find nothing to do.
N_BLOCKS = 32
#: Fewer centres than this are not worth waking threads for.
LEAST_CENTERS = 500


def threaded_forces(
    tables: ChannelTables, means: FloatArray, forms: FloatArray, form_start: IntArray, fence: Fence,
    first: IntArray, neighbor: IntArray, vectors: FloatArray, distances: FloatArray, kinds: IntArray,
    energies: FloatArray, forces: FloatArray, virial: FloatArray,
) -> None:  # fmt: skip
    """As :func:`~qiskit_qff.descriptors.quadratic.quadratic_forces`, on as many threads as numba may use."""
    # PERF: memory of a block outside its window is never touched, so the system never provides it.
    parts, virials = np.empty((N_BLOCKS, len(kinds), 3)), np.empty((N_BLOCKS, 3, 3))
    # Blocks are handed out one by one: elements differ in cost, and atoms are often sorted by element.
    with numba.parallel_chunksize(1):
        on_free_threads(
            _over_blocks_threaded, _over_blocks,
            tables, means, forms, form_start, fence, first, neighbor, vectors, distances, kinds,
            energies, parts, virials, forces,
        )  # fmt: skip
    virial[:] = virials.sum(axis=0)


@numba.njit(cache=True, parallel=True)
def _over_blocks_threaded(
    tables: ChannelTables, means: FloatArray, forms: FloatArray, form_start: IntArray, fence: Fence,
    first: IntArray, neighbor: IntArray, vectors: FloatArray, distances: FloatArray, kinds: IntArray,
    energies: FloatArray, parts: FloatArray, virials: FloatArray, forces: FloatArray,
) -> None:  # fmt: skip
    """Sweep each block into its own part, then add the parts."""
    reach = np.empty((parts.shape[0], 2), dtype=np.int64)
    for b in numba.prange(parts.shape[0]):
        _sweep_block(
            b, reach, tables, means, forms, form_start, fence, first, neighbor, vectors, distances, kinds,
            energies, parts, virials,
        )  # fmt: skip
    for c in numba.prange(parts.shape[0]):
        _add_parts(c, reach, parts, forces)


@numba.njit(cache=True, nogil=True)
def _over_blocks(
    tables: ChannelTables, means: FloatArray, forms: FloatArray, form_start: IntArray, fence: Fence,
    first: IntArray, neighbor: IntArray, vectors: FloatArray, distances: FloatArray, kinds: IntArray,
    energies: FloatArray, parts: FloatArray, virials: FloatArray, forces: FloatArray,
) -> None:  # fmt: skip
    """As ``_over_blocks_threaded``, on the calling thread; the same to the last bit."""
    reach = np.empty((parts.shape[0], 2), dtype=np.int64)
    for b in range(parts.shape[0]):
        _sweep_block(
            b, reach, tables, means, forms, form_start, fence, first, neighbor, vectors, distances, kinds,
            energies, parts, virials,
        )  # fmt: skip
    for c in range(parts.shape[0]):
        _add_parts(c, reach, parts, forces)


@numba.njit(cache=True)
def _sweep_block(
    b: int, reach: IntArray, tables: ChannelTables, means: FloatArray, forms: FloatArray, form_start: IntArray,
    fence: Fence,
    first: IntArray, neighbor: IntArray, vectors: FloatArray, distances: FloatArray, kinds: IntArray,
    energies: FloatArray, parts: FloatArray, virials: FloatArray,
) -> None:  # fmt: skip
    """Sweep one block into its own part; ``reach`` takes the window of atoms that it has forces on."""
    n_blocks, n_centers = parts.shape[0], first.shape[0] - 1
    begin, end = b * n_centers // n_blocks, (b + 1) * n_centers // n_blocks
    least, most = begin, end
    for pair in range(first[begin], first[end]):
        least, most = min(least, neighbor[pair]), max(most, neighbor[pair] + 1)
    reach[b, 0], reach[b, 1] = least, most
    parts[b, least:most] = 0.0
    virials[b] = 0.0
    sweep(
        begin, end, tables, means, forms, form_start, fence,
        first, neighbor, vectors, distances, kinds, energies, parts[b], virials[b],
    )  # fmt: skip


@numba.njit(cache=True)
def _add_parts(c: int, reach: IntArray, parts: FloatArray, forces: FloatArray) -> None:
    """Forces on one share of the atoms, summed over blocks in their order."""
    n_blocks, n_atoms = parts.shape[:2]
    begin, end = c * n_atoms // n_blocks, (c + 1) * n_atoms // n_blocks
    forces[begin:end] = 0.0
    for b in range(n_blocks):
        for i in range(max(begin, reach[b, 0]), min(end, reach[b, 1])):
            for axis in range(3):
                forces[i, axis] += parts[b, i, axis]
