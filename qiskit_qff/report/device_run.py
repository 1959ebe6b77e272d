"""Forces that a device measured, kept beside a run and put on its page again: ``device.json``."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from qiskit_qff.bounded import read_json
from qiskit_qff.durable import write_atomically
from qiskit_qff.errors import DataError
from qiskit_qff.evaluators.protocol import Cost
from qiskit_qff.report.device_forces import DeviceForces, device_section
from qiskit_qff.report.run_part import RunPart

DEVICE = "device.json"
FORMAT, FORMAT_VERSION = "qiskit_qff device forces", 1
TITLE = "Forces on a noisy device"


def is_device_run(directory: Path) -> bool:
    """Whether forces that a device measured are kept in this directory."""
    return (directory / DEVICE).is_file()


def write_device_forces(directory: Path, measured: Sequence[DeviceForces], *, text: Sequence[str]) -> None:
    """Keep what was measured, rounded to 0.1 meV/Å.

    Args:
        directory: where to.
        measured: the same forces, measured in several ways.
        text: paragraphs that say what was done.

    Raises:
        OSError: if it can't be written.
    """
    entries = [
        {
            "name": entry.name,
            "cost": asdict(entry.cost),
            **{name: np.round(getattr(entry, name), 4).tolist() for name in ("exact", "forces", "std_errors")},
        }
        for entry in measured
    ]
    content = {"format": FORMAT, "version": FORMAT_VERSION, "text": list(text), "measurements": entries}
    write_atomically(directory / DEVICE, json.dumps(content, separators=(",", ":"), allow_nan=False) + "\n")


def read_device_run(directory: Path) -> RunPart:
    """Table and figures of what was measured.

    Args:
        directory: holds ``device.json``.

    Raises:
        DataError: if the file is damaged, or of a newer version.
    """
    path = directory / DEVICE
    try:
        told = read_json(path)
        if (told["format"], told["version"]) != (FORMAT, FORMAT_VERSION):
            raise DataError(f"{path}: {told['format']} of version {told['version']} can't be read. Upgrade qiskit_qff.")
        measured = [
            DeviceForces(
                name=entry["name"],
                exact=np.array(entry["exact"], dtype=float).reshape(-1, 3),
                forces=np.array(entry["forces"], dtype=float).reshape(-1, 3),
                std_errors=np.array(entry["std_errors"], dtype=float).reshape(-1, 3),
                cost=Cost(**entry["cost"]),
            )
            for entry in told["measurements"]
        ]
        section = device_section(measured, title=TITLE, text=tuple(told["text"]))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise DataError(f"{path}: damaged or edited ({error}). Delete it to do without its figures.") from error
    return RunPart(kind="device", title=TITLE, sections=(section,))
