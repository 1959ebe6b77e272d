"""What a page is drawn from beside model and metrics: ``record.json`` with predictions and versions.

``record.json`` is written into a run's directory so that its report can be drawn again without the data. It holds
plain numbers, rounded to 0.1 µeV/atom, 0.1 meV/Å and 0.1 µeV/Å³; of sets with more atoms than :data:`MOST_FORCES` the
forces on so many of them, evenly chosen. Errors are never computed from it: they stand in ``metrics.json``, from all
numbers.
"""

import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from qiskit_qff import __version__
from qiskit_qff.durable import read_json
from qiskit_qff.errors import DataError
from qiskit_qff.model.metrics import Comparison

MODEL, METRICS, CONFIG, RECORD = "model.json", "metrics.json", "config.yaml", "record.json"
"""What ``qff train`` writes; ``qff evaluate --out`` writes the last one too."""
EVALUATION = "evaluation.json"
FORMAT, FORMAT_VERSION = "qiskit_qff record", 2
MOST_FORCES = 10_000
"""Atoms of one set whose forces are kept."""
_REPORTED_PACKAGES = ("numpy", "scipy", "qiskit", "qiskit-aer", "qiskit-ibm-runtime", "ase", "numba")


def write_record(directory: Path, comparisons: Mapping[str, Comparison]) -> None:
    """Write ``record.json``: comparisons by set."""
    content = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "environment": environment(),
        "sets": {name: _comparison_to_dict(comparison) for name, comparison in comparisons.items()},
    }
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    (directory / RECORD).write_text(text + "\n", encoding="utf-8")


def read_record(directory: Path) -> tuple[dict[str, Comparison], dict[str, str]]:
    """Comparisons by set and versions by package; both empty where there is no ``record.json``."""
    path = directory / RECORD
    if not path.is_file():
        return {}, {}
    with reading(path, remedy="Delete it to do without its figures."):
        data = read_json(path)
        if data["format"] != FORMAT:
            raise DataError(f"{path}: not a record of a run (format {data['format']!r}). Delete it to do without.")
        if data["version"] > FORMAT_VERSION:
            raise DataError(f"{path}: version {data['version']}, this qiskit_qff reads {FORMAT_VERSION}; upgrade.")
        comparisons = {name: _comparison_from_dict(entry) for name, entry in data["sets"].items()}
        return comparisons, {str(name): str(value) for name, value in data["environment"].items()}


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


_FORCES = {"forces", "predicted_forces"}
_COMPARED = ("energies", "predicted_energies", *sorted(_FORCES), "stresses", "predicted_stresses")


def _comparison_to_dict(comparison: Comparison) -> dict[str, Any]:
    """Plain numbers, rounded, of at most :data:`MOST_FORCES` atoms."""
    n_rows = len(comparison.forces)
    kept = np.unique(np.linspace(0, max(n_rows - 1, 0), min(n_rows, MOST_FORCES)).astype(int))
    content = {name: getattr(comparison, name) for name in ("n_frames", "n_atoms", "compositions")}
    for name in _COMPARED:
        values = getattr(comparison, name)
        rounded = np.round(values[kept], 4) if name in _FORCES else np.round(values, 7)
        content[name] = (rounded + 0.0).tolist()  # no -0.0
    return content | {"species": comparison.species[kept].tolist()}


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
