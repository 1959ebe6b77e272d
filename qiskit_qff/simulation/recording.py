"""The files of a run: trajectory, log and checkpoint.

Trajectory (extended XYZ, written by ASE) and log (CSV) are text files that only grow: every program reads them, a
killed run stays readable up to its last whole frame, and a restart truncates both to the size that the checkpoint
recorded. Positions are not wrapped into the cell, so displacements can be read off directly.

The checkpoint is an ``.npz`` file without pickles, replaced atomically: whatever kills a run, the file is either the
previous checkpoint or the new one.
"""

import io
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
from ase import Atoms
from ase.io.extxyz import write_extxyz

from qiskit_qff.array_types import FloatArray
from qiskit_qff.durable import parse_json, read_arrays, try_lock, write_atomically
from qiskit_qff.errors import DataError

TRAJECTORY = "trajectory.extxyz"
LOG = "log.csv"
CHECKPOINT = "checkpoint.npz"
FORMAT_VERSION = 3  # of checkpoints


# The conserved quantity includes the thermostat's work and is empty for Langevin dynamics; pressure, kinetic part
# included, and volume are empty unless the structure is periodic in all directions.
LOG_COLUMNS = (
    *("step", "time_fs", "temperature_k", "potential_ev", "kinetic_ev", "total_ev", "conserved_ev"),
    *("pressure_gpa", "volume_ang3", "max_force_ev_per_ang"),
)


class Recorder:
    """The growing files of one run."""

    def __init__(self, directory: Path, names: Sequence[str], sizes: Mapping[str, int]) -> None:
        """Open the files, truncated to their sizes in bytes at a checkpoint; others are new and empty."""
        self.files: dict[str, IO[bytes]] = {}
        with ExitStack() as opened:
            for name in names:
                self.files[name] = opened.enter_context(_open_at(directory / name, sizes.get(name)))
            self.close = opened.pop_all().close
        if LOG not in sizes:
            self.files[LOG].write((",".join(LOG_COLUMNS) + "\n").encode())

    def write(self, atoms: Atoms, entry: Mapping[str, float]) -> None:
        """Add one frame and one log entry."""
        frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, momenta=atoms.get_momenta())
        # Sums over atoms differ between processes in the last bit, so they are rounded for files that do not.
        tags = {"energy": entry["potential_ev"], "time_fs": entry["time_fs"], "temperature_k": entry["temperature_k"]}
        frame.info = {"step": entry["step"]} | {name: float(f"{value:.10g}") for name, value in tags.items()}
        text = io.StringIO()
        write_extxyz(text, [frame], columns=["symbols", "positions", "momenta"], write_results=False)
        cells = ("" if np.isnan(entry[name]) else f"{entry[name]:.12g}" for name in LOG_COLUMNS)
        self.files[TRAJECTORY].write(text.getvalue().encode())
        self.files[LOG].write((",".join(cells) + "\n").encode())
        for stream in self.files.values():
            stream.flush()  # whole frames only: the files of a running or killed run can be read

    def sync(self) -> dict[str, int]:
        """Force everything to disk and return the length of each file in bytes."""
        for stream in self.files.values():
            stream.flush()
            os.fsync(stream.fileno())
        return {name: stream.tell() for name, stream in self.files.items()}


def _open_at(path: Path, size: int | None) -> IO[bytes]:
    """Open a file for appending after truncating it to a size in bytes; None for nothing."""
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


def read_log(path: Path) -> dict[str, FloatArray]:
    """Read a log by column; a last line that a kill cut short is ignored."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        while lines and lines[0].startswith("#"):  # remarks of older versions
            lines.pop(0)
        if not lines or lines[0].strip().split(",") != list(LOG_COLUMNS):
            raise DataError(f"{path}: not a log of qff md; its first line should name {', '.join(LOG_COLUMNS)}.")
        rows = [[float(cell or "nan") for cell in line.strip().split(",")] for line in lines[1:] if line.endswith("\n")]
        table = np.array(rows).reshape(len(rows), len(LOG_COLUMNS))
    except OSError as error:
        raise DataError(f"{path}: no log of a run ({error.strerror}).") from error
    except ValueError as error:
        raise DataError(f"{path}: damaged: {error}. Restore it, or run anew with --restart.") from error
    return {name: table[:, column] for column, name in enumerate(LOG_COLUMNS)}


def drift_mev_per_atom_per_ps(log: Mapping[str, FloatArray], n_atoms: int) -> float:
    """Slope of a straight line through the conserved quantity in meV/atom/ps; NaN for too short a log."""
    if len(log["step"]) < 3 or not np.isfinite(log["conserved_ev"]).all():
        return float("nan")
    return float(np.polyfit(log["time_fs"] / 1e3, log["conserved_ev"], 1)[0]) * 1e3 / n_atoms


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Replace a checkpoint atomically; arrays in the state are kept to the last bit."""
    arrays: dict[str, Any] = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
    rest = {name: value for name, value in state.items() if name not in arrays}
    content = io.BytesIO()
    np.savez(content, document=np.array(json.dumps({"format_version": FORMAT_VERSION, **rest})), **arrays)
    write_atomically(path, content.getvalue())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The state that :func:`write_checkpoint` wrote."""
    try:
        arrays = read_arrays(path)
        state = parse_json(str(arrays.pop("document")))
        if (version := state["format_version"]) != FORMAT_VERSION:
            raise DataError(
                f"{path}: checkpoint format {version}, expected {FORMAT_VERSION}: written by another version of "
                "qiskit_qff. Use that version, or start the run anew with --restart."
            )
        shapes = {"positions": (len(np.atleast_1d(arrays["positions"])), 3), "cell": (3, 3)}
        for name, shape in (shapes | {"momenta": shapes["positions"]}).items():
            values = arrays[name]
            if values.shape != shape or values.dtype.kind != "f" or not np.isfinite(values).all():
                raise DataError(f"{path}: '{name}' are not {shape} finite numbers. Start the run anew with --restart.")
        plain = {name: dict(state[name]) for name in ("random_state", "file_sizes", "identity", "watch")}
        sizes = plain["file_sizes"]
        plain["file_sizes"] = {name: int(sizes[name]) for name in {TRAJECTORY, LOG, *sizes}}
        return {"step": int(state["step"]), "exchanged_ev": float(state["exchanged_ev"]), **plain, **arrays}
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: damaged checkpoint ({error}). Start the run anew with --restart.") from error
