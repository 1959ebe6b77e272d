"""What ``qff baseline`` does: split, fit every model, measure, and set the quantum model beside them."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qiskit_qff import __version__
from qiskit_qff.cli.baseline_snap import snap_baselines
from qiskit_qff.cli.options import model_file
from qiskit_qff.cli.output import Output, plain
from qiskit_qff.cli.stresses import fitted_scale
from qiskit_qff.cli.training_run import tell_data
from qiskit_qff.errors import ConfigError, MissingDependencyError
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.metrics import Metrics, compare, compare_model, measure
from qiskit_qff.report.training_run import METRICS
from qiskit_qff.structures.splitting import Split
from qiskit_qff.training.baselines.baseline import Baseline
from qiskit_qff.training.baselines.suite import BASELINES, BaselineData, gather
from qiskit_qff.training.pipeline import TrainingData, read_training_data

if TYPE_CHECKING:
    from qiskit_qff.model.config import TrainConfig
    from qiskit_qff.structures.frame import Frame

RESULTS = "baselines.json"
OWN_FILES = (RESULTS,)
QUANTUM, SNAP = "quantum", "snap"
NAMES = (*BASELINES, SNAP)
"""All baselines."""
Step = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Row:
    """One model and its errors on the frames held out."""

    name: str
    """Its key."""
    words: str
    """What it is."""
    ledger: dict[str, Any]
    """What it was fitted with."""
    metrics: Metrics
    """Errors on the frames held out."""
    seconds: float
    """Wall time of the fit in s."""
    comparable: bool = True
    """Whether it keeps to the limit on parameters."""


@dataclass(frozen=True, eq=False)
class BaselineComparison:
    """All models of one run."""

    config: "TrainConfig"
    """What ``qff train`` would be asked for."""
    split: Split
    """Frames fitted to and held out."""
    rows: tuple[Row, ...]
    """Baselines, and the quantum model first where one was given."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Why a baseline was left out, by name."""


def choose(models: str | None) -> tuple[str, ...]:
    """Names of the baselines asked for.

    Args:
        models: Names separated by commas; None for all.

    Raises:
        ConfigError: If one is unknown.
    """
    if models is None:
        return NAMES
    names = tuple(name.strip() for name in models.split(",") if name.strip())
    unknown = [name for name in names if name not in NAMES]
    if unknown or not names:
        raise ConfigError(f"--models: '{', '.join(unknown) or models}' is unknown; choose from {', '.join(NAMES)}.")
    return names


def compare_baselines(
    config: "TrainConfig", names: Sequence[str], output: Output, *, against: Path | None = None
) -> BaselineComparison:
    """Fit and measure.

    Args:
        config: What ``qff train`` would be asked for.
        names: Baselines to fit.
        output: Shows the progress.
        against: Directory or model of ``qff train``, on the same split.

    Raises:
        ConfigError: If nothing is held out, or the run to compare with held out other frames.
        DataError: If the data can't be read or fitted to.
    """
    quantum, data = _prepare(config, against, output)
    rows, skipped = [], {}
    if quantum is not None:
        rows.append(quantum_row(quantum, data.held_out))
    with output.progress("baselines") as advance:
        maps = None if quantum is None else {model.number: model.compression for model in quantum.models}
        gathered = gather(data.training, data.config, maps=maps, progress=advance)
        for name in names:
            try:
                rows.extend(fit_rows(name, gathered, data.held_out, seed=config.seed, progress=advance))
            except MissingDependencyError as error:
                skipped[name] = str(error)
    for name, reason in skipped.items():
        output.note(f"{name}: skipped: {reason}")
    return BaselineComparison(data.config, data.split, tuple(rows), skipped)


def rehearse(config: "TrainConfig", names: Sequence[str], output: Output, *, against: Path | None = None) -> None:
    """Check data, split and the run to compare with, and say what would be fitted; fit nothing.

    Args:
        config: What ``qff train`` would be asked for.
        names: Baselines that would be fitted.
        output: Where to say it.
        against: Directory or model of ``qff train``, on the same split.

    Raises:
        ConfigError: If nothing is held out, or the run to compare with held out other frames.
        DataError: If the data can't be read.
    """
    split = _prepare(config, against, output)[1].split
    output.say(f"would fit    {', '.join(names)}, of at most {config.max_parameters} parameters")
    output.say(f"frames       {len(split.train)} to fit to, {len(split.test)} held out; nothing was fitted or written")
    output.finish(
        {
            "models": list(names),
            "max_parameters": config.max_parameters,
            "train_frames": split.train,
            "test_frames": split.test,
        }
    )


def _prepare(config: "TrainConfig", against: Path | None, output: Output) -> tuple[ForceField | None, TrainingData]:
    """The model to compare with, and the frames as ``qff train`` would divide them.

    Raises:
        ConfigError: If nothing is held out, or the run to compare with held out other frames.
    """
    if config.data.split == "none":
        raise ConfigError("split 'none' holds no frame out to compare on; choose random, block or balanced.")
    quantum = None if against is None else ForceField.load(model_file(against))
    data = read_training_data(config=config)
    tell_data(data, output)
    if against is not None:
        _check_split(against, data.split)
        assert quantum is not None
        _check_loss(against, quantum, config)
    return quantum, data


def quantum_row(model: ForceField, test: "Sequence[Frame]") -> Row:
    """Errors of the quantum model.

    Args:
        model: The model.
        test: Frames held out.
    """
    metrics = measure(compare_model(model, test))
    return Row(QUANTUM, "the quantum model", model.ledger.to_dict(), metrics, float("nan"))


