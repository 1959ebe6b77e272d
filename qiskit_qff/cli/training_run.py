"""One training run from data to results, as ``qff train`` and ``qff demo`` share it."""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from ase.data import chemical_symbols

from qiskit_qff import __version__
from qiskit_qff.cli.estimator_run import JOURNAL, measured_summary, tell_cost, tell_measured, train_on_backend
from qiskit_qff.cli.evaluate import compare_exactly, metrics_table
from qiskit_qff.cli.info import print_ledger
from qiskit_qff.cli.output import Output, plain
from qiskit_qff.cli.stresses import count_stresses, tell_stresses
from qiskit_qff.durable import write_atomically
from qiskit_qff.errors import DataError
from qiskit_qff.report.figures import save
from qiskit_qff.report.html import Page, Section, write_page
from qiskit_qff.report.metrics import Comparison, Metrics, measure
from qiskit_qff.report.record import RECORD, Example, Record, environment
from qiskit_qff.report.training_page import training_page as page_of
from qiskit_qff.report.training_run import CONFIG, METRICS, MODEL, TrainingRun
from qiskit_qff.report.uncertainty import Coverage, calibrated, cross_checked_coverage, spreads_of
from qiskit_qff.structures.framework import whole_frames
from qiskit_qff.structures.shipped import read_configured
from qiskit_qff.structures.splitting import Split
from qiskit_qff.structures.validation import ensure_trainable
from qiskit_qff.training.defaults import with_data_defaults
from qiskit_qff.training.holdout import hold_out
from qiskit_qff.training.trainer import TrainingResult, check_labels, loss_weights, train

if TYPE_CHECKING:
    from qiskit_qff.model.config import TrainConfig
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.structures.frame import Frame
    from qiskit_qff.training.measured.run import MeasuredTraining
    from qiskit_qff.training.workers import Workers

REPORT, FIGURES = "report.html", "figures"
OWN_FILES = (MODEL, METRICS, CONFIG, RECORD, FIGURES, REPORT)
KEPT_FILES = (JOURNAL,)
"""Files of training on a backend that results are written beside."""


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A trained model with its errors on the frames it saw and on those it did not."""

    config: "TrainConfig"
    """What was asked for, with every default spelt out."""
    frames: "list[Frame]"
    """All frames of the data set."""
    split: Split
    """Which of them were trained on."""
    result: TrainingResult
    """The force field and how training went."""
    comparisons: dict[str, Comparison]
    """Labels and predictions of ``train`` and, unless nothing was held out, ``test``."""
    metrics: dict[str, Metrics]
    """Errors by the same names."""
    seconds: float
    """Wall time of reading and training in s."""
    measured: "MeasuredTraining | None" = None
    """How training on a backend went; None where losses were computed."""
    coverage: Coverage | None = None
    """How far uncertainties can be trusted; None where nothing was held out, or there is no committee."""


def read_training_frames(config: "TrainConfig", output: Output) -> "list[Frame]":
    """The frames of the data set, checked to be fit for training.

    Args:
        config: which frames.
        output: where to say which were left out.

    Raises:
        DataError: if a file can't be read or its frames can't be trained on.
    """
    frames = read_configured(config.data.path)
    if config.data.framework == "whole":
        whole = whole_frames(frames)
        output.note(f"left out for broken frameworks: {len(frames) - len(whole)} of {len(frames)} frames")
        frames = whole
    ensure_trainable(frames)
    return frames


def train_model(
    config: "TrainConfig",
    output: Output,
    *,
    out: Path | None = None,
    resume: bool = False,
    workers: "Workers | None" = None,
) -> TrainedModel:
    """Read, split, train and measure.

    Args:
        config: what to do.
        output: shows the progress.
        out: directory that training on a backend keeps its measurements in.
        resume: whether to go on with those in it.
        workers: who sums over frames; this process by default.

    Raises:
        QFFError: from any step, before anything is written.
    """
    begin = time.perf_counter()
    frames = read_training_frames(config, output)
    rng = np.random.default_rng(config.seed)
    split = hold_out(frames, config.data, rng=rng)
    _check_species(frames, split)
    chosen, measured = [frames[index] for index in split.train], None
    config = with_data_defaults(config, chosen)
    with output.progress("training") as advance:
        if config.estimator.backend is None:
            result = train(chosen, config, rng=rng, progress=advance, workers=workers)
        else:
            assert out is not None
            result, measured = train_on_backend(
                chosen, config, out=out, resume=resume, rng=rng, progress=advance, output=output
            )
    seconds = time.perf_counter() - begin
    tell_stresses(chosen, config, output)
    sides = {"train": split.train, "test": split.test}
    comparisons = {
        name: compare_exactly(result.force_field, [frames[index] for index in side], output)
        for name, side in sides.items()
        if len(side)
    }
    metrics = {name: measure(comparison) for name, comparison in comparisons.items()}
    held_out = [frames[index] for index in split.test]
    field, coverage = _calibrate(result.force_field, held_out, comparisons.get("test"), output)
    result = replace(result, force_field=field)
    return TrainedModel(config, frames, split, result, comparisons, metrics, seconds, measured, coverage)


def _calibrate(
    field: "ForceField", held_out: "list[Frame]", comparison: Comparison | None, output: Output
) -> "tuple[ForceField, Coverage | None]":
    """Fit the factor of the committee to frames held out; one frame can't be judged by another."""
    if comparison is None or len(held_out) < 2 or any(m.spread is None for m in field.models):
        return field, None
    with output.progress("uncertainty") as advance:
        spreads = spreads_of(field, held_out, comparison, progress=advance)
    if not spreads.forces.min() > 0.0:  # an isolated atom, or training without any error
        return field, None
    return calibrated(field, spreads), cross_checked_coverage(spreads)


