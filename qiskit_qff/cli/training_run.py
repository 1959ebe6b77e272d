"""What ``qff train`` and ``qff demo`` share: the configuration of a run, and what they show and write of it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ase.data import chemical_symbols

from qiskit_qff import __version__
from qiskit_qff.cli.evaluate import metrics_table
from qiskit_qff.cli.info import print_ledger
from qiskit_qff.cli.output import Output, plain
from qiskit_qff.durable import write_atomically
from qiskit_qff.errors import ConfigError
from qiskit_qff.evaluators.protocol import Cost
from qiskit_qff.model.config import (
    EstimatorConfig,
    TrainConfig,
    commented_yaml,
    load_config,
    parse_config,
    with_absolute_paths,
)
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.ledger import parameter_count
from qiskit_qff.report.record import CONFIG, METRICS, MODEL, RECORD, Example, Record, environment
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.reading import is_shipped
from qiskit_qff.structures.validation import formula
from qiskit_qff.training.measured.run import (
    BackendRun,
    MeasuredTraining,
    Step,
    TrainingPlan,
    measured_summary,
    plan_backend_training,
)
from qiskit_qff.training.pipeline import TrainedModel, TrainingData

JOURNAL = "journal.jsonl"
STATEVECTOR_NOISE = (
    "statevector adds normal noise of the precision that the shots stand for, up to 2.4 times what such shots would "
    "give; aer and exact draw shots"
)


def check_journal(out: Path, *, resume: bool, force: bool) -> None:
    """Keep what was measured from being overwritten."""
    journal = out / JOURNAL
    if resume and not journal.is_file():
        raise ConfigError(f"--resume: {journal} does not exist; leave --resume out to begin.")
    if journal.exists() and not (resume or force):
        raise ConfigError(
            f"--out {out}: holds {JOURNAL}, the measurements of an earlier run. Add --resume to go on with it, "
            "--force to begin anew, or choose another directory."
        )


def tell_measured(measured: MeasuredTraining, output: Output) -> None:
    """Say where training on a backend began and ended, and what it cost."""
    output.say(
        f"loss on the backend: {measured.start.loss:.4g} at the start, {measured.final.loss:.4g} "
        f"± {measured.final.std_error:.2g} after {len(measured.steps)} steps (exact: {measured.start.exact_loss:.4g}, "
        f"{measured.final.exact_loss:.4g}); {_words(measured.cost)}"
    )


def tell_plan(plan: TrainingPlan, asked: EstimatorConfig, output: Output) -> None:
    """Say what a step and the run will cost, before anything runs."""
    step = {"spsa": "two losses", "l_bfgs_b": "a loss and a gradient, more where its line search goes on"}
    each = step.get(asked.optimizer, "a loss and a gradient")
    output.say(f"{asked.backend}, {asked.optimizer}, mitigation {asked.mitigation}; a step is {each}")
    if asked.backend == "statevector" and asked.shots is not None:
        output.say(STATEVECTOR_NOISE)
    output.say(f"one step: {_words(plan.step)}")
    output.say(f"start, {plan.n_steps} steps and end: {_words(plan.total)}")


def tell_step(number: int, step: Step, output: Output) -> None:
    """Say what a step of the optimiser found."""
    output.note(
        f"step {number}: loss {step.loss:.4g} ± {step.std_error:.1g} (exact {step.exact_loss:.4g}), "
        f"{step.circuits} circuits so far"
    )


def _words(cost: Cost) -> str:
    """A cost in words."""
    if not cost.shots:
        return f"{cost.circuits:,} circuits, exact values"
    return f"{cost.circuits:,} circuits, {cost.shots:,} shots, about {cost.seconds:,.0f} s on a processor"


CONFIG_SUFFIXES = {".yaml", ".yml"}

SETTINGS = {
    "split": "data.split",
    "test_fraction": "data.test_fraction",
    "group": "data.group",
    "framework": "data.framework",
    "cutoff": "descriptor.r_cut",
    "stress_scale": "loss.stress_scale_mev_per_ang3",
    "max_parameters": "max_parameters",
    "seed": "seed",
    "restarts": "optimizer.restarts",
    "backend": "estimator.backend",
    "shots": "estimator.shots",
    "optimizer": "estimator.optimizer",
    "steps": "estimator.steps",
    "start": "estimator.start",
    "mitigation": "estimator.mitigation",
    "mode": "estimator.mode",
}
"""Settings that parameters of commands give, by the name of the parameter."""


def option_of(parameter: str) -> str:
    """How the option of a command's parameter is spelt."""
    return "--r-cut" if parameter == "cutoff" else f"--{parameter.replace('_', '-')}"


