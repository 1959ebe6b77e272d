"""Training on a backend: start, steps, which angles are kept, and what it costs before anything runs.

Exact losses are computed beside the measured ones, for the report only: no decision looks at them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.circuit.ansatz import angles_for_vector
from qiskit_qff.errors import ConfigError
from qiskit_qff.evaluators.backends import NOISELESS, build_evaluator, find_device
from qiskit_qff.evaluators.ibm_account import opened_mode
from qiskit_qff.evaluators.mitigation import find_preset
from qiskit_qff.evaluators.protocol import Cost, Evaluator, TimingModel
from qiskit_qff.evaluators.tiling import TiledEvaluator
from qiskit_qff.model.config import START_WORDS, EstimatorConfig, TrainConfig
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.structures.frame import Frame
from qiskit_qff.training.balance import (
    balanced_angles,
    balanced_vector,
    balancing_slopes,
    readout_vector,
    vector_slopes,
)
from qiskit_qff.training.loss import Progress
from qiskit_qff.training.measured.journal import MeasuredAnswers
from qiskit_qff.training.measured.loss import LossSample, MeasuredLoss
from qiskit_qff.training.measured.optimizers import SPSA_CALIBRATION, optimise
from qiskit_qff.training.objective import Objective, ParameterLayout, Restart, solve_weights
from qiskit_qff.training.trainer import PreparedTraining, TrainingResult, fit, prepare, prepare_from_model

START_SPREAD = 0.5
"""Standard deviation of random initial angles in radians."""
LONGEST_TURN = 0.5
"""Most that a Gauss-Newton step turns the angles of a register, in radians, where its readout is not balanced."""
AVERAGED_PART = {"gauss_newton": 2, "adam": 4, "spsa": 4}
"""One in so many steps, the last ones, is averaged over: shot noise keeps these optimisers moving about the minimum."""

Kept = Literal["last", "average", "start"]


def _nothing(*_: object) -> None:
    """Tell nobody."""


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


@dataclass(frozen=True)
class TrainingPlan:
    """Circuits, shots and processor time of a run."""

    step: Cost
    """One step; for L-BFGS-B one point of its line search, of which a step mostly takes one."""
    before: Cost
    """Everything before the first step."""
    after: Cost
    """What decides at the end which angles are kept, and says how good they are."""
    n_steps: int
    """Most steps."""

    @property
    def total(self) -> Cost:
        """The whole run."""
        return self.before + self.step * self.n_steps + self.after


@dataclass(frozen=True)
class Machine:
    """What measures the registers of a run."""

    evaluators: Mapping[int, Evaluator]
    """By number of qubits."""
    n_circuits: Mapping[int, int] = field(default_factory=dict)
    """Circuits that all registers of a number of qubits fill side by side; one by default."""
    timing: TimingModel = field(default_factory=TimingModel)
    """For estimates of processor time."""

    def loss(self, objective: Objective, asked: EstimatorConfig) -> MeasuredLoss:
        """The loss with the shots of a configuration."""
        return MeasuredLoss(objective, self.evaluators, shots=asked.shots, timing=self.timing)


@dataclass(frozen=True)
class BackendRun:
    """What a caller wants of training on a backend beyond its result."""

    journal: Path | None = None
    """File that keeps every measurement, so that an interrupted run can be resumed; None keeps none."""
    resume: bool = False
    """Whether to go on with that file."""
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
    resumed: int
    """Measurements that came from an earlier session."""


def check_backend(config: TrainConfig) -> None:
    """Refuse, before any data is read, what could not run later."""
    asked = config.estimator
    assert asked.backend is not None
    build_evaluator(
        asked.backend,
        n_qubits=config.circuit.n_qubits,
        shots=asked.shots,
        mitigation=asked.mitigation,
        dynamical_decoupling=asked.dynamical_decoupling,
        rng=np.random.default_rng(0),
    )
    if asked.start not in START_WORDS and not Path(asked.start).is_file():
        raise ConfigError(f"estimator.start is '{asked.start}'; give scratch, exact, or the path of a model file.")


def train_on_backend(
    frames: Sequence[Frame],
    config: TrainConfig,
    run: BackendRun,
    *,
    rng: np.random.Generator,
    progress: Progress,
) -> tuple[TrainingResult, MeasuredTraining]:
    """Train on losses that a backend measures."""
    solution_rng, start_rng, shot_rng = rng.spawn(3)
    prepared, start = prepare_start(frames, config, rng=solution_rng, progress=progress)
    with _opened(config.estimator, prepared.objective.layout, shot_rng) as machine:
        measured = train_measured(
            prepared.objective,
            machine,
            config.estimator,
            start=start,
            run=run,
            rng=start_rng,
            shot_rng=shot_rng,
            progress=progress,
        )
    exact = np.array([measured.start.exact_loss, *(step.exact_loss for step in measured.steps)])
    return prepared.result([Restart(exact, measured.parameters)]), measured


def plan_backend_training(frames: Sequence[Frame], config: TrainConfig, *, progress: Progress) -> TrainingPlan:
    """What training on a backend would cost; nothing is measured."""
    asked = config.estimator
    # The computed solution takes long and does not change the cost.
    quick = asked.model_copy(update={"start": "scratch" if asked.start == "exact" else asked.start})
    rng = np.random.default_rng(0)
    prepared, _ = prepare_start(frames, config.model_copy(update={"estimator": quick}), rng=rng, progress=progress)
    with _opened(asked.model_copy(update={"mode": "job"}), prepared.objective.layout, rng) as machine:
        return _planned(machine.loss(prepared.objective, asked), asked, machine)


def prepare_start(
    frames: Sequence[Frame], config: TrainConfig, *, rng: np.random.Generator, progress: Progress
) -> tuple[PreparedTraining, FloatArray | None]:
    """Data and initial angles: random ones, the computed solution, or those of an existing model.

    Args:
        config: The configuration; ``estimator.start`` decides.

    Returns:
        The prepared data, and angles of shape ``(n_angles,)`` or None for random ones.
    """
    start = config.estimator.start
    if start not in START_WORDS:
        field = ForceField.load(start)
        prepared, parameters = prepare_from_model(frames, config, field, progress=progress, same_repulsion=True)
        return prepared, parameters[: prepared.objective.layout.n_angles]
    prepared = prepare(frames, config, progress=progress)
    if start == "scratch":
        return prepared, None
    solution = fit(prepared, rng=rng, progress=progress).restarts[0].parameters
    return prepared, solution[: prepared.objective.layout.n_angles]


def train_measured(
    objective: Objective,
    machine: Machine,
    asked: EstimatorConfig,
    *,
    start: FloatArray | None,
    run: BackendRun | None = None,
    rng: np.random.Generator,
    shot_rng: np.random.Generator,
    progress: Progress = _nothing,
) -> MeasuredTraining:
    """Train circuit angles on measured losses.

    Args:
        start: Initial angles, shape ``(n_angles,)``; None for random ones.
        run: Journal and callbacks; neither by default.
    """
    run = run or BackendRun()
    seed = int(rng.integers(2**31))
    loss, warm = machine.loss(objective, asked), start is not None
    begin = rng.normal(0.0, START_SPREAD, objective.layout.n_angles) if start is None else start
    plan = _planned(loss, asked, machine)

    def on_step(number: int, step: Step) -> None:
        run.on_step(number, step)
        progress(f"{asked.optimizer} steps", number, asked.steps)

    begun = _beginning(objective, asked, begin, seed)
    answers = MeasuredAnswers(loss, begun, rng=shot_rng, path=run.journal, steps=asked.steps, resume=run.resume)
    with closing(answers):
        run.on_plan(plan)
        training = _Run(objective, answers, asked, on_step)
        began = training.step(answers.start, training.value(answers.start))
        last = optimise(training, answers.start, asked, warm=warm, seed=seed, on_step=training.after_step)
        kept, angles, sample = training.decide(last, warm=warm)
        final = training.step(angles, sample.loss)
    steps = tuple(training.steps)
    return MeasuredTraining(sample.parameters, began, steps, final, kept, plan, answers.spent, answers.resumed)


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
    }


class _Run:
    """The state of one run; what optimisers ask goes through it to the journal."""

    def __init__(
        self,
        objective: Objective,
        answers: MeasuredAnswers,
        asked: EstimatorConfig,
        on_step: Callable[[int, Step], None],
    ) -> None:
        self._objective, self._answers, self._asked, self._on_step = objective, answers, asked, on_step
        self._current: tuple[FloatArray, LossSample] | None = None
        self._path: list[FloatArray] = []
        self.steps: list[Step] = []

    def value(self, angles: FloatArray) -> float:
        """Loss for the optimiser."""
        return self._sample(angles).loss

    def slopes(self, angles: FloatArray) -> FloatArray:
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
        return Step(loss, error, exact, self._answers.spent.circuits, self._answers.spent.shots)

    def decide(self, last: FloatArray, *, warm: bool) -> tuple[Kept, FloatArray, LossSample]:
        """The end of a run with the lowest loss, measured once more: the lowest of noisy losses is too low."""
        ends: dict[Kept, FloatArray] = {"last": last}
        if (window := _averaged_steps(self._asked)) > 1:
            ends["average"] = np.mean(self._path[-window:], axis=0)
        if warm:
            ends["start"] = self._answers.start
        kept: Kept = "last"
        if len(ends) > 1:
            losses = {name: self._measured(angles, slopes=False, at_end=True).loss for name, angles in ends.items()}
            kept = min(losses, key=lambda name: losses[name])
        return kept, ends[kept], self._measured(ends[kept], slopes=True, at_end=True)

    def _sample(self, angles: FloatArray) -> LossSample:
        """What the optimiser needs at some angles; measured once where it asks again."""
        angles = np.asarray(angles, dtype=float)
        if self._current is not None and np.array_equal(self._current[0], angles):
            return self._current[1]
        return self._measured(angles, slopes=self._asked.optimizer != "spsa")

    def _measured(self, angles: FloatArray, *, slopes: bool, at_end: bool = False) -> LossSample:
        sample = self._answers.sample(self._placed(angles), slopes=slopes, at_end=at_end)
        self._current = angles.copy(), sample
        return sample

    def _placed(self, angles: FloatArray) -> FloatArray:
        """The angles that the circuit gets: of balanced readouts the balanced ones nearest to those asked for."""
        layout = self._objective.layout
        if not layout.balanced:
            return angles
        placed = zip(layout.specs, layout.sizes, layout.angles, strict=True)
        return np.concatenate([balanced_angles(spec, angles[own], size) for spec, size, own in placed])


def _planned(loss: MeasuredLoss, asked: EstimatorConfig, machine: Machine) -> TrainingPlan:
    """Count what a run will measure."""
    value, full = (loss.cost(slopes=slopes, n_circuits=machine.n_circuits) for slopes in (False, True))
    n_ends = 1 + (_averaged_steps(asked) > 1) + (asked.start != "scratch")
    after = full + value * (n_ends if n_ends > 1 else 0)
    if asked.optimizer == "spsa":
        calibration = 0 if asked.learning_rate is not None else SPSA_CALIBRATION
        return TrainingPlan(value * 2, value * (1 + calibration), after, asked.steps)
    return TrainingPlan(full, full, after, asked.steps)


def _averaged_steps(asked: EstimatorConfig) -> int:
    """Number of last steps whose angles are averaged."""
    part = AVERAGED_PART.get(asked.optimizer)
    return 1 if part is None else max(1, asked.steps // part)


def _beginning(objective: Objective, asked: EstimatorConfig, start: FloatArray, seed: int) -> dict[str, Any]:
    """What another session must share to go on with the journal, and where it begins."""
    equations, layout = objective.statistics.equations, objective.layout
    settings = asked.model_dump(mode="json", exclude={"steps", "mode"})
    settings |= {"seed": seed, "circuits": sorted(set(map(str, layout.specs)))}
    sums = [float(np.trace(equations.gram)), float(np.abs(equations.moment).sum()), equations.constant]
    return {"settings": settings, "data": sums, "start": start.tolist()}


@contextmanager
def _opened(asked: EstimatorConfig, layout: ParameterLayout, rng: np.random.Generator) -> Iterator[Machine]:
    """What measures all registers, in one session of the device where that is asked for."""
    assert asked.backend is not None
    counts, timing = Counter(spec.n_qubits for spec in layout.specs), TimingModel()
    mode: AbstractContextManager[Any] = nullcontext()
    if asked.backend not in NOISELESS:
        device = find_device(asked.backend, n_qubits=min(counts))
        mode = opened_mode(device.backend, "job" if device.is_local else asked.mode)
        timing = device.timing(find_preset(asked.mitigation))
    with mode as opened:
        evaluators = {
            size: build_evaluator(
                asked.backend,
                n_qubits=size,
                n_registers=count,
                shots=asked.shots,
                mitigation=asked.mitigation,
                dynamical_decoupling=asked.dynamical_decoupling,
                mode=opened,
                rng=rng,
            )
            for size, count in counts.items()
        }
        rounds = {
            size: 1 + max(place.round for place in one.places)
            for size, one in evaluators.items()
            if isinstance(one, TiledEvaluator)
        }
        yield Machine(evaluators, rounds, timing)
