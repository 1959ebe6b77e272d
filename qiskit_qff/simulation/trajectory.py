"""A trajectory: the same atoms over time, followed across the cell's borders, streamed or held in memory.

Displacements need positions that do not jump when an atom leaves the cell on one side and comes back on the
other. Between two frames an atom is taken to have moved by the nearest image of its difference::

    s_t = s_{t-1} + d - round(d),   d = (fractional coordinate in t) - (fractional coordinate in t - 1)

so frames must follow so closely that no atom moves by half a cell vector in between.

A :class:`SnapshotStream` hands out one frame after the other and holds no more than two, whatever the length of
the file; a :class:`Trajectory` holds all of them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from ase import units
from ase.data import atomic_masses

from qiskit_qff.array_types import BoolArray, FloatArray, IntArray
from qiskit_qff.errors import DataError
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.reading import count_frames, iter_frames

# ASE's unit of velocity in Å/ps.
_ANG_PER_PS = 1e3 * units.fs


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One frame of a trajectory."""

    positions: FloatArray
    """Positions followed across borders, shape ``(n_atoms, 3)``, in Å."""
    cell: FloatArray
    """Cell vectors as rows, shape ``(3, 3)``, in Å."""
    time_ps: float | None = None
    """Time in ps; None where the file does not say."""
    velocities: FloatArray | None = None
    """Velocities, shape ``(n_atoms, 3)``, in Å/ps; None where the file has none."""
    temperature_k: float | None = None
    """Temperature in K; None where the file does not say."""


@dataclass(frozen=True, eq=False)
class SnapshotStream:
    """Frames of one simulation in time order; can be walked through once."""

    numbers: IntArray
    """Atomic numbers, shape ``(n_atoms,)``."""
    pbc: BoolArray
    """Which cell vectors are periods, shape ``(3,)``."""
    n_frames: int
    """Number of frames that it will hand out."""
    snapshots: Iterator[Snapshot]
    """The frames."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Frames of one simulation, in time order, in memory."""

    numbers: IntArray
    """Atomic numbers, shape ``(n_atoms,)``."""
    positions: FloatArray
    """Positions followed across borders, shape ``(n_frames, n_atoms, 3)``, in Å."""
    cells: FloatArray
    """Cell vectors as rows, shape ``(n_frames, 3, 3)``, in Å."""
    pbc: BoolArray
    """Which cell vectors are periods, shape ``(3,)``."""
    times_ps: FloatArray | None
    """Time of each frame, shape ``(n_frames,)``, in ps; None where the file does not say."""
    velocities: FloatArray | None = None
    """Velocities, shape ``(n_frames, n_atoms, 3)``, in Å/ps; None where the file has none."""
    temperatures_k: FloatArray | None = None
    """Temperature of each frame, shape ``(n_frames,)``, in K; None where the file does not say."""

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.positions)

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.numbers)

    def after(self, time_ps: float) -> "Trajectory":
        """The part from a time on, counted from the first frame, to leave out equilibration.

        Raises:
            DataError: if nothing is left, or the frames carry no time.
        """
        times = self.require_times()
        kept = times - times[0] >= time_ps - 1e-9
        if not kept.any():
            raise DataError(f"nothing is left after {time_ps} ps: the trajectory covers {np.ptp(times):g} ps.")
        return Trajectory(
            numbers=self.numbers,
            positions=self.positions[kept],
            cells=self.cells[kept],
            pbc=self.pbc,
            times_ps=times[kept],
            velocities=None if self.velocities is None else self.velocities[kept],
            temperatures_k=None if self.temperatures_k is None else self.temperatures_k[kept],
        )

    def require_times(self) -> FloatArray:
        """The times, in ps.

        Raises:
            DataError: if the frames carry none.
        """
        if self.times_ps is None:
            raise no_times()
        return self.times_ps

    def spacing_ps(self) -> float:
        """Time between frames in ps.

        Raises:
            DataError: if there are fewer than two frames, or they carry no time, or it is not evenly spaced.
        """
        steps = np.diff(self.require_times())
        if not len(steps):
            raise DataError("displacements need at least two frames.")
        if steps.min() <= 0.0 or np.ptp(steps) > 1e-6 * steps.mean():
            raise DataError(
                f"frames are not evenly spaced in time ({steps.min():g} to {steps.max():g} ps apart); "
                "displacements need even steps."
            )
        return float(steps.mean())


def read_trajectory(
    path: Path,
    *,
    frame_time_fs: float | None = None,
    skip_ps: float = 0.0,
    progress: Callable[[float, float], None] | None = None,
) -> Trajectory:
    """Read a trajectory; every frame must hold the same atoms in the same order.

    Args:
        path: any structure file; trajectories of ``qff md`` carry their times.
        frame_time_fs: time between frames in fs, for files that do not carry it.
        skip_ps: time to leave out at the beginning, in ps.
        progress: told now and then how many frames of how many are read.

    Raises:
        DataError: if the file can't be read, the atoms change, or nothing is left.
    """
    stream = stream_trajectory(path, frame_time_fs=frame_time_fs, skip_ps=skip_ps)
    snapshots = []
    for index, snapshot in enumerate(stream.snapshots):
        snapshots.append(snapshot)
        if progress is not None and index % 100 == 0:
            progress(index, stream.n_frames)
    return Trajectory(
        numbers=stream.numbers,
        positions=np.array([snapshot.positions for snapshot in snapshots]),
        cells=np.array([snapshot.cell for snapshot in snapshots]),
        pbc=stream.pbc,
        times_ps=_all_or_none([snapshot.time_ps for snapshot in snapshots]),
        velocities=_all_or_none([snapshot.velocities for snapshot in snapshots]),
        temperatures_k=_all_or_none([snapshot.temperature_k for snapshot in snapshots]),
    )


