"""Molecular dynamics on the page: the log of a run, and what ``qff analyse`` read off its trajectory."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from qiskit_qff.array_types import FloatArray
from qiskit_qff.durable import read_json
from qiskit_qff.errors import DataError
from qiskit_qff.report.figures import INK, PALETTE, STYLE, lines, new_figure
from qiskit_qff.report.page import Panel, Part, Section
from qiskit_qff.report.record import reading
from qiskit_qff.simulation.analysis import Analysis, Table
from qiskit_qff.simulation.recording import LOG, TRAJECTORY, drift_mev_per_atom_per_ps, read_log
from qiskit_qff.simulation.transport import arrhenius_diffusivity
from qiskit_qff.structures.dataset import iter_frames

SUMMARY, ANALYSIS = "md.json", "analysis.json"
_NUMBERS = {
    "frames": ("n_frames", None, ""),
    "atoms": ("n_atoms", None, ""),
    "time": ("time_ps", None, " ps"),
    "temperature": ("temperature_k", None, " K"),
    "density": ("density_g_per_cm3", None, " g/cm³"),
    "diffusivity": ("diffusivity_cm2_per_s", "diffusivity_error_cm2_per_s", " cm²/s"),
    "upper bound of the diffusivity (95 %)": ("diffusivity_upper_cm2_per_s", None, " cm²/s"),
    "conductivity (Nernst-Einstein)": ("conductivity_s_per_cm", "conductivity_error_s_per_cm", " S/cm"),
    "bonds in the first frame": ("n_bonds", None, ""),
    "broken in the last frame": ("broken_bonds", None, ""),
    "atoms lost": ("lost_atoms", None, ""),
    "activation energy": ("activation_ev", "activation_error_ev", " eV"),
}


def md_part(directory: Path) -> Part | None:
    """Log, structure, and the analysis beside them; None if ``qff md`` did not write this directory."""
    if not (directory / LOG).is_file():
        return None
    log = read_log(directory / LOG)
    if not len(log["step"]):
        raise DataError(f"{directory / LOG}: no line yet. Wait until the run has written one.")
    path = next((directory / n for n in (TRAJECTORY, f"{TRAJECTORY}.gz") if (directory / n).is_file()), None)
    first = None if path is None else next(iter_frames(path), None)
    with reading(directory / SUMMARY, remedy="Delete it, or run qff md again."):
        told = dict(read_json(directory / SUMMARY)) if (directory / SUMMARY).is_file() else {}
        settings = told.get("settings") or {}
        target = None if settings.get("ensemble", "nve") == "nve" else float(settings["temperature_k"])
    figure = md_figure(log, n_atoms=1 if first is None else first.n_atoms, target_k=target)
    caption = "Temperature, energies, the quantity that the ensemble conserves, and pressure along the run."
    lead = () if first else ("No energies per atom: the trajectory is gone.",)
    more = analysis_part(directory / "analysis")
    data = {"log": log, "told": told, "first": first, "analysed": more is not None}
    section = Section("Molecular dynamics", "md.html", data, (Panel("md", caption, figure),))
    sections = (section, *(more.sections if more else ()))
    return Part("molecular dynamics", section.title, sections, lead=lead)


def analysis_part(directory: Path) -> Part | None:
    """What ``qff analyse`` wrote into a directory; None if it did not."""
    path, title = directory / ANALYSIS, "Trajectory analysis"
    if not path.is_file():
        return None
    with reading(path, remedy="Run qff analyse again."):
        told = read_json(path)
        if "trajectories" not in told:
            sections = [analysis_section("Structure and transport", Analysis.read(directory, told))]
        else:
            sections = [_activation_section(told)]
            for one in told["trajectories"]:
                sections.append(analysis_section(one["name"], Analysis.read(directory / one["name"], one)))
    return Part("analysis", title, tuple(sections))


def analysis_section(title: str, found: Analysis) -> Section:
    """One trajectory under a heading."""
    told, curves = found.told, found.curves
    panels = []
    if "rdf" in curves:
        reference = curves.get("rdf_reference")
        caption = "Partial radial distribution functions." + (" Grey: the reference." if reference else "")
        figure = radial_distribution_figure(curves["rdf"], reference=reference)
        panels.append(Panel("rdf", caption, figure))
    if "msd" in curves:
        caption = "Mean squared displacements by element, relative to the framework."
        if told["diffusivity_cm2_per_s"] is not None:
            caption += " Dashed: the fit of the diffusivity and its standard error."
        panels.append(Panel("msd", caption, displacement_figure(told, curves["msd"])))
    if found.density is not None:
        values, framework = found.density
        caption = f"Where {told['diffusivity_element']} is: its density seen along the cell vectors."
        figure = _density_figure(values, framework.cell.array)
        panels.append(Panel("sites", caption, figure))
    data = {"told": told, "facts": analysis_facts(told)}
    return Section(title, "analysis.html", data, tuple(panels))


def analysis_facts(told: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Numbers of an analysis with units and errors."""
    rows = []
    for name, (key, error_key, unit) in _NUMBERS.items():
        if (value := told.get(key)) is None:
            continue
        error = told.get(error_key) if error_key else None
        digits = 4 if not error else max(1, 1 + round(math.log10(abs(value) / error))) if value else 1
        number = f"{value:.{digits}g}" if isinstance(value, float) else str(value)
        rows.append((name, f"{number}{f' ± {error:.1g}' if error else ''}{unit}"))
    return tuple(rows)