def _check_species(frames: "list[Frame]", split: Split) -> None:
    """Refuse, before any training, a split whose test frames hold an element that no training frame holds.

    Raises:
        DataError: naming element and frame.
    """
    known = {int(number) for index in split.train for number in frames[index].numbers}
    for index in split.test:
        unknown = sorted(set(frames[index].numbers.tolist()) - known)
        if unknown:
            raise DataError(
                f"{frames[index].where}: held out, but no training frame contains {chemical_symbols[unknown[0]]}. "
                "Choose another --seed, --split or --test-fraction, or add frames with this element."
            )


def rehearse(config: "TrainConfig", output: Output) -> None:
    """Check data and configuration, show the configuration and what a backend would cost; train nothing.

    Args:
        config: what would be done.
        output: where to show it.

    Raises:
        QFFError: if it could not be done.
    """
    frames = read_training_frames(config, output)
    output.say(config_text(config))
    split = hold_out(frames, config.data, rng=np.random.default_rng(config.seed))
    chosen = [frames[index] for index in split.train]
    check_labels(chosen, loss_weights(config))
    tell_stresses(chosen, config, output)
    if config.estimator.backend is None:
        return
    with output.progress("preparing") as advance:
        tell_cost(chosen, config, progress=advance, output=output)


def write_results(trained: TrainedModel, directory: Path) -> None:
    """Write model, errors, configuration, what a report is drawn from, figures and report into an empty directory.

    Raises:
        OSError: if a file can't be written.
    """
    trained.result.force_field.save(directory / MODEL)
    (directory / METRICS).write_text(json.dumps(plain(summary(trained)), indent=1) + "\n", encoding="utf-8")
    (directory / CONFIG).write_text(config_text(trained.config), encoding="utf-8")
    run = training_run(trained)
    run.record.write(directory)
    page = page_of(run)
    (directory / FIGURES).mkdir()
    for section in page.sections:
        for panel in section.panels:
            save(panel.figure, directory / FIGURES / f"{panel.name}.png")
    write_page(page, directory / REPORT)


def training_page(trained: TrainedModel, *, more: tuple[Section, ...] = ()) -> Page:
    """The report of a training run.

    Args:
        trained: the run.
        more: sections to put after those on errors and training.
    """
    return page_of(training_run(trained), more=more)


