"""Training on a backend, as ``qff train`` runs it: cost first, every step told, every measurement kept."""

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qiskit_qff.cli.output import Output
from qiskit_qff.errors import ConfigError
from qiskit_qff.evaluators.backends import NOISELESS, build_evaluator, device_evaluator, find_device
from qiskit_qff.evaluators.ibm_account import opened_mode
from qiskit_qff.evaluators.mitigation import find_preset
from qiskit_qff.evaluators.protocol import Cost
from qiskit_qff.evaluators.timing import TimingModel
from qiskit_qff.training.measured.optimizers import OptimizerSettings
from qiskit_qff.training.measured.plan import TrainingPlan
from qiskit_qff.training.measured.run import MeasuredSettings, MeasuredTraining, Step, planned, train_measured
from qiskit_qff.training.measured.start import check_start, prepare_start
from qiskit_qff.training.solver import Restart
from qiskit_qff.training.trainer import TrainingResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qiskit_qff.evaluators.protocol import Evaluator
    from qiskit_qff.model.config import EstimatorConfig, TrainConfig
    from qiskit_qff.structures.frame import Frame
    from qiskit_qff.training.design import Progress
    from qiskit_qff.training.objective import ParameterLayout

JOURNAL = "journal.json"


def check_backend(config: "TrainConfig") -> None:
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


def check_journal(out: Path, *, resume: bool, force: bool) -> None:
    """Keep what was measured from being overwritten.

    Args:
        out: directory of the run.
        resume: whether to go on with what is there.
        force: whether to begin anew.

    Raises:
        ConfigError: if there is a journal and neither was asked for, or none to resume.
    """
    journal = out / JOURNAL
    if resume and not journal.is_file():
        raise ConfigError(f"--resume: {journal} does not exist; leave --resume out to begin.")
    if journal.exists() and not (resume or force):
        raise ConfigError(
            f"--out {out}: holds {JOURNAL}, the measurements of an earlier run. Add --resume to go on with it, "
            "--force to begin anew, or choose another directory."
        )


def train_on_backend(
    frames: "Sequence[Frame]",
    config: "TrainConfig",
    *,
    out: Path,
    resume: bool,
    rng: np.random.Generator,
    progress: "Progress",
    output: Output,
) -> tuple[TrainingResult, MeasuredTraining]:
    """Train on losses that a backend measures.

    Args:
        frames: training frames.
        config: with a backend.
        out: directory that keeps the journal; must exist.
        resume: go on with the journal in it.
        rng: source of every random choice.
        progress: called while the data is prepared, and after every step.
        output: told the cost before, and every step.

    Raises:
        QFFError: from any step; what was measured stays in the journal.
    """
    solution_rng, start_rng, shot_rng = rng.spawn(3)
    prepared, start = prepare_start(frames, config, rng=solution_rng, progress=progress)
    asked = config.estimator
    settings = _settings(config, out / JOURNAL, resume=resume, seed=int(start_rng.integers(2**31)))

    def on_step(number: int, step: Step) -> None:
        _tell_step(number, step, output)
        progress(f"{asked.optimizer} steps", number, asked.steps)

    with _opened(asked, prepared.objective.layout, shot_rng) as evaluators:
        measured = train_measured(
            prepared.objective,
            evaluators,
            settings,
            start=start,
            rng=start_rng,
            shot_rng=shot_rng,
            on_plan=lambda plan: _tell_plan(plan, asked, output),
            on_step=on_step,
        )
    exact = np.array([measured.start.exact_loss, *(step.exact_loss for step in measured.steps)])
    return prepared.result([Restart(exact, measured.parameters)]), measured


def measured_summary(measured: MeasuredTraining, config: "TrainConfig") -> dict[str, Any]:
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


def tell_measured(measured: MeasuredTraining, output: Output) -> None:
    """Say where training on a backend began and ended, and what it cost.

    Args:
        measured: the training.
        output: where to say it.
    """
    output.say(
        f"loss on the backend: {measured.start.loss:.4g} at the start, {measured.final.loss:.4g} "
        f"± {measured.final.std_error:.2g} after {len(measured.steps)} steps (exact: {measured.start.exact_loss:.4g}, "
        f"{measured.final.exact_loss:.4g}); {_words(measured.cost)}"
    )


def tell_cost(frames: "Sequence[Frame]", config: "TrainConfig", *, progress: "Progress", output: Output) -> None:
    """Say what training on a backend would cost; nothing is measured.

    Args:
        frames: training frames.
        config: with a backend.
        progress: called while the data is prepared.
        output: where to say it.

    Raises:
        QFFError: if the data can't be trained on.
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
    _tell_plan(planned(prepared.objective, {}, settings, warm=begin != "scratch"), config.estimator, output)


def _settings(config: "TrainConfig", journal: Path | None, *, resume: bool, seed: int) -> MeasuredSettings:
    """The configuration in the words of the trainer."""
    asked = config.estimator
    return MeasuredSettings(
        optimizer=OptimizerSettings(
            name=asked.optimizer, steps=asked.steps, learning_rate=asked.learning_rate, seed=seed
        ),
        shots=asked.shots,
        slope_shots=asked.slope_shots,
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
    asked: "EstimatorConfig", layout: "ParameterLayout", rng: np.random.Generator
) -> "Iterator[dict[int, Evaluator]]":
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


def _tell_plan(plan: TrainingPlan, asked: "EstimatorConfig", output: Output) -> None:
    """Say what a step and the run will cost, before anything runs."""
    step = {"spsa": "two losses", "l_bfgs_b": "a loss and a gradient, more where its line search goes on"}
    each = step.get(asked.optimizer, "a loss and a gradient")
    output.say(f"{asked.backend}, {asked.optimizer}, mitigation {asked.mitigation}; a step is {each}")
    output.say(f"one step: {_words(plan.step)}")
    output.say(f"start, {plan.n_steps} steps and end: {_words(plan.total)}")


def _tell_step(number: int, step: Step, output: Output) -> None:
    output.note(
        f"step {number}: loss {step.loss:.4g} ± {step.std_error:.1g} (exact {step.exact_loss:.4g}), "
        f"{step.circuits} circuits so far"
    )


def _words(cost: Cost) -> str:
    """A cost in words."""
    if not cost.shots:
        return f"{cost.circuits:,} circuits, exact values"
    return f"{cost.circuits:,} circuits, {cost.shots:,} shots, about {cost.seconds:,.0f} s on a processor"
