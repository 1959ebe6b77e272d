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
    OutOption,
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

CONFIG_SUFFIXES = {".yaml", ".yml"}
START_WORDS = ("scratch", "exact")


def train(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="Data file, 'shipped' (Li-MOF-5), 'li6ps5cl', or a configuration ending in .yaml.",
        ),
    ],
    *,
    out: OutOption,
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
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Train a force field and report its errors on frames held out."""
    from qiskit_qff.cli import training_run as run
    from qiskit_qff.report.training_run import CONFIG, MODEL

    output = Output(as_json=json)
    changes: dict[str, Any] = {
        "data": {"split": split, "test_fraction": test_fraction, "group": group, "framework": framework},
        "descriptor": {"r_cut": cutoff},
        "loss": {"stress_scale_mev_per_ang3": stress_scale},
        "optimizer": {"restarts": restarts},
        "estimator": {
            "backend": backend,
            "shots": shots,
            "optimizer": optimizer,
            "steps": steps,
            "learning_rate": learning_rate,
            "start": start if start in {None, *START_WORDS} else str(model_file(Path(str(start))).absolute()),
            "mitigation": mitigation,
            "dynamical_decoupling": decoupling or None,
            "mode": mode,
        },
        "max_parameters": max_parameters,
        "seed": seed,
    }
    config = resolve_config(source, changes)
    check_output_directory(out, owned=(*run.OWN_FILES, *run.KEPT_FILES), force=force)
    _check_estimator(config, changes["estimator"], out, resume=resume, force=force)
    _check_workers(config, processes, dask)
    if dry_run:
        run.rehearse(config, output)
        output.finish({"config": config.model_dump(mode="json")})
        return
    measures = config.estimator.backend is not None
    with locked_directory(out) if measures else nullcontext(), staged_directory(out) as staging:
        if measures:
            run.keep_config(config, out, resume=resume)
        try:
            with _workers(processes, dask) as workers:
                trained = run.train_model(config, output, out=out, resume=resume, workers=workers)
        except KeyboardInterrupt:
            if measures:
                output.note(f"what was measured is kept: qff train {out / CONFIG} --out {out} --resume")
            raise
        run.write_results(trained, staging)
    run.tell(trained, output)
    output.say(f"written: {', '.join(str(out / name) for name in run.OWN_FILES)}")
    output.finish({"model": out / MODEL, **run.summary(trained)})


def resolve_config(source: Path, changes: dict[str, Any]) -> "TrainConfig":
    """The configuration of a run: the file, or the defaults for a data file, with the options applied.

    Args:
        source: data file or configuration.
        changes: values from the command line by section and key; None where not given.

    Raises:
        ConfigError: if the file or an option is wrong.
    """
    from qiskit_qff.model.config import TrainConfig, load_config, parse_config
    from qiskit_qff.structures.shipped import is_shipped

    if source.suffix.lower() in CONFIG_SUFFIXES:
        config = load_config(source)
    elif is_shipped(source) or source.exists():
        config = TrainConfig()
        changes = {**changes, "data": {**changes["data"], "path": str(source)}}
    else:
        raise ConfigError(f"{source}: there is no such file. Give a data file, or a configuration ending in .yaml.")
    settings = config.model_dump(mode="json")
    for name, value in changes.items():
        if isinstance(value, dict):
            settings[name] |= {key: entry for key, entry in value.items() if entry is not None}
        elif value is not None:
            settings[name] = value
    settings["data"]["path"] = _absolute(settings["data"]["path"], source)
    if settings["estimator"]["start"] not in START_WORDS:
        settings["estimator"]["start"] = _absolute(settings["estimator"]["start"], source)
    return parse_config(settings, where=str(source))


def _check_estimator(config: "TrainConfig", given: dict[str, Any], out: Path, *, resume: bool, force: bool) -> None:
    """Refuse what training on a backend could not do, before any data is read.

    Raises:
        ConfigError: if its options were given without a backend, or the directory holds other measurements.
        BackendError: if the backend can't be reached.
    """
    from qiskit_qff.cli.estimator_run import check_backend, check_journal

    if config.estimator.backend is None:
        used = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]
        if resume:
            used.append("--resume")
        if used:
            raise ConfigError(f"{', '.join(used)}: only for training on a backend; add --backend, for example aer.")
    else:
        check_backend(config)
    check_journal(out, resume=resume, force=force)


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


def _absolute(path: str | list[str], source: Path) -> str | list[str]:
    """Data paths that mean the same from everywhere; in a configuration they start at its directory."""
    from qiskit_qff.structures.shipped import is_shipped

    if isinstance(path, list):
        return [str(_absolute(single, source)) for single in path]
    if is_shipped(path):
        return path
    start = source.parent if source.suffix.lower() in CONFIG_SUFFIXES else Path()
    return str((start / path).absolute())
