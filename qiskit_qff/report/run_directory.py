"""Any directory that ``qff`` wrote, recognised by its files, and several of them on one page."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from qiskit_qff.errors import ConfigError
from qiskit_qff.report.analysis_page import ANALYSIS, analysis_sections
from qiskit_qff.report.calibration_part import calibrated_models, read_calibrations
from qiskit_qff.report.device_run import is_device_run, read_device_run
from qiskit_qff.report.evaluation_run import is_baseline_run, is_evaluation, read_baselines, read_evaluation
from qiskit_qff.report.html import Page
from qiskit_qff.report.label_run import labelled_files, read_labels
from qiskit_qff.report.learning_run import is_learning_run, read_learning_run
from qiskit_qff.report.md_run import is_md_run, read_md_run
from qiskit_qff.report.record import environment
from qiskit_qff.report.run_part import Progress, RunPart, silent
from qiskit_qff.report.training_page import environment_line, training_lead, training_sections, training_tiles
from qiskit_qff.report.training_run import is_training_run, read_training_run

_INSIDE = ("md",)
"""Runs that other runs keep inside, such as the dynamics of ``qff demo``."""


def read_run(directory: Path, *, element: str = "Li", progress: Progress = silent) -> list[RunPart]:
    """Everything that a directory holds, in the order of a page.

    Args:
        directory: what ``qff`` wrote.
        element: the mobile element of trajectories that are analysed here.
        progress: told how far long reading is.

    Raises:
        ConfigError: if it is no directory, or holds nothing of ``qff``.
        DataError: if a file is damaged.
    """
    if not directory.is_dir():
        raise ConfigError(f"{directory}: no such directory. Name what qff train, md, analyse, label, ... wrote to.")
    parts = [read(directory) for is_one, read in _KINDS if is_one(directory)]
    if models := calibrated_models(directory):
        parts.append(read_calibrations(models))
    parts += [read_labels(path) for path in labelled_files(directory)]
    places = [directory, *(directory / name for name in _INSIDE)]
    parts += [read_md_run(place, element=element, progress=progress) for place in places if is_md_run(place)]
    if not parts:
        raise ConfigError(
            f"{directory}: holds nothing that a report could show. Expected what qff train, learn, evaluate --out, "
            "baseline --out, calibrate, md, analyse or label wrote."
        )
    return parts


def runs_page(runs: Mapping[str, Sequence[RunPart]], *, title: str | None = None) -> Page:
    """One page of all runs.

    Args:
        runs: parts by the name of their directory.
        title: heading; by default that of the first part.
    """
    parts = [(name, part) for name, several in runs.items() for part in several]
    several = len(runs) > 1
    sections = tuple(
        replace(section, title=f"{name}: {section.title}") if several else section
        for name, part in parts
        for section in part.sections
    )
    tiles = tuple(
        (value, f"{words}, {name}" if several else words) for name, part in parts for value, words in part.tiles
    )
    first = parts[0][1]
    heading = title or (first.title if not several else f"{first.title}, and {_other(len(runs) - 1)}")
    footers = [part.footer for _, part in parts if part.footer]
    drawn = "Page drawn with " + ", ".join(f"{name} {value}" for name, value in environment().items()) + "."
    return Page(
        title=heading,
        lead=tuple(f"{name}: {line}" if several else line for name, part in parts for line in part.lead),
        tiles=tiles,
        sections=sections,
        footer=" ".join([*dict.fromkeys(footers), drawn]),
    )


def _training(directory: Path) -> RunPart:
    """A training run."""
    run = read_training_run(directory)
    elements = " ".join(entry.symbol for entry in run.field.ledger.species)
    return RunPart(
        kind="training",
        title=f"Quantum force field for {elements}",
        sections=training_sections(run),
        lead=training_lead(run),
        tiles=training_tiles(run),
        footer=environment_line(run),
        missing=run.missing,
    )


def _is_analysis(directory: Path) -> bool:
    """Whether ``qff analyse`` wrote this directory."""
    return (directory / ANALYSIS).is_file()


def _analysis(directory: Path) -> RunPart:
    """What ``qff analyse`` wrote."""
    return RunPart("analysis", "Trajectory analysis", analysis_sections(directory))


def _other(count: int) -> str:
    """How many more runs."""
    return f"{count} more run{'' if count == 1 else 's'}"


_KINDS: tuple[tuple[Callable[[Path], bool], Callable[[Path], RunPart]], ...] = (
    (is_training_run, _training),
    (is_learning_run, read_learning_run),
    (is_evaluation, read_evaluation),
    (is_baseline_run, read_baselines),
    (is_device_run, read_device_run),
    (_is_analysis, _analysis),
)
