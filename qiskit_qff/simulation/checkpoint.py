"""The state of a run on disk, always complete: written beside the old one, synced, then renamed over it.

One ``.npz`` file without pickles holds positions, momenta and cell of the atoms, all numbers of the
integrator (thermostat and barostat included), the state of the random generator, and how long trajectory and
log were, so that a restart can cut them back to this step. Whatever kills a run, the file is either the
previous checkpoint or the new one.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qiskit_qff.array_types import FloatArray
from qiskit_qff.bounded import parse_json, read_arrays
from qiskit_qff.durable import write_atomically
from qiskit_qff.errors import DataError

#: Version of the layout; raised when older programs could not read it.
FORMAT_VERSION = 1

_INTEGRATOR = "integrator/"


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a run needs to go on as if it had never stopped."""

    step: int
    """Number of steps done."""
    positions: FloatArray
    """Positions, shape ``(n_atoms, 3)``, in Å, never wrapped into the cell."""
    momenta: FloatArray
    """Momenta, shape ``(n_atoms, 3)``, in ASE units."""
    cell: FloatArray
    """Cell vectors as rows, shape ``(3, 3)``, in Å."""
    integrator: Mapping[str, NDArray[Any]]
    """Numbers of the integrator, by name."""
    random_state: Mapping[str, Any]
    """State of the bit generator, as NumPy gives it."""
    file_sizes: Mapping[str, int]
    """Length in bytes of each growing file at this step, by name."""
    identity: Mapping[str, Any]
    """What makes the run this run and no other: settings, model and structure."""
    watch: Mapping[str, Any] = field(default_factory=dict)
    """What the watch for extrapolation has counted; empty where there was none."""


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint so that a crash at any moment leaves either the old file or the new one.

    Raises:
        OSError: if the disk is full or not writable; the old checkpoint is then still there.
    """
    document = {
        "format_version": FORMAT_VERSION,
        "step": checkpoint.step,
        "random_state": dict(checkpoint.random_state),
        "file_sizes": dict(checkpoint.file_sizes),
        "identity": dict(checkpoint.identity),
        "watch": dict(checkpoint.watch),
    }
    arrays: dict[str, Any] = {_INTEGRATOR + name: value for name, value in checkpoint.integrator.items()}
    arrays |= {"positions": checkpoint.positions, "momenta": checkpoint.momenta, "cell": checkpoint.cell}
    content = io.BytesIO()
    np.savez(content, document=np.array(json.dumps(document)), **arrays)
    write_atomically(path, content.getvalue())


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        DataError: if the file is damaged or of a newer version.
    """
    try:
        held = read_arrays(path)
        document = parse_json(str(held["document"]))
        version = int(document["format_version"])
        if version > FORMAT_VERSION:
            raise DataError(f"{path}: checkpoint of a newer version ({version}); update qiskit_qff.")
        _check_arrays(held)
        return Checkpoint(
            step=int(document["step"]),
            positions=held["positions"],
            momenta=held["momenta"],
            cell=held["cell"],
            integrator={
                name.removeprefix(_INTEGRATOR): value for name, value in held.items() if name.startswith(_INTEGRATOR)
            },
            random_state=document["random_state"],
            file_sizes=document["file_sizes"],
            identity=document["identity"],
            watch=document.get("watch", {}),
        )
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: damaged checkpoint ({error}). Start the run anew with --restart.") from error


def _check_arrays(held: Mapping[str, NDArray[Any]]) -> None:
    """Refuse arrays that describe no atoms.

    Raises:
        ValueError: naming the array.
    """
    n_atoms = len(held["positions"]) if held["positions"].ndim else 0
    for name, shape in (("positions", (n_atoms, 3)), ("momenta", (n_atoms, 3)), ("cell", (3, 3))):
        if held[name].shape != shape or held[name].dtype.kind != "f" or not np.isfinite(held[name]).all():
            raise ValueError(f"'{name}' are not {shape} finite numbers")
    for name, values in held.items():
        if name.startswith(_INTEGRATOR) and (values.dtype.kind not in "fiub" or not np.isfinite(values).all()):
            raise ValueError(f"'{name}' are not finite numbers")
