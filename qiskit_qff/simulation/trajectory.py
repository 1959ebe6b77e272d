"""A trajectory: the same atoms over time, followed across the cell's borders.

Displacements need positions that do not jump when an atom leaves the cell on one side and comes back on the
other. Between two frames an atom is taken to have moved by the nearest image of its difference::

    s_t = s_{t-1} + d - round(d),   d = (fractional coordinate in t) - (fractional coordinate in t - 1)

so frames must follow so closely that no atom moves by half a cell vector in between.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qiskit_qff.array_types import BoolArray, FloatArray, IntArray
from qiskit_qff.errors import DataError
from qiskit_qff.structures.dataset import read_frames
from qiskit_qff.structures.frame import Frame


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Frames of one simulation, in time order, in memory."""

    numbers: IntArray  # shape (n_atoms,)
    positions: FloatArray  # followed across borders, shape (n_frames, n_atoms, 3), in Å
    cells: FloatArray  # cell vectors as rows, shape (n_frames, 3, 3), in Å
    pbc: BoolArray
    # Of each frame in ps and K; None where the file does not say.
    times_ps: FloatArray | None
    temperatures_k: FloatArray | None = None

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.positions)

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.numbers)

    def after(self, time_ps: float) -> "Trajectory":
        """The part from a time on, counted from the first frame, to leave out equilibration."""
        times = self.require_times()
        kept = times - times[0] >= time_ps - 1e-9
        if not kept.any():
            raise DataError(f"nothing is left after {time_ps} ps: the trajectory covers {np.ptp(times):g} ps.")
        changed: dict[str, Any] = {
            name: None if (values := getattr(self, name)) is None else values[kept]
            for name in ("positions", "cells", "times_ps", "temperatures_k")
        }
        return replace(self, **changed)

    def require_times(self) -> FloatArray:
        """The times, in ps."""
        if self.times_ps is None:
            raise DataError("the frames carry no time; give the time between frames (--frame-time, in fs).")
        return self.times_ps

    def spacing_ps(self) -> float:
        """Time between frames in ps."""
        steps = np.diff(self.require_times())
        if not len(steps):
            raise DataError("displacements need at least two frames.")
        if steps.min() <= 0.0 or np.ptp(steps) > 1e-6 * steps.mean():
            raise DataError(
                f"frames are not evenly spaced in time ({steps.min():g} to {steps.max():g} ps apart); "
                "displacements need even steps."
            )
        return float(steps.mean())


def read_trajectory(path: Path, *, frame_time_fs: float | None = None, skip_ps: float = 0.0) -> Trajectory:
    """Read a trajectory; every frame must hold the same atoms in the same order.

    Args:
        path: any structure file; trajectories of ``qff md`` and LAMMPS carry their times.
        frame_time_fs: time between frames in fs, for files that do not carry it.
        skip_ps: equilibration to leave out, in ps.
    """
    frames = read_frames(path)
    first = frames[0]
    for frame in frames:
        if not np.array_equal(frame.numbers, first.numbers) or not np.array_equal(frame.pbc, first.pbc):
            raise DataError(f"{frame.where}: other atoms or periods than in the first frame; not a trajectory.")
    cells = np.array([frame.cell for frame in frames])
    times_ps = _tags(frames, "Time")  # of LAMMPS
    if (times_fs := _tags(frames, "time_fs")) is not None:  # of qff md
        times_ps = times_fs / 1e3
    if frame_time_fs is not None:
        times_ps = np.array([index * frame_time_fs / 1e3 for index in range(len(frames))])
    whole = Trajectory(
        numbers=first.numbers,
        positions=follow_across_borders(np.array([frame.positions for frame in frames]), cells, first.pbc),
        cells=cells,
        pbc=first.pbc,
        times_ps=times_ps,
        temperatures_k=_tags(frames, "temperature_k"),
    )
    return whole.after(skip_ps) if skip_ps > 0.0 else whole


def follow_across_borders(positions: FloatArray, cells: FloatArray, pbc: BoolArray) -> FloatArray:
    """Undo the jumps of atoms that were put back into the cell; the first frame is unchanged.

    Positions have the shape ``(n_frames, n_atoms, 3)``, cells ``(n_frames, 3, 3)``, both in Å.
    """
    complete = np.where(pbc[:, None], cells, np.eye(3))
    fractional = np.einsum("tai,tij->taj", positions, np.linalg.inv(complete))
    images = np.zeros_like(fractional)
    images[1:] = -np.cumsum(np.round(np.diff(fractional, axis=0)) * pbc, axis=0)
    followed: FloatArray = positions + np.einsum("tai,tij->taj", images, complete)
    return followed


def _tags(frames: Sequence[Frame], name: str) -> FloatArray | None:
    """A number that frames are tagged with; None if a frame lacks it."""
    values = [frame.tags.get(name) for frame in frames]
    return np.array(values, dtype=np.float64) if all(isinstance(value, (int, float)) for value in values) else None
