"""``qff train``: from a data file, or a configuration, to a directory with a model and its errors."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qiskit_qff.cli.options import ForceOption, JsonOption, OutOption
from qiskit_qff.cli.output import Output
from qiskit_qff.cli.output_directory import check_output_directory, staged_directory
from qiskit_qff.errors import ConfigError

if TYPE_CHECKING:
    from qiskit_qff.model.config import TrainConfig

CONFIG_SUFFIXES = {".yaml", ".yml"}


def train(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="Data file, 'shipped' for the data set inside, or a configuration ending in .yaml.",
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
    max_parameters: Annotated[
        int | None, typer.Option("--max-parameters", help="Limit on trainable parameters; default 99.")
    ] = None,
    cutoff: Annotated[float | None, typer.Option("--r-cut", help="Cutoff radius in Å.")] = None,
    restarts: Annotated[int | None, typer.Option("--restarts", help="Starts of the optimiser.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of every random choice.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, show the configuration, train nothing.")
    ] = False,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Train a force field and report its errors on frames held out."""
    from qiskit_qff.cli import training_run as run

    output = Output(as_json=json)
    changes: dict[str, Any] = {
        "data": {"split": split, "test_fraction": test_fraction, "group": group},
        "descriptor": {"r_cut": cutoff},
        "optimizer": {"restarts": restarts},
        "max_parameters": max_parameters,
        "seed": seed,
    }
    config = resolve_config(source, changes)
    check_output_directory(out, owned=run.OWN_FILES, force=force)
    if dry_run:
        run.read_training_frames(config)
        output.say(run.config_text(config))
        output.finish({"config": config.model_dump(mode="json")})
        return
    trained = run.train_model(config, output)
    with staged_directory(out) as staging:
        run.write_results(trained, staging)
    run.tell(trained, output)
    output.say(f"written: {', '.join(str(out / name) for name in run.OWN_FILES)}")
    output.finish({"model": out / run.MODEL, **run.summary(trained)})


def resolve_config(source: Path, changes: dict[str, Any]) -> "TrainConfig":
    """The configuration of a run: the file, or the defaults for a data file, with the options applied.

    Args:
        source: data file or configuration.
        changes: values from the command line by section and key; None where not given.

    Raises:
        ConfigError: if the file or an option is wrong.
    """
    from qiskit_qff.model.config import TrainConfig, load_config, parse_config

    if source.suffix.lower() in CONFIG_SUFFIXES:
        config = load_config(source)
    elif str(source) == "shipped" or source.exists():
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
    return parse_config(settings, where=str(source))


def _absolute(path: str | list[str], source: Path) -> str | list[str]:
    """Data paths that mean the same from everywhere; in a configuration they start at its directory."""
    if isinstance(path, list):
        return [str(_absolute(single, source)) for single in path]
    if path == "shipped":
        return path
    start = source.parent if source.suffix.lower() in CONFIG_SUFFIXES else Path()
    return str((start / path).absolute())
