r"""What happens at every step on every process: neighbours, energies and forces of its atoms, for LAMMPS.

A process evaluates the energies of its own atoms alone, :math:`E = \sum_{i\ \mathrm{own}} E_i`. Their neighbours
reach out to the cutoff into the ghosts, and the forces on those go back to their owners
(:mod:`~qiskit_qff.simulation.lammps.ghosts`). So ghosts out to one cutoff suffice and no energy is computed twice;
with ghosts out to two cutoffs and no way back, two processes of 10,000 atoms each would do 1.7 times the work.

LAMMPS receives the total energy and virial :math:`-dE/d\epsilon` (xx, yy, zz, xy, xz, yz), and the energy of each
atom, in eV; so pressures, barostats and ``compute pe/atom`` work. There is no virial per atom.

PERF: of a step of 18,000 atoms on one process the force kernel takes nine tenths, neighbours 7 %, and LAMMPS, Python
and the ghosts' way back together 3 %. A pair style compiled into LAMMPS could save those 3 %, for a compiler on the
user's side.
"""

import ctypes
import sys
import traceback
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qiskit_qff.array_types import FloatArray, Int32Array, IntArray
from qiskit_qff.errors import SimulationError
from qiskit_qff.model.fence import FencedForceField
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.simulation.lammps.ghosts import GhostForces
from qiskit_qff.structures.neighbors import NeighborList
from qiskit_qff.structures.point_neighbors import pairs_within, point_neighbors

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
            field: The force field; atom type k of LAMMPS is its species k, counted from 1.
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
        """Forces on the own atoms, shape ``(n_local, 3)``; energy and virial go to LAMMPS on the way.

        Raises:
            SimulationError: If the energy is not finite.
        """
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
