"""Sections of a page on trajectories, from the numbers and tables of ``qff analyse``, in memory or in a directory."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase.io.cube import read_cube
from matplotlib import rc_context
from matplotlib.figure import Figure

from qiskit_qff.array_types import FloatArray
from qiskit_qff.bounded import read_json
from qiskit_qff.errors import DataError
from qiskit_qff.report.figures import INK, PALETTE, STYLE, lines, new_figure
from qiskit_qff.report.html import Panel, Section, Table
from qiskit_qff.report.md_figures import displacement_figure, radial_distribution_figure
from qiskit_qff.simulation.analysis import Analysis, IonDensity
from qiskit_qff.simulation.transport import Arrhenius, fit_arrhenius

ANALYSIS, CUBE, REFERENCE = "analysis.json", "sites.cube", "rdf_reference"
_NUMBERS = {
    "frames": ("n_frames", None, ""),
    "atoms": ("n_atoms", None, ""),
    "time": ("time_ps", None, " ps"),
    "temperature": ("temperature_k", None, " K"),
    "density": ("density_g_per_cm3", "density_error_g_per_cm3", " g/cm³"),
    "diffusivity": ("diffusivity_cm2_per_s", "diffusivity_error_cm2_per_s", " cm²/s"),
    "upper bound of the diffusivity (95 %)": ("diffusivity_upper_cm2_per_s", None, " cm²/s"),
    "charge diffusivity": ("charge_diffusivity_cm2_per_s", "charge_diffusivity_error_cm2_per_s", " cm²/s"),
    "Haven ratio": ("haven_ratio", "haven_ratio_error", ""),
    "conductivity (Nernst-Einstein)": ("conductivity_s_per_cm", "conductivity_error_s_per_cm", " S/cm"),
    "conductivity with correlations": ("charge_conductivity_s_per_cm", "charge_conductivity_error_s_per_cm", " S/cm"),
    "bonds in the first frame": ("n_bonds", None, ""),
    "broken in the last frame": ("broken_bonds", None, ""),
    "atoms lost": ("lost_atoms", None, ""),
    "activation energy": ("activation_ev", "activation_error_ev", " eV"),
}


def analysis_section(title: str, found: Analysis) -> Section:
    """One trajectory under a heading."""
    told, curves = found.told, found.curves
    tables = [Table("Numbers", ("quantity", "value"), analysis_facts(told))]
    if shells := told["coordination"]:
        rows = tuple((name, one["neighbors"], one["peak_ang"], one["end_ang"]) for name, one in shells.items())
        tables.append(Table("First coordination shells", ("around-of", "number", "peak (Å)", "end (Å)"), rows))
    if amplitudes := told["amplitudes_ang"]:
        header = ("element", "rms distance from the mean position (Å)")
        tables.append(Table("Vibration amplitudes", header, tuple(amplitudes.items())))
    panels = []
    if "rdf" in curves:
        r, pairs, reference = _split(curves["rdf"], curves.get(REFERENCE))
        caption = "Partial radial distribution functions." + (" Grey: the reference." if reference else "")
        errors = {name: float(np.abs(curve - reference[name]).mean()) for name, curve in pairs.items() if reference}
        figure = radial_distribution_figure(r, pairs, reference=reference, errors=errors or None)
        panels.append(Panel("rdf", caption, caption, figure))
    if "msd" in curves:
        panels.append(_displacements(told, curves["msd"]))
    if "vdos" in curves:
        frequency, modes, _ = _split(curves["vdos"], None)
        caption = "Vibrational density of states by element; all together hold 3N − 3 modes."
        figure = lines(frequency, modes, x_label="frequency (THz)", y_label="modes per THz")
        panels.append(Panel("vibrations", caption, caption, figure))
    if found.density is not None:
        caption = f"Where {told['diffusivity_element']} is: its density seen along the cell vectors."
        panels.append(
            Panel("sites", caption, caption, _density_figure(found.density.values, found.density.framework.cell.array))
        )
    text = tuple(f"Caution: {caution}." for caution in told["cautions"])
    return Section(title=title, text=text, tables=tuple(tables), panels=tuple(panels))


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
            return (_read_section("Structure and transport", told, directory),)
        sections = [_read_section(one["name"], one, directory / one["name"]) for one in told["trajectories"]]
        return (_across(told), *sections)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise DataError(f"{path}: damaged or edited ({error}). Run qff analyse again.") from error


def _read_section(title: str, told: Mapping[str, Any], directory: Path) -> Section:
    """One trajectory, from its files."""
    curves: dict[str, Mapping[str, FloatArray]] = {}
    for name in ("rdf", REFERENCE, "msd", "vdos"):
        if (path := directory / f"{name}.csv").is_file():
            with path.open(encoding="utf-8") as stream:
                names = stream.readline().strip().split(",")
                columns = np.loadtxt(stream, delimiter=",", ndmin=2).T
            curves[name] = dict(zip(names, columns, strict=True))
    density = None
    if (path := directory / CUBE).is_file():
        with path.open(encoding="utf-8") as stream:
            cube = read_cube(stream)  # type: ignore[no-untyped-call]
        density = IonDensity(told["diffusivity_element"], cube["data"], cube["atoms"])
    return analysis_section(title, Analysis(told, curves, density))


def _across(told: Mapping[str, Any]) -> Section:
    """What several trajectories tell together."""
    text = tuple(f"Caution: {caution}." for caution in told["cautions"])
    line = told["arrhenius"]
    if line is None:
        return Section(title="Activation energy", text=text)
    fitted = fit_arrhenius(*zip(*line["points"], strict=True))
    element, target = told["trajectories"][0]["diffusivity_element"], line["extrapolated_k"]
    caption = (
        f"Diffusivity of {element} against inverse temperature, with a line fitted to ln D; the band is one standard "
        "error, the open square the extrapolation."
    )
    figure = arrhenius_figure(fitted, extrapolate_k=target, element=element)
    table = Table("Over all trajectories", ("quantity", "value"), analysis_facts(line))
    return Section(
        title="Activation energy", text=text, tables=(table,), panels=(Panel("arrhenius", caption, caption, figure),)
    )


def analysis_facts(told: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Numbers with units and errors."""
    rows = []
    for name, (key, error_key, unit) in _NUMBERS.items():
        if (value := told.get(key)) is None:
            continue
        error = told.get(error_key) if error_key else None
        digits = 4 if not error else max(1, 1 + round(math.log10(abs(value) / error))) if value else 1
        number = f"{value:.{digits}g}" if isinstance(value, float) else str(value)
        rows.append((name, f"{number}{f' ± {error:.1g}' if error else ''}{unit}"))
    return tuple(rows)


