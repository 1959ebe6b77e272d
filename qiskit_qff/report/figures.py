"""Figures of errors, of training and of the choice of channels.

Every function returns a matplotlib Figure that belongs to no window and no global state; :func:`save` writes
it as PNG for a light page. Text and axes are drawn in one ink colour (:data:`INK`), which the HTML report
replaces with the reader's own, so a figure fits a light and a dark page alike.
"""

from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qiskit_qff.array_types import BoolArray, FloatArray
from qiskit_qff.durable import atomic_file
from qiskit_qff.model.metrics import (
    MEV_PER_EV,
    Comparison,
    composition_means,
    mean_absolute,
    root_mean_square,
)

INK = "#5b6472"
"""Colour of text and axes: readable on white (5.9:1), replaced in the HTML report."""

# Okabe and Ito's palette for colour-blind readers, without black and yellow, which vanish on dark or light.
PALETTE = ("#1c83c6", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#a6761d")

STYLE: Any = {
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "axes.grid": True,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "svg.fonttype": "path",
    "svg.hashsalt": "qiskit_qff",
    "savefig.transparent": True,
}

# Colours and fonts are read from matplotlib's settings while things are drawn, so every drawing function
# below runs inside the house style and leaves the caller's settings as they were.


@rc_context(STYLE)
def parity_energy(sets: Mapping[str, Comparison]) -> Figure:
    """Predicted against reference energies per atom, relative to the mean reference energy of their composition.

    Args:
        sets: comparisons by name, for example ``train`` and ``test``.
    """
    figure, axes = new_figure()
    formulas = [formula for c in sets.values() for formula in c.compositions or ("",) * len(c.energies)]
    centres = composition_means(formulas, np.concatenate([c.energies for c in sets.values()]))
    ends = np.cumsum([len(c.energies) for c in sets.values()])
    parts = np.split(centres, ends[:-1])
    for colour, (name, comparison), centre in zip(cycle(PALETTE), sets.items(), parts, strict=False):
        label = f"{name}: MAE {mean_absolute(comparison.energy_errors):.2f} meV/atom"
        _points(
            axes,
            MEV_PER_EV * (comparison.energies - centre),
            MEV_PER_EV * (comparison.predicted_energies - centre),
            colour,
            label,
        )
    mean = "mean" if len(set(formulas)) < 2 else "composition mean"
    _finish_parity(axes, f"energy − {mean}", "meV/atom")
    return figure


@rc_context(STYLE)
def parity_forces(comparison: Comparison) -> Figure:
    """Predicted against reference force components, coloured by element.

    Args:
        comparison: labels and predictions.
    """
    figure, axes = new_figure()
    for colour, symbol, chosen in _by_element(comparison):
        label = f"{symbol}: RMSE {root_mean_square(comparison.force_errors[chosen]):.0f} meV/Å"
        _points(
            axes,
            comparison.forces[chosen].ravel(),
            comparison.predicted_forces[chosen].ravel(),
            colour,
            label,
        )
    _finish_parity(axes, "force component", "eV/Å")
    return figure


@rc_context(STYLE)
def parity_stresses(sets: Mapping[str, Comparison]) -> Figure:
    """Predicted against reference components of the stress.

    Args:
        sets: comparisons by name, for example ``train`` and ``test``; those without stresses are left out.
    """
    figure, axes = new_figure()
    shown = {name: comparison for name, comparison in sets.items() if comparison.stresses.size}
    for colour, (name, comparison) in zip(cycle(PALETTE), shown.items(), strict=False):
        label = f"{name}: MAE {mean_absolute(comparison.stress_errors):.2g} meV/Å³"
        _points(
            axes,
            MEV_PER_EV * comparison.stresses.ravel(),
            MEV_PER_EV * comparison.predicted_stresses.ravel(),
            colour,
            label,
        )
    _finish_parity(axes, "stress component", "meV/Å³")
    return figure


@rc_context(STYLE)
def parity_by_element(comparison: Comparison) -> Figure:
    """Predicted against reference force components, one small panel an element.

    Args:
        comparison: labels and predictions.
    """
    parts = list(_by_element(comparison))
    n_columns = min(3, len(parts))
    n_rows = -(-len(parts) // n_columns)
    figure = Figure(figsize=(0.6 + 2.0 * n_columns, 0.6 + 2.1 * n_rows))
    panels = figure.subplots(n_rows, n_columns, squeeze=False)
    for axes, (colour, symbol, chosen) in zip(panels.flat, parts, strict=False):
        _points(axes, comparison.forces[chosen].ravel(), comparison.predicted_forces[chosen].ravel(), colour, symbol)
        low = min(axes.get_xlim()[0], axes.get_ylim()[0])
        high = max(axes.get_xlim()[1], axes.get_ylim()[1])
        axes.plot([low, high], [low, high], color=INK, linewidth=0.8, zorder=0)
        axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        axes.set_title(f"{symbol}: MAE {mean_absolute(comparison.force_errors[chosen]):.0f} meV/Å", fontsize=9)
    for axes in panels.flat[len(parts) :]:
        axes.set_visible(False)
    figure.supxlabel("ab initio force component (eV/Å)", fontsize=9)
    figure.supylabel("predicted (eV/Å)", fontsize=9)
    return figure


@rc_context(STYLE)
def force_error_histogram(comparison: Comparison) -> Figure:
    """How often a force component is wrong by how much, by element, on a logarithmic scale.

    Args:
        comparison: labels and predictions.
    """
    figure, axes = new_figure()
    errors = comparison.force_errors
    width = max(float(np.quantile(np.abs(errors), 0.995)), 1e-6)
    bins = np.linspace(-width, width, 41).tolist()
    for colour, symbol, chosen in _by_element(comparison):
        values = np.clip(errors[chosen].ravel(), -width, width)
        axes.hist(
            values,
            bins=bins,
            density=True,
            histtype="step",
            linewidth=1.4,
            color=colour,
            label=symbol,
        )
    axes.set(xlabel="force error (meV/Å)", ylabel="density (Å/meV)", yscale="log")
    axes.legend(ncols=2)
    return figure


@rc_context(STYLE)
def energy_error_histogram(sets: Mapping[str, Comparison]) -> Figure:
    """How often the energy per atom is wrong by how much.

    Args:
        sets: comparisons by name.
    """
    figure, axes = new_figure()
    everything = np.concatenate([comparison.energy_errors for comparison in sets.values()])
    width = max(float(np.abs(everything).max()), 1e-6)
    bins = np.linspace(-width, width, 31).tolist()
    for colour, (name, comparison) in zip(cycle(PALETTE), sets.items(), strict=False):
        axes.hist(comparison.energy_errors, bins=bins, histtype="step", linewidth=1.4, color=colour, label=name)
    axes.set(xlabel="energy error (meV/atom)", ylabel="frames")
    axes.legend()
    return figure


@rc_context(STYLE)
def training_curve(losses: Mapping[str, Sequence[float]], *, bound: float | None = None) -> Figure:
    """The loss along each optimisation, and the bound that no circuit can beat with these channels.

    Args:
        losses: loss per iteration of each restart, by name.
        bound: loss of the unconstrained minimiser over M.
    """
    figure, axes = new_figure()
    for index, (name, values) in enumerate(losses.items()):
        colour = PALETTE[index % len(PALETTE)]
        axes.plot(np.arange(len(values)), values, color=colour, linewidth=1.4, label=name)
    if bound is not None:
        axes.axhline(bound, color=INK, linestyle="--", linewidth=1.0, label="bound (any M)")
    axes.set(xlabel="iteration", ylabel="loss", yscale="log")
    _plain_log_labels(axes)
    axes.legend()
    return figure


@rc_context(STYLE)
def selection_curve(errors: Mapping[str, Sequence[float]]) -> Figure:
    """What is left of the squared error after each channel that the forward selection takes.

    Args:
        errors: remaining fraction of the squared error by number of channels taken, from 0, for each element.
    """
    figure, axes = new_figure()
    for index, (name, values) in enumerate(errors.items()):
        colour = PALETTE[index % len(PALETTE)]
        axes.plot(np.arange(len(values)), values, "o-", markersize=3, linewidth=1.2, color=colour, label=name)
    axes.set(xlabel="channels taken", ylabel="squared error left (fraction)", yscale="log")
    axes.legend(ncols=2)
    return figure


@rc_context(STYLE)
def lines(
    x: FloatArray, curves: Mapping[str, FloatArray], *, x_label: str, y_label: str, level: float | None = None
) -> Figure:
    """One or more curves over a common axis, such as the temperature along a run.

    Args:
        x: shape ``(n,)``.
        curves: values by name, each of shape ``(n,)``.
        x_label: name and unit of the axis.
        y_label: name and unit of the values.
        level: a horizontal line to compare with.
    """
    figure, axes = new_figure()
    for index, (name, values) in enumerate(curves.items()):
        axes.plot(x, values, color=PALETTE[index % len(PALETTE)], linewidth=1.2, label=name)
    if level is not None:
        axes.axhline(level, color=INK, linestyle="--", linewidth=1.0)
    axes.set(xlabel=x_label, ylabel=y_label)
    if len(curves) > 1:
        axes.legend()
    return figure


@rc_context(STYLE)
def new_figure(*, width: float = 4.6, height: float = 3.6) -> tuple[Figure, Axes]:
    """An empty figure in the house style with one pair of axes; sizes in inches."""
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots()


@rc_context(STYLE)
def save(figure: Figure, path: Path) -> None:
    """Write a figure on a white ground, whole or not at all; the format follows from the file name."""
    with atomic_file(path) as stream:
        figure.savefig(stream, format=path.suffix[1:], dpi=160, transparent=False, facecolor="white")


@rc_context(STYLE)
def as_svg(figure: Figure) -> str:
    """A figure as SVG text with a transparent ground."""
    stream = StringIO()
    figure.savefig(stream, format="svg", dpi=160, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


def _plain_log_labels(axes: Axes) -> None:
    """Write 6 instead of 6 × 10⁰ on a logarithmic axis that spans little more than a decade."""
    low, high = axes.get_ylim()
    if high < 15.0 * low:
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")


def _by_element(comparison: Comparison) -> Iterator[tuple[str, str, BoolArray]]:
    """Colour, symbol and rows of the forces of each element."""
    for colour, number in zip(cycle(PALETTE), np.unique(comparison.species), strict=False):
        yield colour, chemical_symbols[number], comparison.species == number


def _points(axes: Axes, x: FloatArray, y: FloatArray, colour: str, label: str) -> None:
    """Scatter points, drawn as an image inside vector figures so that many of them stay small."""
    size = 14.0 if len(x) < 500 else 3.0
    alpha = 0.8 if len(x) < 500 else 0.35
    axes.scatter(x, y, s=size, color=colour, alpha=alpha, linewidths=0, label=label, rasterized=len(x) > 500)


def _finish_parity(axes: Axes, quantity: str, unit: str) -> None:
    """Equal scales, the diagonal, labels and a legend whose points can be seen."""
    low = min(axes.get_xlim()[0], axes.get_ylim()[0])
    high = max(axes.get_xlim()[1], axes.get_ylim()[1])
    axes.plot([low, high], [low, high], color=INK, linewidth=0.8, zorder=0)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set(xlabel=f"ab initio {quantity} ({unit})", ylabel=f"predicted {quantity} ({unit})")
    legend = axes.legend(fontsize=8, handletextpad=0.2)
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set(alpha=1.0, sizes=[16.0])
