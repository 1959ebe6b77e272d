"""Optimise circuits on computed losses, balanced or not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from threadpoolctl import threadpool_limits

from qiskit_qff.array_types import FloatArray
from qiskit_qff.model.config import TrainConfig
from qiskit_qff.training.balance import minimise_balanced
from qiskit_qff.training.design import Progress
from qiskit_qff.training.objective import Objective
from qiskit_qff.training.solver import Restart, SolverSettings, minimise


def optimise(
    objective: Objective,
    config: TrainConfig,
    *,
    rng: np.random.Generator,
    progress: Progress,
    further: FloatArray | None = None,
) -> list[Restart]:
    """Optimise from several starts.

    Args:
        objective: The loss; its layout says whether weights are tied to the angles.
        config: How long and how often.
        rng: Source of the random starts.
        progress: Called after every step.
        further: One more start beside those of the configuration, shape ``(P,)``.

    Returns:
        All restarts, best first.
    """
    section = config.optimizer
    settings = SolverSettings(
        restarts=section.restarts, max_iterations=section.max_iterations, tolerance=section.tolerance
    )
    if objective.layout.balanced:
        with threadpool_limits(1, "blas"):
            return minimise_balanced(objective, settings, rng=rng, progress=progress, further=further)
    runs = minimise(objective, settings, rng=rng, progress=progress)
    if further is not None:
        runs += minimise(objective, replace(settings, restarts=1), rng=rng, progress=progress, start=further)
    return sorted(runs, key=lambda run: float(run.losses[-1]))
