r"""What LAMMPS calls at every step on every process: energies and forces of its atoms, through ``fix external``.

A process evaluates the energies of its own atoms alone, :math:`E = \sum_{i\ \mathrm{own}} E_i`. Their neighbours reach
out to the cutoff into the *ghosts*: copies of atoms nearby, owned by other processes or periodic images of its own.
``fix external`` adds forces to own atoms only, so the forces on ghosts are sent back to their owners here. Ghosts out
to one cutoff suffice and no energy is computed twice. Who owns an atom is kept in a directory that is itself
distributed: the entry of atom ``tag`` lives on process ``tag mod n_processes``. It is asked only when atoms have
changed hands; a step sends three numbers a ghost, to few partners.

LAMMPS receives the total energy and virial :math:`-dE/d\epsilon` (xx, yy, zz, xy, xz, yz), and the energy of each
atom, in eV; so pressures, barostats and ``compute pe/atom`` work. There is no virial per atom.

PERF: of a step of 18,000 atoms on one process the force kernel takes nine tenths, neighbours 7 %, and LAMMPS, Python
and the exchange of ghost forces together 3 %.
"""

import ctypes
import sys
import traceback
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from qiskit_qff.array_types import FloatArray, Int32Array, IntArray
from qiskit_qff.errors import SimulationError
from qiskit_qff.model.fence import FencedForceField
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.structures.neighbors import NeighborList

#: Name of the ``fix external`` in the input.
FIX = "qff"
#: Neighbours up to the cutoff plus this are kept from step to step, in Å; LAMMPS gets the same for its ghosts.
SKIN = 1.0
_DOUBLES = ctypes.POINTER(ctypes.c_double)
#: Rows and columns of xx, yy, zz, xy, xz, yz.
_VIRIAL_ORDER = ([0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2])