def _all_or_none(values: Sequence[FloatArray | float | None]) -> FloatArray | None:
    """What every frame has, along a first axis of frames; None where one lacks it."""
    return None if any(value is None for value in values) else np.array(values, dtype=np.float64)


def stream_trajectory(path: Path, *, frame_time_fs: float | None = None, skip_ps: float = 0.0) -> SnapshotStream:
    """Open a trajectory for one walk through its frames, in memory that does not grow with their number.

    Args:
        path: any structure file; trajectories of ``qff md`` carry their times.
        frame_time_fs: time between frames in fs, for files that do not carry it.
        skip_ps: time to leave out at the beginning, in ps.

    Raises:
        DataError: if the file can't be read, the atoms change, or nothing is left.
    """
    stream = _stream(iter_frames(path), frame_time_fs, n_frames=count_frames(path))
    start: float | None = None
    for n_skipped, snapshot in enumerate(stream.snapshots):
        if skip_ps > 0.0 and snapshot.time_ps is None:
            raise no_times()
        start = snapshot.time_ps if start is None else start
        if snapshot.time_ps is None or start is None or snapshot.time_ps - start >= skip_ps - 1e-9:
            rest = chain([snapshot], stream.snapshots)
            return SnapshotStream(stream.numbers, stream.pbc, stream.n_frames - n_skipped, rest)
    raise DataError(f"{path}: nothing is left after {skip_ps:g} ps; leave less out (--skip).")


def follow_across_borders(positions: Iterable[FloatArray], cells: Iterable[FloatArray], pbc: BoolArray) -> FloatArray:
    """Undo the jumps of atoms that were put back into the cell.

    Args:
        positions: shape ``(n_frames, n_atoms, 3)``, in Å.
        cells: shape ``(n_frames, 3, 3)``, in Å.
        pbc: shape ``(3,)``.

    Returns:
        Continuous positions, shape ``(n_frames, n_atoms, 3)``; the first frame is unchanged.
    """
    follower = _BorderFollower(pbc)
    return np.array([follower.follow(*frame) for frame in zip(positions, cells, strict=True)])


def velocities_of(momenta: FloatArray, numbers: IntArray) -> FloatArray:
    """Velocities in Å/ps of momenta in ASE's units; shapes ``(n_atoms, 3)`` and ``(n_atoms,)``."""
    velocities: FloatArray = momenta / atomic_masses[numbers][:, None] * _ANG_PER_PS
    return velocities


def no_times() -> DataError:
    """The error for frames that carry no time where one is needed."""
    return DataError("the frames carry no time; give the time between frames (--frame-time, in fs).")


class _BorderFollower:
    """Remembers the last frame, and how often each atom has crossed each border."""

    def __init__(self, pbc: BoolArray) -> None:
        self._pbc = pbc
        self._last: FloatArray | None = None
        self._images: FloatArray | None = None

    def follow(self, positions: FloatArray, cell: FloatArray) -> FloatArray:
        """Continuous positions of the next frame."""
        if not self._pbc.any():
            return positions
        complete = np.where(self._pbc[:, None], cell, np.eye(3))
        fractional = positions @ np.linalg.inv(complete)
        if self._last is None or self._images is None:
            self._images = np.zeros_like(fractional)
        else:
            self._images -= np.round(fractional - self._last) * self._pbc
        self._last = fractional
        followed: FloatArray = positions + self._images @ complete
        return followed


def _stream(frames: Iterator[Frame], frame_time_fs: float | None, *, n_frames: int) -> SnapshotStream:
    """Snapshots of frames."""
    first = next(frames)
    return SnapshotStream(first.numbers, first.pbc, n_frames, _snapshots(chain([first], frames), frame_time_fs))


def _snapshots(frames: Iterator[Frame], frame_time_fs: float | None) -> Iterator[Snapshot]:
    """Snapshots of frames, one after the other.

    Raises:
        DataError: if the atoms change.
    """
    first: Frame | None = None
    follower: _BorderFollower | None = None
    for index, frame in enumerate(frames):
        if first is None or follower is None:
            first, follower = frame, _BorderFollower(frame.pbc)
        if not np.array_equal(frame.numbers, first.numbers) or not np.array_equal(frame.pbc, first.pbc):
            raise DataError(f"{frame.where}: other atoms or periods than in the first frame; not a trajectory.")
        yield Snapshot(
            positions=follower.follow(frame.positions, frame.cell),
            cell=frame.cell,
            time_ps=_time(frame, index, frame_time_fs),
            velocities=None if frame.momenta is None else velocities_of(frame.momenta, frame.numbers),
            temperature_k=_number(frame, "temperature_k"),
        )


def _time(frame: Frame, index: int, frame_time_fs: float | None) -> float | None:
    """Time in ps, from the option, or from the tag that ``qff md`` (fs) or LAMMPS (ps) writes."""
    if frame_time_fs is not None:
        return index * frame_time_fs / 1e3
    for name, picoseconds in (("time_fs", 1e-3), ("Time", 1.0)):
        value = _number(frame, name)
        if value is not None:
            return value * picoseconds
    return None


def _number(frame: Frame, name: str) -> float | None:
    """A tag that is a number."""
    value = frame.tags.get(name)
    return float(value) if isinstance(value, (int, float)) else None
