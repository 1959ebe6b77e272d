"""Calibrated models on the page: where each M was measured, how far it is off, how uncertain it is."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from matplotlib import rc_context
from matplotlib.figure import Figure

from qiskit_qff.array_types import FloatArray
from qiskit_qff.bounded import read_json
from qiskit_qff.errors import QFFError
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.remote.run_directory import calibrated_model
from qiskit_qff.model.species_model import SpeciesModel
from qiskit_qff.report.figures import INK, PALETTE, STYLE
from qiskit_qff.report.html import Panel, Section, Table
from qiskit_qff.report.run_part import RunPart

_LARGEST_FILE = 200_000_000
"""Bytes; no model file is as large."""


def calibrated_models(directory: Path) -> dict[str, ForceField]:
    """Models in a directory that ``qff calibrate`` made, by file name; of a directory of jobs what they measured.

    Args:
        directory: any directory.
    """
    found: dict[str, ForceField] = {}
    if (directory / "run.json").is_file() and any((directory / "results").glob("*.npz")):
        found[directory.name] = calibrated_model(directory)
    for path in sorted(directory.glob("*.json")):
        if path.stat().st_size > _LARGEST_FILE or not _is_calibrated_file(path):
            continue
        try:
            found[path.name] = ForceField.load(path)
        except QFFError:
            continue  # some other program's file
    return found


def read_calibrations(models: dict[str, ForceField]) -> RunPart:
    """What was measured.

    Args:
        models: calibrated models by name.
    """
    return RunPart(
        kind="calibration",
        title="Calibration",
        sections=tuple(_section(name, field) for name, field in models.items()),
    )


def _is_calibrated_file(path: Path) -> bool:
    """Whether the file is a model with a measured register."""
    try:
        content = read_json(path)
        species = content["species"]
        # Files of version 0.1 have no registers.
        return any("measured" in part for entry in species for part in entry.get("registers", [entry]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _section(name: str, field: ForceField) -> Section:
    """One model."""
    measured = [model for model in field.models if any(r.measured is not None for r in model.registers)]
    header = (
        *("element", "registers", "backend", "date", "shots", "mitigation", "qubits", "readout errors (%)"),
        *("two-qubit errors (%)", "std error of M (eV)", "off the exact M (eV)"),
    )
    rows = []
    for model in measured:
        origins = [register.measured.provenance for register in model.registers if register.measured is not None]
        origin = origins[0]
        exact, found, errors = _entries(model)
        rows.append((
            chemical_symbols[model.number],
            len(origins),
            origin.backend,
            origin.date,
            origin.shots,
            origin.mitigation + (", dynamical decoupling" if origin.dynamical_decoupling else ""),
            ", ".join(map(str, origin.qubits)) or "–",
            _percent(origin.readout_errors),
            _percent(origin.two_qubit_errors),
            float(np.sqrt(np.mean(errors**2))),
            float(np.sqrt(np.mean((found - exact) ** 2))),
        ))  # fmt: skip
    others = [
        f"{chemical_symbols[model.number]} ({count} of {len(model.registers)} registers)"
        for model in field.models
        if (count := sum(register.measured is None for register in model.registers))
    ]
    text: tuple[str, ...] = ("M of each register as a backend measured it; energies and forces come from it.",)
    if others:
        text += (f"Not measured, still computed exactly: {', '.join(others)}.",)
    caption = (
        "Entries of M as measured against exact ones, with the standard errors of the measurement; on the diagonal "
        "the device did what the circuit says."
    )
    alt = f"Scatter plots along the diagonal for {', '.join(str(row[0]) for row in rows)}."
    return Section(
        title=f"Calibration: {name}",
        text=text,
        tables=(Table("What was measured", header, tuple(rows)),),
        panels=(Panel("calibration", caption, alt, operator_figure(measured)),),
    )


def _entries(model: SpeciesModel) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Exact and measured entries of M of an element's registers, and standard errors, in eV; upper triangles, flat."""
    parts = []
    for register in model.registers:
        if register.measured is None:
            continue
        upper = np.triu_indices(register.n_features + 1)
        errors = register.measured.operator(register.bound_program()).entry_errors()[upper]
        parts.append((register.circuit_matrix()[upper], register.measured.matrix[upper], errors))
    exact, found, spread = (np.concatenate(column) for column in zip(*parts, strict=True))
    return exact, found, spread


@rc_context(STYLE)
def operator_figure(models: Sequence[SpeciesModel]) -> Figure:
    """Measured against exact entries of M, one panel an element.

    Args:
        models: calibrated elements, at least one.
    """
    n_columns = min(3, len(models))
    n_rows = -(-len(models) // n_columns)
    figure = Figure(figsize=(0.8 + 2.2 * n_columns, 0.6 + 2.1 * n_rows))
    panels = figure.subplots(n_rows, n_columns, squeeze=False)
    for index, (axes, model) in enumerate(zip(panels.flat, models, strict=False)):
        exact, found, errors = _entries(model)
        colour = PALETTE[index % len(PALETTE)]
        axes.errorbar(exact, found, yerr=errors, fmt="o", markersize=2.5, linewidth=0.7, color=colour)
        ends = [float(min(exact.min(), found.min())), float(max(exact.max(), found.max()))]
        axes.plot(ends, ends, color=INK, linewidth=0.8, zorder=0)
        axes.set_title(chemical_symbols[model.number], fontsize=9)
        axes.locator_params(nbins=4)
    for axes in panels.flat[len(models) :]:
        axes.set_visible(False)
    figure.supxlabel("exact entry of M (eV)", fontsize=9)
    figure.supylabel("measured (eV)", fontsize=9)
    return figure


def _percent(errors: Sequence[float]) -> str:
    """Range of some error rates."""
    return f"{100 * min(errors):.2g} to {100 * max(errors):.2g}" if errors else "–"
