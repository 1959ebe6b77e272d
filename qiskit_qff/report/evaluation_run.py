"""What ``qff evaluate --out`` and ``qff baseline --out`` kept, on the page: errors, noise and shots, other models."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qiskit_qff.bounded import read_json
from qiskit_qff.errors import DataError
from qiskit_qff.model.metrics import Metrics
from qiskit_qff.report.html import Section, Table
from qiskit_qff.report.model_sections import errors_section
from qiskit_qff.report.record import Record
from qiskit_qff.report.run_part import RunPart
from qiskit_qff.report.training_page import example_sections

EVALUATION, BASELINES = "evaluation.json", "baselines.json"
NOT_IN_TRAINING = "not in training"
"""Name of the frames that a model has not seen, where others of the set were trained on."""
_NOISE = {
    "backend": "backend",
    "strategy": "strategy",
    "design": "states that M is measured by",
    "mitigation": "error mitigation",
    "dynamical_decoupling": "dynamical decoupling",
    "n_circuits": "circuits",
    "n_shots": "shots",
    "qpu_seconds": "processor time (s, estimated)",
    "energy_std_mev_per_atom": "standard error of energies (meV/atom)",
    "force_std_mev_per_ang": "standard error of forces (meV/Å)",
    "stress_std_mev_per_ang3": "standard error of stresses (meV/Å³)",
    "seed": "seed",
}


def is_evaluation(directory: Path) -> bool:
    """Whether ``qff evaluate --out`` wrote this directory."""
    return (directory / EVALUATION).is_file()


def read_evaluation(directory: Path) -> RunPart:
    """Errors on a labelled set, and what a backend did if one was used.

    Args:
        directory: what ``qff evaluate --out`` wrote.

    Raises:
        DataError: if a file is damaged.
    """
    told = _object(directory / EVALUATION)
    try:
        metrics = {"all": Metrics.from_dict(told)}
        if "unseen" in told:
            metrics[NOT_IN_TRAINING] = Metrics.from_dict(told["unseen"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{directory / EVALUATION}: damaged or edited ({error}). Evaluate again.") from error
    record = Record.read(directory)
    missing = () if record is not None else ("No parity plots: the predictions (record.json) are gone.",)
    record = record or Record()
    example = () if record.example is None else example_sections(record.example)
    name = str(told.get("data", "all"))
    sections = [errors_section(record.comparisons, metrics), *example]
    if "backend" in told or "force_std_mev_per_ang" in told:
        sections.insert(1, noise_section(told))
    which, headline = list(metrics.items())[-1]
    words = "" if which == "all" else f", {which}"
    return RunPart(
        kind="evaluation",
        title=f"Evaluation on {name}",
        sections=tuple(sections),
        lead=(*_frames(told, metrics["all"].n_frames, name), *missing),
        tiles=(
            (f"{headline.energy_mae_mev_per_atom:.2f} meV/atom", f"energy MAE{words}"),
            (f"{headline.force_mae_mev_per_ang:.0f} meV/Å", f"force MAE{words}"),
        ),
        footer=_versions(record.environment),
        missing=missing,
    )


def _frames(told: Mapping[str, Any], n_frames: int, name: str) -> tuple[str, ...]:
    """How many frames there were, and how many of them the model was trained on."""
    seen = told.get("n_frames_seen_in_training")
    about = (f"Evaluated on {n_frames} frames of {name}.",)
    if not seen:
        return about
    return (*about, f"The model was trained on {seen} of them, so errors over all frames are too small.")


def noise_section(told: Mapping[str, Any]) -> Section:
    """What was measured on which backend, with how many shots, and how uncertain it is.

    Args:
        told: what ``qff evaluate`` said.
    """
    rows = tuple((words, _cell(told[key])) for key, words in _NOISE.items() if told.get(key) is not None)
    return Section(title="Noise and shots", tables=(Table("Measurement", ("what", "value"), rows),))


def is_baseline_run(directory: Path) -> bool:
    """Whether ``qff baseline --out`` wrote this directory."""
    return (directory / BASELINES).is_file()


def read_baselines(directory: Path) -> RunPart:
    """Classical models beside the quantum one.

    Args:
        directory: what ``qff baseline --out`` wrote.

    Raises:
        DataError: if the file is damaged.
    """
    told = _object(directory / BASELINES)
    header = ("model", "parameters", "energy MAE (meV/atom)", "force MAE (meV/Å)", "force MAE, quantum over this")
    try:
        rows = tuple(
            (
                entry["description"] if entry["within_limit"] else f"{entry['description']} (beyond the limit)",
                entry["n_trainable"],
                entry["test"]["energy_mae_mev_per_atom"],
                entry["test"]["force_mae_mev_per_ang"],
                entry.get("quantum_over_this", {}).get("force_mae"),
            )
            for entry in told["models"].values()
        )
        what = (
            f"Classical models of at most {told['max_parameters']} trainable parameters, fitted to the same "
            f"{len(told['train_frames'])} frames; errors on the {len(told['test_frames'])} held out."
        )
        text = (
            what,
            *(f"Left out: {name} ({reason})" for name, reason in told.get("skipped", {}).items()),
        )
        footer = f"Baselines: qiskit_qff {told['version']}; seed {told['seed']}."
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{directory / BASELINES}: damaged or edited ({error}). Run qff baseline again.") from error
    section = Section(title="Baselines", text=text, tables=(Table("Errors on frames held out", header, rows),))
    return RunPart(kind="baselines", title="Classical baselines", sections=(section,), footer=footer)


def _object(path: Path) -> dict[str, Any]:
    """A file that holds one JSON object.

    Raises:
        DataError: if it does not.
    """
    try:
        told = read_json(path)
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}). Write it again.") from error
    if not isinstance(told, dict):
        raise DataError(f"{path}: expected one JSON object. Write it again.")
    return told


def _cell(value: Any) -> str | int | float:
    """An entry of the table."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, (int, float)) else str(value)


def _versions(environment: Mapping[str, str]) -> str:
    """Versions in a line."""
    made = ", ".join(f"{name} {value}" for name, value in environment.items())
    return f"Evaluated with {made}." if made else ""
