"""``qff baseline``: classical models of at most as many parameters, on the split of ``qff train``."""

from pathlib import Path
from typing import Annotated

import typer

from qiskit_qff.cli.options import DryRunOption, ForceOption, FrameworkOption, JsonOption, StressScaleOption
from qiskit_qff.cli.output import Output
from qiskit_qff.cli.output_directory import check_output_directory, staged_directory


def baseline(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="Data file, 'shipped' (Li-MOF-5), 'li6ps5cl', or a configuration ending in .yaml, as for qff train.",
        ),
    ],
    *,
    out: Annotated[Path | None, typer.Option("--out", help="Directory for baselines.json; made when missing.")] = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="RUN", help="Directory or model of qff train to compare with."),
    ] = None,
    models: Annotated[
        str | None, typer.Option("--models", help="Which baselines, separated by commas; all by default.")
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="random, block (the last frames), or balanced.")] = None,
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
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of every random choice.")] = None,
    dry_run: DryRunOption = False,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Fit classical models of at most as many parameters to the same frames, and compare."""
    from qiskit_qff.cli import baseline_run as run
    from qiskit_qff.cli.configuration import configuration

    output = Output(as_json=json)
    config = configuration(
        source,
        {
            "data.split": split,
            "data.test_fraction": test_fraction,
            "data.group": group,
            "data.framework": framework,
            "descriptor.r_cut": cutoff,
            "loss.stress_scale_mev_per_ang3": stress_scale,
            "max_parameters": max_parameters,
            "seed": seed,
        },
    )
    names = run.choose(models)
    if out is not None:
        check_output_directory(out, owned=run.OWN_FILES, force=force)
    if dry_run:
        run.rehearse(config, names, output, against=against)
        return
    comparison = run.compare_baselines(config, names, output, against=against)
    if out is not None:
        with staged_directory(out) as staging:
            run.write_results(comparison, staging)
    run.tell(comparison, output)
    if out is not None:
        output.say(f"written: {out / run.RESULTS}")
    output.finish(run.summary(comparison))
