"""Where training on a backend begins: from random angles, the computed solution, or an existing model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.errors import ConfigError
from qiskit_qff.model.config import TrainConfig
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.structures.frame import Frame
from qiskit_qff.training.loss import Progress
from qiskit_qff.training.trainer import PreparedTraining, fit, prepare
from qiskit_qff.training.warm_start import prepare_from_model


def check_start(config: TrainConfig) -> None:
    """Refuse a start that cannot be, before any work.

    Args:
        config: The configuration.

    Raises:
        ConfigError: If the start is neither a known word nor a file.
    """
    start = config.estimator.start
    if start not in {"scratch", "exact"} and not Path(start).is_file():
        raise ConfigError(f"estimator.start is '{start}'; give scratch, exact, or the path of a model file.")


def prepare_start(
    frames: Sequence[Frame], config: TrainConfig, *, rng: np.random.Generator, progress: Progress
) -> tuple[PreparedTraining, FloatArray | None]:
    """Data and initial angles.

    Args:
        frames: Training frames.
        config: The configuration; ``estimator.start`` decides.
        rng: Source of the random starts of the computed solution.
        progress: Called as work proceeds.

    Returns:
        The prepared data, and angles of shape ``(n_angles,)`` or None for random ones.

    Raises:
        ConfigError: If the start is unknown.
        DataError: If the frames cannot be trained on, or hold other elements than the model.
        BudgetError: If there are too many parameters.
        ModelFileError: If the model cannot be read.
    """
    check_start(config)
    start = config.estimator.start
    if start not in {"scratch", "exact"}:
        return _from_model(frames, config, ForceField.load(start), progress)
    prepared = prepare(frames, config, progress=progress)
    if start == "scratch":
        return prepared, None
    solution = fit(prepared, rng=rng, progress=progress).restarts[0].parameters
    return prepared, solution[: prepared.objective.layout.n_angles]


def _from_model(
    frames: Sequence[Frame], config: TrainConfig, field: ForceField, progress: Progress
) -> tuple[PreparedTraining, FloatArray]:
    """Channels, circuits and angles of a model; only its numbers are trained further."""
    prepared, parameters = prepare_from_model(frames, config, field, progress=progress, same_repulsion=True)
    return prepared, parameters[: prepared.objective.layout.n_angles]
