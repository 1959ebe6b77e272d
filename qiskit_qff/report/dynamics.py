"""Molecular dynamics on the page: the log of a run, and what ``qff analyse`` read off its trajectory."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qiskit_qff.array_types import FloatArray
from qiskit_qff.durable import read_json
from qiskit_qff.errors import DataError
from qiskit_qff.report.figures import INK, PALETTE, STYLE, lines, new_figure
from qiskit_qff.report.page import Panel, Part, Section
from qiskit_qff.report.record import reading
from qiskit_qff.simulation.analysis import Analysis
from qiskit_qff.simulation.recording import LOG, TRAJECTORY, drift_mev_per_atom_per_ps, read_log
from qiskit_qff.simulation.transport import Arrhenius, fit_arrhenius
from qiskit_qff.structures.reading import iter_frames

SUMMARY, ANALYSIS = "md.json", "analysis.json"
# Lines with more points than this are drawn thinner, below a running mean over this fraction of the run.
_MANY_POINTS, _MEAN_FRACTION = 400, 0.05
_NUMBERS = {
    "frames": ("n_frames", None, ""),
    "atoms": ("n_atoms", None, ""),
    "time": ("time_ps", None, " ps"),
    "temperature": ("temperature_k", None, " K"),
    "density": ("density_g_per_cm3", "density_error_g_per_cm3", " g/cm³"),
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
        settings, target = told.get("settings") or {}, None
        if settings and settings.get("ensemble") != "nve":
            ends = (settings["temperature_k"], settings.get("to_temperature_k") or settings["temperature_k"])
            target = np.interp(log["step"], [0, settings.get("ramp_steps") or settings["steps"]], ends)
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
        several = "trajectories" in told
        places = {one["name"]: (directory / one["name"], one) for one in told["trajectories"]} if several else {}
        places = places or {"Structure and transport": (directory, told)}
        found = {name: Analysis.read(*place) for name, place in places.items()}
    sections = [analysis_section(name, one) for name, one in found.items()]
    return Part("analysis", title, (*([_activation_section(told)] if several else []), *sections))


def analysis_section(title: str, found: Analysis) -> Section:
    """One trajectory under a heading."""
    told, curves = found.told, found.curves
    panels = []
    if "rdf" in curves:
        (_, r), *pairs = curves["rdf"].items()
        reference = curves.get("rdf_reference")
        shared = {name: curve for name, curve in pairs if reference is None or name in reference} or dict(pairs)
        expected = None if reference is None else {name: reference[name] for name in shared if name in reference}
        caption = "Partial radial distribution functions." + (" Grey: the reference." if expected else "")
        figure = radial_distribution_figure(r, shared, reference=expected or None)
        panels.append(Panel("rdf", caption, figure))
    if "msd" in curves:
        panels.append(_displacements(told, curves["msd"]))
    if "vdos" in curves:
        (_, frequency), *modes = curves["vdos"].items()
        caption = "Vibrational density of states by element; all together hold 3N − 3 modes."
        figure = lines(frequency, dict(modes), x_label="frequency (THz)", y_label="modes per THz")
        panels.append(Panel("vibrations", caption, figure))
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
    fitted = fit_arrhenius(*zip(*line["points"], strict=True))
    figure = arrhenius_figure(fitted, extrapolate_k=line["extrapolated_k"], element=element)
    data = {"cautions": told["cautions"], "facts": analysis_facts(line)}
    return Section(title, "activation.html", data, (Panel("arrhenius", caption, figure),))


def _displacements(told: Mapping[str, Any], table: Mapping[str, FloatArray]) -> Panel:
    """Mean squared displacements, and the line of the diffusivity."""
    (_, lag), *curves = table.items()
    caption = "Mean squared displacements by element, relative to the framework."
    fit, note = None, ""
    if (value := told["diffusivity_cm2_per_s"]) is not None:
        error = told["diffusivity_error_cm2_per_s"]
        note = f"D({told['diffusivity_element']}) = ({value:.2g} ± {error:.1g}) cm²/s"
        fit = (1e4 * value, 1e4 * error, told["msd_intercept_ang2"])
        caption += " Dashed: the fit of the diffusivity and its standard error."
    span = tuple(told["diffusivity_fit_range_ps"]) if fit else None
    return Panel("msd", caption, displacement_figure(lag, dict(curves), fit=fit, fit_range_ps=span, note=note))


@rc_context(STYLE)
def md_figure(log: Mapping[str, FloatArray], *, n_atoms: int, target_k: FloatArray | None = None) -> Figure:
    """Temperature and energies along a run; conserved quantity, pressure and volume where it has them.

    The temperature of the thermostat has one entry a line of the log; None at constant energy.
    """
    time_ps, per_atom = log["time_fs"] / 1e3, 1e3 / n_atoms
    potential, kinetic, conserved = (
        (log[f"{name}_ev"] - log[f"{name}_ev"][0]) * per_atom for name in ("potential", "kinetic", "conserved")
    )
    shown = ["temperature", "energy"]
    shown += ["conserved"] * bool(np.isfinite(conserved).all())
    shown += ["pressure"] * bool(np.isfinite(log["pressure_gpa"]).all())
    shown += ["volume"] * bool(np.ptp(log["volume_ang3"]) > 0.0)
    figure = Figure(figsize=(4.2, 0.6 + 1.5 * len(shown)))
    panels = dict(zip(shown, figure.subplots(len(shown), 1, sharex=True), strict=True))
    axes = panels["temperature"]
    _noisy_line(axes, time_ps, log["temperature_k"])
    if target_k is not None:
        axes.plot(time_ps, target_k, color=INK, linestyle="--", linewidth=1.0)
    axes.set_ylabel("T (K)")
    axes.set_title(f"{log['temperature_k'].mean():.0f} ± {log['temperature_k'].std():.0f} K", loc="left")
    axes = panels["energy"]
    axes.plot(time_ps, potential, color=PALETTE[0], linewidth=0.9, label="potential")
    axes.plot(time_ps, kinetic, color=PALETTE[1], linewidth=0.9, label="kinetic")
    axes.set_ylabel("energy\n(meV/atom)")
    axes.legend(ncols=2, loc="lower left", bbox_to_anchor=(0.0, 1.0), borderaxespad=0.1)
    if axes := panels.get("conserved"):
        axes.plot(time_ps, conserved, color=PALETTE[2], linewidth=0.9)
        slope = drift_mev_per_atom_per_ps(log, n_atoms)
        axes.plot(time_ps, conserved.mean() + slope * (time_ps - time_ps.mean()), "--", color=INK, linewidth=1.0)
        axes.set_title(f"drift {slope:+.2g} meV/atom/ps", loc="left")
        axes.set_ylabel("conserved\n(meV/atom)")
    if axes := panels.get("pressure"):
        _noisy_line(axes, time_ps, log["pressure_gpa"])
        axes.set_ylabel("p (GPa)")
        axes.set_title(f"mean {log['pressure_gpa'].mean():.3g} GPa", loc="left")
    if axes := panels.get("volume"):
        axes.plot(time_ps, log["volume_ang3"], color=PALETTE[1], linewidth=1.0)
        axes.set_ylabel("V (Å³)")
    panels[shown[-1]].set_xlabel("time (ps)")
    figure.align_ylabels()
    return figure


@rc_context(STYLE)
def radial_distribution_figure(
    r: FloatArray, curves: Mapping[str, FloatArray], *, reference: Mapping[str, FloatArray] | None = None
) -> Figure:
    """Partial radial distribution functions, one small panel a pair, with differences from a reference if given."""
    n_columns = min(3, len(curves))
    n_rows = -(-len(curves) // n_columns)
    figure = Figure(figsize=(1.0 + 2.2 * n_columns, 0.8 + 1.7 * n_rows))
    panels = figure.subplots(n_rows, n_columns, sharex=True, squeeze=False)
    for axes, (pair, values) in zip(panels.flat, curves.items(), strict=False):
        note = pair
        if reference is not None:
            axes.fill_between(r, reference[pair], color=INK, alpha=0.25, linewidth=0, label="reference")
            note += f"   MAE {np.abs(values - reference[pair]).mean():.3f}"
        axes.plot(r, values, color=PALETTE[0], linewidth=1.2, label="this run")
        axes.set_title(note, loc="left")
        axes.axhline(1.0, color=INK, linewidth=0.6, linestyle=":")
        axes.set_ylim(bottom=0.0)
    for index in range(len(curves), n_rows * n_columns):
        panels.flat[index].set_visible(False)
        panels.flat[index - n_columns].tick_params(labelbottom=True)  # it is now the lowest of its column
    if reference is not None:
        figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    figure.supxlabel("r (Å)")
    figure.supylabel("g(r)")
    return figure


@rc_context(STYLE)
def displacement_figure(
    lag_ps: FloatArray,
    curves: Mapping[str, FloatArray],
    *,
    fit: tuple[float, float, float] | None = None,
    fit_range_ps: tuple[float, ...] | None = None,
    note: str = "",
) -> Figure:
    """Mean squared displacement of each element against the lag time, with the line of the diffusivity.

    The fit is the diffusivity in Å²/ps, its standard error, and the intercept in Å².
    """
    figure = lines(lag_ps, curves, x_label="lag time (ps)", y_label="mean squared displacement (Å²)")
    axes = figure.axes[0]
    if fit is not None and fit_range_ps is not None:
        span = np.asarray(fit_range_ps)
        diffusivity, error, intercept = fit
        middle, width = intercept + 6.0 * diffusivity * span, 6.0 * error * span
        axes.plot(span, middle, color=INK, linestyle="--", linewidth=1.2)
        axes.fill_between(span, middle - width, middle + width, color=INK, alpha=0.15, linewidth=0)
    axes.set(xlim=(0.0, None), ylim=(0.0, None))
    axes.set_title(note, loc="left")
    return figure


@rc_context(STYLE)
def arrhenius_figure(fitted: Arrhenius, *, extrapolate_k: float, element: str) -> Figure:
    """Diffusivities against 1/T with their error bars, the line, and its band of one standard error."""
    figure, axes = new_figure()
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
        f"Ea = {fitted.activation_ev:.3f} ± {fitted.activation_error_ev:.3f} eV\n{extrapolate_k:g} K: {value:.1e} "
        f"(× or ÷ {np.exp(error):.2g})",
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


def _noisy_line(axes: Axes, x: FloatArray, values: FloatArray) -> None:
    """A fluctuating quantity: every value faint, and its running mean, once there are many."""
    many = len(values) > _MANY_POINTS
    axes.plot(x, values, color=PALETTE[0], linewidth=0.5 if many else 1.0, alpha=0.35 if many else 1.0)
    if many:
        width = max(3, int(_MEAN_FRACTION * len(values)))
        running = np.convolve(values, np.full(width, 1.0 / width), mode="valid")
        offset = (len(values) - len(running)) // 2
        axes.plot(x[offset : offset + len(running)], running, color=PALETTE[0], linewidth=1.6)
