"""``qff train``: from a data file, or a configuration, to a directory with a model and its errors."""

import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qiskit_qff import __version__
from qiskit_qff.cli.evaluate import metrics_table, tell_coverage
from qiskit_qff.cli.info import print_ledger
from qiskit_qff.cli.options import DryRunOption, ForceOption, JsonOption, MaxParametersOption, SourceArgument
from qiskit_qff.cli.output import Output, check_output_directory, json_text, staged_directory
from qiskit_qff.durable import locked_directory, write_atomically
from qiskit_qff.errors import ConfigError

if TYPE_CHECKING:
    from qiskit_qff.evaluators.protocol import Cost
    from qiskit_qff.model.config import EstimatorConfig, TrainConfig
    from qiskit_qff.structures.frame import Frame
    from qiskit_qff.training.measured.run import BackendRun, TrainingPlan
    from qiskit_qff.training.pipeline import TrainedModel, TrainingData

JOBS, REPORT = "jobs", "report.html"
OWN_FILES = ("model.json", "metrics.json", "config.yaml", "record.json", REPORT, "figures")
"""What a run writes; the last one did so in older versions."""
SETTINGS = {
    "split": "data.split",
    "test_fraction": "data.test_fraction",
    "group": "data.group",
    "framework": "data.framework",
    "cutoff": "descriptor.r_cut",
    "stress_scale": "loss.stress_scale_mev_per_ang3",
    "max_parameters": "max_parameters",
    "seed": "seed",
}
"""Settings that parameters of commands give, by the name of the parameter."""
REMARKABLE = 2.0
"""Held-out force errors from so many times the training error are remarked on."""
ESTIMATOR = ("backend", "shots", "optimizer", "steps", "start", "mitigation", "mode")
"""Parameters that give the setting of the same name in the section ``estimator``."""


