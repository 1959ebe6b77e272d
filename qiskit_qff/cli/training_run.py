"""What the verbs that train share: the configuration of a run, and what they show and write of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from qiskit_qff import __version__
from qiskit_qff.cli.evaluate import metrics_table
from qiskit_qff.cli.info import print_ledger
from qiskit_qff.cli.output import Output, json_text
from qiskit_qff.errors import ConfigError
from qiskit_qff.evaluators.protocol import Cost
from qiskit_qff.model.config import TrainConfig, load_config, parse_config, with_absolute_paths
from qiskit_qff.model.ledger import parameter_count
from qiskit_qff.report.record import CONFIG, METRICS, MODEL, RECORD, Example, Record, environment
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.reading import is_shipped
from qiskit_qff.training.measured.run import measured_summary
from qiskit_qff.training.pipeline import TrainedModel, TrainingData

REPORT, FIGURES, JOURNAL = "report.html", "figures", "journal.jsonl"
OWN_FILES = (MODEL, METRICS, CONFIG, RECORD, FIGURES, REPORT)
CONFIG_SUFFIXES = {".yaml", ".yml"}
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
ESTIMATOR = ("backend", "shots", "optimizer", "steps", "start", "mitigation", "mode")
"""Parameters that give the setting of the same name in the section ``estimator``."""


def option_of(parameter: str) -> str:
    """How the option of a command's parameter is spelt."""
    return "--r-cut" if parameter == "cutoff" else f"--{parameter.replace('_', '-')}"


def configuration(source: Path, parameters: Mapping[str, Any]) -> TrainConfig:
    """The configuration of a run.

    Args:
        parameters: Of the command, by name; those in :data:`SETTINGS` and :data:`ESTIMATOR` are applied if not None.
    """
    if source.suffix.lower() in CONFIG_SUFFIXES:
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
            options[name] = option_of(parameter)
    return parse_config(settings, where=str(source), options=options)


def cost_in_words(cost: Cost) -> str:
    """Circuits, shots and seconds of training on a backend."""
    if not cost.shots:
        return f"{cost.circuits:,} circuits, exact values"
    return f"{cost.circuits:,} circuits, {cost.shots:,} shots, about {cost.seconds:,.0f} s on a processor"


def tell_data(data: TrainingData, output: Output) -> None:
    """Remark on frames that were left out and on stresses that are, or could be, fitted."""
    if data.n_broken:
        output.note(f"left out for broken frameworks: {data.n_broken} of {data.n_broken + len(data.frames)} frames")
    frames, count = data.training, count_stresses(data.training)
    if data.config.loss.stress_scale_mev_per_ang3 is not None:
        output.note(f"stresses fitted: of {count} of {len(frames)} training frames")
    elif count:
        output.note(
            f"stresses of {count} of {len(frames)} training frames are not fitted; for simulations at constant "
            "pressure, and if the calculation was converged for them, fit them: --stress-scale 2 (meV/Å³)"
        )


def count_stresses(frames: Sequence[Frame]) -> int:
    """Frames whose stress can be fitted: those with three periods."""
    return sum(frame.stress is not None and bool(frame.pbc.all()) for frame in frames)


def write_results(trained: TrainedModel, directory: Path) -> None:
    """Write model, errors, configuration and report into an empty directory."""
    result = trained.result
    result.force_field.save(directory / MODEL)
    (directory / METRICS).write_text(json_text(summary(trained)), encoding="utf-8")
    (directory / CONFIG).write_text(config_text(trained.config), encoding="utf-8")
    name = list(trained.comparisons)[-1]
    members, words = (trained.data.held_out, "held out") if name == "test" else (trained.data.training, "trained on")
    Record(
        comparisons=trained.comparisons,
        losses=tuple(tuple(run.losses.tolist()) for run in result.restarts),
        selection=None if result.selection is None else (1.0, *result.selection.losses.tolist()),
        example=Example.typical(members, trained.comparisons[name], words=words),
        environment=environment(),
    ).write(directory)


def summary(trained: TrainedModel) -> dict[str, Any]:
    """The results as plain data: what ``metrics.json`` and ``--json`` say."""
    result, posterior, uncertainty = trained.result, trained.force_field.posterior, None
    fitted = 0 if trained.config.loss.stress_scale_mev_per_ang3 is None else count_stresses(trained.data.training)
    if trained.coverage is not None and posterior is not None:
        uncertainty = {"factor": posterior.factor, "n_frames": posterior.n_held_out, **trained.coverage.to_dict()}
    return {
        **parameter_count(result.force_field.n_trainable),
        "ledger": result.force_field.ledger.to_dict(),
        **{name: metrics.to_dict() for name, metrics in trained.metrics.items()},
        "loss": result.loss,
        "linear_loss": result.linear_loss,
        "bound": result.bound,
        "gap": result.gap,
        "stresses_fitted": fitted,
        "train_frames": trained.split.train,
        "test_frames": trained.split.test,
        "seed": trained.config.seed,
        "seconds": round(trained.seconds, 2),
        "version": __version__,
        "uncertainty": uncertainty,
    } | ({} if trained.measured is None else {"estimator": measured_summary(trained.measured, trained.config)})


def config_text(config: TrainConfig) -> str:
    """The configuration as YAML that ``qff train`` reads back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def tell(trained: TrainedModel, output: Output) -> None:
    """Print ledger, errors and the distance from the bound."""
    print_ledger(trained.result.force_field, output)
    if (measured := trained.measured) is not None:
        start, final = measured.start, measured.final
        output.say(
            f"loss on the backend: {start.loss:.4g} at the start, {final.loss:.4g} ± {final.std_error:.2g} after "
            f"{len(measured.steps)} steps (exact: {start.exact_loss:.4g}, {final.exact_loss:.4g}); "
            f"{cost_in_words(measured.cost)}"
        )
    metrics_table(trained.metrics, output)
    result = trained.result
    if trained.remark is not None:
        output.note(trained.remark)
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
