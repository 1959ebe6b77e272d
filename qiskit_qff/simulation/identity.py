"""What makes a run this run and no other, so that a checkpoint is not continued with another model or structure."""

import hashlib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from qiskit_qff.errors import ConfigError
from qiskit_qff.simulation.checkpoint import Checkpoint
from qiskit_qff.simulation.settings import MDSettings

_DEFAULTS = {field.name: field.default for field in fields(MDSettings) if field.default is not MISSING}


def check_identity(path: Path, checkpoint: Checkpoint, identity: Mapping[str, Any], settings: MDSettings) -> None:
    """Refuse to continue another run.

    Args:
        path: of the checkpoint.
        checkpoint: what is there.
        identity: of the run that is asked for.
        settings: its settings.

    Raises:
        ConfigError: naming what differs.
    """
    advice = "Choose another --out, or begin anew with --restart."
    for name in ("model", "structure"):
        if checkpoint.identity.get(name) != identity[name]:
            raise ConfigError(f"{path}: the run there was started with another {name}. {advice}")
    # Settings that a checkpoint of an older version does not name had their present default.
    before = _DEFAULTS | dict(checkpoint.identity.get("settings", {}))
    for name, value in identity["settings"].items():
        if before.get(name) != value:
            raise ConfigError(
                f"{path}: the run there was started with {name}={before.get(name)}, not {value}. {advice}"
            )
    if checkpoint.step > settings.steps:
        raise ConfigError(f"{path}: the run there has done {checkpoint.step} steps already, more than "
                          f"{settings.steps}. {advice}")  # fmt: skip


def digest_structure(atoms: Atoms, *, velocities: bool) -> str:
    """What identifies the initial structure.

    Args:
        atoms: the structure.
        velocities: whether its velocities count.
    """
    digest = hashlib.sha256()
    arrays = (atoms.numbers.astype(np.int64), atoms.positions, atoms.cell.array, atoms.pbc)
    for array in (*arrays, atoms.get_momenta()) if velocities else arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