def train(
    source: SourceArgument,
    *,
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory to write to; made when missing. Required for training.")
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="random, block (the last frames), balanced, or none.")
    ] = None,
    test_fraction: Annotated[
        float | None, typer.Option("--test-fraction", help="Share of the frames held out; default 0.2.")
    ] = None,
    group: Annotated[
        str | None, typer.Option("--group", help="Frame tag that split 'balanced' draws from evenly.")
    ] = None,
    framework: Annotated[
        str | None,
        typer.Option("--framework", help="any (default), or whole: leave out frames whose framework lacks bonds."),
    ] = None,
    stress_scale: Annotated[
        float | None,
        typer.Option(
            "--stress-scale",
            help="Fit stresses, where frames have some: error in meV/Å³ that counts as one unit; 2 is a good start. "
            "For constant pressure. Default: they are not fitted.",
        ),
    ] = None,
    max_parameters: MaxParametersOption = None,
    cutoff: Annotated[float | None, typer.Option("--r-cut", help="Cutoff radius in Å.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of every random choice.")] = None,
    backend: Annotated[
        str | None,
        typer.Option("--backend", help="Measure losses on exact, statevector, aer, fake_NAME or ibm_NAME."),
    ] = None,
    shots: Annotated[int | None, typer.Option("--shots", help="With --backend: shots per circuit.")] = None,
    optimizer: Annotated[
        str | None, typer.Option("--optimizer", help="With --backend: gauss_newton (default) or adam.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="With --backend: optimiser steps; default 10.")] = None,
    start: Annotated[
        str | None, typer.Option("--start", help="With --backend: scratch (default), or exact, the computed solution.")
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
    from qiskit_qff.report.record import CONFIG, MODEL
    from qiskit_qff.training.measured.run import check_backend
    from qiskit_qff.training.pipeline import read_training_data
    from qiskit_qff.training.pipeline import train as train_model

    output, config = Output(as_json=json), configuration(source, parameters)
    measures = config.estimator.backend is not None
    if measures:
        check_backend(config)
    elif used := [_option(name) for name in (*ESTIMATOR, "resume") if parameters[name]]:
        raise ConfigError(f"{', '.join(used)}: only for training on a backend; add --backend, for example aer.")
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
        write_results(trained, staging)
        write_report(staging)
    tell(trained, output)
    output.say(f"written: {', '.join(str(out / name) for name in OWN_FILES[:-1])}")
    output.finish({"model": out / MODEL, **summary(trained)})


def configuration(source: Path, parameters: Mapping[str, Any]) -> "TrainConfig":
    """The configuration of a run.

    Args:
        parameters: Of the command, by name; those in :data:`SETTINGS` and :data:`ESTIMATOR` are applied if not None.
    """
    from qiskit_qff.model.config import TrainConfig, load_config, parse_config, with_absolute_paths
    from qiskit_qff.structures.dataset import is_shipped

    if source.suffix.lower() in {".yaml", ".yml"}:
        base = load_config(source)
    elif is_shipped(source) or source.exists():
        config = TrainConfig()
        named = config.model_copy(update={"data": config.data.model_copy(update={"path": str(source)})})
        base = with_absolute_paths(named, Path())
    else:
        raise ConfigError(f"{source}: there is no such file. Give a data file, or a configuration ending in .yaml.")
    settings, options = base.model_dump(mode="json"), {}
    for parameter, name in (SETTINGS | {name: f"estimator.{name}" for name in ESTIMATOR}).items():
        if (value := parameters.get(parameter)) is not None:
            section, _, key = name.rpartition(".")
            (settings[section] if section else settings)[key] = value
            options[name] = _option(parameter)
    return parse_config(settings, where=str(source), options=options)


def _option(parameter: str) -> str:
    """How the option of a parameter is spelt."""
    return "--r-cut" if parameter == "cutoff" else f"--{parameter.replace('_', '-')}"


def _begin_on_backend(out: Path, config: "TrainConfig", output: Output, *, resume: bool) -> "BackendRun":
    """Put the configuration into the directory, so that the run can be resumed; its cost and every step are told."""
    from qiskit_qff.report.record import CONFIG
    from qiskit_qff.training.measured.run import BackendRun

    if not resume:
        shutil.rmtree(out / JOBS, ignore_errors=True)
    write_atomically(out / CONFIG, _config_text(config))
    return BackendRun(
        jobs=out / JOBS,
        on_plan=lambda plan: _tell_plan(plan, config.estimator, output),
        on_step=lambda number, step: output.note(
            f"step {number}: loss {step.loss:.4g} ± {step.std_error:.1g} (exact {step.exact_loss:.4g}), "
            f"{step.circuits} circuits so far"
        ),
    )


def _write_commented_config(path: Path, config: "TrainConfig", output: Output, *, force: bool) -> None:
    """Write the settings of a run as YAML with a comment at every key."""
    from qiskit_qff.model.config import commented_yaml
    from qiskit_qff.training.pipeline import read_training_data

    if path.suffix.lower() not in {".yaml", ".yml"} or path.is_dir():
        raise ConfigError(f"--write-config {path}: name a file that ends in .yaml.")
    if path.exists() and not force:
        raise ConfigError(f"--write-config {path}: exists. Choose another name, or add --force to replace it.")
    data = read_training_data(config=config)
    heading = (
        f"Training configuration of qiskit_qff {__version__} for {len(data.frames)} frames.\n\n"
        f"Train with   qff train {path.name} --out run\n\n"
        "Relative paths start at the directory of this file. Lines may be removed: what is missing has its default."
    )
    write_atomically(path, commented_yaml(data.config, heading=heading, notes=data.reasons))
    output.say(f"written: {path}; next: qff train {path} --out run")
    output.finish({"config": path, "settings": data.config.model_dump(mode="json"), "reasons": data.reasons})


def _check_out(out: Path, config: "TrainConfig", *, resume: bool, force: bool) -> None:
    """Keep other files, the model of other data, and what was measured from being replaced."""
    from qiskit_qff.evaluators.jobs import JOURNAL
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.report.record import MODEL

    check_output_directory(out, owned=(*OWN_FILES, JOBS), force=force)
    if (out / MODEL).is_file() and not force:
        trained_on = ForceField.load(out / MODEL).metadata.get("config", {}).get("data", {}).get("path")
        if trained_on != config.data.path:
            raise ConfigError(
                f"--out {out}: holds a model trained on {trained_on or 'frames given in Python'}. "
                "Choose another directory, or add --force to replace it."
            )
    if resume and not (out / JOBS / JOURNAL).is_file():
        raise ConfigError(f"--resume: {out / JOBS / JOURNAL} does not exist; leave --resume out to begin.")
    if (out / JOBS / JOURNAL).exists() and not (resume or force):
        raise ConfigError(
            f"--out {out}: holds {JOBS}/, the measurements of an earlier run. Add --resume to go on with it, "
            "--force to begin anew, or choose another directory."
        )


def _show_plan(data: "TrainingData", output: Output) -> None:
    """Show the settings of a run, the reasons for those that the data decided, and what a backend would cost."""
    from qiskit_qff.training.measured.run import plan_backend_training

    config, settings = data.config, data.config.model_dump(mode="json")
    output.say(_config_text(config))
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
    output.say(f"{asked.backend}, {asked.optimizer}, mitigation {asked.mitigation}; a step is a loss and a gradient")
    output.say(f"one step: {_cost_in_words(plan.step)}")
    output.say(f"start, {plan.n_steps} steps and end: {_cost_in_words(plan.total)}")


def _cost_in_words(cost: "Cost") -> str:
    """Circuits, shots and seconds of training on a backend."""
    if not cost.shots:
        return f"{cost.circuits:,} circuits, exact values"
    return f"{cost.circuits:,} circuits, {cost.shots:,} shots, about {cost.seconds:,.0f} s on a processor"


def tell_data(data: "TrainingData", output: Output) -> None:
    """Remark on frames that were left out and on stresses that are, or could be, fitted."""
    if data.n_broken:
        output.note(f"left out for broken frameworks: {data.n_broken} of {data.n_broken + len(data.frames)} frames")
    frames, count = data.training, _count_stresses(data.training)
    if data.config.loss.stress_scale_mev_per_ang3 is not None:
        output.note(f"stresses fitted: of {count} of {len(frames)} training frames")
    elif count:
        output.note(
            f"stresses of {count} of {len(frames)} training frames are not fitted; for simulations at constant "
            "pressure, and if the calculation was converged for them, fit them: --stress-scale 2 (meV/Å³)"
        )


def _count_stresses(frames: "Sequence[Frame]") -> int:
    """Frames whose stress can be fitted: those with three periods."""
    return sum(frame.stress is not None and bool(frame.pbc.all()) for frame in frames)


def write_results(trained: "TrainedModel", directory: Path) -> None:
    """Write model, errors, configuration and predictions into an empty directory."""
    from qiskit_qff.report.record import CONFIG, METRICS, MODEL, write_record

    trained.force_field.save(directory / MODEL)
    (directory / METRICS).write_text(json_text(summary(trained)), encoding="utf-8")
    (directory / CONFIG).write_text(_config_text(trained.data.config), encoding="utf-8")
    write_record(directory, trained.comparisons)


def write_report(directory: Path) -> None:
    """Write the page of all that is in a directory."""
    from qiskit_qff.report.directory import read_run
    from qiskit_qff.report.page import write_page

    write_page({"": read_run(directory)}, directory / REPORT)


def summary(trained: "TrainedModel") -> dict[str, Any]:
    """The results as plain data: what ``metrics.json`` and ``--json`` say."""
    from qiskit_qff.model.species_model import parameter_count
    from qiskit_qff.training.measured.run import measured_summary

    result, posterior, uncertainty = trained.result, trained.force_field.posterior, None
    fitted = 0 if trained.data.config.loss.stress_scale_mev_per_ang3 is None else _count_stresses(trained.data.training)
    if trained.coverage is not None and posterior is not None:
        uncertainty = {"factor": posterior.factor, "n_frames": posterior.n_held_out, **trained.coverage}
    return {
        **parameter_count(result.force_field.n_trainable),
        "ledger": result.force_field.ledger.to_dict(),
        **{name: metrics.to_dict() for name, metrics in trained.metrics.items()},
        "loss": result.loss,
        "linear_loss": result.linear_loss,
        "bound": result.bound,
        "gap": result.loss - result.bound,
        "stresses_fitted": fitted,
        "train_frames": trained.split.train,
        "test_frames": trained.split.test,
        "seed": trained.data.config.seed,
        "seconds": round(trained.seconds, 2),
        "version": __version__,
        "uncertainty": uncertainty,
    } | ({} if trained.measured is None else {"estimator": measured_summary(trained.measured, trained.data.config)})


def _config_text(config: "TrainConfig") -> str:
    """The configuration as YAML that ``qff train`` reads back."""
    import yaml

    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def tell(trained: "TrainedModel", output: Output) -> None:
    """Print ledger, errors and the distance from the bound."""
    print_ledger(trained.force_field, output)
    if (measured := trained.measured) is not None:
        start, final = measured.start, measured.final
        output.say(
            f"loss on the backend: {start.loss:.4g} at the start, {final.loss:.4g} ± {final.std_error:.2g} after "
            f"{len(measured.steps)} steps (exact: {start.exact_loss:.4g}, {final.exact_loss:.4g}); "
            f"{_cost_in_words(measured.cost)}"
        )
    metrics_table(trained.metrics, output)
    if "test" in trained.metrics:
        seen, unseen = (trained.metrics[name].force_rmse_mev_per_ang for name in ("train", "test"))
        if unseen > REMARKABLE * seen:
            output.note(
                f"the force RMSE of held-out frames is {unseen / seen:.1f} times that of training frames: expect such "
                "errors in use, or add frames like the held-out ones ('qff evaluate --uncertainty' lists them)"
            )
    result = trained.result
    output.say(
        f"loss per frame: {result.loss:.4g} (linear {result.linear_loss:.4g}, "
        f"bound that no circuit can beat {result.bound:.4g})"
    )
    if trained.coverage is not None:
        tell_coverage(trained.coverage, output)