def _split(
    table: Mapping[str, FloatArray], reference: Mapping[str, FloatArray] | None
) -> tuple[FloatArray, dict[str, FloatArray], dict[str, FloatArray] | None]:
    """First column of a table, and the others; with a reference, those that both have, of either."""
    (_, first), *others = table.items()
    if reference is None:
        return first, dict(others), None
    shared = {name: curve for name, curve in others if name in reference}
    return first, shared or dict(others), {name: reference[name] for name in shared} or None


def _displacements(told: Mapping[str, Any], table: Mapping[str, FloatArray]) -> Panel:
    """Mean squared displacements, and the line of the diffusivity."""
    lag, curves, _ = _split(table, None)
    caption = "Mean squared displacements by element, relative to the framework."
    fit, note = None, ""
    if (value := told["diffusivity_cm2_per_s"]) is not None:
        error = told["diffusivity_error_cm2_per_s"]
        note = f"D({told['diffusivity_element']}) = ({value:.2g} ± {error:.1g}) cm²/s"
        fit = (1e4 * value, 1e4 * error, told["msd_intercept_ang2"])
        caption += " Dashed: the fit of the diffusivity and its standard error."
    span = tuple(told["diffusivity_fit_range_ps"]) if fit else None
    return Panel("msd", caption, caption, displacement_figure(lag, curves, fit=fit, fit_range_ps=span, note=note))


@rc_context(STYLE)
def arrhenius_figure(fitted: Arrhenius, *, extrapolate_k: float, element: str) -> Figure:
    """Diffusivities against 1/T with their error bars, the line, and its band of one standard error."""
    figure, axes = new_figure(width=5.0, height=3.9)
    coldest = min(extrapolate_k, float(fitted.temperatures_k.min()))
    inverse = np.linspace(0.95e3 / fitted.temperatures_k.max(), 1.02e3 / coldest, 100)
    values, errors = np.array([fitted.diffusivity(1e3 / x) for x in inverse]).T
    axes.fill_between(inverse, values * np.exp(-errors), values * np.exp(errors), color=INK, alpha=0.15, linewidth=0)
    axes.plot(inverse, values, color=INK, linestyle="--", linewidth=1.1)
    points = (1e3 / fitted.temperatures_k, fitted.diffusivities)
    axes.errorbar(*points, yerr=fitted.errors, fmt="o", color=PALETTE[0], capsize=3)
    value, error = fitted.diffusivity(extrapolate_k)
    spread = [[value * (1.0 - np.exp(-error))], [value * (np.exp(error) - 1.0)]]
    axes.errorbar([1e3 / extrapolate_k], [value], yerr=spread, fmt="s", color=PALETTE[1], capsize=3, mfc="none")
    axes.set(xlabel="1000 / T (1/K)", ylabel=f"D({element}) (cm²/s)", yscale="log")
    axes.set_title(
        f"Ea = {fitted.activation_ev:.3f} ± {fitted.activation_error_ev:.3f} eV; {extrapolate_k:g} K: {value:.1e} "
        f"(× or ÷ {np.exp(error):.2g})",
        loc="left",
        fontsize=9,
    )
    return figure


@rc_context(STYLE)
def _density_figure(values: FloatArray, cell: FloatArray) -> Figure:
    """A density summed along each cell vector, in the plane of the other two."""
    figure = Figure(figsize=(7.5, 2.8))
    lengths = np.linalg.norm(cell, axis=1)
    for axis, panel in enumerate(figure.subplots(1, 3)):
        first, second = (other for other in range(3) if other != axis)
        cosine = float(cell[first] @ cell[second] / (lengths[first] * lengths[second]))
        summed = np.pad(values.mean(axis=axis), ((0, 1), (0, 1)), mode="wrap")
        u, v = np.meshgrid(*(np.linspace(0.0, 1.0, n) for n in summed.shape), indexing="ij")
        x, y = u * lengths[first] + v * lengths[second] * cosine, v * lengths[second] * np.sqrt(1.0 - cosine**2)
        panel.pcolormesh(x, y, summed, cmap="Blues", shading="gouraud", rasterized=True)
        panel.set(aspect="equal", xticks=[], yticks=[])
        panel.grid(visible=False)
        panel.set_title(f"along {'abc'[axis]}", fontsize=8, loc="left")
    return figure
