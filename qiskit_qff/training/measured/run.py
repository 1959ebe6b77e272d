"""Training on a backend: start, steps, which angles are kept, and what it costs before anything runs.

Exact losses are computed beside the measured ones, for the report only: no decision looks at them. Optimisers are
deterministic: given the same answers they ask the same questions. So an interrupted run is resumed from its start, and
is answered from the jobs on disk, without a circuit, until these end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.circuit.ansatz import angles_for_vector
from qiskit_qff.evaluators.backends import Settings, build_evaluator, find_device
from qiskit_qff.evaluators.ibm_account import opened
from qiskit_qff.evaluators.jobs import JobStore
from qiskit_qff.evaluators.protocol import Cost, Evaluator
from qiskit_qff.model.config import EstimatorConfig, ResolvedConfig, TrainConfig
from qiskit_qff.structures.frame import Frame
from qiskit_qff.training.measured.loss import LossSample, MeasuredLoss
from qiskit_qff.training.objective import (
    Objective,
    ParameterLayout,
    Restart,
    balanced_angles,
    balanced_vector,
    balancing_slopes,
    readout_vector,
    solve_weights,
    vector_slopes,
)
from qiskit_qff.training.statistics import Progress
from qiskit_qff.training.trainer import PreparedTraining, TrainingResult, fit, prepare

START_SPREAD = 0.5
"""Standard deviation of random initial angles in radians."""
LONGEST_TURN = 0.5
"""Most that a Gauss-Newton step turns the angles of a register, in radians, where its readout is not balanced."""
ADAM_RATE, ADAM_WARM_RATE = 0.05, 0.01
"""Default learning rates of Adam in radians a step, from random angles and from a start that is good already."""

Kept = Literal["last", "average", "start"]


def _nothing(*_: object) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Step:
    """One step of the optimiser."""

    loss: float
    """Measured loss."""
    std_error: float
    """Its standard error from shots."""
    exact_loss: float
    """Exact loss of the same angles with exactly solved weights; reported, never used."""
    circuits: int
    """Circuits up to here."""
    shots: int
    """Shots up to here."""


@dataclass(frozen=True)
class TrainingPlan:
    """Circuits, shots and processor time of a run."""

    step: Cost
    """One step."""
    total: Cost
    """The whole run."""
    n_steps: int
    """Most steps."""


@dataclass(frozen=True)
class BackendRun:
    """What a caller wants of training on a backend beyond its result."""

    jobs: Path | None = None
    """Directory that keeps jobs and results, so that an interrupted run can be resumed; None keeps none."""
    on_plan: Callable[[TrainingPlan], None] = _nothing
    """Told the cost before anything runs."""
    on_step: Callable[[int, Step], None] = _nothing
    """Told the number and result of every step."""


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
    """The angles that were kept; its loss was measured after they had been chosen."""
    kept: Kept
    """Which angles were kept: the last ones, an average over the last steps, or those of a given start."""
    plan: TrainingPlan
    """What it was expected to cost."""
    cost: Cost
    """What it did cost, in all sessions."""
    resumed: int = 0
    """Jobs whose results came from an earlier session."""
    noise_model: str = ""
    """Where the noise model of error mitigation came from; empty without one."""


def check_backend(config: TrainConfig) -> None:
    """Refuse, before any data is read, what could not run later."""
    asked = config.estimator
    build_evaluator(_settings(asked), [config.circuit.n_qubits], rng=np.random.default_rng(0))


def train_on_backend(
    frames: Sequence[Frame],
    config: ResolvedConfig,
    run: BackendRun,
    *,
    rng: np.random.Generator,
    progress: Progress,
) -> tuple[TrainingResult, MeasuredTraining]:
    """Train on losses that a backend measures."""
    solution_rng, start_rng, shot_rng = rng.spawn(3)
    prepared, start = prepare_start(frames, config, rng=solution_rng, progress=progress)
    asked, layout = config.estimator, prepared.objective.layout
    begin = start_rng.normal(0.0, START_SPREAD, layout.n_angles) if start is None else start
    with _opened(asked, layout, shot_rng, run.jobs) as evaluator:
        measured = train_measured(prepared.objective, evaluator, asked, begin, run=run, progress=progress)
    exact = np.array([measured.start.exact_loss, *(step.exact_loss for step in measured.steps)])
    return prepared.result([Restart(exact, measured.parameters)]), measured


def plan_backend_training(frames: Sequence[Frame], config: ResolvedConfig, *, progress: Progress) -> TrainingPlan:
    """What training on a backend would cost; nothing is measured."""
    asked = config.estimator
    # The computed solution takes long and does not change the cost.
    quick = asked.model_copy(update={"start": "scratch" if asked.start == "exact" else asked.start})
    rng = np.random.default_rng(0)
    prepared, _ = prepare_start(frames, config.model_copy(update={"estimator": quick}), rng=rng, progress=progress)
    with _opened(asked.model_copy(update={"mode": "job"}), prepared.objective.layout, rng, None) as evaluator:
        return _planned(MeasuredLoss(prepared.objective, evaluator, shots=asked.shots), asked)


def prepare_start(
    frames: Sequence[Frame], config: ResolvedConfig, *, rng: np.random.Generator, progress: Progress
) -> tuple[PreparedTraining, FloatArray | None]:
    """Data and initial angles: random ones, or the computed solution.

    Args:
        config: The configuration; ``estimator.start`` decides.

    Returns:
        The prepared data, and angles of shape ``(n_angles,)`` or None for random ones.
    """
    prepared = prepare(frames, config, progress=progress)
    if config.estimator.start == "scratch":
        return prepared, None
    solution = fit(prepared, rng=rng, progress=progress).restarts[0].parameters
    return prepared, solution[: prepared.objective.layout.n_angles]


def train_measured(
    objective: Objective,
    evaluator: Evaluator,
    asked: EstimatorConfig,
    start: FloatArray,
    *,
    run: BackendRun | None = None,
    progress: Progress = _nothing,
) -> MeasuredTraining:
    """Train circuit angles on measured losses.

    Args:
        evaluator: Measures all registers, side by side.
        start: Initial angles, shape ``(n_angles,)``.
        run: Callbacks; none by default.
    """
    run = run or BackendRun()
    loss = MeasuredLoss(objective, evaluator, shots=asked.shots)
    plan = _planned(loss, asked)
    run.on_plan(plan)

    def on_step(number: int, step: Step) -> None:
        run.on_step(number, step)
        progress(f"{asked.optimizer} steps", number, asked.steps)

    training = _Run(loss, on_step)
    began = training.step(start, training.value(start))
    last = _optimise(training, start, asked)
    kept, angles, sample = training.decide(last, start if asked.start != "scratch" else None)
    final = training.step(angles, sample.loss)
    jobs = getattr(evaluator, "jobs", None)
    resumed = 0 if jobs is None else jobs.kept
    origin, steps = getattr(evaluator, "noise_origin", ""), tuple(training.steps)
    return MeasuredTraining(sample.parameters, began, steps, final, kept, plan, training.spent, resumed, origin)


def measured_summary(measured: MeasuredTraining, config: TrainConfig) -> dict[str, Any]:
    """What ``metrics.json`` says of training on a backend."""
    everything = (measured.start, *measured.steps)
    return {
        **config.estimator.model_dump(mode="json"),
        "steps_done": len(measured.steps),
        "n_circuits": measured.cost.circuits,
        "n_shots": measured.cost.shots,
        "estimated_seconds": measured.cost.seconds,
        "circuits_per_step": measured.plan.step.circuits,
        "shots_per_step": measured.plan.step.shots,
        "seconds_per_step": measured.plan.step.seconds,
        "losses": [step.loss for step in everything],
        "loss_std_errors": [step.std_error for step in everything],
        "exact_losses": [step.exact_loss for step in everything],
        "final_loss": measured.final.loss,
        "final_exact_loss": measured.final.exact_loss,
        "kept": measured.kept,
        "resumed_measurements": measured.resumed,
        "noise_model": measured.noise_model,
    }


def _optimise(training: _Run, start: FloatArray, asked: EstimatorConfig) -> FloatArray:
    """Final angles: a few Gauss-Newton steps, because the derivatives of all M give the curvature too, or Adam."""
    if asked.optimizer == "gauss_newton":
        angles = start
        for _ in range(asked.steps):
            angles = training.improved(angles)
            training.after_step(angles, training.value(angles))
        return angles
    from qiskit_machine_learning.optimizers import ADAM

    optimizer = ADAM(
        maxiter=asked.steps,
        tol=0.0,
        lr=asked.learning_rate or (ADAM_RATE if asked.start == "scratch" else ADAM_WARM_RATE),
        callback=lambda _, angles, loss: training.after_step(np.array(angles), float(loss)),
    )
    return np.array(optimizer.minimize(training.value, start, jac=training.slopes).x)


class _Run:
    """The state of one run; what optimisers ask goes through it to the loss."""

    def __init__(self, loss: MeasuredLoss, on_step: Callable[[int, Step], None]) -> None:
        self._loss, self._objective, self._on_step = loss, loss.objective, on_step
        self._current: tuple[FloatArray, LossSample] | None = None
        self._path: list[FloatArray] = []
        self.steps: list[Step] = []
        self.spent = Cost()

    def value(self, angles: Any) -> float:
        """Loss for the optimiser."""
        return self._sample(angles).loss

    def slopes(self, angles: Any) -> FloatArray:
        """Gradient for the optimiser."""
        angles, sample, layout = np.asarray(angles, dtype=float), self._sample(angles), self._objective.layout
        assert sample.slopes is not None
        slopes = sample.slopes.copy()
        if layout.balanced:
            for spec, size, own in zip(layout.specs, layout.sizes, layout.angles, strict=True):
                slopes[own] = balancing_slopes(spec, angles[own], size).T @ slopes[own]
        return slopes

    def improved(self, angles: FloatArray) -> FloatArray:
        """Angles after a Gauss-Newton step.

        The step of a balanced register is long in angles where its weight w is small, though :math:`w u` moves little:
        there w u is what moves, and the angles follow from its new direction.
        """
        sample, layout = self._sample(angles), self._objective.layout
        assert sample.step is not None
        moved = sample.parameters[: layout.n_angles].copy()
        for s, own in enumerate(layout.angles):
            turn, spec = sample.step[own], layout.specs[s]
            if layout.balanced:
                weight, change = (float(part[layout.weights[s]][0]) for part in (sample.parameters, sample.step))
                vector, slopes = readout_vector(spec, moved[own]), vector_slopes(spec, moved[own])
                vector = np.sign(weight) * ((weight + change) * vector + weight * (slopes @ turn))
                moved[own] = angles_for_vector(spec, balanced_vector(vector, layout.sizes[s]))
            else:
                moved[own] += turn * min(1.0, LONGEST_TURN / max(float(np.linalg.norm(turn)), LONGEST_TURN))
        return moved

    def after_step(self, angles: FloatArray, loss: float) -> None:
        """Note a step of the optimiser."""
        self._path.append(angles)
        self.steps.append(self.step(angles, loss))
        self._on_step(len(self.steps), self.steps[-1])

    def step(self, angles: FloatArray, loss: float) -> Step:
        """A loss with what is reported beside it."""
        layout = self._objective.layout
        blank = np.concatenate([self._placed(angles), np.zeros(layout.n_parameters - layout.n_angles)])
        exact = self._objective.fit_loss(solve_weights(self._objective, blank))
        error = 0.0 if self._current is None else self._current[1].std_error
        return Step(loss, error, exact, self.spent.circuits, self.spent.shots)

    def decide(self, last: FloatArray, start: FloatArray | None) -> tuple[Kept, FloatArray, LossSample]:
        """The end of a run with the lowest loss, measured once more: the lowest of noisy losses is too low.

        Shot noise keeps optimisers moving about the minimum, so the average over the last half of the steps is one.
        """
        ends: dict[Kept, FloatArray] = {"last": last, "average": np.mean(self._path[len(self._path) // 2 :], axis=0)}
        if start is not None:
            ends["start"] = start
        losses = {name: self._measured(angles, slopes=False).loss for name, angles in ends.items()}
        kept = min(losses, key=lambda name: losses[name])
        return kept, ends[kept], self._measured(ends[kept], slopes=True)

    def _sample(self, angles: FloatArray) -> LossSample:
        """What the optimiser needs at some angles; measured once where it asks again."""
        angles = np.asarray(angles, dtype=float)
        if self._current is not None and np.array_equal(self._current[0], angles):
            return self._current[1]
        return self._measured(angles, slopes=True)

    def _measured(self, angles: FloatArray, *, slopes: bool) -> LossSample:
        sample = self._loss.sample(self._placed(angles), slopes=slopes)
        self.spent += self._loss.cost(slopes=slopes, first=not self.spent.circuits)
        self._current = angles.copy(), sample
        return sample

    def _placed(self, angles: FloatArray) -> FloatArray:
        """The angles that the circuit gets: of balanced readouts the balanced ones nearest to those asked for."""
        layout = self._objective.layout
        if not layout.balanced:
            return angles
        placed = zip(layout.specs, layout.sizes, layout.angles, strict=True)
        return np.concatenate([balanced_angles(spec, angles[own], size) for spec, size, own in placed])


def _planned(loss: MeasuredLoss, asked: EstimatorConfig) -> TrainingPlan:
    """Count what a run will measure: its start, its steps, and what decides at the end."""
    value, full = (loss.cost(slopes=slopes) for slopes in (False, True))
    n_ends = 2 if asked.start == "scratch" else 3
    total = loss.cost(slopes=True, first=True) + full * (asked.steps + 1) + value * n_ends
    return TrainingPlan(full, total, asked.steps)


def _settings(asked: EstimatorConfig) -> Settings:
    """Where and how losses are measured."""
    assert asked.backend is not None
    return Settings(asked.backend, asked.shots, asked.mitigation, options=asked.options)


@contextmanager
def _opened(
    asked: EstimatorConfig, layout: ParameterLayout, rng: np.random.Generator, directory: Path | None
) -> Iterator[Evaluator]:
    """What measures all registers, in one session of the device where that is asked for."""
    settings, sizes = _settings(asked), [spec.n_qubits for spec in layout.specs]
    begun = asked.model_dump(mode="json", exclude={"mode"})
    session = opened(find_device(settings.backend).backend, "session") if asked.mode == "session" else nullcontext()
    with session as mode, nullcontext() if directory is None else closing(JobStore(directory, begun)) as jobs:
        yield build_evaluator(settings, sizes, rng=rng, mode=mode, jobs=jobs)
