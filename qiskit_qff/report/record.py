"""What a page is drawn from beside model and metrics: ``record.json`` with predictions, losses, a structure, versions.

``record.json`` is written into a run's directory so that its report can be drawn again without the data. It holds
plain numbers, rounded to 0.1 µeV/atom, 0.1 meV/Å and 0.1 µeV/Å³; of sets with more atoms than :data:`MOST_FORCES` the
forces on so many of them, evenly chosen. Errors are never computed from it: they stand in ``metrics.json``, from all
numbers.
"""

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from qiskit_qff import __version__
from qiskit_qff.array_types import FloatArray
from qiskit_qff.durable import read_json
from qiskit_qff.errors import DataError
from qiskit_qff.model.metrics import Comparison
from qiskit_qff.structures.frame import Frame

MODEL, METRICS, CONFIG, RECORD = "model.json", "metrics.json", "config.yaml", "record.json"
"""What ``qff train`` writes; ``qff evaluate --out`` writes the last one too."""
EVALUATION, BASELINES = "evaluation.json", "baselines.json"
NOT_IN_TRAINING = "not in training"
"""Name of the frames that a model has not seen, where others of the set were trained on."""
FORMAT, FORMAT_VERSION = "qiskit_qff record", 1
MOST_FORCES = 10_000
"""Atoms of one set whose forces are kept."""
_REPORTED_PACKAGES = ("numpy", "scipy", "qiskit", "qiskit-aer", "qiskit-ibm-runtime", "ase", "numba")


