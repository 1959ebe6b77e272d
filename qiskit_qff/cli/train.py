"""``qff train``: from a data file, or a configuration, to a directory with a model and its errors."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qiskit_qff import __version__
from qiskit_qff.cli.options import (
    CutoffOption,
    DryRunOption,
    ForceOption,
    FrameworkOption,
    GroupOption,
    JsonOption,
    MaxParametersOption,
    SourceArgument,
    SplitOption,
    StressScaleOption,
    TestFractionOption,
    TrainingSeedOption,
    model_file,
)
from qiskit_qff.cli.output import Output, check_output_directory, staged_directory
from qiskit_qff.durable import locked_directory, write_atomically
from qiskit_qff.errors import ConfigError

if TYPE_CHECKING:
    from qiskit_qff.model.config import EstimatorConfig, TrainConfig
    from qiskit_qff.training.measured.run import BackendRun, TrainingPlan
    from qiskit_qff.training.pipeline import TrainingData

STATEVECTOR_NOISE = (
    "statevector adds normal noise of the precision that the shots stand for, up to 2.4 times what such shots would "
    "give; aer and exact draw shots"
)


def train(
    source: SourceArgument,
    *,
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory to write to; made when missing. Required for training.")
    ] = None,
    split: SplitOption = None,
    test_fraction: TestFractionOption = None,
    group: GroupOption = None,
    framework: FrameworkOption = None,
    stress_scale: StressScaleOption = None,
    max_parameters: MaxParametersOption = None,
    cutoff: CutoffOption = None,
    seed: TrainingSeedOption = None,
    backend: Annotated[
        str | None,
        typer.Option("--backend", help="Measure losses on exact, statevector, aer, fake_NAME or ibm_NAME."),
    ] = None,
    shots: Annotated[int | None, typer.Option("--shots", help="With --backend: shots per circuit.")] = None,
    optimizer: Annotated[
        str | None, typer.Option("--optimizer", help="With --backend: gauss_newton (default), adam, spsa or l_bfgs_b.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="With --backend: optimiser steps; default 10.")] = None,
    start: Annotated[
        str | None, typer.Option("--start", help="With --backend: scratch (default), exact, or a model file.")
    ] = None,
    mitigation: Annotated[
        str | None, typer.Option("--mitigation", help="With --backend: error mitigation preset; default none.")
    ] = None,
    mode: Annotated[
        str | None, typer.Option("--mode", help="With --backend ibm_NAME: job (default), or session for all jobs.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="With --backend: go on with the interrupted run in --out.")
    ] = False,
    dry_run: DryRunOption = False,
    write_config: Annotated[
        Path | None,
        typer.Option("--write-config", help="Write the settings, with explanations, to a .yaml file; train nothing."),
    ] = None,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Train a force field and report its errors on held-out frames."""
    parameters = dict(locals())
    from qiskit_qff.cli import training_run as run
    from qiskit_qff.report.directory import write_report
    from qiskit_qff.report.record import CONFIG, MODEL
    from qiskit_qff.training.pipeline import read_training_data
    from qiskit_qff.training.pipeline import train as train_model

    output = Output(as_json=json)
    config = _configuration(source, parameters)
    measures = config.estimator.backend is not None
    if write_config is not None:
        _write_commented_config(write_config, config, output, force=force)
        return
    if out is None:
        raise ConfigError("--out: name a directory for the model, for example --out run.")
    _check_out(out, config, resume=resume, force=force)
    if dry_run:
        _show_plan(read_training_data(config=config), output)
        return
    with locked_directory(out) if measures else nullcontext(), staged_directory(out) as staging:
        backend_run = _begin_on_backend(out, config, output, resume=resume) if measures else None
        try:
            with output.progress("training") as advance:
                trained = train_model(config=config, progress=advance, backend=backend_run)
        except KeyboardInterrupt:
            if measures:
                output.note(f"what was measured is kept: qff train {out / CONFIG} --out {out} --resume")
            raise
        run.write_results(trained, staging)
        write_report(staging, staging / run.REPORT, figures=staging / run.FIGURES)
    run.tell(trained, output)
    output.say(f"written: {', '.join(str(out / name) for name in run.OWN_FILES)}")
    output.finish({"model": out / MODEL, **run.summary(trained)})


def _configuration(source: Path, parameters: dict[str, Any]) -> "TrainConfig":
    """The settings of the run; refuses, before any data is read, what training on a backend could not do."""
    from qiskit_qff.cli.training_run import ESTIMATOR, configuration, option_of
    from qiskit_qff.model.config import START_WORDS
    from qiskit_qff.training.measured.run import check_backend

    start = parameters["start"]
    if start is not None and start not in START_WORDS:
        parameters = parameters | {"start": str(model_file(Path(start)).absolute())}
    config = configuration(source, parameters)
    if config.estimator.backend is not None:
        check_backend(config)
    elif used := [option_of(name) for name in (*ESTIMATOR, "resume") if parameters[name]]:
        raise ConfigError(f"{', '.join(used)}: only for training on a backend; add --backend, for example aer.")
    return config