def _activation_section(told: Mapping[str, Any]) -> Section:
    """What several trajectories tell together."""
    title, line = "Activation energy", told["arrhenius"]
    if line is None:
        return Section(title, "activation.html", {"cautions": told["cautions"], "facts": ()})
    element = told["trajectories"][0]["diffusivity_element"]
    caption = (
        f"Diffusivity of {element} against inverse temperature, with a line fitted to ln D; the band is one standard "
        "error, the open square the extrapolation."
    )
    data = {"cautions": told["cautions"], "facts": analysis_facts(line)}
    return Section(title, "activation.html", data, (Panel("arrhenius", caption, arrhenius_figure(line, element)),))


@rc_context(STYLE)
def md_figure(log: Mapping[str, FloatArray], *, n_atoms: int, target_k: float | None = None) -> Figure:
    """Temperature and energies along a run; conserved quantity, pressure and volume where it has them.

    The temperature in K is that of the thermostat; None at constant energy.
    """
    time_ps, per_atom = log["time_fs"] / 1e3, 1e3 / n_atoms
    potential, kinetic, conserved = (
        (log[f"{name}_ev"] - log[f"{name}_ev"][0]) * per_atom for name in ("potential", "kinetic", "conserved")
    )
    drift, pressure = drift_mev_per_atom_per_ps(log, n_atoms), log["pressure_gpa"]
    shown = {
        "T (K)": (f"{log['temperature_k'].mean():.0f} ± {log['temperature_k'].std():.0f} K", [log["temperature_k"]]),
        "energy\n(meV/atom)": ("potential and, in orange, kinetic", [potential, kinetic]),
        "conserved\n(meV/atom)": (f"drift {drift:+.2g} meV/atom/ps", [conserved]),
        "p (GPa)": (f"mean {pressure.mean():.3g} GPa", [pressure]),
    }
    if np.ptp(log["volume_ang3"]) > 0.0:
        shown["V (Å³)"] = ("", [log["volume_ang3"]])
    shown = {label: panel for label, panel in shown.items() if np.isfinite(panel[1][0]).all()}
    figure = Figure(figsize=(4.2, 0.6 + 1.5 * len(shown)))
    panels = figure.subplots(len(shown), 1, sharex=True)
    for axes, (label, (title, curves)) in zip(panels, shown.items(), strict=True):
        for colour, curve in zip(PALETTE, curves, strict=False):
            axes.plot(time_ps, curve, color=colour, linewidth=0.9)
        axes.set_ylabel(label)
        axes.set_title(title, loc="left")
    if target_k is not None:
        panels[0].axhline(target_k, color=INK, linestyle="--", linewidth=1.0)
    panels[-1].set_xlabel("time (ps)")
    figure.align_ylabels()
    return figure


