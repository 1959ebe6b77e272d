"""``qff train``: from a data file, or a configuration, to a directory with a model and its errors."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qiskit_qff.cli.options import (
    DecouplingOption,
    ForceOption,
    FrameworkOption,
    JsonOption,
    StressScaleOption,
    model_file,
)
from qiskit_qff.cli.output import Output
from qiskit_qff.cli.output_directory import check_output_directory, staged_directory
from qiskit_qff.durable import locked_directory
from qiskit_qff.errors import ConfigError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from qiskit_qff.model.config import TrainConfig
    from qiskit_qff.training.workers import Workers


def train(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="Data file, 'shipped' (Li-MOF-5), 'li6ps5cl', or a configuration ending in .yaml.",
        ),
    ],
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
    group: Annotated[str | None, typer.Option("--group", help="Frame tag that 'balanced' draws from evenly.")] = None,
    framework: FrameworkOption = None,
    stress_scale: StressScaleOption = None,
    max_parameters: Annotated[
        int | None, typer.Option("--max-parameters", help="Limit on trainable parameters; default 99.")
    ] = None,
    cutoff: Annotated[float | None, typer.Option("--r-cut", help="Cutoff radius in Å.")] = None,
    restarts: Annotated[int | None, typer.Option("--restarts", help="Starts of the optimiser.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of every random choice.")] = None,
    backend: Annotated[
        str | None,
        typer.Option("--backend", help="Measure losses on exact, statevector, aer, fake_NAME or ibm_NAME."),
    ] = None,
    shots: Annotated[int | None, typer.Option("--shots", help="With --backend: shots per circuit.")] = None,
    optimizer: Annotated[
        str | None, typer.Option("--optimizer", help="With --backend: adam (default), spsa or l_bfgs_b.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="With --backend: optimiser steps; default 100.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", help="With --backend: radians a step of adam or spsa.")
    ] = None,
    start: Annotated[
        str | None, typer.Option("--start", help="With --backend: scratch (default), exact, or a model file.")
    ] = None,
    mitigation: Annotated[
        str | None, typer.Option("--mitigation", help="With --backend: error mitigation preset; default none.")
    ] = None,
    decoupling: DecouplingOption = False,
    mode: Annotated[
        str | None, typer.Option("--mode", help="With --backend ibm_NAME: job (default), or session for all jobs.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="With --backend: go on with the interrupted run in --out.")
    ] = False,
    processes: Annotated[
        int | None,
        typer.Option("--processes", min=1, help="Processes to sum over frames on; default threads of this one."),
    ] = None,
    dask: Annotated[
        str | None, typer.Option("--dask", help="The same on a Dask cluster: address of its scheduler.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, show the configuration, train nothing.")
    ] = False,
    write_config: Annotated[
        Path | None,
        typer.Option("--write-config", help="Write the settings, with explanations, to a .yaml file; train nothing."),
    ] = None,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Train a force field and report its errors on held-out frames."""
    from qiskit_qff.cli import training_run as run
    from qiskit_qff.cli.configuration import configuration
    from qiskit_qff.cli.estimator_run import check_journal
    from qiskit_qff.model.config import START_WORDS
    from qiskit_qff.report.training_run import CONFIG, MODEL
    from qiskit_qff.training.pipeline import read_training_data
    from qiskit_qff.training.pipeline import train as train_model

    output = Output(as_json=json)
    given: dict[str, Any] = {
        "data.split": split,
        "data.test_fraction": test_fraction,
        "data.group": group,
        "data.framework": framework,
        "descriptor.r_cut": cutoff,
        "loss.stress_scale_mev_per_ang3": stress_scale,
        "optimizer.restarts": restarts,
        "estimator.backend": backend,
        "estimator.shots": shots,
        "estimator.optimizer": optimizer,
        "estimator.steps": steps,
        "estimator.learning_rate": learning_rate,
        "estimator.start": start if start in {None, *START_WORDS} else str(model_file(Path(str(start))).absolute()),
        "estimator.mitigation": mitigation,
        "estimator.dynamical_decoupling": decoupling or None,
        "estimator.mode": mode,
        "max_parameters": max_parameters,
        "seed": seed,
    }
    config = configuration(source, given)
    _check_estimator(config, given, resume=resume)
    _check_workers(config, processes, dask)
    if write_config is not None:
        run.write_commented_config(write_config, read_training_data(config=config), output, force=force)
        return
    if out is None:
        raise ConfigError("--out: name a directory for the model, for example --out run.")
    check_output_directory(out, owned=(*run.OWN_FILES, *run.KEPT_FILES), force=force)
    run.check_replaced(out, config, force=force)
    check_journal(out, resume=resume, force=force)
    if dry_run:
        data = read_training_data(config=config)
        run.show_plan(data, output)
        output.finish({"config": data.config.model_dump(mode="json"), "reasons": data.reasons})
        return
    measures = config.estimator.backend is not None
    with locked_directory(out) if measures else nullcontext(), staged_directory(out) as staging:
        if measures:
            run.keep_config(config, out, resume=resume)
        try:
            with _workers(processes, dask) as workers, output.progress("training") as advance:
                trained = train_model(
                    config=config,
                    progress=advance,
                    workers=workers,
                    backend=run.told_backend_run(out, config, output, resume=resume) if measures else None,
                )
        except KeyboardInterrupt:
            if measures:
                output.note(f"what was measured is kept: qff train {out / CONFIG} --out {out} --resume")
            raise
        run.write_results(trained, staging)
    run.tell(trained, output)
    output.say(f"written: {', '.join(str(out / name) for name in run.OWN_FILES)}")
    output.finish({"model": out / MODEL, **run.summary(trained)})


def _check_estimator(config: "TrainConfig", given: dict[str, Any], *, resume: bool) -> None:
    """Refuse what training on a backend could not do, before any data is read.

    Raises:
        ConfigError: if its options were given without a backend.
        BackendError: if the backend can't be reached.
    """
    from qiskit_qff.cli.configuration import OPTIONS
    from qiskit_qff.training.measured.backend import check_backend

    if config.estimator.backend is not None:
        check_backend(config)
        return
    used = [OPTIONS[name] for name, value in given.items() if name.startswith("estimator.") and value is not None]
    used += ["--resume"] if resume else []
    if used:
        raise ConfigError(f"{', '.join(used)}: only for training on a backend; add --backend, for example aer.")


def _check_workers(config: "TrainConfig", processes: int | None, dask: str | None) -> None:
    """Refuse helpers that would find nothing to do.

    Raises:
        ConfigError: if both kinds are asked for, or losses are measured on a backend.
    """
    if processes is not None and dask is not None:
        raise ConfigError("--processes and --dask: give one of them.")
    if (processes or dask) and config.estimator.backend is not None:
        raise ConfigError("--processes and --dask sum over frames of a computed training; leave them or --backend out.")


def _workers(processes: int | None, dask: str | None) -> "AbstractContextManager[Workers]":
    """Who sums over frames; threads of this process where nothing else was asked for."""
    from qiskit_qff.training.workers import dask_workers, process_workers, thread_workers

    if dask is not None:
        return dask_workers(dask)
    return thread_workers() if processes is None else process_workers(processes)
