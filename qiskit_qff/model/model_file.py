"""Model files: one versioned JSON document, data only."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from qiskit_qff.bounded import read_json
from qiskit_qff.durable import write_atomically
from qiskit_qff.errors import ModelFileError, QFFError

FORMAT = "qiskit_qff model"
VERSION = 7
"""7 has a posterior; feature statistics and committees of older files are ignored. 6 has registers; 1 to 5 have one
circuit per species and are read as one register each."""
MAX_BYTES = 64 * 1024 * 1024
"""Larger files are refused: a real one takes a few hundred kilobytes."""

Model = TypeVar("Model")


def write_model(path: Path, content: Mapping[str, Any], *, replace: bool = True) -> None:
    """Write a model; the file appears whole or not at all."""
    document = {"format": FORMAT, "version": VERSION, **content}
    try:
        text = json.dumps(document, indent=1, allow_nan=False)
    except ValueError as error:
        raise ModelFileError(f"{path}: the model holds a number that is not finite; it was not written.") from error
    write_atomically(path, text + "\n", replace=replace)


def read_model(path: Path, build: Callable[[Mapping[str, Any]], Model]) -> Model:
    """Read a model."""
    document = _read_document(path)
    version = document.get("version")
    if not isinstance(version, int) or version < 1:
        raise ModelFileError(f"{path}: has no valid version number (found {version!r}); train the model again.")
    if version > VERSION:
        raise ModelFileError(
            f"{path}: is a model of format version {version}, this package reads up to {VERSION}; "
            "upgrade it with 'pip install --upgrade qiskit_qff'."
        )
    try:
        return build(document)
    except QFFError as error:
        raise ModelFileError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError) as error:
        raise ModelFileError(
            f"{path}: is damaged or was edited ({type(error).__name__}: {error}); restore it or train again."
        ) from error


def _read_document(path: Path) -> dict[str, Any]:
    """The JSON document of a model file."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ModelFileError(f"{path}: {size} bytes is more than a model can have ({MAX_BYTES}).")
        document = read_json(path, max_bytes=MAX_BYTES)
    except FileNotFoundError as error:
        raise ModelFileError(f"{path}: no such model file; 'qff train' writes one as DIR/model.json.") from error
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise ModelFileError(f"{path}: is not JSON ({error}); give a model.json written by 'qff train'.") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ModelFileError(f"{path}: is not a model file; give a model.json written by 'qff train'.")
    return document
