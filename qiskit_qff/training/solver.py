r"""Fit circuit parameters to the quadratic loss: good starts, then Levenberg-Marquardt.

*Starts.* Angles are random and the weights solved exactly; later restarts perturb the best. Balanced rank-one readouts
have a module of their own (:mod:`~qiskit_qff.training.balance`) and begin at the linear model.

*Steps.* The loss is least squares in m(p), so :math:`J^T G J` needs no second derivatives; the damping of
Levenberg and Marquardt scales with its diagonal, because angles and weights differ by orders of magnitude.

References:
    D. W. Marquardt, J. Soc. Ind. Appl. Math. 11, 431 (1963), doi:10.1137/0111030.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from qiskit_qff.array_types import FloatArray
from qiskit_qff.circuit.ansatz import build_program
from qiskit_qff.circuit.compiled import readout_matrices
from qiskit_qff.training.loss import Progress
from qiskit_qff.training.objective import Objective, solve_scaled

TOLERANCE = 1e-6
"""A start ends when five steps together lower the loss by less than this fraction."""
HOPELESS = 20.0
"""A start that has a goal is given up where its last step would have to be repeated so many times to reach it."""
PERTURBATION = 0.3
"""Size of the random change, relative to each parameter's natural scale, that makes later starts."""


class LeastSquares(Protocol):
    """A loss that is a sum of squares."""

    def loss(self, parameters: FloatArray) -> float:
        """Loss of some parameters."""
        ...  # pragma: no cover

    def quadratic_model(self, parameters: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """Loss with half its gradient and half its Gauss-Newton matrix."""
        ...  # pragma: no cover


@dataclass(frozen=True)
class Restart:
    """One optimisation."""

    losses: FloatArray
    """Loss after every accepted step, shape ``(n,)``, the start first."""
    parameters: FloatArray
    """Where it ended, shape ``(P,)``."""


def minimise(
    objective: Objective, *, restarts: int, max_iterations: int, rng: np.random.Generator, progress: Progress
) -> list[Restart]:
    """Optimise from several starts.

    Returns:
        All restarts, best first.
    """
    runs: list[Restart] = []
    for k in range(restarts):
        begin = _perturbed(objective, runs, rng) if runs else _best_random_start(objective, rng)
        runs.append(levenberg_marquardt(objective, begin, max_iterations, progress=progress, label=f"fit {k + 1}"))
    return sorted(runs, key=lambda run: float(run.losses[-1]))


def levenberg_marquardt(
    objective: LeastSquares,
    start: FloatArray,
    max_iterations: int,
    *,
    progress: Progress,
    label: str,
    goal: float | None = None,
) -> Restart:
    """Minimise from one start.

    Args:
        start: Initial parameters, shape ``(P,)``.
    """
    parameters, damping = start, 1e-3
    value, gradient, curvature = objective.quadratic_model(parameters)
    losses = [value]
    for step in range(max_iterations):
        progress(label, step, max_iterations)
        trial, trial_value = parameters, np.inf
        while damping < 1e12:
            trial = parameters - _damped_step(gradient, curvature, damping)
            trial_value = objective.loss(trial)
            if trial_value < value:
                break
            damping *= 4.0
        if not trial_value < value:
            break
        if goal is not None and trial_value - goal > HOPELESS * (value - trial_value):
            return Restart(np.append(losses, trial_value), trial)
        parameters, damping = trial, max(damping / 5.0, 1e-12)
        value, gradient, curvature = objective.quadratic_model(parameters)
        losses.append(value)
        if len(losses) > 5 and losses[-6] - value < TOLERANCE * value:
            break
    progress(label, max_iterations, max_iterations)
    return Restart(np.asarray(losses), parameters)


def _damped_step(gradient: FloatArray, curvature: FloatArray, damping: float) -> FloatArray:
    """Solve (H + damping diag H) step = gradient in unit-diagonal scaling."""
    diagonal = np.diagonal(curvature)
    largest = float(diagonal.max())
    scale = 1.0 / np.sqrt(np.maximum(diagonal, 1e-14 * largest))
    matrix = curvature * np.outer(scale, scale)
    matrix[np.diag_indices_from(matrix)] += damping + 1e-13
    step: FloatArray = scale * cho_solve(cho_factor(matrix, check_finite=False), scale * gradient)
    return step


def _best_random_start(objective: Objective, rng: np.random.Generator) -> FloatArray:
    """The best of some random circuits."""
    return min((_random_start(objective, rng) for _ in range(8)), key=objective.loss)


def _random_start(objective: Objective, rng: np.random.Generator) -> FloatArray:
    """Random angles with exactly solved weights and reference energies."""
    layout = objective.layout
    parameters = np.zeros(layout.n_parameters)
    parameters[: layout.n_angles] = rng.normal(0.0, 0.5, layout.n_angles)
    return solve_weights(objective, parameters)


def solve_weights(objective: Objective, parameters: FloatArray) -> FloatArray:
    """Readout weights and reference energies that minimise the loss for given angles.

    Args:
        parameters: p, shape ``(P,)``; its angles are used.

    Returns:
        Shape ``(P,)``.
    """
    layout, statistics = objective.layout, objective.statistics
    count = layout.n_references
    columns = np.zeros((len(statistics.equations.moment), layout.n_weights + count))
    for s, spec in enumerate(layout.specs):
        matrices = readout_matrices(build_program(spec), parameters[layout.angles[s]])
        rows, cols = np.triu_indices(int(statistics.sizes[s]))
        place = layout.weights[s]
        inside = slice(int(statistics.starts[s]), int(statistics.starts[s + 1]))
        columns[inside, place.start - layout.n_angles : place.stop - layout.n_angles] = matrices[:, rows, cols].T
        columns[inside.start] = 0.0
    columns[-count:, -count:] = np.eye(count)
    solved = parameters.copy()
    gram = columns.T @ objective.gram @ columns
    inner = np.arange(layout.n_weights)
    gram[inner, inner] += objective.penalty
    solved[layout.n_angles :] = solve_scaled(gram, columns.T @ statistics.equations.moment)
    return solved


def _perturbed(objective: Objective, runs: list[Restart], rng: np.random.Generator) -> FloatArray:
    """A new start: the best end so far with its angles shaken, weights solved again."""
    best = min(runs, key=lambda run: float(run.losses[-1])).parameters
    _, _, curvature = objective.quadratic_model(best)
    diagonal = np.diagonal(curvature)[: objective.layout.n_angles]
    value = objective.loss(best)
    # A change of this size in one angle alone raises the loss by about the loss itself.
    natural = np.minimum(np.sqrt(value / np.maximum(diagonal, 1e-300)), 0.5)
    shaken = best.copy()
    shaken[: objective.layout.n_angles] += PERTURBATION * natural * rng.normal(size=len(natural))
    return solve_weights(objective, shaken)
