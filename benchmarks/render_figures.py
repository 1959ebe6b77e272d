"""Figures of the benchmarks: all sets beside classical models, learning curves, and what molecular dynamics did."""

from io import StringIO

import numpy as np
import render_stability
import render_transfer
import render_uncertainty
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator
from render_accuracy import FORCE, QUANTUM, RESULTS, SAME, SELECTED, records, runs_of, values

from qiskit_qff.report.figures import INK, PALETTE, STYLE, save

DARK_INK = "#b6bfca"
"""Text and axes on dark pages."""

MODELS = {
    QUANTUM: ("quantum model", "o"),
    SELECTED: ("linear, selected channels", "s"),
    "mlp": ("network", "^"),
    "snap": ("linear SNAP", "D"),
    "mean": ("no force", "_"),
}
CURVES = {
    QUANTUM: ("quantum model", "-"),
    SAME: ("linear, circuit's channels", "--"),
    SELECTED: ("linear, selected", ":"),
}
AXES = {"frames": "training frames", "parameters": "limit on parameters", "qubits": "qubits per register"}


def draw():
    """Draw every figure that there are results for."""
    if records():
        figure = sets_figure()
        save(figure, RESULTS / "accuracy_sets.png")
        save_themes(figure, RESULTS / "accuracy_sets")
    if render_transfer.curve_points():
        save(curve_figure(), RESULTS / "learning_curves.png")
    if any("heat" in run for run in render_stability.runs()):
        save(dynamics_figure(), RESULTS / "stability.png")
    if render_uncertainty.read():
        save(coverage_figure(), RESULTS / "coverage.png")


@rc_context(STYLE)
def save_themes(figure, stem):
    """Write a figure as SVG for light and for dark pages; the README shows the one that fits."""
    stream = StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    stem.with_name(f"{stem.name}-light.svg").write_text(text)
    stem.with_name(f"{stem.name}-dark.svg").write_text(text.replace(INK, DARK_INK).replace("#000000", DARK_INK))


@rc_context(STYLE)
def sets_figure():
    """Force errors on every set: a mark at the mean of the splits, dots for the splits, lines for required errors."""
    found = records()
    figure = Figure(figsize=(7.5, 3.6))
    axes = figure.subplots()
    for m, (name, (words, mark)) in enumerate(MODELS.items()):
        label = words
        for k, record in enumerate(found.values()):
            force = values(runs_of(record), name, FORCE)
            if not len(force):
                continue
            place = k + 0.13 * (m - (len(MODELS) - 1) / 2)
            axes.plot(np.full(len(force), place), force, ".", color=PALETTE[m], markersize=3, alpha=0.7)
            axes.plot(place, force.mean(), mark, color=PALETTE[m], markersize=7, label=label)
            label = None
    required = [(k, r["target"][0]) for k, r in enumerate(found.values()) if r.get("target")]
    for number, (k, target) in enumerate(required):
        label = None if number else "required of the quantum model"
        axes.hlines(target, k - 0.4, k + 0.4, color="black", linewidth=0.8, label=label)
    plain_log(axes)
    axes.set_ylabel("force MAE, meV/Å")
    axes.set_xticks(range(len(found)), [name.replace("_", "\n") for name in found])
    axes.set_xlim(-0.5, len(found) - 0.5)
    axes.tick_params(axis="x", length=0)
    axes.grid(visible=False, axis="x")
    figure.legend(loc="outside upper center", ncols=3, fontsize=8)
    return figure