def _begin_on_backend(out: Path, config: "TrainConfig", output: Output, *, resume: bool) -> "BackendRun":
    """Put the configuration into the directory, so that the run can be resumed; its cost and every step are told."""
    from qiskit_qff.cli.training_run import JOURNAL, config_text
    from qiskit_qff.report.record import CONFIG
    from qiskit_qff.training.measured.run import BackendRun

    if not resume:
        (out / JOURNAL).unlink(missing_ok=True)
    write_atomically(out / CONFIG, config_text(config))
    return BackendRun(
        journal=out / JOURNAL,
        resume=resume,
        on_plan=lambda plan: _tell_plan(plan, config.estimator, output),
        on_step=lambda number, step: output.note(
            f"step {number}: loss {step.loss:.4g} ± {step.std_error:.1g} (exact {step.exact_loss:.4g}), "
            f"{step.circuits} circuits so far"
        ),
    )


def _write_commented_config(path: Path, config: "TrainConfig", output: Output, *, force: bool) -> None:
    """Write the settings of a run as YAML with a comment at every key."""
    from qiskit_qff.cli.training_run import CONFIG_SUFFIXES
    from qiskit_qff.model.config import commented_yaml
    from qiskit_qff.structures.validation import formula
    from qiskit_qff.training.pipeline import read_training_data

    data = read_training_data(config=config)
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


def _check_out(out: Path, config: "TrainConfig", *, resume: bool, force: bool) -> None:
    """Keep other files, the model of other data, and what was measured from being replaced."""
    from ase.data import chemical_symbols

    from qiskit_qff.cli.training_run import JOURNAL, OWN_FILES
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.report.record import MODEL

    check_output_directory(out, owned=(*OWN_FILES, JOURNAL), force=force)
    if (out / MODEL).is_file() and not force:
        earlier = ForceField.load(out / MODEL)
        trained_on = earlier.metadata.get("config", {}).get("data", {}).get("path")
        if trained_on != config.data.path:
            elements = " ".join(chemical_symbols[number] for number in earlier.species)
            raise ConfigError(
                f"--out {out}: holds a model of {elements}, trained on {trained_on or 'frames given in Python'}. "
                "Choose another directory, or add --force to replace it."
            )
    if resume and not (out / JOURNAL).is_file():
        raise ConfigError(f"--resume: {out / JOURNAL} does not exist; leave --resume out to begin.")
    if (out / JOURNAL).exists() and not (resume or force):
        raise ConfigError(
            f"--out {out}: holds {JOURNAL}, the measurements of an earlier run. Add --resume to go on with it, "
            "--force to begin anew, or choose another directory."
        )


def _show_plan(data: "TrainingData", output: Output) -> None:
    """Show the settings of a run, the reasons for those that the data decided, and what a backend would cost."""
    from qiskit_qff.cli.training_run import config_text, tell_data
    from qiskit_qff.training.measured.run import plan_backend_training

    config, settings = data.config, data.config.model_dump(mode="json")
    output.say(config_text(config))
    for name, reason in data.reasons.items():
        section, _, key = name.partition(".")
        output.say(f"{name} = {settings[section][key]}: {reason}")
    output.say(f"frames: {len(data.split.train)} to train on, {len(data.split.test)} held out")
    tell_data(data, output)
    if config.estimator.backend is not None:
        with output.progress("preparing") as advance:
            plan = plan_backend_training(data.training, config, progress=advance)
        _tell_plan(plan, config.estimator, output)
    output.finish({"config": settings, "reasons": data.reasons})


def _tell_plan(plan: "TrainingPlan", asked: "EstimatorConfig", output: Output) -> None:
    """Say what a step and the run will cost, before anything runs."""
    from qiskit_qff.cli.training_run import cost_in_words

    step = {"spsa": "two losses", "l_bfgs_b": "a loss and a gradient, more where its line search goes on"}
    each = step.get(asked.optimizer, "a loss and a gradient")
    output.say(f"{asked.backend}, {asked.optimizer}, mitigation {asked.mitigation}; a step is {each}")
    if asked.backend == "statevector" and asked.shots is not None:
        output.say(STATEVECTOR_NOISE)
    output.say(f"one step: {cost_in_words(plan.step)}")
    output.say(f"start, {plan.n_steps} steps and end: {cost_in_words(plan.total)}")
