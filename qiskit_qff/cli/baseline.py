"""``qff baseline``: classical models of at most as many parameters, on the split of ``qff train``."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qiskit_qff import __version__
from qiskit_qff.cli.options import (
    DryRunOption,
    ForceOption,
    JsonOption,
    MaxParametersOption,
    SourceArgument,
    SplitOption,
    StressScaleOption,
    TestFractionOption,
    TrainingSeedOption,
    model_file,
)
from qiskit_qff.cli.output import Output, check_output_directory, json_text, staged_directory
from qiskit_qff.errors import ConfigError, MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.model.metrics import Comparison
    from qiskit_qff.training.baselines import Baseline
    from qiskit_qff.training.pipeline import TrainingData

RESULTS, QUANTUM, SNAP = "baselines.json", "quantum", "snap"
NAMES = ("linear_same_channels", "linear_selected", SNAP)
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
    split: SplitOption = None,
    test_fraction: TestFractionOption = None,
    stress_scale: StressScaleOption = None,
    max_parameters: MaxParametersOption = None,
    seed: TrainingSeedOption = None,
    dry_run: DryRunOption = False,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Fit classical models of at most as many parameters to the same frames, and compare."""
    parameters = dict(locals())
    from qiskit_qff.cli.training_run import configuration, tell_data
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.training.pipeline import read_training_data

    output, config = Output(as_json=json), configuration(source, parameters)
    names = tuple(name.strip() for name in models.split(",") if name.strip())
    if unknown := [name for name in names if name not in NAMES]:
        raise ConfigError(f"--models: '{', '.join(unknown)}' is unknown; choose from {', '.join(NAMES)}.")
    if config.data.split == "none":
        raise ConfigError("split 'none' holds no frame out to compare on; choose random, block or balanced.")
    if out is not None:
        check_output_directory(out, owned=(RESULTS,), force=force)
    quantum = None if against is None else ForceField.load(model_file(against))
    data = read_training_data(config=config)
    tell_data(data, output)
    if against is not None and quantum is not None:
        _check_comparable(against, quantum, data)
    frames = {"train_frames": data.split.train, "test_frames": data.split.test}
    if dry_run:
        output.say(f"would fit    {', '.join(names)}, of at most {config.max_parameters} parameters")
        counts = f"{len(data.split.train)} to fit to, {len(data.split.test)} held out"
        output.say(f"frames       {counts}; nothing was fitted or written")
        output.finish({"models": names, "max_parameters": config.max_parameters, **frames})
        return
    rows, skipped = _compare(data, names, quantum, output)
    fair = [name for name, row in rows.items() if row["within_limit"] and name != QUANTUM]
    best = min(fair, key=lambda name: rows[name]["test"][FORCE], default=None)
    about = {"max_parameters": config.max_parameters, **frames, "seed": config.seed, "version": __version__}
    summary = {"models": rows, "best_baseline": best, "skipped": skipped, **about}
    if out is not None:
        with staged_directory(out) as staging:
            (staging / RESULTS).write_text(json_text(summary), encoding="utf-8")
    _tell(summary, output)
    if out is not None:
        output.say(f"written: {out / RESULTS}")
    output.finish(summary)


