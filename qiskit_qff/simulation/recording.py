"""Trajectory and log of a run: two text files that only grow, and can be cut back to a checkpoint.

The trajectory is extended XYZ: every program reads it, an interrupted run stays readable up to its last whole
frame, and cutting it back to a checkpoint is a truncation at a known byte. (ASE's binary .traj keeps an index
at its end that a killed run leaves stale.) Positions are not wrapped into the cell, so displacements can be
read off directly. A compact trajectory is the same, rounded and compressed by gzip, one member for all frames between
two checkpoints: gzip files may be joined and cut between members, so it too is cut back at a known byte.

The log is CSV, one line per interval, below remarks that begin with ``#``, if there are any.
"""

import gzip
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import IO

import numpy as np
from ase import Atoms

from qiskit_qff.array_types import FloatArray
from qiskit_qff.durable import try_lock
from qiskit_qff.errors import DataError
from qiskit_qff.simulation.settings import MDSettings

TRAJECTORY = "trajectory.extxyz"
COMPACT_TRAJECTORY = "trajectory.extxyz.gz"
LOG = "log.csv"
DECIMALS = 8
"""Of positions in Å and momenta in ASE's units."""
COMPACT_DECIMALS = 5
"""The same in a compact trajectory: a thousandth of a thermal displacement."""
# Frames that wait to be compressed take no more memory than this.
_MEMBER_BYTES = 8_000_000


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

    def __init__(
        self,
        directory: Path,
        settings: MDSettings,
        *,
        file_sizes: Mapping[str, int] | None = None,
        log_note: str = "",
    ) -> None:
        """Open the files: new and empty, or cut back to the sizes of a checkpoint.

        Args:
            directory: where they are.
            settings: what of each frame is written, and whether compressed.
            file_sizes: length in bytes of each file at the checkpoint; None for a new run.
            log_note: remark for the top of a new log.

        Raises:
            DataError: if a file is missing or shorter than at the checkpoint, or another run is writing it.
        """
        self._settings = settings
        self._trajectory = trajectory_name(settings)
        self._files: dict[str, IO[bytes] | _GzipMembers] = {}
        with ExitStack() as opened:
            for name in (self._trajectory, LOG):
                size = None if file_sizes is None else file_sizes[name]
                stream = opened.enter_context(open_at(directory / name, size))
                self._files[name] = _GzipMembers(stream) if name == COMPACT_TRAJECTORY else stream
            opened.pop_all()  # both are open: keep them so
        if file_sizes is None:
            for name in {TRAJECTORY, COMPACT_TRAJECTORY} - {self._trajectory}:
                (directory / name).unlink(missing_ok=True)  # of a run that is begun anew
            remark = f"# {log_note}\n" if log_note else ""
            self._files[LOG].write((remark + ",".join(LOG_COLUMNS) + "\n").encode())

    def write(self, atoms: Atoms, entry: LogEntry) -> None:
        """Add one frame and one line."""
        decimals = COMPACT_DECIMALS if self._settings.compact else DECIMALS
        frame = format_frame(atoms, entry, velocities=self._settings.velocities, decimals=decimals)
        self._files[self._trajectory].write(frame.encode())
        self._files[LOG].write(format_entry(entry).encode())
        # Whole frames at a time, so that the files of a running or killed run can be read.
        self._files[LOG].flush()
        if not self._settings.compact:
            self._files[self._trajectory].flush()

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


class _GzipMembers:
    """A file of gzip members: what is written waits until the next flush, and becomes one member."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._waiting = stream, bytearray()

    def write(self, content: bytes) -> None:
        """Add to the next member."""
        self._waiting += content
        if len(self._waiting) > _MEMBER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the next member."""
        if self._waiting:
            self._stream.write(gzip.compress(bytes(self._waiting), mtime=0))
            self._waiting.clear()
        self._stream.flush()

    def fileno(self) -> int:
        """The operating system's number of the file."""
        return self._stream.fileno()

    def tell(self) -> int:
        """Length of the file in bytes."""
        return self._stream.tell()

    def close(self) -> None:
        """Write what waits and close the file."""
        self.flush()
        self._stream.close()


def trajectory_name(settings: MDSettings) -> str:
    """Name of the trajectory's file."""
    return COMPACT_TRAJECTORY if settings.compact else TRAJECTORY


def format_frame(atoms: Atoms, entry: LogEntry, *, velocities: bool = True, decimals: int = DECIMALS) -> str:
    """One frame of extended XYZ with positions and the scalars of its log entry.

    Args:
        atoms: positions, momenta and cell.
        entry: the log entry of the same step.
        velocities: whether momenta are written.
        decimals: of positions and momenta.
    """
    lattice = " ".join(f"{value:.10g}" for value in atoms.cell.array.ravel())
    pbc = " ".join("T" if periodic else "F" for periodic in atoms.pbc)
    cell = f'Lattice="{lattice}" ' if atoms.cell.rank else ""
    header = (
        f"{len(atoms)}\n{cell}Properties=species:S:1:pos:R:3{':momenta:R:3' if velocities else ''} "
        f"energy={entry.potential_ev:.10g} step={entry.step} time_fs={entry.time_fs:.10g} "
        f'temperature_k={entry.temperature_k:.8g} pbc="{pbc}"\n'
    )
    columns = [atoms.positions, atoms.get_momenta()] if velocities else [atoms.positions]
    numbers = np.hstack(columns).tolist()
    # PERF: one format for the whole frame is several times faster than one per line.
    position, momentum = f" %{decimals + 6}.{decimals}f", f" %{decimals + 5}.{decimals}f"
    line = "%-2s" + 3 * position + (3 * momentum if velocities else "") + "\n"
    values = [item for symbol, row in zip(atoms.symbols, numbers, strict=True) for item in (symbol, *row)]
    return header + (line * len(atoms)) % tuple(values)


def format_entry(entry: LogEntry) -> str:
    """One line of the log; NaN becomes an empty cell."""
    cells = ("" if value != value else f"{value:.12g}" for value in astuple(entry))  # noqa: PLR0124 (NaN)
    return ",".join(cells) + "\n"


def read_log(path: Path) -> dict[str, FloatArray]:
    """Read the whole log, column by column; a last line that a kill cut short is left out.

    Raises:
        DataError: if the file is missing, empty, damaged or not a log.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except OSError as error:
        raise DataError(f"{path}: no log of a run ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: damaged: it is no text. Restore it, or run anew with --restart.") from error
    while lines and lines[0].startswith("#"):
        lines.pop(0)
    if not lines or lines[0].strip().split(",") != list(LOG_COLUMNS):
        raise DataError(f"{path}: not a log of qff md; its first line should name {', '.join(LOG_COLUMNS)}.")
    rows = [line.strip().split(",") for line in lines[1:] if line.endswith("\n")]
    for number, row in enumerate(rows, start=1):
        if len(row) != len(LOG_COLUMNS):
            raise DataError(f"{path}: line {number} below the names of the columns has {len(row)} entries, "
                            f"{len(LOG_COLUMNS)} are expected. Restore it, or run anew with --restart.")  # fmt: skip
    try:
        table = np.array([[float(cell or "nan") for cell in row] for row in rows]).reshape(-1, len(LOG_COLUMNS))
    except ValueError as error:
        raise DataError(f"{path}: damaged: {error}. Restore it, or run anew with --restart.") from error
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
    if not try_lock(stream.fileno(), path):
        stream.close()
        raise DataError(f"{path}: another run is writing it. Wait, or choose another --out.")
    stream.truncate(size or 0)
    stream.seek(0, os.SEEK_END)
    return stream