@dataclass(frozen=True, eq=False)
class Example:
    """One structure with its reference forces and the model's."""

    words: str  # which one it is
    frame: Frame  # atoms, cell and reference forces
    predicted: FloatArray  # the model's forces, shape ``(n_atoms, 3)``, in eV/Å

    @classmethod
    def typical(cls, frames: Sequence[Frame], comparison: Comparison, *, words: str) -> Self | None:
        """The frame whose force error is the median, of frames that are such as ``held out``; None without forces."""
        labels = [frame.forces for frame in frames if frame.forces is not None]
        if not frames or len(labels) < len(frames):
            return None
        ends = np.cumsum([frame.n_atoms for frame in frames])
        parts = np.split(comparison.predicted_forces, ends[:-1])
        errors = [float(np.abs(part - label).mean()) for part, label in zip(parts, labels, strict=True)]
        index = int(np.argsort(errors, kind="stable")[len(errors) // 2])
        frame = frames[index]
        place = f"frame {frame.index} of {Path(frame.source).name}" if frame.source else f"frame {frame.index}"
        return cls(f"{place}, {words}, mean force error {1e3 * errors[index]:.0f} meV/Å", frame, parts[index])

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        arrays = {name: getattr(self.frame, name) for name in ("numbers", "positions", "cell", "pbc", "forces")}
        return {"words": self.words, **_rounded({**arrays, "predicted": self.predicted})}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read back."""
        numbers, positions, cell, pbc = (np.array(data[name]) for name in ("numbers", "positions", "cell", "pbc"))
        frame = Frame(numbers, positions, cell, pbc, forces=np.array(data["forces"]))
        return cls(str(data["words"]), frame, np.array(data["predicted"], dtype=float).reshape(-1, 3))


@dataclass(frozen=True, eq=False)
class Record:
    """The content of ``record.json``."""

    comparisons: Mapping[str, Comparison] = field(default_factory=dict)  # by set; forces perhaps of some atoms only
    losses: tuple[tuple[float, ...], ...] = ()  # along each start of the optimiser
    selection: tuple[float, ...] | None = None  # share of the squared error left after each channel, from 1
    example: Example | None = None
    environment: Mapping[str, str] = field(default_factory=dict)  # versions by package

    def write(self, directory: Path) -> None:
        """Write ``record.json``."""
        content = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "environment": dict(self.environment),
            "losses": [[float(f"{loss:.7g}") for loss in losses] for losses in self.losses],
            "selection": None if self.selection is None else [float(f"{value:.6g}") for value in self.selection],
            "sets": {name: _comparison_to_dict(comparison) for name, comparison in self.comparisons.items()},
            "example": None if self.example is None else self.example.to_dict(),
        }
        text = json.dumps(content, separators=(",", ":"), allow_nan=False)
        (directory / RECORD).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, directory: Path) -> Self | None:
        """Read ``record.json``; None if there is none."""
        path = directory / RECORD
        if not path.is_file():
            return None
        with reading(path, remedy="Delete it to do without its figures."):
            data = read_json(path)
            if data["format"] != FORMAT:
                raise DataError(f"{path}: not a record of a run (format {data['format']!r}). Delete it to do without.")
            if data["version"] > FORMAT_VERSION:
                raise DataError(f"{path}: version {data['version']}, this qiskit_qff reads {FORMAT_VERSION}; upgrade.")
            return cls(
                comparisons={name: _comparison_from_dict(entry) for name, entry in data["sets"].items()},
                losses=tuple(tuple(map(float, losses)) for losses in data["losses"]),
                selection=None if data["selection"] is None else tuple(map(float, data["selection"])),
                example=None if data["example"] is None else Example.from_dict(data["example"]),
                environment={str(name): str(value) for name, value in data["environment"].items()},
            )


@contextmanager
def reading(path: Path, *, remedy: str) -> Iterator[None]:
    """Content that is not what the writer of a file would write becomes an error that names the file."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
        raise DataError(f"{path}: damaged or edited ({error}). {remedy}") from error


def environment() -> dict[str, str]:
    """Versions of Python, of this package and of what it stands on; nothing about the machine."""
    packages = {name: version(name) for name in _REPORTED_PACKAGES}
    return {"qiskit_qff": __version__, "Python": platform.python_version(), **packages}


_COMPARED = ("energies", "predicted_energies", "forces", "predicted_forces", "stresses", "predicted_stresses")
_DIGITS = {"positions": 4, "cell": 6, "forces": 4, "predicted": 4, "predicted_forces": 4}
"""Decimals of arrays; others are energies and stresses, of which seven are kept."""


def _comparison_to_dict(comparison: Comparison) -> dict[str, Any]:
    """Plain numbers, rounded, of at most :data:`MOST_FORCES` atoms."""
    n_rows = len(comparison.forces)
    kept = np.unique(np.linspace(0, max(n_rows - 1, 0), min(n_rows, MOST_FORCES)).astype(int))
    arrays = {name: getattr(comparison, name) for name in ("species", *_COMPARED)}
    arrays |= {name: arrays[name][kept] for name in ("species", "forces", "predicted_forces")}
    counts = {"n_frames": comparison.n_frames, "n_atoms": comparison.n_atoms}
    return {**counts, "compositions": list(comparison.compositions), **_rounded(arrays)}


def _comparison_from_dict(data: Mapping[str, Any]) -> Comparison:
    """Read back; records of older versions have no stresses and no compositions."""
    arrays = {name: np.array(data.get(name, []), dtype=float) for name in _COMPARED}
    compositions = tuple(map(str, data.get("compositions", ())))
    if compositions and len(compositions) != len(arrays["energies"]):
        raise ValueError(f"{len(compositions)} compositions for {len(arrays['energies'])} energies")
    columns = {"forces": 3, "predicted_forces": 3, "stresses": 6, "predicted_stresses": 6}
    return Comparison(
        n_frames=int(data["n_frames"]),
        n_atoms=int(data["n_atoms"]),
        species=np.array(data["species"], dtype=np.int64),
        compositions=compositions,
        **arrays | {name: arrays[name].reshape(-1, width) for name, width in columns.items()},
    )


def _rounded(arrays: Mapping[str, NDArray[Any]]) -> dict[str, list[Any]]:
    """Nested lists of rounded numbers."""
    return {
        name: (np.round(values, _DIGITS.get(name, 7)) + 0.0 if values.dtype.kind == "f" else values).tolist()
        for name, values in arrays.items()
    }