def _compare(
    data: "TrainingData", names: tuple[str, ...], quantum: "ForceField | None", output: Output
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Fit and measure: what JSON says of every model, and why baselines were skipped."""
    from qiskit_qff.model.metrics import compare_model
    from qiskit_qff.training.baselines import LINEAR, gather, snap_baseline

    rows: dict[str, dict[str, Any]] = {}
    skipped: dict[str, str] = {}
    limit, mine = data.config.max_parameters, None
    if quantum is not None:
        rows[QUANTUM] = _row(
            "the quantum model", quantum.ledger.to_dict(), compare_model(quantum, data.held_out), limit=limit
        )
        mine = rows[QUANTUM]["test"]
    with output.progress("baselines") as advance:
        maps = None if quantum is None else {model.number: model.compression for model in quantum.models}
        gathered = gather(data.training, data.config, maps=maps, progress=advance)

        def snap(*_: object) -> "Baseline":
            from qiskit_qff.simulation.bispectrum import BispectrumRows, n_components

            return snap_baseline(gathered, BispectrumRows, n_components, advance)

        fits: dict[str, Callable[..., Baseline]] = {**LINEAR, SNAP: snap}
        for name in names:
            begin = time.perf_counter()
            try:
                model = fits[name](gathered, advance)
            except MissingDependencyError as error:
                skipped[name] = str(error)
                output.note(f"{name}: skipped: {error}")
                continue
            seconds = round(time.perf_counter() - begin, 2)
            rows[name] = _row(model.words, model.ledger(), _errors(model, data), limit=limit) | {"seconds": seconds}
            if mine is not None:
                theirs = rows[name]["test"]
                ratios = {"force_mae": mine[FORCE] / theirs[FORCE], "energy_mae": mine[ENERGY] / theirs[ENERGY]}
                rows[name]["quantum_over_this"] = ratios
    return rows, skipped


def _errors(model: "Baseline", data: "TrainingData") -> "Comparison":
    """Predictions of a baseline beside labels, on frames held out."""
    from qiskit_qff.model.metrics import compare

    found = [model.predict(frame) for frame in data.held_out]
    return compare(data.held_out, energies=[e for e, _ in found], forces=[f for _, f in found])


def _row(words: str, ledger: dict[str, Any], errors: "Comparison", *, limit: int) -> dict[str, Any]:
    """What JSON says of one model."""
    from qiskit_qff.model.metrics import measure

    count = ledger["n_trainable"]
    return {
        "description": words,
        "n_trainable": count,
        "within_limit": count <= limit,
        "ledger": ledger,
        "test": measure(errors).to_dict(),
    }


def _check_comparable(against: Path, quantum: "ForceField", data: "TrainingData") -> None:
    """Refuse a run that held out other frames, or was fitted to stresses where baselines would not be."""
    record = model_file(against).with_name("metrics.json")
    if record.is_file():
        held_out = json.loads(record.read_text(encoding="utf-8")).get("test_frames")
        if held_out != data.split.test.tolist():
            raise ConfigError(
                f"--against {against}: it held out other frames than this split does; its errors could not be "
                f"compared. Give its own configuration, {model_file(against).with_name('config.yaml')}, as SOURCE."
            )
    theirs, ours = quantum.stress_scale, data.config.loss.stress_scale_mev_per_ang3
    if (theirs is None) != (ours is None):
        words = "not fitted to stresses, the baselines would be" if theirs is None else "fitted to stresses, too"
        remedy = "leave --stress-scale out" if theirs is None else f"give --stress-scale {theirs:g}"
        raise ConfigError(f"--against {against}: it was {words}; to compare like with like, {remedy}.")


def _tell(summary: dict[str, Any], output: Output) -> None:
    """Print the table, and who is best."""
    rows, best = summary["models"], summary["best_baseline"]
    output.table(
        f"errors on {len(summary['test_frames'])} frames held out, {len(summary['train_frames'])} fitted to",
        ("model", "parameters", "energy MAE", "RMSE (meV/atom)", "force MAE", "RMSE (meV/Å)", "quantum/this"),
        [
            (
                row["description"] + ("" if row["within_limit"] else " (beyond the limit)"),
                row["n_trainable"],
                row["test"][ENERGY],
                row["test"]["energy_rmse_mev_per_atom"],
                row["test"][FORCE],
                row["test"]["force_rmse_mev_per_ang"],
                row.get("quantum_over_this", {}).get("force_mae"),
            )
            for row in rows.values()
        ],
    )
    if best is None:
        return
    ratio = rows[best].get("quantum_over_this", {}).get("force_mae")
    words = "" if ratio is None else f"; force MAE of the quantum model over its: {ratio:.3f}"
    output.say(f"best baseline by force MAE with at most {summary['max_parameters']} parameters: {best}{words}")