def fit_rows(name: str, data: BaselineData, test: "Sequence[Frame]", *, seed: int, progress: Step) -> list[Row]:
    """Fit one baseline and measure it; some come in two sizes.

    Args:
        name: Which one.
        data: What all baselines share.
        test: Frames held out.
        seed: Seed of its random starts.
        progress: Called as work proceeds.

    Raises:
        MissingDependencyError: If it needs a package that is not installed.
    """
    begin = time.perf_counter()
    if name == SNAP:
        models = snap_baselines(data, progress)
    else:
        models = [BASELINES[name](data, np.random.default_rng(seed), progress)]
    seconds = time.perf_counter() - begin
    return [measured_row(fitted, test, seconds, data.config.max_parameters) for fitted in models]


def measured_row(fitted: Baseline, test: "Sequence[Frame]", seconds: float, limit: int) -> Row:
    """Errors of a fitted baseline.

    Args:
        fitted: The baseline.
        test: Frames held out.
        seconds: Wall time of the fit in s.
        limit: Most trainable parameters of a fair comparison.
    """
    predictions = [fitted.predict(frame) for frame in test]
    metrics = measure(compare(test, energies=[e for e, _ in predictions], forces=[f for _, f in predictions]))
    ledger = fitted.ledger
    return Row(fitted.name, fitted.words, ledger.to_dict(), metrics, seconds, ledger.n_trainable <= limit)


def _check_split(against: Path, split: Split) -> None:
    """Refuse a run that held out other frames.

    Raises:
        ConfigError: Saying how to get the same.
    """
    record = model_file(against).with_name(METRICS)
    if not record.is_file():
        return
    held_out = json.loads(record.read_text(encoding="utf-8")).get("test_frames")
    if held_out != split.test.tolist():
        raise ConfigError(
            f"--against {against}: it held out other frames than this split does; its errors could not be compared. "
            f"Give its own configuration, {model_file(against).with_name('config.yaml')}, as SOURCE."
        )


def _check_loss(against: Path, quantum: "ForceField", config: "TrainConfig") -> None:
    """Refuse a model that was fitted to stresses where baselines would not be, or the other way round.

    Raises:
        ConfigError: then.
    """
    theirs, ours = fitted_scale(quantum), config.loss.stress_scale_mev_per_ang3
    if (theirs is None) != (ours is None):
        words = "not fitted to stresses, the baselines would be" if theirs is None else "fitted to stresses, too"
        remedy = "leave --stress-scale out" if theirs is None else f"give --stress-scale {theirs:g}"
        raise ConfigError(f"--against {against}: it was {words}; to compare like with like, {remedy}.")


def ratios(comparison: BaselineComparison) -> dict[str, dict[str, float]]:
    """Error of the quantum model over that of each baseline; below one the quantum model is better.

    Args:
        comparison: All models.
    """
    quantum = next((row.metrics for row in comparison.rows if row.name == QUANTUM), None)
    if quantum is None:
        return {}
    return {
        row.name: {
            "force_mae": quantum.force_mae_mev_per_ang / row.metrics.force_mae_mev_per_ang,
            "energy_mae": quantum.energy_mae_mev_per_atom / row.metrics.energy_mae_mev_per_atom,
        }
        for row in comparison.rows
        if row.name != QUANTUM
    }


def summary(comparison: BaselineComparison) -> dict[str, Any]:
    """The comparison as plain data: what ``baselines.json`` and ``--json`` say."""
    quotients = ratios(comparison)
    fair = [row for row in comparison.rows if row.comparable and row.name != QUANTUM]
    best = min(fair, key=lambda row: row.metrics.force_mae_mev_per_ang, default=None)
    return {
        "models": {
            row.name: {
                "description": row.words,
                "n_trainable": row.ledger["n_trainable"],
                "within_limit": row.comparable,
                "ledger": row.ledger,
                "test": row.metrics.to_dict(),
                "seconds": round(row.seconds, 2),
                **({"quantum_over_this": quotients[row.name]} if row.name in quotients else {}),
            }
            for row in comparison.rows
        },
        "best_baseline": None if best is None else best.name,
        "skipped": comparison.skipped,
        "max_parameters": comparison.config.max_parameters,
        "train_frames": comparison.split.train,
        "test_frames": comparison.split.test,
        "seed": comparison.config.seed,
        "version": __version__,
    }


def write_results(comparison: BaselineComparison, directory: Path) -> None:
    """Write the comparison into an empty directory.

    Raises:
        OSError: If it can't be written.
    """
    text = json.dumps(plain(summary(comparison)), indent=1) + "\n"
    (directory / RESULTS).write_text(text, encoding="utf-8")


def tell(comparison: BaselineComparison, output: Output) -> None:
    """Print the table, and who is best."""
    quotients = ratios(comparison)
    output.table(
        f"errors on {len(comparison.split.test)} frames held out, {len(comparison.split.train)} fitted to",
        ("model", "parameters", "energy MAE", "RMSE (meV/atom)", "force MAE", "RMSE (meV/Å)", "quantum/this"),
        [
            (
                row.words if row.comparable else f"{row.words} (beyond the limit)",
                row.ledger["n_trainable"],
                row.metrics.energy_mae_mev_per_atom,
                row.metrics.energy_rmse_mev_per_atom,
                row.metrics.force_mae_mev_per_ang,
                row.metrics.force_rmse_mev_per_ang,
                quotients[row.name]["force_mae"] if row.name in quotients else None,
            )
            for row in comparison.rows
        ],
    )
    best = summary(comparison)["best_baseline"]
    if best is not None:
        ratio = f"; force MAE of the quantum model over its: {quotients[best]['force_mae']:.3f}" if quotients else ""
        output.say(
            f"best baseline by force MAE with at most {comparison.config.max_parameters} parameters: {best}{ratio}"
        )
