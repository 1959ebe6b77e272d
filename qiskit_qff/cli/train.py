"""``qff train``: from a data file, or a configuration, to a directory with a model and its errors."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qiskit_qff.cli.options import (
    CutoffOption,
    DryRunOption,
    ForceOption,
    FrameworkOption,
    GroupOption,
    JsonOption,
    MaxParametersOption,
    SplitOption,
    StressScaleOption,
    TestFractionOption,
    TrainingSeedOption,
    model_file,
)
from qiskit_qff.cli.output import Output, check_output_directory, staged_directory
from qiskit_qff.durable import locked_directory
from qiskit_qff.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from qiskit_qff.model.config import TrainConfig


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
    split: SplitOption = None,
    test_fraction: TestFractionOption = None,
    group: GroupOption = None,
    framework: FrameworkOption = None,
    stress_scale: StressScaleOption = None,
    max_parameters: MaxParametersOption = None,
    cutoff: CutoffOption = None,
    restarts: Annotated[int | None, typer.Option("--restarts", help="Starts of the optimiser; default 3.")] = None,
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
    from qiskit_qff.cli.training_run import check_journal, configuration
    from qiskit_qff.model.config import START_WORDS
    from qiskit_qff.report.directory import write_report
    from qiskit_qff.report.record import CONFIG, MODEL
    from qiskit_qff.training.pipeline import read_training_data
    from qiskit_qff.training.pipeline import train as train_model

    output = Output(as_json=json)
    if start is not None and start not in START_WORDS:
        parameters = parameters | {"start": str(model_file(Path(start)).absolute())}
    config = configuration(source, parameters)
    _check_estimator(config, parameters)
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
            with output.progress("training") as advance:
                trained = train_model(
                    config=config,
                    progress=advance,
                    backend=run.told_backend_run(out, config, output, resume=resume) if measures else None,
                )
        except KeyboardInterrupt:
            if measures:
                output.note(f"what was measured is kept: qff train {out / CONFIG} --out {out} --resume")
            raise
        run.write_results(trained, staging)
        write_report(staging, staging / run.REPORT, figures=staging / run.FIGURES)
    run.tell(trained, output)
    output.say(f"written: {', '.join(str(out / name) for name in run.OWN_FILES)}")
    output.finish({"model": out / MODEL, **run.summary(trained)})


def _check_estimator(config: "TrainConfig", parameters: "Mapping[str, Any]") -> None:
    """Refuse what training on a backend could not do, before any data is read."""
    from qiskit_qff.cli.training_run import SETTINGS, option_of
    from qiskit_qff.training.measured.run import check_backend

    if config.estimator.backend is not None:
        check_backend(config)
        return
    names = [name for name, setting in SETTINGS.items() if setting.startswith("estimator.")]
    used = [option_of(name) for name in (*names, "resume") if parameters.get(name)]
    if used:
        raise ConfigError(f"{', '.join(used)}: only for training on a backend; add --backend, for example aer.")
