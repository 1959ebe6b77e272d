"""Figures drawn again from the tables that ``qff analyse`` wrote: g(r), displacements, vibrations, and its numbers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qiskit_qff.bounded import read_json
from qiskit_qff.errors import DataError
from qiskit_qff.model.metrics import FloatArray
from qiskit_qff.report.figures import lines
from qiskit_qff.report.html import Panel, Section, Table
from qiskit_qff.report.md_figures import displacement_figure, radial_distribution_figure

ANALYSIS, RDF, MSD, VDOS = "analysis.json", "rdf.csv", "msd.csv", "vdos.csv"
_NUMBERS = {
    "frames": ("n_frames", None, ""),
    "atoms": ("n_atoms", None, ""),
    "time": ("time_ps", None, " ps"),
    "temperature": ("temperature_k", None, " K"),
    "density": ("density_g_per_cm3", "density_error_g_per_cm3", " g/cm³"),
    "diffusivity": ("diffusivity_cm2_per_s", "diffusivity_error_cm2_per_s", " cm²/s"),
    "charge diffusivity": ("charge_diffusivity_cm2_per_s", "charge_diffusivity_error_cm2_per_s", " cm²/s"),
    "conductivity (Nernst-Einstein)": ("conductivity_s_per_cm", "conductivity_error_s_per_cm", " S/cm"),
    "conductivity with correlations": ("charge_conductivity_s_per_cm", "charge_conductivity_error_s_per_cm", " S/cm"),
    "activation energy": ("activation_ev", "activation_error_ev", " eV"),
}


def analysis_sections(directory: Path) -> tuple[Section, ...]:
    """What ``qff analyse`` left in a directory: one section a trajectory, and the activation energy over several.

    Args:
        directory: holds ``analysis.json``.

    Raises:
        DataError: if a file is damaged.
    """
    path = directory / ANALYSIS
    try:
        told = read_json(path)
        if "trajectories" not in told:
            return (_section("Structure and transport", told, directory),)
        names = [Path(plots[0]).parent.name if (plots := one["plots"]) else "" for one in told["trajectories"]]
        sections = [
            _section(f"Trajectory {name or number + 1}", one, directory / name)
            for number, (name, one) in enumerate(zip(names, told["trajectories"], strict=True))
        ]
        if told.get("arrhenius"):
            table = Table("Over all trajectories", ("quantity", "value"), _facts(told["arrhenius"]))
            sections.insert(0, Section(title="Activation energy", tables=(table,)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: damaged or edited ({error}). Run qff analyse again.") from error
    return tuple(sections)


def analysis_facts(told: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Numbers with units and errors, by what they are.

    Args:
        told: what ``qff analyse`` says of one trajectory.
    """
    return _facts(told)


def _section(title: str, told: Mapping[str, Any], directory: Path) -> Section:
    """One trajectory."""
    panels = []
    if (curves := _read_csv(directory / RDF)) is not None:
        r = curves.pop("r_ang")
        caption = "Partial radial distribution functions."
        panels.append(Panel("rdf", caption, caption, radial_distribution_figure(r, curves)))
    if (curves := _read_csv(directory / MSD)) is not None:
        lag = curves.pop("lag_ps")
        note = ""
        if (value := told.get("diffusivity_cm2_per_s")) is not None:
            note = f"D({told['diffusivity_element']}) = ({value:.2g} ± {told['diffusivity_error_cm2_per_s']:.1g}) cm²/s"
        caption = "Mean squared displacements by element about the centre of mass of all atoms."
        panels.append(Panel("msd", caption, caption, displacement_figure(lag, curves, note=note)))
    if (curves := _read_csv(directory / VDOS)) is not None:
        frequency = curves.pop("frequency_thz")
        caption = "Vibrational density of states by element."
        figure = lines(frequency, curves, x_label="frequency (THz)", y_label="modes per THz")
        panels.append(Panel("vibrations", caption, caption, figure))
    return Section(title=title, tables=(Table("Numbers", ("quantity", "value"), _facts(told)),), panels=tuple(panels))


def _facts(told: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Numbers with units and errors."""
    rows = []
    for name, (key, error_key, unit) in _NUMBERS.items():
        if (value := told.get(key)) is not None:
            error = told.get(error_key) if error_key else None
            spread = f" ± {error:.1g}" if isinstance(error, float) else ""
            rows.append((name, f"{value:.4g}{spread}{unit}" if isinstance(value, float) else f"{value}{unit}"))
    return tuple(rows)


def _read_csv(path: Path) -> dict[str, FloatArray] | None:
    """Columns by name; None where there is no such file.

    Raises:
        DataError: if it is damaged.
    """
    if not path.is_file():
        return None
    try:
        names = path.read_text(encoding="utf-8").split("\n", 1)[0].split(",")
        table = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
        return {name: table[:, column] for column, name in enumerate(names)}
    except (ValueError, IndexError) as error:
        raise DataError(f"{path}: not a table of qff analyse ({error}). Run qff analyse again.") from error
