"""``qff baseline``: classical models of at most as many parameters, on the split of ``qff train``."""

import json as json_module
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qiskit_qff import __version__
from qiskit_qff.cli.options import ForceOption, JsonOption, MaxParametersOption, SourceArgument, model_file
from qiskit_qff.cli.output import Output, check_output_directory, json_text, staged_directory
from qiskit_qff.errors import ConfigError, MissingDependencyError

if TYPE_CHECKING:
    from qiskit_qff.model.metrics import Predicts
    from qiskit_qff.training.pipeline import TrainingData
    from qiskit_qff.training.statistics import Progress

RESULTS = "baselines.json"
NAMES = ("linear", "snap")
"""All baselines."""
FORCE, ENERGY = "force_mae_mev_per_ang", "energy_mae_mev_per_atom"


def baseline(
    source: SourceArgument,
    *,
    out: Annotated[Path | None, typer.Option("--out", help="Directory for baselines.json; made when missing.")] = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="RUN", help="Directory or model of qff train to compare with."),
    ] = None,
    models: Annotated[
        str, typer.Option("--models", help="Which baselines, separated by commas; all by default.")
    ] = ",".join(NAMES),
    max_parameters: MaxParametersOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Fit classical models of at most as many parameters to the same frames, and compare."""
    from qiskit_qff.cli.train import configuration, tell_data
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.training.pipeline import read_training_data

    output, config = Output(as_json=json), configuration(source, {"max_parameters": max_parameters})
    names = tuple(name.strip() for name in models.split(",") if name.strip())
    if unknown := [name for name in names if name not in NAMES]:
        raise ConfigError(f"--models: '{', '.join(unknown)}' is unknown; choose from {', '.join(NAMES)}.")
    if config.data.split == "none":
        raise ConfigError("split 'none' holds no frame out to compare on; choose random, block or balanced.")
    if out is not None:
        check_output_directory(out, owned=(RESULTS,), force=force)
    field = None if against is None else ForceField.load(model_file(against))
    data = read_training_data(config=config)
    tell_data(data, output)
    rows: dict[str, dict[str, Any]] = {}
    if against is not None and field is not None:
        _check_same_split(against, data)
        rows["quantum"] = _row("the quantum model", field, field.n_trainable, data)
    skipped: dict[str, str] = {}
    with output.progress("baselines") as advance:
        for name in names:
            begin = time.perf_counter()
            try:
                words, model, count = _fit(name, data, advance)
            except MissingDependencyError as error:
                skipped[name] = str(error)
                output.note(f"{name}: skipped: {error}")
                continue
            rows[name] = _row(words, model, count, data) | {"seconds": round(time.perf_counter() - begin, 2)}
            if field is not None:
                mine, theirs = rows["quantum"]["test"], rows[name]["test"]
                ratios = {"force_mae": mine[FORCE] / theirs[FORCE], "energy_mae": mine[ENERGY] / theirs[ENERGY]}
                rows[name]["quantum_over_this"] = ratios
    frames = {"train_frames": data.split.train, "test_frames": data.split.test}
    about = {"max_parameters": config.max_parameters, **frames, "seed": config.seed, "version": __version__}
    summary = {"models": rows, "skipped": skipped, **about}
    columns = (ENERGY, "energy_rmse_mev_per_atom", FORCE, "force_rmse_mev_per_ang")
    output.table(
        f"errors on {len(data.split.test)} frames held out, {len(data.split.train)} fitted to",
        ("model", "parameters", "energy MAE", "RMSE (meV/atom)", "force MAE", "RMSE (meV/Å)", "quantum/this"),
        [
            (
                row["description"],
                row["n_trainable"],
                *(row["test"][key] for key in columns),
                row.get("quantum_over_this", {}).get("force_mae"),
            )
            for row in rows.values()
        ],
    )
    if out is not None:
        with staged_directory(out) as staging:
            (staging / RESULTS).write_text(json_text(summary), encoding="utf-8")
        output.say(f"written: {out / RESULTS}")
    output.finish(summary)


def _fit(name: str, data: "TrainingData", progress: "Progress") -> "tuple[str, Predicts, int]":
    """One baseline: its description, the model, and how many parameters it has."""
    from qiskit_qff.training.baselines import linear_baseline, snap_baseline

    if name == "linear":
        linear, count = linear_baseline(data.training, data.config, progress)
        return "linear, selected channels", linear, count
    from qiskit_qff.simulation.bispectrum import BispectrumRows, n_components

    snap, count, words = snap_baseline(data.training, data.config, BispectrumRows, n_components, progress)
    return words, snap, count


def _row(words: str, model: "Predicts", n_trainable: int, data: "TrainingData") -> dict[str, Any]:
    """What JSON says of one model."""
    from qiskit_qff.model.metrics import compare_model, measure

    errors = measure(compare_model(model, data.held_out)).to_dict()
    return {"description": words, "n_trainable": n_trainable, "test": errors}


def _check_same_split(against: Path, data: "TrainingData") -> None:
    """Refuse a run that held out other frames."""
    record = model_file(against).with_name("metrics.json")
    if record.is_file():
        held_out = json_module.loads(record.read_text(encoding="utf-8")).get("test_frames")
        if held_out != data.split.test.tolist():
            raise ConfigError(
                f"--against {against}: it held out other frames than this split does; its errors could not be "
                f"compared. Give its own configuration, {model_file(against).with_name('config.yaml')}, as SOURCE."
            )
