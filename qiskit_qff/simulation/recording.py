"""Trajectory and log of a run: two text files that only grow, and can be cut back to a checkpoint.

The trajectory is extended XYZ: every program reads it, an interrupted run stays readable up to its last whole
frame, and cutting it back to a checkpoint is a truncation at a known byte. (ASE's binary .traj keeps an index
at its end that a killed run leaves stale.) Positions are not wrapped into the cell, so displacements can be
read off directly. The log is CSV, one line per interval, below remarks that begin with ``#``, if there are any.
"""

import fcntl
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import IO

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from qiskit_qff.errors import DataError

TRAJECTORY = "trajectory.extxyz"
LOG = "log.csv"


@dataclass(frozen=True)
class LogEntry:
    """One line of the log."""

    step: int
    """Number of steps done."""
    time_fs: float
    """Simulated time in fs."""
    temperature_k: float
    """Instantaneous temperature in K."""
    potential_ev: float
    """Potential energy in eV."""
    kinetic_ev: float
    """Kinetic energy in eV."""
    total_ev: float
    """Their sum in eV."""
    conserved_ev: float
    """The ensemble's conserved quantity in eV, the thermostat's work included."""
    pressure_gpa: float
    """Instantaneous pressure in GPa, kinetic part included; NaN unless periodic in all directions."""
    volume_ang3: float
    """Volume in Å³; NaN unless periodic in all directions."""
    max_force_ev_per_ang: float
    """Largest force on an atom in eV/Å."""


LOG_COLUMNS = tuple(field.name for field in fields(LogEntry))


class Recorder:
    """The open trajectory and log of one run."""

    def __init__(self, directory: Path, *, file_sizes: Mapping[str, int] | None = None, log_note: str = "") -> None:
        """Open the files: new and empty, or cut back to the sizes of a checkpoint.

        Args:
            directory: where they are.
            file_sizes: length in bytes of each file at the checkpoint; None for a new run.
            log_note: remark for the top of a new log.

        Raises:
            DataError: if a file is missing or shorter than at the checkpoint, or another run is writing it.
        """
        self._files: dict[str, IO[bytes]] = {}
        with ExitStack() as opened:
            for name in (TRAJECTORY, LOG):
                size = None if file_sizes is None else file_sizes[name]
                self._files[name] = opened.enter_context(open_at(directory / name, size))
            opened.pop_all()  # both are open: keep them so
        if file_sizes is None:
            remark = f"# {log_note}\n" if log_note else ""
            self._files[LOG].write((remark + ",".join(LOG_COLUMNS) + "\n").encode())

    def write(self, atoms: Atoms, entry: LogEntry) -> None:
        """Add one frame and one line."""
        self._files[TRAJECTORY].write(format_frame(atoms, entry).encode())
        self._files[LOG].write(format_entry(entry).encode())

    def sync(self) -> dict[str, int]:
        """Bring everything to the disk and give the length of each file in bytes."""
        sizes = {}
        for name, stream in self._files.items():
            stream.flush()
            os.fsync(stream.fileno())
            sizes[name] = stream.tell()
        return sizes

    def close(self) -> None:
        """Close both files."""
        for stream in self._files.values():
            stream.close()


def format_frame(atoms: Atoms, entry: LogEntry) -> str:
    """One frame of extended XYZ with positions, momenta and the scalars of its log entry."""
    lattice = " ".join(f"{value:.10g}" for value in atoms.cell.array.ravel())
    pbc = " ".join("T" if periodic else "F" for periodic in atoms.pbc)
    cell = f'Lattice="{lattice}" ' if atoms.cell.rank else ""
    header = (
        f"{len(atoms)}\n{cell}Properties=species:S:1:pos:R:3:momenta:R:3 energy={entry.potential_ev:.10g} "
        f"step={entry.step} time_fs={entry.time_fs:.10g} temperature_k={entry.temperature_k:.8g} "
        f'pbc="{pbc}"\n'
    )
    numbers = np.hstack([atoms.positions, atoms.get_momenta()]).tolist()
    # PERF: one format for the whole frame is several times faster than one per line.
    line = "%-2s %14.8f %14.8f %14.8f %13.8f %13.8f %13.8f\n"
    values = [item for symbol, row in zip(atoms.symbols, numbers, strict=True) for item in (symbol, *row)]
    return header + (line * len(atoms)) % tuple(values)


def format_entry(entry: LogEntry) -> str:
    """One line of the log; NaN becomes an empty cell."""
    cells = ("" if value != value else f"{value:.12g}" for value in astuple(entry))  # noqa: PLR0124 (NaN)
    return ",".join(cells) + "\n"


def read_log(path: Path) -> dict[str, NDArray[np.float64]]:
    """Read the whole log, column by column; a last line that a kill cut short is left out.

    Raises:
        DataError: if the file is missing, empty or not a log.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except OSError as error:
        raise DataError(f"{path}: no log of a run ({error.strerror}).") from error
    while lines and lines[0].startswith("#"):
        lines.pop(0)
    if not lines or lines[0].strip().split(",") != list(LOG_COLUMNS):
        raise DataError(f"{path}: not a log of qff md; its first line should name {', '.join(LOG_COLUMNS)}.")
    rows = [line.strip().split(",") for line in lines[1:] if line.endswith("\n")]
    table = np.array([[float(cell or "nan") for cell in row] for row in rows]).reshape(-1, len(LOG_COLUMNS))
    return {name: table[:, column] for column, name in enumerate(LOG_COLUMNS)}


def open_at(path: Path, size: int | None) -> IO[bytes]:
    """Open a file for appending, after cutting it back to a size, or to nothing for a new run.

    Args:
        path: the file.
        size: in bytes; None for nothing.

    Raises:
        DataError: if it is missing or shorter, or another run is writing it.
    """
    found = path.stat().st_size if path.exists() else 0
    if size is not None and found < size:
        raise DataError(
            f"{path}: {found} bytes, but the checkpoint was written when it had {size}. "
            "Put the file back, or start the run anew with --restart."
        )
    stream = path.open("ab")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        stream.close()
        raise DataError(f"{path}: another run is writing it. Wait, or choose another --out.") from error
    stream.truncate(size or 0)
    stream.seek(0, os.SEEK_END)
    return stream
