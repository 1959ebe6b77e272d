"""Training on a backend as the configuration describes it: evaluators, start, journal, and the cost before it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qiskit_qff.evaluators.backends import NOISELESS, build_evaluator, device_evaluator, find_device
from qiskit_qff.evaluators.ibm_account import opened_mode
from qiskit_qff.evaluators.mitigation import find_preset
from qiskit_qff.evaluators.protocol import Evaluator, TimingModel
from qiskit_qff.model.config import EstimatorConfig, TrainConfig
from qiskit_qff.structures.frame import Frame
from qiskit_qff.training.loss import Progress
from qiskit_qff.training.measured.optimizers import OptimizerSettings
from qiskit_qff.training.measured.plan import TrainingPlan
from qiskit_qff.training.measured.run import MeasuredSettings, MeasuredTraining, Step, planned, train_measured
from qiskit_qff.training.measured.start import check_start, prepare_start
from qiskit_qff.training.objective import ParameterLayout
from qiskit_qff.training.solver import Restart
from qiskit_qff.training.trainer import TrainingResult


def _nothing(*_: object) -> None:
    """Tell nobody."""


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


def check_backend(config: TrainConfig) -> None:
    """Refuse, before any data is read, what could not run later.

    Args:
        config: with a backend.

    Raises:
        BackendError: if the backend is unknown or can't be reached.
        ConfigError: if it can't do what is asked, or the start is unknown.
    """
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
    check_start(config)


def train_on_backend(
    frames: Sequence[Frame],
    config: TrainConfig,
    run: BackendRun,
    *,
    rng: np.random.Generator,
    progress: Progress,
) -> tuple[TrainingResult, MeasuredTraining]:
    """Train on losses that a backend measures.

    Args:
        frames: Training frames.
        config: With a backend.
        run: Journal and callbacks.
        rng: Source of every random choice.
        progress: Called while the data is prepared, and after every step.

    Raises:
        QFFError: From any step; what was measured stays in the journal.
    """
    solution_rng, start_rng, shot_rng = rng.spawn(3)
    prepared, start = prepare_start(frames, config, rng=solution_rng, progress=progress)
    asked = config.estimator
    settings = _settings(config, run.journal, resume=run.resume, seed=int(start_rng.integers(2**31)))

    def on_step(number: int, step: Step) -> None:
        run.on_step(number, step)
        progress(f"{asked.optimizer} steps", number, asked.steps)

    with _opened(asked, prepared.objective.layout, shot_rng) as evaluators:
        measured = train_measured(
            prepared.objective,
            evaluators,
            settings,
            start=start,
            rng=start_rng,
            shot_rng=shot_rng,
            on_plan=run.on_plan,
            on_step=on_step,
        )
    exact = np.array([measured.start.exact_loss, *(step.exact_loss for step in measured.steps)])
    return prepared.result([Restart(exact, measured.parameters)]), measured


def plan_backend_training(frames: Sequence[Frame], config: TrainConfig, *, progress: Progress) -> TrainingPlan:
    """What training on a backend would cost; nothing is measured.

    Args:
        frames: Training frames.
        config: With a backend.
        progress: Called while the data is prepared.

    Raises:
        QFFError: If the data can't be trained on.
    """
    begin = config.estimator.start
    # The computed solution takes long and does not change the cost.
    quick = config.estimator.model_copy(update={"start": "scratch" if begin == "exact" else begin})
    prepared, _ = prepare_start(
        frames,
        config.model_copy(update={"estimator": quick}),
        rng=np.random.default_rng(0),
        progress=progress,
    )
    settings = _settings(config, None, resume=False, seed=0)
    return planned(prepared.objective, {}, settings, warm=begin != "scratch")


def measured_summary(measured: MeasuredTraining, config: TrainConfig) -> dict[str, Any]:
    """What ``metrics.json`` says of training on a backend.

    Args:
        measured: the training.
        config: its configuration.
    """
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


def _settings(config: TrainConfig, journal: Path | None, *, resume: bool, seed: int) -> MeasuredSettings:
    """The configuration in the words of the trainer."""
    asked = config.estimator
    return MeasuredSettings(
        optimizer=OptimizerSettings(
            name=asked.optimizer, steps=asked.steps, learning_rate=asked.learning_rate, seed=seed
        ),
        shots=asked.shots,
        candidates=asked.candidates,
        journal=journal,
        resume=resume,
        timing=TimingModel(mitigation_factor=find_preset(asked.mitigation).time_factor),
        labels={
            "backend": str(asked.backend),
            "mitigation": asked.mitigation,
            "dynamical_decoupling": str(asked.dynamical_decoupling),
            "start": asked.start,
        },
    )


@contextmanager
def _opened(
    asked: EstimatorConfig, layout: ParameterLayout, rng: np.random.Generator
) -> Iterator[dict[int, Evaluator]]:
    """Evaluators by number of qubits, in one session of the device where that is asked for.

    Raises:
        BackendError: if the device can't be reached.
    """
    assert asked.backend is not None
    sizes = sorted({spec.n_qubits for spec in layout.specs})
    if asked.backend in NOISELESS:
        yield {size: build_evaluator(asked.backend, n_qubits=size, shots=asked.shots, rng=rng) for size in sizes}
        return
    devices = {size: find_device(asked.backend, n_qubits=size) for size in sizes}
    first = devices[sizes[0]]
    with opened_mode(first.backend, "job" if first.is_local else asked.mode) as mode:
        yield {
            size: device_evaluator(
                device,
                shots=asked.shots,
                preset=find_preset(asked.mitigation),
                dynamical_decoupling=asked.dynamical_decoupling,
                mode=mode,
                rng=rng,
            )
            for size, device in devices.items()
        }
