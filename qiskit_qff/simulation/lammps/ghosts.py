"""Forces on copies of other processes' atoms go back to the processes that own the atoms.

LAMMPS gives each process its own atoms and *ghosts*: copies of atoms nearby, owned by other processes or by itself
(periodic images). ``fix external`` adds forces to own atoms only, so the way back is ours. Who owns an atom is kept
in a directory that is itself distributed: the entry of atom ``tag`` lives on process ``tag mod n_processes``. It is
asked only when LAMMPS has handed atoms over; a step sends three numbers a ghost, to few partners.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from qiskit_qff.array_types import FloatArray, IntArray


class GhostForces:
    """Adds the forces on ghosts to those on the atoms they are copies of."""

    def __init__(self, mpi: Any) -> None:
        """Nothing is known before the first :meth:`update`.

        Args:
            mpi: The module ``mpi4py.MPI``.
        """
        self._mpi = mpi
        self._comm = mpi.COMM_WORLD
        self._tags: IntArray = np.full(1, -1, dtype=np.int64)
        self._n_local = -1
        self._order: IntArray
        self._receiver: IntArray
        self._send_counts: IntArray
        self._receive_counts: IntArray

    def update(self, tags: IntArray, n_local: int) -> bool:
        """Learn who owns the ghosts, when any process has other atoms than before; all processes call it together.

        Args:
            tags: LAMMPS's number of every atom, own atoms first, then ghosts, shape ``(n,)``.
            n_local: How many are this process's own.

        Returns:
            Whether this process's atoms have changed, or their order.
        """
        changed = n_local != self._n_local or not np.array_equal(tags, self._tags)
        if self._comm.allreduce(changed, op=self._mpi.LOR):
            self._tags, self._n_local = tags.copy(), n_local
            self._ask_directory()
        return changed

    def collect(self, forces: FloatArray) -> None:
        """Add what ghosts feel to their atoms, everywhere; all processes call it together.

        Args:
            forces: On own atoms, then on ghosts, shape ``(n, 3)``, in eV/Å; the first ``n_local`` rows are updated.
        """
        ghosts = forces[self._n_local :]
        if self._comm.size == 1:
            _add_rows(forces, self._receiver, ghosts)
            return
        received = _exchange(self._comm, ghosts[self._order], self._send_counts, self._receive_counts, self._mpi.DOUBLE)
        _add_rows(forces, self._receiver, received)

    def _ask_directory(self) -> None:
        """Find process and row of every ghost's atom, and tell the owners which rows will come."""
        own, ghosts = self._tags[: self._n_local], self._tags[self._n_local :]
        if self._comm.size == 1:
            by_tag = np.argsort(own, kind="stable")
            self._receiver = by_tag[np.searchsorted(own, ghosts, sorter=by_tag)]
            return
        size, integer = self._comm.size, self._mpi.INT64_T
        # 1. Every process reports its atoms to the directory.
        order, counts = _sort_by_process(own % size, size)
        expected = _counts(self._comm, counts)
        entries = np.stack([own, np.full(len(own), self._comm.rank), np.arange(len(own))], axis=1)[order]
        entries = _exchange(self._comm, entries, counts, expected, integer)
        entries = entries[np.argsort(entries[:, 0], kind="stable")]
        # 2. Every process asks for its ghosts.
        asked, ask_counts = _sort_by_process(ghosts % size, size)
        question_counts = _counts(self._comm, ask_counts)
        questions = _exchange(self._comm, ghosts[asked][:, None], ask_counts, question_counts, integer)
        answers = entries[np.searchsorted(entries[:, 0], questions[:, 0]), 1:]
        owner = np.empty((len(ghosts), 2), dtype=np.int64)
        owner[asked] = _exchange(self._comm, answers, question_counts, ask_counts, integer)
        # 3. Every process tells the owners the rows to which its forces belong.
        self._order, self._send_counts = _sort_by_process(owner[:, 0], size)
        self._receive_counts = _counts(self._comm, self._send_counts)
        rows = owner[self._order, 1:]
        self._receiver = _exchange(self._comm, rows, self._send_counts, self._receive_counts, integer)[:, 0].copy()


def _sort_by_process(process: IntArray, size: int) -> tuple[IntArray, IntArray]:
    """Order in which entries are sent, and how many go to each process."""
    return np.argsort(process, kind="stable"), np.bincount(process, minlength=size).astype(np.int64)


def _counts(comm: Any, counts: IntArray) -> IntArray:
    """How many entries each process sends to this one."""
    received = np.empty_like(counts)
    comm.Alltoall(counts, received)
    return received


def _exchange(comm: Any, rows: NDArray[Any], counts: IntArray, expected: IntArray, kind: Any) -> NDArray[Any]:
    """Send rows to all processes, in their order, and give those received, in the order of their senders."""
    width = rows.shape[1]
    received = np.empty((int(expected.sum()), width), dtype=rows.dtype)
    comm.Alltoallv(
        [np.ascontiguousarray(rows), (counts * width, _offsets(counts) * width), kind],
        [received, (expected * width, _offsets(expected) * width), kind],
    )
    return received


def _offsets(counts: IntArray) -> IntArray:
    """Where each process's entries begin."""
    return np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)


@numba.njit(cache=True)
def _add_rows(forces: FloatArray, rows: IntArray, contributions: FloatArray) -> None:
    """Add each contribution to its row."""
    for k in range(rows.shape[0]):
        for axis in range(3):
            forces[rows[k], axis] += contributions[k, axis]