def configuration(source: Path, parameters: Mapping[str, Any]) -> TrainConfig:
    """The configuration of a run.

    Args:
        parameters: Of the command, by name; those of :data:`SETTINGS` that are not None are applied.
    """
    if source.suffix.lower() in CONFIG_SUFFIXES:
        base = load_config(source)
    elif is_shipped(source) or source.exists():
        config = TrainConfig()
        named = config.model_copy(update={"data": config.data.model_copy(update={"path": str(source)})})
        base = with_absolute_paths(named, Path())
    else:
        raise ConfigError(f"{source}: there is no such file. Give a data file, or a configuration ending in .yaml.")
    settings, options = base.model_dump(mode="json"), {}
    for parameter, name in SETTINGS.items():
        if (value := parameters.get(parameter)) is not None:
            section, _, key = name.rpartition(".")
            (settings[section] if section else settings)[key] = value
            options[name] = option_of(parameter)
    return parse_config(settings, where=str(source), options=options)


REPORT, FIGURES = "report.html", "figures"
OWN_FILES = (MODEL, METRICS, CONFIG, RECORD, FIGURES, REPORT)
KEPT_FILES = (JOURNAL,)
"""Files of training on a backend that results are written beside."""


def show_plan(data: TrainingData, output: Output) -> None:
    """Show the settings of a run, the reasons for those that the data decided, and what a backend would cost."""
    config = data.config
    output.say(config_text(config))
    settings = config.model_dump(mode="json")
    for name, reason in data.reasons.items():
        section, _, key = name.partition(".")
        output.say(f"{name} = {settings[section][key]}: {reason}")
    output.say(f"frames: {len(data.split.train)} to train on, {len(data.split.test)} held out")
    tell_data(data, output)
    if config.estimator.backend is None:
        return
    with output.progress("preparing") as advance:
        plan = plan_backend_training(data.training, config, progress=advance)
    tell_plan(plan, config.estimator, output)


def check_replaced(out: Path, config: "TrainConfig", *, force: bool) -> None:
    """Keep the model of other data from being replaced.

    Args:
        force: replace it all the same.
    """
    if force or not (out / MODEL).is_file():
        return
    earlier = ForceField.load(out / MODEL)
    trained_on = earlier.metadata.get("config", {}).get("data", {}).get("path")
    if trained_on != config.data.path:
        elements = " ".join(chemical_symbols[number] for number in earlier.species)
        raise ConfigError(
            f"--out {out}: holds a model of {elements}, trained on {trained_on or 'frames given in Python'}. Choose "
            "another directory, or add --force to replace it."
        )


def write_commented_config(path: Path, data: TrainingData, output: Output, *, force: bool) -> None:
    """Write the settings of a run as YAML with a comment at every key."""
    if path.suffix.lower() not in CONFIG_SUFFIXES or path.is_dir():
        raise ConfigError(f"--write-config {path}: name a file that ends in .yaml.")
    if path.exists() and not force:
        raise ConfigError(f"--write-config {path}: exists. Choose another name, or add --force to replace it.")
    if not path.parent.is_dir():
        raise ConfigError(f"--write-config {path}: {path.parent} is no directory; make it first.")
    heading = (
        f"Training configuration of qiskit_qff {__version__} for {len(data.frames)} frames of "
        f"{formula(data.frames[0].numbers)}{', ...' if len(data.frames) > 1 else ''}.\n\n"
        f"Train with   qff train {path.name} --out run\n\n"
        "Relative paths start at the directory of this file. Lines may be removed: what is missing has its default."
    )
    write_atomically(path, commented_yaml(data.config, heading=heading, notes=data.reasons))
    output.say(f"written: {path}; next: qff train {path} --out run")
    output.finish({"config": path, "settings": data.config.model_dump(mode="json"), "reasons": data.reasons})


def told_backend_run(out: Path, config: "TrainConfig", output: Output, *, resume: bool) -> BackendRun:
    """Training on a backend that keeps its measurements in a directory and says its cost and every step."""
    return BackendRun(
        journal=out / JOURNAL,
        resume=resume,
        on_plan=lambda plan: tell_plan(plan, config.estimator, output),
        on_step=lambda number, step: tell_step(number, step, output),
    )


