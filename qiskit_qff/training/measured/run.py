"""One training run on a backend: start, steps, and which angles are kept at the end.

Exact losses are computed beside the measured ones, for the report only: no decision looks at them.

On a noisy backend the weights make up for what its noise takes from M. Such a model belongs to that backend: measure
its operators there (``qff calibrate``) before use, or train with error mitigation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.evaluators.protocol import Cost, Evaluator, TimingModel
from qiskit_qff.training.balance import balanced_angles, balancing_slopes
from qiskit_qff.training.measured.journal import Identity, Journal
from qiskit_qff.training.measured.loss import LossSample, MeasuredLoss
from qiskit_qff.training.measured.optimizers import OptimizerSettings, optimise
from qiskit_qff.training.measured.plan import FINAL_SHOTS, TrainingPlan, averaged_steps, plan_training
from qiskit_qff.training.objective import Objective
from qiskit_qff.training.solver import solve_weights

_START_SPREAD = 0.5
"""Standard deviation of random initial angles in radians."""


Kept = Literal["last", "average", "start"]


@dataclass(frozen=True)
class Step:
    """One step of the optimiser."""

    loss: float
    """Measured loss; for SPSA the mean of its two."""
    std_error: float
    """Its standard error from shots."""
    exact_loss: float
    """Exact loss of the same angles with exactly solved weights; reported, never used."""
    circuits: int
    """Circuits up to here."""
    shots: int
    """Shots up to here."""


@dataclass(frozen=True, eq=False)
class MeasuredTraining:
    """What came out."""

    parameters: FloatArray
    """p, weights and reference energies solved from the last measurement, shape ``(P,)``."""
    start: Step
    """The start."""
    steps: tuple[Step, ...]
    """Every step."""
    final: Step
    """The angles that were kept."""
    kept: Kept
    """Which angles were kept: the last ones, an average over the last steps, or those of a given start."""
    plan: TrainingPlan
    """What it was expected to cost."""
    cost: Cost
    """What it did cost, in all sessions."""
    resumed: int
    """Measurements that came from an earlier session."""


@dataclass(frozen=True, kw_only=True)
class MeasuredSettings:
    """How to train on a backend."""

    optimizer: OptimizerSettings
    """The optimiser."""
    shots: int | None
    """Executions per circuit of a loss; None for exact values."""
    slope_shots: int | None = None
    """Executions per circuit of a gradient; None for a quarter of ``shots``."""
    candidates: int = 8
    """Random starts of which the best is taken."""
    journal: Path | None = None
    """File that keeps every measurement."""
    resume: bool = False
    """Whether to go on with that file."""
    timing: TimingModel = field(default_factory=TimingModel)
    """For the estimate of processor time."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What else two sessions of a run must agree in, such as the backend."""


def train_measured(
    objective: Objective,
    evaluators: Mapping[int, Evaluator],
    settings: MeasuredSettings,
    *,
    start: FloatArray | None,
    rng: np.random.Generator,
    shot_rng: np.random.Generator,
    on_plan: Callable[[TrainingPlan], None] | None = None,
    on_step: Callable[[int, Step], None] | None = None,
) -> MeasuredTraining:
    """Train circuit angles on measured losses.

    Args:
        objective: The loss.
        evaluators: What measures circuits of a number of qubits.
        settings: Optimiser, shots, journal.
        start: Initial angles, shape ``(n_angles,)``; None for the best of some random ones.
        rng: Source of random starts and directions.
        shot_rng: What the evaluators draw shots from; its state is kept in the journal.
        on_plan: Told the cost before anything runs.
        on_step: Told the number and result of every step.

    Raises:
        ConfigError: If a journal cannot be resumed.
        BackendError: If a measurement fails.
    """
    loss = measured_loss(objective, evaluators, settings)
    starts = rng.normal(0.0, _START_SPREAD, (settings.candidates, objective.layout.n_angles))
    candidates = starts if start is None else start[None]
    identity = _identity(objective, settings, loss.slope_shots, candidates)
    journal = Journal(loss, identity, starts=candidates, rng=shot_rng, path=settings.journal)
    resumed = journal.resume(steps=settings.optimizer.steps) if settings.resume else 0
    plan = planned(objective, evaluators, settings, warm=start is not None)
    if on_plan is not None:
        on_plan(plan)
    return _Run(objective, journal, settings, on_step).complete(plan, resumed, warm=start is not None)


def planned(
    objective: Objective, evaluators: Mapping[int, Evaluator], settings: MeasuredSettings, *, warm: bool
) -> TrainingPlan:
    """What a run will cost.

    Args:
        objective: The loss.
        evaluators: What would measure; nothing is asked of them.
        settings: Optimiser and shots.
        warm: Whether the start is given.
    """
    loss = measured_loss(objective, evaluators, settings)
    candidates = 0 if warm or settings.candidates == 1 else settings.candidates
    return plan_training(loss, settings.optimizer, candidates=candidates, warm=warm, timing=settings.timing)


