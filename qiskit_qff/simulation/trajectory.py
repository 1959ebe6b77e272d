"""A trajectory in memory: positions of the same atoms over time, followed across the cell's borders.

Displacements need positions that do not jump when an atom leaves the cell on one side and comes back on the
other. Between two frames an atom is taken to have moved by the nearest image of its difference::

    s_t = s_{t-1} + d - round(d),   d = (fractional coordinate in t) - (fractional coordinate in t - 1)

so frames must follow so closely that no atom moves by half a cell vector in between.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qiskit_qff.errors import DataError
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.reading import iter_frames

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Frames of one simulation, in time order."""

    numbers: NDArray[np.int64]
    """Atomic numbers, shape ``(n_atoms,)``."""
    positions: Floats
    """Positions followed across borders, shape ``(n_frames, n_atoms, 3)``, in Å."""
    cells: Floats
    """Cell vectors as rows, shape ``(n_frames, 3, 3)``, in Å."""
    pbc: NDArray[np.bool_]
    """Which cell vectors are periods, shape ``(3,)``."""
    times_ps: Floats | None
    """Time of each frame, shape ``(n_frames,)``, in ps; None where the file does not say."""

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
        return Trajectory(self.numbers, self.positions[kept], self.cells[kept], self.pbc, times[kept])

    def require_times(self) -> Floats:
        """The times, in ps.

        Raises:
            DataError: if the frames carry none.
        """
        if self.times_ps is None:
            raise DataError("the frames carry no time; give the time between frames (--frame-time, in fs).")
        return self.times_ps


def read_trajectory(path: Path, *, frame_time_fs: float | None = None) -> Trajectory:
    """Read a trajectory; every frame must hold the same atoms in the same order.

    Args:
        path: any structure file; trajectories of ``qff md`` carry their times.
        frame_time_fs: time between frames in fs, for files that do not carry it.

    Raises:
        DataError: if the file can't be read, or the atoms change.
    """
    frames = list(iter_frames(path))
    first = frames[0]
    for frame in frames[1:]:
        if not np.array_equal(frame.numbers, first.numbers) or not np.array_equal(frame.pbc, first.pbc):
            raise DataError(f"{frame.where}: other atoms or periods than in the first frame; not a trajectory.")
    cells = np.array([frame.cell for frame in frames])
    wrapped = np.array([frame.positions for frame in frames])
    return Trajectory(
        numbers=first.numbers,
        positions=follow_across_borders(wrapped, cells, first.pbc),
        cells=cells,
        pbc=first.pbc,
        times_ps=_times(frames, frame_time_fs),
    )


def follow_across_borders(positions: Floats, cells: Floats, pbc: NDArray[np.bool_]) -> Floats:
    """Undo the jumps of atoms that were put back into the cell.

    Args:
        positions: shape ``(n_frames, n_atoms, 3)``, in Å.
        cells: shape ``(n_frames, 3, 3)``, in Å.
        pbc: shape ``(3,)``.

    Returns:
        Continuous positions, shape ``(n_frames, n_atoms, 3)``; the first frame is unchanged.
    """
    if not pbc.any():
        return positions.copy()
    complete = np.where(pbc[None, :, None], cells, np.eye(3))
    fractional = np.einsum("tai,tij->taj", positions, np.linalg.inv(complete))
    jumps = np.round(np.diff(fractional, axis=0)) * pbc
    images = np.concatenate([np.zeros_like(fractional[:1]), -np.cumsum(jumps, axis=0)])
    followed: Floats = positions + np.einsum("tai,tij->taj", images, complete)
    return followed


def _times(frames: list[Frame], frame_time_fs: float | None) -> Floats | None:
    """Times in ps, from the option, or from the tag that ``qff md`` (fs) or LAMMPS (ps) writes."""
    if frame_time_fs is not None:
        return np.arange(len(frames), dtype=np.float64) * (frame_time_fs / 1e3)
    for name, picoseconds in (("time_fs", 1e-3), ("Time", 1.0)):
        tags = [frame.tags.get(name) for frame in frames]
        if all(isinstance(tag, (int, float)) for tag in tags):
            return np.array(tags, dtype=np.float64) * picoseconds
    return None