class ForceFieldCallback:
    """The function that ``fix external`` calls."""

    def __init__(self, lammps: Any, field: ForceField | FencedForceField, mpi: Any) -> None:
        """Attach a force field to a running LAMMPS whose input has defined the fix.

        Args:
            lammps: Instance of ``lammps.lammps``.
            mpi: The module ``mpi4py.MPI``.
        """
        self.error: BaseException | None = None
        self._lammps, self._field, self._mpi = lammps, field, mpi
        self._ghosts = GhostForces(mpi)
        self._reference: FloatArray | None = None
        self._pairs: tuple[IntArray, IntArray]
        self._buffers: tuple[IntArray, IntArray, FloatArray, FloatArray, Int32Array]
        lammps.set_fix_external_callback(FIX, self._call, None)

    def _call(self, _caller: None, _step: int, n_local: int, _tags: Any, _points: Any, forces: FloatArray) -> None:
        """Answer one call; an error ends the run, because LAMMPS could not see it."""
        if self.error is not None:
            forces[:] = 0.0
            return
        try:
            forces[:] = self._evaluate(n_local)
        except BaseException as error:  # noqa: BLE001 - must not escape into C code
            self.error = error
            forces[:] = 0.0
            if self._mpi.COMM_WORLD.size > 1:
                if isinstance(error, SimulationError):
                    sys.stderr.write(f"qff: error: {error}\n")
                else:
                    traceback.print_exception(error)
                sys.stderr.flush()
                self._mpi.COMM_WORLD.Abort(1)  # the other processes wait for this one otherwise
            self._lammps.lib.lammps_force_timeout(self._lammps.lmp)

    def _evaluate(self, n_local: int) -> FloatArray:
        """Forces on the own atoms, shape ``(n_local, 3)``; energy and virial go to LAMMPS on the way."""
        comm = self._mpi.COMM_WORLD
        n_all = n_local + self._lammps.extract_global("nghost")
        points = self._per_atom("x", ctypes.c_double, (n_all, 3))
        tags = self._per_atom("id", ctypes.c_int32, (n_all,))
        kinds = self._per_atom("type", ctypes.c_int32, (n_all,)).astype(np.int64) - 1
        changed = self._ghosts.update(tags.astype(np.int64), n_local)
        prediction = self._field.folded.evaluate(kinds, self._neighbors(points, n_local, changed=changed))
        self._ghosts.collect(prediction.forces)
        totals = np.concatenate([[prediction.energy], -prediction.virial[_VIRIAL_ORDER]])
        comm.Allreduce(self._mpi.IN_PLACE, totals)
        if not np.isfinite(totals[0]):
            raise SimulationError(
                "the energy is not finite: two atoms met, or the run exploded. Take a shorter time step, relax the "
                "structure first, or train on data like it."
            )
        self._report(totals, prediction.energies)
        forces: FloatArray = prediction.forces[:n_local]
        return forces

    def _neighbors(self, points: FloatArray, n_local: int, *, changed: bool) -> NeighborList:
        """Neighbours of the own atoms, from a list kept while no point has moved by half the skin."""
        cutoff = self._field.cutoff
        if changed or self._reference is None or _has_moved(points, self._reference, 0.5 * SKIN):
            self._pairs = point_neighbors(points, n_local, cutoff + SKIN)
            self._reference = points.copy()
            n_pairs = len(self._pairs[1])
            self._buffers = (
                np.zeros(n_local + 1, dtype=np.int64),
                np.empty(n_pairs, dtype=np.int64),
                np.empty((n_pairs, 3)),
                np.empty(n_pairs),
                np.zeros((0, 3), dtype=np.int32),
            )
        first, neighbor, vectors, distances, shifts = self._buffers
        count = pairs_within(points, *self._pairs, cutoff * cutoff, first, neighbor, vectors, distances)
        return NeighborList(first, neighbor[:count], vectors[:count], distances[:count], shifts)

    def _report(self, totals: FloatArray, energies: FloatArray) -> None:
        """Hand the total energy, the total virial and the own atoms' energies to LAMMPS."""
        handle, name, library = self._lammps.lmp, FIX.encode(), self._lammps.lib
        virial, own = np.ascontiguousarray(totals[1:]), np.ascontiguousarray(energies)
        library.lammps_fix_external_set_energy_global(handle, name, totals[0])
        # NOTE: LAMMPS divides this by the number of processes and adds those of all; so each gives the total.
        library.lammps_fix_external_set_virial_global(handle, name, virial.ctypes.data_as(_DOUBLES))
        library.lammps_fix_external_set_energy_peratom(handle, name, own.ctypes.data_as(_DOUBLES))

    def _per_atom(self, name: str, kind: Any, shape: tuple[int, ...]) -> NDArray[Any]:
        """View of one of LAMMPS's arrays, own atoms first, then ghosts."""
        if shape[0] == 0:
            return np.zeros(shape, dtype=kind)
        pointer = self._lammps.extract_atom(name)
        start = pointer[0] if len(shape) == 2 else pointer
        return np.ctypeslib.as_array(ctypes.cast(start, ctypes.POINTER(kind)), shape=shape)


def _has_moved(points: FloatArray, reference: FloatArray, most: float) -> bool:
    """Whether a point is farther from its reference than ``most``, in Å."""
    return bool((((points - reference) ** 2).sum(axis=1) > most * most).any())


def point_neighbors(points: FloatArray, n_centers: int, cutoff: float) -> tuple[IntArray, IntArray]:
    """Neighbours of the first points among all, in open space: ghosts stand for periodic images.

    Args:
        points: Shape ``(n, 3)``, in Å, all finite.
        cutoff: In Å; pairs with ``r <= cutoff`` are listed.

    Returns:
        Where each centre's neighbours begin, shape ``(n_centers + 1,)``, and the neighbours' indices.
    """
    pairs = cKDTree(points[:n_centers]).sparse_distance_matrix(cKDTree(points), cutoff, output_type="ndarray")
    pairs = pairs[pairs["i"] != pairs["j"]]
    order = np.lexsort((pairs["j"], pairs["i"]))
    first = np.searchsorted(pairs["i"], np.arange(n_centers + 1), sorter=order)
    return first, pairs["j"][order].astype(np.int64)