def measured_loss(
    objective: Objective, evaluators: Mapping[int, Evaluator], settings: MeasuredSettings
) -> MeasuredLoss:
    """The loss with the shots of the settings.

    Args:
        objective: The loss.
        evaluators: What measures circuits of a number of qubits.
        settings: Shots of losses and gradients.
    """
    slope_shots = settings.slope_shots or (None if settings.shots is None else max(1, settings.shots // 4))
    return MeasuredLoss(objective, evaluators, shots=settings.shots, slope_shots=slope_shots)


class _Run:
    """The state of one run; what optimisers ask goes through it to the journal."""

    def __init__(
        self,
        objective: Objective,
        journal: Journal,
        settings: MeasuredSettings,
        on_step: Callable[[int, Step], None] | None,
    ) -> None:
        self._objective = objective
        self._journal = journal
        self._settings = settings
        self._on_step = on_step
        self._steps: list[Step] = []
        self._path: list[FloatArray] = []

    def complete(self, plan: TrainingPlan, resumed: int, *, warm: bool) -> MeasuredTraining:
        """Start, steps and end."""
        candidates = self._journal.starts
        start = candidates[0]
        if len(candidates) > 1:
            losses = [self._journal.loss(self._placed(angles)).loss for angles in candidates]
            start = candidates[int(np.argmin(losses))]
        # Measured again: the smallest of noisy losses is too small.
        began = self._step(start, self._journal.loss(self._placed(start)).loss)
        settings = self._settings.optimizer
        ends: dict[Kept, FloatArray] = {"last": optimise(self, start, settings, warm=warm, on_step=self._after_step)}
        if (window := averaged_steps(settings)) > 1:
            ends["average"] = np.mean(self._path[-window:], axis=0)
        if warm:
            ends["start"] = start
        kept, sample = self._decide({name: self._placed(angles) for name, angles in ends.items()})
        final = self._step(ends[kept], sample.loss)
        cost = self._journal.spent
        return MeasuredTraining(sample.parameters, began, tuple(self._steps), final, kept, plan, cost, resumed)

    def value(self, angles: FloatArray) -> float:
        """Loss for the optimiser."""
        return self._journal.value(self._placed(np.asarray(angles, dtype=float))).loss

    def slopes(self, angles: FloatArray) -> FloatArray:
        """Gradient for the optimiser."""
        angles = np.asarray(angles, dtype=float)
        slopes = self._journal.slopes(self._placed(angles)).slopes
        layout = self._objective.layout
        if layout.balanced:
            slopes = slopes.copy()
            for spec, size, own in zip(layout.specs, layout.sizes, layout.angles, strict=True):
                slopes[own] = balancing_slopes(spec, angles[own], size).T @ slopes[own]
        return slopes

    def _placed(self, angles: FloatArray) -> FloatArray:
        """The angles that the circuit gets: of balanced readouts the balanced ones nearest to those asked for."""
        layout = self._objective.layout
        if not layout.balanced:
            return angles
        placed = zip(layout.specs, layout.sizes, layout.angles, strict=True)
        return np.concatenate([balanced_angles(spec, angles[own], size) for spec, size, own in placed])

    def _after_step(self, angles: FloatArray, loss: float) -> None:
        self._path.append(angles)
        self._steps.append(self._step(angles, loss))
        if self._on_step is not None:
            self._on_step(len(self._steps), self._steps[-1])

    def _step(self, angles: FloatArray, loss: float) -> Step:
        """A loss with what is reported beside it."""
        layout = self._objective.layout
        blank = np.concatenate([self._placed(angles), np.zeros(layout.n_parameters - layout.n_angles)])
        exact = self._objective.fit_loss(solve_weights(self._objective, blank))
        spent = self._journal.spent
        return Step(loss, self._journal.std_error, exact, spent.circuits, spent.shots)

    def _decide(self, candidates: dict[Kept, FloatArray]) -> tuple[Kept, LossSample]:
        """Of some angles those with the lowest loss, measured with more shots."""
        shots = None if self._settings.shots is None else FINAL_SHOTS * self._settings.shots
        steps = self._settings.optimizer.steps
        samples = {name: self._journal.final(angles, shots=shots, steps=steps) for name, angles in candidates.items()}
        kept = min(samples, key=lambda name: samples[name].loss)
        return kept, samples[kept]


def _identity(
    objective: Objective, settings: MeasuredSettings, slope_shots: int | None, candidates: FloatArray
) -> Identity:
    """What another session must share to go on with this one's journal."""
    optimizer, equations = settings.optimizer, objective.statistics.equations
    described = {
        "optimizer": optimizer.name,
        "learning_rate": optimizer.learning_rate,
        "optimizer_seed": optimizer.seed,
        "shots": settings.shots,
        "slope_shots": slope_shots,
        "candidates": len(candidates),
        "circuits": [str(spec) for spec in objective.layout.specs],
        "reference_energies": objective.layout.n_references,
        **settings.labels,
    }
    sums = (float(np.trace(equations.gram)), float(np.abs(equations.moment).sum()), equations.constant)
    return Identity(described, sums)
