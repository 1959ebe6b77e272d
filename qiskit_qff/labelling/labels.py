"""What a labeller gives, and how it says that it could not."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from qiskit_qff.structures.frame import Frame, Tag

RUN = "run"
"""Subdirectory of a worker's directory with what a program reads and writes for one frame."""

FailureKind = Literal["not-converged", "not-finite", "timeout", "crash", "error"]


@dataclass(frozen=True, eq=False)
class Label:
    """The result of one calculation."""

    energy: float
    """Total energy in eV."""
    forces: NDArray[np.float64]
    """Shape ``(n_atoms, 3)``, in eV/Å."""
    stress: NDArray[np.float64] | None
    """Symmetric, shape ``(3, 3)``, in eV/Å³, ASE's sign; None where the program gives none."""
    version: str
    """Program and version, for example ``CP2K 2023.1``."""
    input_hash: str
    """SHA-256 of the program's input, or of calculator, parameters and structure where there is no such file."""
    wall_seconds: float = 0.0
    """How long it took."""
    columns: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """Further results per atom by name, such as ``mulliken_charges``, each of shape ``(n_atoms,)``."""
    tags: Mapping[str, Tag] = field(default_factory=dict)
    """Further words and numbers worth keeping."""


class LabelError(Exception):
    """A calculation that gave no label; the next frame may do better."""

    def __init__(self, kind: FailureKind, message: str) -> None:
        super().__init__(kind, message)
        self.kind: FailureKind = kind
        self.message = " ".join(message.split())

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


def from_exception(name: str, error: Exception) -> LabelError:
    """What a calculator raised, as a failure; an SCF that did not converge is told by the words of the message."""
    kind: FailureKind = "not-converged" if "converge" in str(error).lower() else "error"
    return LabelError(kind, f"{name}: {type(error).__name__}: {str(error)[:500]}")


class Labeller(Protocol):
    """A program with all its settings; travels to worker processes."""

    @property
    def name(self) -> str:
        """Name of the calculator, as on the command line."""

    @property
    def level(self) -> str:
        """The level of theory in a few words."""

    @property
    def settings_hash(self) -> str:
        """Short hash of all settings that the labels depend on."""

    def check(self) -> None:
        """Refuse, before any work is done, what can't run.

        Raises:
            QFFError: if the program is not installed.
        """

    def label(self, frame: Frame, directory: Path) -> Label:
        """Energy, forces and stress of one frame.

        Args:
            frame: the structure; its own labels are ignored.
            directory: this worker's own, kept from frame to frame.

        Raises:
            LabelError: if the calculation fails.
        """


def ensure_complete(label: Label, n_atoms: int) -> None:
    """Refuse results of the wrong shape, or that hold something that is no number.

    Raises:
        LabelError: if so.
    """
    if label.forces.shape != (n_atoms, 3):
        raise LabelError("error", f"forces of shape {label.forces.shape} for {n_atoms} atoms")
    if not np.isfinite(label.energy):
        raise LabelError("not-finite", f"the energy is {label.energy}")
    if not np.isfinite(label.forces).all():
        atom = int(np.flatnonzero(~np.isfinite(label.forces).all(axis=1))[0])
        raise LabelError("not-finite", f"the force on atom {atom} is {label.forces[atom].tolist()}")
    if label.stress is not None and not np.isfinite(label.stress).all():
        raise LabelError("not-finite", "the stress is not finite")