def plain_log(axes):
    """A logarithmic axis of errors with plain numbers."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


@rc_context(STYLE)
def curve_figure():
    """Force errors over frames, parameters and qubits; bars span one standard deviation over seeds."""
    panels = {}
    for axis, name, value, runs in render_transfer.curve_points():
        if done := [run for run in runs if "models" in run]:
            panels.setdefault((axis, name), {})[value] = done
    figure = Figure(figsize=(3.4 * len(panels), 3.2))
    for (axis, name), axes in zip(panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True):
        points = panels[axis, name]
        for colour, (model, (words, line)) in zip(PALETTE, CURVES.items(), strict=False):
            force = {value: values(runs, model, FORCE) for value, runs in points.items()}
            force = {value: errors for value, errors in force.items() if len(errors)}
            means, spans = [f.mean() for f in force.values()], [f.std() for f in force.values()]
            style = {"color": colour, "linestyle": line, "marker": "o", "markersize": 3, "capsize": 2}
            axes.errorbar(list(force), means, spans, label=words if axes is figure.axes[0] else None, **style)
        plain_log(axes)
        if axis != "qubits":
            axes.set_xscale("log")
        axes.set_xticks(list(points), [str(value) for value in points], fontsize=8)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_title(name)
        axes.set_xlabel(AXES[axis])
    figure.axes[0].set_ylabel("force MAE, meV/Å")
    figure.legend(loc="outside upper center", ncols=3, fontsize=8)
    return figure


@rc_context(STYLE)
def dynamics_figure():
    """Temperatures of all NVT runs, radial distributions beside ab initio ones, and the way that lithium went."""
    runs = [run for run in render_stability.runs() if "heat" in run]
    figure = Figure(figsize=(10.2, 3.4))
    heat, structure, walk = figure.subplots(1, 3)
    for colour, (name, words) in zip(PALETTE, render_stability.WORDS.items(), strict=False):
        own = [run for run in runs if run["system"] == name]
        for number, run in enumerate(own):
            line = {"color": colour, "linewidth": 0.8, "label": None if number else words}
            heat.plot(run["heat"]["time_ps"], run["heat"]["temperature_k"], **line)
            if "lithium" in run:
                walk.plot(run["lithium"]["lag_ps"], run["lithium"]["msd_ang2"], **line)
    shown = next((run for run in runs if "rdf" in run), None)
    if shown is not None:
        shells = shown["rdf"]
        for row, (pair, (measured, expected)) in enumerate(shells["pairs"].items()):
            label = "ab initio" if not row else None
            structure.plot(
                shells["r_ang"], np.array(expected) + 4.0 * row, color=INK, linewidth=2.2, alpha=0.35, label=label
            )
            structure.plot(shells["r_ang"], np.array(measured) + 4.0 * row, color=PALETTE[0], linewidth=0.9)
            structure.text(0.1, 4.0 * row + 0.4, pair, fontsize=8)
        structure.set_title(f"g(r), {render_stability.WORDS[shown['system']]}, seed {shown['seed']}", fontsize=9)
        structure.set_ylim(0.0, 4.0 * len(shells["pairs"]) + 6.0)
        structure.set_xlabel("r / Å")
        structure.set_ylabel("g(r), each pair 4 higher")
        structure.set_yticks(4.0 * np.arange(len(shells["pairs"])), [])
        structure.legend(fontsize=8, loc="upper left")
    heat.set_xlabel("time / ps")
    heat.set_ylabel("temperature / K, means of parts")
    walk.set_xscale("log")
    walk.set_yscale("log")
    walk.set_xlabel("lag / ps")
    walk.set_ylabel("mean square displacement of Li / Å²")
    figure.legend(*heat.get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=8)
    return figure


@rc_context(STYLE)
def coverage_figure():
    """How many errors lie within an interval that should hold a share of them; one line a training seed."""
    found = render_uncertainty.read()
    groups = {words: (found[f"coverage_{name}"], "-") for name, words in render_uncertainty.SETS.items()}
    for row in found.get("unseen", []):
        groups[f"lips83 model, {render_uncertainty.MELTS[row['set']]}"] = ([row], ":")
    nominal = 100.0 * np.array([float(level) for level in render_uncertainty.LEVELS])
    figure = Figure(figsize=(7.4, 3.6))
    for axes, kind in zip(figure.subplots(1, 2, sharey=True), ("forces", "energies"), strict=True):
        axes.plot([0, 100], [0, 100], color=INK, linewidth=0.8, linestyle="--", label="ideal")
        for colour, (words, (rows, line)) in zip(PALETTE, groups.items(), strict=False):
            for number, row in enumerate(row for row in rows if kind in row):
                shares = [100.0 * row[kind][level] for level in render_uncertainty.LEVELS]
                style = {"color": colour, "marker": "o", "markersize": 3, "linewidth": 1.0, "linestyle": line}
                axes.plot(nominal, shares, label=None if number else words, **style)
        axes.set(xlim=(0, 102), ylim=(0, 102), aspect="equal", title=kind)
        axes.set_xlabel("interval that should hold, % of errors")
    figure.axes[0].set_ylabel("errors within it, %")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8)
    return figure
