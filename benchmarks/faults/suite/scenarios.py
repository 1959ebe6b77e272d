"""The commands that must survive: how each is started, resumed, and what its results must be equal in."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.faults.suite.inputs import BACKEND_CONFIG, CONFIG, DATA, LEARN_CONFIG, MODEL, STRUCTURES
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.simulation.recording import read_checkpoint, read_log

OUT = "out"
"""Directory or stem of what a command writes, beside the inputs."""
_CLOCKS = {
    "seconds",
    "seconds_per_frame",
    "ms_per_step",
    "resumed_from_step",
    "resumed_measurements",
    "date",
    "run",
    "job_ids",
    "label_seconds",
}
"""Entries of results that differ from run to run, and may."""


@dataclass(frozen=True)
class Scenario:
    """A command that may be killed at any moment."""

    name: str
    """As it is called in the table."""
    command: tuple[str, ...]
    """Arguments of ``qff``, run beside the inputs."""
    resume: Callable[[Path], tuple[str, ...]]
    """Arguments that go on after a kill, given the directory as the kill left it."""
    results: Callable[[Path], dict[str, Any]]
    """What must be equal to that of a run that was never killed."""
    done_so_far: Callable[[Path], int]
    """Units of work on disk that a resumed run must not do again."""
    kept: Callable[[Mapping[str, Any]], int | None]
    """Units that a resumed run says it has kept; None where it does not say."""


def _train(directory: Path) -> dict[str, Any]:
    """Results of a training, without clocks."""
    run = directory / OUT
    return {
        "model": (run / "model.json").read_text(),
        "metrics": timeless(json.loads((run / "metrics.json").read_text())),
        "config": (run / "config.yaml").read_text(),
        "files": sorted(path.name for path in run.iterdir()),
        "figures": sorted(path.name for path in (run / "figures").iterdir()),
    }


def _journal_entries(directory: Path) -> int:
    journal = directory / OUT / "journal.json"
    return len(json.loads(journal.read_text())["entries"]) if journal.exists() else 0


def _dynamics(directory: Path) -> dict[str, Any]:
    run = directory / OUT
    return {
        "trajectory": (run / "trajectory.extxyz").read_text(),
        "log": (run / "log.csv").read_text(),
        "summary": timeless(json.loads((run / "md.json").read_text())),
        "checkpoint": read_checkpoint(run / "checkpoint.npz").momenta.tolist(),
    }


def _labels(directory: Path) -> dict[str, Any]:
    text = (directory / f"{OUT}.extxyz").read_text()
    return {
        "labels": re.sub(r"label_(wall_s|finished)=\S+", "", text),
        "settings": (directory / f"{OUT}.settings.yaml").read_text(),
    }


def _learning(directory: Path) -> dict[str, Any]:
    run = directory / OUT
    return {
        "summary": timeless(json.loads((run / "learn.json").read_text())),
        "model": (run / "model.json").read_text(),
        "labels": re.sub(r"label_(wall_s|finished)=\S+", "", (run / "labels.extxyz").read_text()),
        "files": sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()),
    }


def _label_count(directory: Path) -> int:
    """Whole frames in the file: eight atoms, a number and a header each."""
    path = directory / f"{OUT}.extxyz"
    return path.read_text().count("\n") // 10 if path.exists() else 0


def _calibration(directory: Path) -> dict[str, Any]:
    model = timeless(json.loads((directory / f"{OUT}.json").read_text()))
    jobs = sorted((directory / "run" / "results").glob("*.npz"))
    return {"model": model, "jobs": [path.name for path in jobs], "values": [_arrays(path) for path in jobs]}


def _arrays(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name].tolist() for name in arrays.files}


def timeless(value: Any) -> Any:
    """Results without clocks and paths."""
    if isinstance(value, dict):
        return {key: timeless(entry) for key, entry in value.items() if key not in _CLOCKS}
    return [timeless(entry) for entry in value] if isinstance(value, list) else value


def _measured_training(directory: Path) -> tuple[str, ...]:
    resume = ("--resume",) if (directory / OUT / "journal.json").exists() else ()
    return ("train", BACKEND_CONFIG, "--out", OUT, "--json", *resume)


def _labelling(directory: Path) -> tuple[str, ...]:
    found = any((directory / name).exists() for name in (f"{OUT}.extxyz", f"{OUT}.failures.extxyz"))
    command = ("label", STRUCTURES, "--calculator", "emt", "--out", f"{OUT}.extxyz", "--json")
    return (*command, "--resume") if found else command


_TRAIN = ("train", CONFIG, "--out", OUT, "--json")
_MD = ("md", MODEL, DATA, "--out", OUT, "--steps", "120", "--interval", "5", "--checkpoint", "20", "--timestep", "2",
       "--on-extrapolation", "save", "--grade-limit", "0.5", "--json")  # fmt: skip
_CALIBRATE = ("calibrate", MODEL, "--backend", "fake_manila", "--shots", "100", "--run", "run", "--out", f"{OUT}.json",
              "--json")  # fmt: skip


def _calibrating(directory: Path) -> tuple[str, ...]:
    """The same command, unless the calibration is whole already: it is never overwritten."""
    return () if (directory / f"{OUT}.json").exists() else _CALIBRATE


_LEARN = ("learn", LEARN_CONFIG, "--out", OUT, "--json")

SCENARIOS = (
    Scenario("train", _TRAIN, lambda _: _TRAIN, _train, lambda _: 0, lambda _: None),
    Scenario(
        "train --backend aer",
        ("train", BACKEND_CONFIG, "--out", OUT, "--json"),
        _measured_training,
        _train,
        _journal_entries,
        lambda told: told["estimator"]["resumed_measurements"],
    ),
    Scenario("md", _MD, lambda _: _MD, _dynamics, lambda _: 0, lambda _: None),
    Scenario(
        "label",
        ("label", STRUCTURES, "--calculator", "emt", "--out", f"{OUT}.extxyz", "--json"),
        _labelling,
        _labels,
        _label_count,
        lambda told: told["n_kept"],
    ),
    Scenario("calibrate", _CALIBRATE, _calibrating, _calibration, lambda _: 0, lambda _: None),
    Scenario("learn", _LEARN, lambda _: _LEARN, _learning, lambda _: 0, lambda _: None),
)


def damaged_files(directory: Path) -> list[str]:
    """Files under their own name that can't be read; an unfinished last line is no damage to a file that grows."""
    found = []
    for path in sorted(directory.rglob("*")):
        if path.is_file() and not path.name.endswith(".partial") and not _inside_partial(path, directory):
            try:
                _read(path)
            except Exception as error:  # noqa: BLE001 (whatever a reader makes of a damaged file is a finding)
                found.append(f"{path.relative_to(directory)}: {type(error).__name__}: {error}")
    return found


def _inside_partial(path: Path, directory: Path) -> bool:
    return any(part.endswith((".partial", ".work")) for part in path.relative_to(directory).parts[:-1])


def _read(path: Path) -> None:
    """Read a file by what its name promises.

    Raises:
        ValueError: if it breaks the promise.
    """
    if path.name in {"model.json", f"{OUT}.json"}:
        ForceField.load(path)
    elif path.name == "checkpoint.npz":
        read_checkpoint(path)
    elif path.name == "log.csv" and path.stat().st_size:
        read_log(path) if "\n" in path.read_text() else None
    elif path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix == ".yaml":
        yaml.safe_load(path.read_text())
    elif path.suffix == ".npz":
        _arrays(path)
    elif path.suffix == ".png" and b"IEND" not in path.read_bytes()[-12:]:
        raise ValueError("the picture has no end")
    elif path.suffix == ".html" and not path.read_text().rstrip().endswith("</html>"):
        raise ValueError("the page has no end")
