"""A training run as its page needs it: as it just ended, or read back from the directory that ``qff train`` wrote."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qiskit_qff.bounded import read_json, read_yaml
from qiskit_qff.errors import DataError, QFFError
from qiskit_qff.model.config import TrainConfig, parse_config
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.metrics import Coverage, Metrics, compare_model
from qiskit_qff.report.record import RECORD, Example, Record
from qiskit_qff.structures.framework import whole_frames
from qiskit_qff.structures.shipped import read_configured

MODEL, METRICS, CONFIG = "model.json", "metrics.json", "config.yaml"


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """A trained model, its errors and how training went."""

    field: ForceField
    """The model."""
    config: TrainConfig
    """What was asked for, with every default spelt out."""
    metrics: Mapping[str, Metrics]
    """Errors of ``train`` and, unless nothing was held out, ``test``."""
    loss: float
    """Loss of the model per frame."""
    linear_loss: float
    """That of a linear model on the same channels."""
    bound: float
    """That of the best symmetric matrices."""
    n_train: int
    """Frames trained on."""
    n_test: int
    """Frames held out."""
    seconds: float
    """Wall time of reading and training in s."""
    record: Record
    """Predictions, the course of training, a structure, versions."""
    coverage: Coverage | None = None
    """How far uncertainties can be trusted; None where nothing was held out."""
    estimator: Mapping[str, Any] | None = None
    """What ``metrics.json`` says of training on a backend; None where losses were computed."""
    missing: tuple[str, ...] = ()
    """What the page can't show, and why."""


def is_training_run(directory: Path) -> bool:
    """Whether ``qff train`` wrote this directory."""
    return all((directory / name).is_file() for name in (MODEL, METRICS, CONFIG))


def read_training_run(directory: Path) -> TrainingRun:
    """Read a run back; what an older run did not keep is computed from the data if they are still there.

    Args:
        directory: what ``qff train`` wrote.

    Raises:
        QFFError: if a file can't be read, or is damaged.
    """
    field = ForceField.load(directory / MODEL)
    try:
        config = parse_config(read_yaml(directory / CONFIG), where=CONFIG)
        told = read_json(directory / METRICS)
        metrics = {name: Metrics.from_dict(told[name]) for name in ("train", "test") if name in told}
        numbers = {name: _number(told[name]) for name in ("loss", "linear_loss", "bound", "seconds")}
        uncertainty = told.get("uncertainty")
        coverage = None if uncertainty is None else Coverage.from_dict(uncertainty)
        frames = {"train": list(told["train_frames"]), "test": list(told["test_frames"])}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{directory}: {METRICS} or {CONFIG} is damaged or edited ({error}). Train again.") from error
    kept = Record.read(directory)
    record, missing = (kept, ()) if kept is not None else _recomputed(field, config, frames)
    return TrainingRun(
        field=field,
        config=config,
        metrics=metrics,
        n_train=len(frames["train"]),
        n_test=len(frames["test"]),
        record=record,
        coverage=coverage,
        estimator=told.get("estimator"),
        missing=missing,
        **numbers,
    )


def _recomputed(
    field: ForceField, config: TrainConfig, chosen: Mapping[str, Sequence[int]]
) -> tuple[Record, tuple[str, ...]]:
    """Predictions for the frames of a run that kept none; what can't be had is said."""
    course = f"No curves of training and selection: the run kept no {RECORD}."
    paths = [config.data.path] if isinstance(config.data.path, str) else config.data.path or []
    names = ", ".join(Path(path).name for path in paths) or "frames given in Python"
    try:
        frames = read_configured(config.data.path or [])
        if config.data.framework == "whole":
            frames = whole_frames(frames)
        sets = {name: [frames[index] for index in indices] for name, indices in chosen.items() if indices}
        comparisons = {name: compare_model(field, members) for name, members in sets.items()}
    except (QFFError, OSError, IndexError) as error:
        reason = "other frames than the run had" if isinstance(error, IndexError) else str(error)
        plots = (
            f"No parity plots, histograms and structure: the run kept no {RECORD}, and the data ({names}) could not "
            f"be used: {reason.rstrip('.')}."
        )
        return Record(), (plots, course)
    name = list(sets)[-1]
    words = "held out" if name == "test" else "trained on"
    example = Example.typical(sets[name], comparisons[name], words=words)
    return Record(comparisons=comparisons, example=example), (course,)


def _number(value: Any) -> float:
    """A number of metrics.json, where null stands for none."""
    return float("nan") if value is None else float(value)
