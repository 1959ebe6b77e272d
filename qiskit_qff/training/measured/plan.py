"""What training on a backend will cost, counted before anything runs."""

from __future__ import annotations

from dataclasses import dataclass

from qiskit_qff.evaluators.primitive import JobLimits
from qiskit_qff.evaluators.protocol import Cost, TimingModel
from qiskit_qff.training.measured.loss import MeasuredLoss
from qiskit_qff.training.measured.optimizers import SPSA_CALIBRATION, OptimizerSettings

FINAL_SHOTS = 4
"""The losses that decide at the end which angles are kept get so many times the shots."""
_AVERAGED_PART = 4
"""One in so many steps, the last ones, is averaged over."""
_SHOT_LEVELS = 6
"""Jobs of one gradient, typically: states with different numbers of shots cannot share one."""


@dataclass(frozen=True)
class TrainingPlan:
    """Circuits, shots and processor time of a run."""

    step: Cost
    """One step; for L-BFGS-B one point of its line search, of which a step mostly takes one."""
    before: Cost
    """Everything before the first step."""
    after: Cost
    """The losses at the end."""
    n_steps: int
    """Most steps."""

    @property
    def total(self) -> Cost:
        """The whole run."""
        step = self.step
        steps = Cost(step.circuits * self.n_steps, step.shots * self.n_steps, step.seconds * self.n_steps)
        return self.before + steps + self.after


def plan_training(
    loss: MeasuredLoss, settings: OptimizerSettings, *, candidates: int, warm: bool, timing: TimingModel
) -> TrainingPlan:
    """Count what a run will measure.

    Args:
        loss: What measures.
        settings: The optimiser.
        candidates: Losses that are compared to find the start.
        warm: Whether the start is given; it is then compared with where the run ends.
        timing: For the estimate of processor time.
    """
    value = _cost(loss.loss_circuits, loss.shots, timing, jobs=1)
    slopes = _cost(loss.slope_circuits, loss.slope_shots, timing, jobs=_SHOT_LEVELS)
    final = _cost(loss.loss_circuits, None if loss.shots is None else FINAL_SHOTS * loss.shots, timing, jobs=1)
    before = _times(value, candidates + 1)
    after = _times(final, 1 + int(averaged_steps(settings) > 1) + int(warm))
    if settings.name == "spsa":
        calibration = 0 if settings.learning_rate is not None else SPSA_CALIBRATION
        return TrainingPlan(_times(value, 2), before + _times(value, calibration), after, settings.steps)
    if settings.name == "l_bfgs_b":
        before += slopes
    return TrainingPlan(value + slopes, before, after, settings.steps)


def averaged_steps(settings: OptimizerSettings) -> int:
    """Number of last steps whose angles are averaged: shot noise keeps Adam and SPSA moving about the minimum.

    Args:
        settings: The optimiser.
    """
    return 1 if settings.name == "l_bfgs_b" else max(1, settings.steps // _AVERAGED_PART)


def _times(cost: Cost, count: int) -> Cost:
    """So many of them."""
    return Cost(cost.circuits * count, cost.shots * count, cost.seconds * count)


def _cost(circuits: int, shots: int | None, timing: TimingModel, *, jobs: int) -> Cost:
    """One measurement of so many circuits in at least so many jobs."""
    if shots is None:
        return Cost(circuits)
    jobs = max(jobs, -(-circuits // JobLimits().sets_per_job(shots)))
    return Cost(circuits, circuits * shots, timing.seconds(shots=circuits * shots, jobs=jobs))