def tell_data(data: TrainingData, output: Output) -> None:
    """Remark on frames that were left out and on stresses that are, or could be, fitted."""
    if data.n_broken:
        output.note(f"left out for broken frameworks: {data.n_broken} of {data.n_broken + len(data.frames)} frames")
    frames, count = data.training, count_stresses(data.training)
    if data.config.loss.stress_scale_mev_per_ang3 is not None:
        output.note(f"stresses fitted: of {count} of {len(frames)} training frames")
    elif count:
        output.note(
            f"stresses of {count} of {len(frames)} training frames are not fitted; for simulations at constant "
            "pressure, and if the calculation was converged for them, fit them: --stress-scale 2 (meV/Å³)"
        )


def count_stresses(frames: Sequence[Frame]) -> int:
    """Frames whose stress can be fitted: those with three periods."""
    return sum(frame.stress is not None and bool(frame.pbc.all()) for frame in frames)


def write_results(trained: TrainedModel, directory: Path) -> None:
    """Write model, errors, configuration and what a report is drawn from into an empty directory."""
    trained.result.force_field.save(directory / MODEL)
    (directory / METRICS).write_text(json.dumps(plain(summary(trained)), indent=1) + "\n", encoding="utf-8")
    (directory / CONFIG).write_text(config_text(trained.config), encoding="utf-8")
    _record(trained).write(directory)


def _record(trained: TrainedModel) -> Record:
    """What a report is drawn from beside model and metrics."""
    result = trained.result
    name = list(trained.comparisons)[-1]
    side, words = (trained.split.test, "held out") if name == "test" else (trained.split.train, "trained on")
    members = [trained.frames[index] for index in side]
    return Record(
        comparisons=trained.comparisons,
        losses=tuple(tuple(run.losses.tolist()) for run in result.restarts),
        selection=None if result.selection is None else (1.0, *result.selection.losses.tolist()),
        example=Example.typical(members, trained.comparisons[name], words=words),
        environment=environment(),
    )


def summary(trained: TrainedModel) -> dict[str, Any]:
    """The results as plain data: what ``metrics.json`` and ``--json`` say."""
    result = trained.result
    return {
        **parameter_count(result.force_field.n_trainable),
        "ledger": result.force_field.ledger.to_dict(),
        **{name: metrics.to_dict() for name, metrics in trained.metrics.items()},
        "loss": result.loss,
        "linear_loss": result.linear_loss,
        "bound": result.bound,
        "gap": result.gap,
        "stresses_fitted": _stresses_fitted(trained),
        "train_frames": trained.split.train,
        "test_frames": trained.split.test,
        "seed": trained.config.seed,
        "seconds": round(trained.seconds, 2),
        "version": __version__,
        "uncertainty": None if trained.coverage is None else _uncertainty(trained),
    } | ({} if trained.measured is None else {"estimator": measured_summary(trained.measured, trained.config)})


def _stresses_fitted(trained: TrainedModel) -> int:
    """Training frames whose stress was fitted."""
    if trained.config.loss.stress_scale_mev_per_ang3 is None:
        return 0
    return count_stresses(trained.data.training)


def _uncertainty(trained: TrainedModel) -> dict[str, Any]:
    """Factor and coverage as plain data."""
    assert trained.coverage is not None
    posterior = trained.result.force_field.posterior
    assert posterior is not None
    return {"factor": posterior.factor, "n_frames": posterior.n_held_out, **trained.coverage.to_dict()}


def keep_config(config: "TrainConfig", out: Path, *, resume: bool) -> None:
    """Put the configuration of a run on a backend into its directory, so that the run can be resumed."""
    if not resume:
        (out / JOURNAL).unlink(missing_ok=True)
    write_atomically(out / CONFIG, config_text(config))


def config_text(config: "TrainConfig") -> str:
    """The configuration as YAML that ``qff train`` reads back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def tell(trained: TrainedModel, output: Output) -> None:
    """Print ledger, errors and the distance from the bound."""
    print_ledger(trained.result.force_field, output)
    if trained.measured is not None:
        tell_measured(trained.measured, output)
    metrics_table(trained.metrics, output)
    result = trained.result
    if trained.remark is not None:
        output.note(trained.remark)
    output.say(
        f"loss per frame: {result.loss:.4g} (linear {result.linear_loss:.4g}, "
        f"bound that no circuit can beat {result.bound:.4g})"
    )
    if trained.coverage is not None:
        found = trained.coverage
        output.say(
            f"uncertainty: {found.force_std_mev_per_ang:.3g} meV/Å, {found.energy_std_mev_per_atom:.3g} meV/atom; "
            f"68 % intervals hold {found.forces[6]:.0%} of held-out force errors, {found.energies[6]:.0%} of energies"
        )