@rc_context(STYLE)
def radial_distribution_figure(curves: Table, *, reference: Table | None = None) -> Figure:
    """Partial radial distribution functions, one small panel a pair, with differences from a reference if given."""
    pairs = [name for name in curves if name != "r_ang" and (reference is None or name in reference)]
    n_columns = max(1, min(3, len(pairs)))
    n_rows = max(1, -(-len(pairs) // n_columns))
    figure = Figure(figsize=(1.0 + 2.2 * n_columns, 0.8 + 1.7 * n_rows))
    panels = figure.subplots(n_rows, n_columns, sharex=True, squeeze=False).ravel()
    for axes, pair in zip(panels, pairs, strict=False):
        note = pair
        if reference is not None:
            axes.fill_between(curves["r_ang"], reference[pair], color=INK, alpha=0.25, linewidth=0)
            note += f"   MAE {np.abs(curves[pair] - reference[pair]).mean():.3f}"
        axes.plot(curves["r_ang"], curves[pair], color=PALETTE[0], linewidth=1.2)
        axes.set_title(note, loc="left")
        axes.axhline(1.0, color=INK, linewidth=0.6, linestyle=":")
        axes.set_ylim(bottom=0.0)
    for index in range(len(pairs), len(panels)):
        panels[index].set_visible(False)
        panels[index - n_columns].tick_params(labelbottom=True)  # it is now the lowest of its column
    figure.supxlabel("r (Å)")
    figure.supylabel("g(r)")
    return figure


@rc_context(STYLE)
def displacement_figure(told: Mapping[str, Any], table: Table) -> Figure:
    """Mean squared displacement of each element against the lag time, with the line of the diffusivity if there is one.

    The numbers are named as in the JSON of ``qff analyse``.
    """
    (_, lag_ps), *curves = table.items()
    figure = lines(lag_ps, dict(curves), x_label="lag time (ps)", y_label="mean squared displacement (Å²)")
    axes = figure.axes[0]
    if (value := told["diffusivity_cm2_per_s"]) is not None:
        span, error = np.asarray(told["diffusivity_fit_range_ps"]), told["diffusivity_error_cm2_per_s"]
        middle, width = told["msd_intercept_ang2"] + 6e4 * value * span, 6e4 * error * span  # 1 cm²/s = 1e4 Å²/ps
        axes.plot(span, middle, color=INK, linestyle="--", linewidth=1.2)
        axes.fill_between(span, middle - width, middle + width, color=INK, alpha=0.15, linewidth=0)
        axes.set_title(f"D({told['diffusivity_element']}) = ({value:.2g} ± {error:.1g}) cm²/s", loc="left")
    axes.set(xlim=(0.0, None), ylim=(0.0, None))
    return figure


@rc_context(STYLE)
def arrhenius_figure(line: Mapping[str, Any], element: str) -> Figure:
    """Diffusivities against 1/T with their error bars, the line of ``fit_arrhenius``, and its band of one error."""
    figure, axes = new_figure()
    temperatures, diffusivities, errors = np.array(line["points"]).T
    inverse = np.linspace(0.95e3 / temperatures.max(), 1.02e3 / min(line["extrapolated_k"], temperatures.min()), 100)
    values, spreads = np.array([arrhenius_diffusivity(line, 1e3 / x) for x in inverse]).T
    axes.fill_between(inverse, values * np.exp(-spreads), values * np.exp(spreads), color=INK, alpha=0.15, linewidth=0)
    axes.plot(inverse, values, color=INK, linestyle="--", linewidth=1.1)
    axes.errorbar(1e3 / temperatures, diffusivities, yerr=errors, fmt="o", color=PALETTE[0], capsize=3)
    value, spread = line["extrapolated_cm2_per_s"], line["extrapolated_log_error"]
    axes.plot([1e3 / line["extrapolated_k"]], [value], "s", color=PALETTE[1], mfc="none")
    axes.set(xlabel="1000 / T (1/K)", ylabel=f"D({element}) (cm²/s)", yscale="log")
    axes.set_title(
        f"Ea = {line['activation_ev']:.3f} ± {line['activation_error_ev']:.3f} eV\n"
        f"{line['extrapolated_k']:g} K: {value:.1e} (× or ÷ {np.exp(spread):.2g})",
        loc="left",
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
        panel.set_title(f"along {'abc'[axis]}", loc="left")
    return figure
