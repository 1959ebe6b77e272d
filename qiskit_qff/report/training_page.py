"""The page of a training run: errors, forces on a structure, training, uncertainty, ledger, circuits, channels."""

from pathlib import Path

import yaml

from qiskit_qff.report.html import Page, Section, Table
from qiskit_qff.report.measured_training import measured_section
from qiskit_qff.report.model_sections import (
    channels_section,
    circuits_section,
    errors_section,
    ledger_section,
    training_section,
)
from qiskit_qff.report.record import Example, environment
from qiskit_qff.report.structure_scene import ForceSet, structure_scene
from qiskit_qff.report.training_run import TrainingRun
from qiskit_qff.report.uncertainty import uncertainty_section

_MAGNIFIED = 5.0


def training_page(run: TrainingRun, *, more: tuple[Section, ...] = ()) -> Page:
    """The whole page of one run.

    Args:
        run: the run.
        more: sections to put after those on errors and training.
    """
    elements = " ".join(entry.symbol for entry in run.field.ledger.species)
    return Page(
        title=f"Quantum force field for {elements}",
        lead=training_lead(run),
        tiles=training_tiles(run),
        sections=training_sections(run, more=more),
        footer=environment_line(run),
    )


def training_lead(run: TrainingRun) -> tuple[str, ...]:
    """What was trained on, in a sentence, and what is missing."""
    split = run.config.data.split
    words = f"Trained on {run.n_train} frames, {run.n_test} held out (split: {split}); data: {_data(run)}."
    return (words, *run.missing)


def training_tiles(run: TrainingRun) -> tuple[tuple[str, str], ...]:
    """Headline numbers."""
    name, metrics = list(run.metrics.items())[-1]
    return (
        (f"{run.field.n_trainable} of {run.config.max_parameters}", "trainable parameters"),
        (f"{metrics.energy_mae_mev_per_atom:.2f} meV/atom", f"energy MAE, {name}"),
        (f"{metrics.force_mae_mev_per_ang:.0f} meV/Å", f"force MAE, {name}"),
        (f"{run.field.n_qubits}", "qubits of the largest circuit"),
        (f"{run.seconds:.0f} s", "reading and training"),
    )


def training_sections(run: TrainingRun, *, more: tuple[Section, ...] = ()) -> tuple[Section, ...]:
    """All parts.

    Args:
        run: the run.
        more: sections to put after those on errors and training.
    """
    measured = (measured_section(run.estimator, bound=run.bound),) if run.estimator is not None else ()
    example = () if run.record.example is None else example_sections(run.record.example)
    return (
        errors_section(run.record.comparisons, run.metrics),
        *example,
        training_section(run),
        uncertainty_section(run.field, run.coverage),
        *measured,
        *more,
        ledger_section(run.field),
        circuits_section(run.field),
        channels_section(run.field),
        environment_section(run),
    )


def example_sections(example: Example) -> tuple[Section, ...]:
    """One structure with reference and predicted forces; empty where it is too large to see anything."""
    assert example.frame.forces is not None
    forces = (
        ForceSet("ab initio", example.frame.forces),
        ForceSet("model", example.predicted),
        ForceSet(
            f"model − ab initio, {_MAGNIFIED:g} times longer",
            example.predicted - example.frame.forces,
            magnified=_MAGNIFIED,
            shown=False,
        ),
    )
    caption = f"{example.words[0].upper()}{example.words[1:]}. Bonds across the cell's borders are not drawn."
    scene = structure_scene(example.frame, forces, name="forces", caption=caption)
    return () if scene is None else (Section(title="Forces on a structure", scenes=(scene,)),)


def environment_section(run: TrainingRun) -> Section:
    """Versions, seed and the whole configuration."""
    versions = run.record.environment
    rows = (*versions.items(), ("seed of every random choice", run.config.seed))
    text = () if versions else ("The run kept no versions of the packages it was made with.",)
    settings = run.config.model_dump(mode="json")
    settings["data"]["path"] = _data(run)
    shown = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True).rstrip()
    return Section(
        title="Environment",
        text=text,
        tables=(Table("Versions and seed", ("what", "value"), tuple((name, str(value)) for name, value in rows)),),
        drawings=(("Configuration", shown),),
    )


def environment_line(run: TrainingRun) -> str:
    """Versions and seed, for the foot of the page."""
    versions = run.record.environment or environment()
    made = "Made with" if run.record.environment else "Drawn with"
    return f"{made} {', '.join(f'{name} {value}' for name, value in versions.items())}; seed {run.config.seed}."


def _data(run: TrainingRun) -> str:
    """Names of the data files, without their place on a machine."""
    path = run.config.data.path
    if path is None:
        return "frames given in Python"
    return ", ".join(Path(one).name for one in ([path] if isinstance(path, str) else path))