@numba.njit(cache=True)
def pairs_within(
    points: FloatArray, all_first: IntArray, all_neighbor: IntArray, square_cutoff: float,
    first: IntArray, neighbor: IntArray, vectors: FloatArray, distances: FloatArray,
) -> int:  # fmt: skip
    """Keep the listed pairs that are within the cutoff now.

    Args:
        points: Shape ``(n, 3)``, in Å.
        all_first: Rows of the list, shape ``(n_centers + 1,)``.
        all_neighbor: Neighbours in the list, shape ``(n_pairs,)``.
        square_cutoff: In Å².
        first: Output rows, shape ``(n_centers + 1,)``.
        neighbor: Output, room for ``n_pairs``.
        vectors: Output vectors from the centre, room for ``(n_pairs, 3)``, in Å.
        distances: Output lengths, room for ``n_pairs``, in Å.

    Returns:
        How many pairs were kept.
    """
    count = 0
    for i in range(first.shape[0] - 1):
        first[i] = count
        for pair in range(all_first[i], all_first[i + 1]):
            j = all_neighbor[pair]
            x, y, z = points[j, 0] - points[i, 0], points[j, 1] - points[i, 1], points[j, 2] - points[i, 2]
            square = x * x + y * y + z * z
            if square < square_cutoff:
                neighbor[count] = j
                vectors[count, 0], vectors[count, 1], vectors[count, 2] = x, y, z
                distances[count] = np.sqrt(square)
                count += 1
    first[first.shape[0] - 1] = count
    return count


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
        self._order: IntArray  # of the ghosts, by owner
        self._ends: IntArray  # of each owner's part of them
        self._receiver: IntArray

    def update(self, tags: IntArray, n_local: int) -> bool:
        """Learn who owns the ghosts, when any process has other atoms than before; all processes call it together.

        Args:
            tags: LAMMPS's number of every atom, own atoms first, then ghosts, shape ``(n,)``.

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
        _add_rows(forces, self._receiver, self._exchange(forces[self._n_local :][self._order], self._ends))

    def _ask_directory(self) -> None:
        """Find process and row of every ghost's atom, and tell the owners which rows will come."""
        own, ghosts = self._tags[: self._n_local], self._tags[self._n_local :]
        size, rank = self._comm.size, self._comm.rank
        # 1. Every process reports its atoms to the directory.
        entries = np.stack([own, np.full(len(own), rank), np.arange(len(own))], axis=1)
        order, ends = _by_process(own % size, size)
        entries = self._exchange(entries[order], ends)
        entries = entries[np.argsort(entries[:, 0], kind="stable")]
        # 2. Every process asks for its ghosts.
        order, ends = _by_process(ghosts % size, size)
        questions = self._comm.alltoall(np.split(ghosts[order], ends))
        answers = [entries[np.searchsorted(entries[:, 0], asked), 1:] for asked in questions]
        owner = np.empty((len(ghosts), 2), dtype=np.int64)
        owner[order] = np.concatenate(self._comm.alltoall(answers))
        # 3. Every process tells the owners the rows to which its forces belong.
        self._order, self._ends = _by_process(owner[:, 0], size)
        self._receiver = self._exchange(owner[self._order, 1], self._ends)

    def _exchange(self, rows: NDArray[Any], ends: IntArray) -> NDArray[Any]:
        """Send each process its part of the rows, and give those received, in the order of their senders."""
        if self._comm.size == 1:
            return rows
        return np.concatenate(self._comm.alltoall(np.split(rows, ends)))


def _by_process(process: IntArray, size: int) -> tuple[IntArray, IntArray]:
    """Order in which entries are sent, and where the part of each process but the last ends."""
    return np.argsort(process, kind="stable"), np.cumsum(np.bincount(process, minlength=size))[:-1].astype(np.int64)


@numba.njit(cache=True)
def _add_rows(forces: FloatArray, rows: IntArray, contributions: FloatArray) -> None:
    """Add each contribution to its row."""
    for k in range(rows.shape[0]):
        for axis in range(3):
            forces[rows[k], axis] += contributions[k, axis]
