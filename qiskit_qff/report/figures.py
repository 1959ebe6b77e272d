"""Figures of errors, uncertainties and training, and the style of all figures.

Every function returns a matplotlib Figure that belongs to no window and no global state; :func:`save` writes
it as PNG for a light page. Text and axes are drawn in one ink colour (:data:`INK`), which the HTML report
replaces with the reader's own, so a figure fits a light and a dark page alike.
"""

from collections.abc import Mapping
from io import StringIO
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from qiskit_qff.array_types import FloatArray
from qiskit_qff.durable import atomic_file
from qiskit_qff.model.metrics import MEV_PER_EV, Comparison, composition_means, mean_absolute

Points = tuple[FloatArray, FloatArray] | tuple[FloatArray, FloatArray, FloatArray]
"""x and y of the points of one colour, of any equal shapes, and perhaps standard errors of y."""

INK = "#5b6472"
"""Colour of text and axes: readable on white (5.9:1), replaced in the HTML report."""

# Okabe and Ito's palette for colour-blind readers, without black and yellow, which vanish on dark or light.
PALETTE = ("#1c83c6", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#a6761d")

STYLE: Any = {
    # No text below 11 px: the page shows no figure smaller than it was drawn.
    **dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize", "xtick.labelsize", "ytick.labelsize"), 11.0),
    **dict.fromkeys(("legend.fontsize", "figure.labelsize", "figure.titlesize"), 11.0),
    **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "text.color"), INK),
    **dict.fromkeys(("xtick.color", "ytick.color", "grid.color"), INK),
    "axes.spines.top": False,
    "axes.spines.right": False,
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
def parity(groups: Mapping[str, Points], *, x_label: str, y_label: str) -> Figure:
    """Two values that should be equal against each other, with the diagonal."""
    figure, axes = new_figure(height=4.0)
    for colour, (label, (x, y, *errors)) in zip(cycle(PALETTE), groups.items(), strict=False):
        if errors:
            axes.errorbar(x.ravel(), y.ravel(), errors[0].ravel(), fmt="none", ecolor=colour, alpha=0.4, elinewidth=0.8)
        # Many points are drawn as an image inside the vector figure, so that it stays small.
        size, alpha = (14.0, 0.8) if x.size < 500 else (3.0, 0.35)
        axes.scatter(x, y, s=size, color=colour, alpha=alpha, linewidths=0, label=label, rasterized=x.size >= 500)
    low, high = (ends(axes.get_xlim()[k], axes.get_ylim()[k]) for k, ends in ((0, min), (1, max)))
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.axline((high / 2, high / 2), (high, high), color=INK, linewidth=0.8, zorder=0)
    axes.set(xlabel=x_label, ylabel=y_label)
    # Above the axes, where no point can be below it, with points that can be seen.
    columns = 1 if max(map(len, groups)) > 16 else 2 if max(map(len, groups)) > 4 else 4
    legend = axes.legend(
        ncols=columns, loc="lower left", bbox_to_anchor=(0.0, 1.0),
        borderaxespad=0.2, handletextpad=0.2, columnspacing=0.8,
    )  # fmt: skip
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set(alpha=1.0, sizes=[16.0])
    return figure


def parity_energy(sets: Mapping[str, Comparison]) -> Figure:
    """Predicted against reference energies per atom, relative to the mean reference energy of their composition."""
    formulas = [formula for c in sets.values() for formula in c.compositions or ("",) * len(c.energies)]
    centres = composition_means(formulas, np.concatenate([c.energies for c in sets.values()]))
    parts = np.split(centres, np.cumsum([len(c.energies) for c in sets.values()])[:-1])
    groups: dict[str, Points] = {
        f"{name}: MAE {mean_absolute(c.energy_errors):.2f} meV/atom": (
            MEV_PER_EV * (c.energies - centre),
            MEV_PER_EV * (c.predicted_energies - centre),
        )
        for (name, c), centre in zip(sets.items(), parts, strict=True)
    }
    less = "energy − mean" if len(set(formulas)) < 2 else "energy − composition mean"
    return parity(groups, x_label=f"ab initio {less} (meV/atom)", y_label="predicted (meV/atom)")


def parity_forces(comparison: Comparison) -> Figure:
    """Predicted against reference force components, coloured by element, with the mean absolute errors."""
    groups: dict[str, Points] = {}
    for number in np.unique(comparison.species):
        chosen = comparison.species == number
        label = f"{chemical_symbols[number]}: {mean_absolute(comparison.force_errors[chosen]):.0f} meV/Å"
        groups[label] = comparison.forces[chosen], comparison.predicted_forces[chosen]
    return parity(groups, x_label="ab initio force component (eV/Å)", y_label="predicted (eV/Å)")


@rc_context(STYLE)
def lines(
    x: FloatArray | None,
    curves: Mapping[str, FloatArray],
    *,
    x_label: str,
    y_label: str,
    level: tuple[float, str] | None = None,
    log: bool = False,
) -> Figure:
    """Curves by name over a common axis; without x each counts from 0 to its own end."""
    figure, axes = new_figure()
    for colour, (name, values) in zip(cycle(PALETTE), curves.items(), strict=False):
        axes.plot(np.arange(len(values)) if x is None else x, values, color=colour, linewidth=1.4, label=name)
    if level is not None:
        axes.axhline(level[0], color=INK, linestyle="--", linewidth=1.0, label=level[1])
    axes.set(xlabel=x_label, ylabel=y_label)
    if log:
        axes.set_yscale("log")
        # 0.01 instead of 10⁻², whose exponent is too small to read; between decades only where they are few.
        axes.yaxis.set_major_formatter("{x:g}")
        low, high = axes.get_ylim()
        axes.yaxis.set_minor_formatter("{x:g}" if high < 15.0 * low else NullFormatter())
    if len(curves) > 1 or level is not None:
        axes.legend()
    return figure


@rc_context(STYLE)
def new_figure(*, width: float = 4.2, height: float = 3.6) -> tuple[Figure, Axes]:
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