def training_run(trained: TrainedModel) -> TrainingRun:
    """The run as its page needs it."""
    result = trained.result
    name = list(trained.comparisons)[-1]
    side, words = (trained.split.test, "held out") if name == "test" else (trained.split.train, "trained on")
    members = [trained.frames[index] for index in side]
    selection = None if result.selection is None else (1.0, *result.selection.losses.tolist())
    record = Record(
        comparisons=trained.comparisons,
        losses=tuple(tuple(run.losses.tolist()) for run in result.restarts),
        selection=selection,
        example=Example.typical(members, trained.comparisons[name], words=words),
        environment=environment(),
    )
    return TrainingRun(
        field=result.force_field,
        config=trained.config,
        metrics=trained.metrics,
        loss=result.loss,
        linear_loss=result.linear_loss,
        bound=result.bound,
        n_train=len(trained.split.train),
        n_test=len(trained.split.test),
        seconds=trained.seconds,
        record=record,
        coverage=trained.coverage,
        estimator=None if trained.measured is None else measured_summary(trained.measured, trained.config),
    )


def summary(trained: TrainedModel) -> dict[str, Any]:
    """The results as plain data: what ``metrics.json`` and ``--json`` say."""
    result = trained.result
    return {
        "n_trainable": result.force_field.n_trainable,
        "ledger": result.force_field.ledger.to_dict(),
        **{name: metrics.to_dict() for name, metrics in trained.metrics.items()},
        "loss": result.loss,
        "linear_loss": result.linear_loss,
        "bound": result.bound,
        "gap": result.gap,
        "stresses_fitted": _stresses_fitted(trained),
        "train_frames": trained.split.train,
        "test_frames": trained.split.test,
        "seed": trained.config.seed,
        "seconds": round(trained.seconds, 2),
        "version": __version__,
        "uncertainty": None if trained.coverage is None else _uncertainty(trained),
    } | ({} if trained.measured is None else {"estimator": measured_summary(trained.measured, trained.config)})


def _stresses_fitted(trained: TrainedModel) -> int:
    """Training frames whose stress was fitted."""
    if trained.config.loss.stress_scale_mev_per_ang3 is None:
        return 0
    return count_stresses([trained.frames[index] for index in trained.split.train])


def _uncertainty(trained: TrainedModel) -> dict[str, Any]:
    """Factor and coverage as plain data."""
    assert trained.coverage is not None
    calibration = trained.result.force_field.uncertainty
    assert calibration is not None
    return {"factor": calibration.factor, "n_frames": calibration.n_frames, **trained.coverage.to_dict()}


def keep_config(config: "TrainConfig", out: Path, *, resume: bool) -> None:
    """Put the configuration of a run on a backend into its directory, so that the run can be resumed.

    Args:
        config: what to do.
        out: the directory; must exist.
        resume: whether to go on with the measurements in it; otherwise older ones are removed.

    Raises:
        OSError: if it can't be written.
    """
    if not resume:
        (out / JOURNAL).unlink(missing_ok=True)
    write_atomically(out / CONFIG, config_text(config))


def config_text(config: "TrainConfig") -> str:
    """The configuration as YAML that ``qff train`` reads back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def tell(trained: TrainedModel, output: Output) -> None:
    """Print ledger, errors and the distance from the bound."""
    print_ledger(trained.result.force_field, output)
    if trained.measured is not None:
        tell_measured(trained.measured, output)
    metrics_table(trained.metrics, output)
    result = trained.result
    output.say(
        f"loss per frame: {result.loss:.4g} (linear {result.linear_loss:.4g}, "
        f"bound that no circuit can beat {result.bound:.4g})"
    )
    if trained.coverage is not None:
        found = trained.coverage
        output.say(
            f"uncertainty: {found.force_std_mev_per_ang:.3g} meV/Å, {found.energy_std_mev_per_atom:.3g} meV/atom; "
            f"68 % intervals hold {found.forces[6]:.0%} of held-out force errors, {found.energies[6]:.0%} of energies"
        )
