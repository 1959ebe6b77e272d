"""Forces that a device measured beside the exact ones: table, figures and a section of the report."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qiskit_qff.array_types import FloatArray
from qiskit_qff.evaluators.protocol import Cost
from qiskit_qff.model.metrics import MEV_PER_EV, mean_absolute, root_mean_square
from qiskit_qff.report.figures import INK, PALETTE, STYLE, new_figure
from qiskit_qff.report.html import Cell, Panel, Section, Table

HEADER = (
    "measurement",
    "MAE (meV/Å)",
    "standard error (meV/Å)",
    "within 2 of them",
    "circuits",
    "processor time (s)",
)
"""Columns of the table, as :meth:`DeviceForces.row` fills them."""
COLOURS = (PALETTE[1], PALETTE[2], PALETTE[0], *PALETTE[3:])
"""Colours of several ways to measure, from the plain one to the most refined."""


@dataclass(frozen=True, eq=False)
class DeviceForces:
    """Forces of one frame, measured in one way, beside the exact ones of the same model."""

    name: str
    """What was done to the noise, in a few words."""
    exact: FloatArray
    """Forces by linear algebra, shape ``(n_atoms, 3)``, in eV/Å."""
    forces: FloatArray
    """Measured forces, same shape and unit."""
    std_errors: FloatArray
    """Their reported standard errors, same shape and unit."""
    cost: Cost
    """Circuits, shots and estimated processor time."""

    @property
    def deviations(self) -> FloatArray:
        """Measured less exact, shape ``(n_atoms, 3)``, in meV/Å."""
        return MEV_PER_EV * (self.forces - self.exact)

    @property
    def mae(self) -> float:
        """Mean absolute deviation of the components in meV/Å."""
        return mean_absolute(self.deviations)

    @property
    def std_error(self) -> float:
        """Root mean square of the reported standard errors in meV/Å."""
        return MEV_PER_EV * root_mean_square(self.std_errors)

    @property
    def covered(self) -> float:
        """Fraction of components within two reported standard errors: 0.95 where shot noise is all there is."""
        return float(np.mean(np.abs(self.deviations) <= 2.0 * MEV_PER_EV * self.std_errors))

    def row(self) -> tuple[Cell, ...]:
        """Entries of the table's columns."""
        return (self.name, self.mae, self.std_error, f"{self.covered:.0%}", self.cost.circuits, self.cost.seconds)

    def to_dict(self) -> dict[str, str | float | int]:
        """Plain numbers for JSON."""
        return {
            "measurement": self.name,
            "force_mae_mev_per_ang": self.mae,
            "std_error_mev_per_ang": self.std_error,
            "within_two_std_errors": self.covered,
            "circuits": self.cost.circuits,
            "shots": self.cost.shots,
            "estimated_seconds": self.cost.seconds,
        }


def device_section(measured: Sequence[DeviceForces], *, title: str, text: tuple[str, ...]) -> Section:
    """What a device makes of the forces of a frame.

    Args:
        measured: the same forces, measured in several ways; at least one.
        title: heading.
        text: paragraphs above the table.
    """
    first, last = measured[0], measured[-1]
    return Section(
        title=title,
        text=text,
        tables=(Table("Against the exact forces of the same model", HEADER, tuple(m.row() for m in measured)),),
        panels=(
            Panel(
                "device_parity",
                "Force components as measured against exact ones.",
                f"Scatter plot along the diagonal; mean absolute deviation {first.mae:.0f} meV/Å for '{first.name}', "
                f"{last.mae:.0f} meV/Å for '{last.name}'.",
                parity_figure(measured),
            ),
            Panel(
                "device_deviations",
                "Deviation of each component against the standard error that was reported with it; the band, two "
                "standard errors wide on either side, should hold 95 % of the points if shot noise is all there is.",
                f"Points in a wedge that opens to the right; {last.covered:.0%} of '{last.name}' lie inside it.",
                deviation_figure(measured),
            ),
        ),
    )


@rc_context(STYLE)
def parity_figure(measured: Sequence[DeviceForces]) -> Figure:
    """Measured against exact force components.

    Args:
        measured: one entry a colour.
    """
    figure, axes = new_figure()
    for colour, entry in zip(COLOURS, measured, strict=False):
        _points(axes, entry.exact, entry.forces, colour, f"{entry.name}: MAE {entry.mae:.0f} meV/Å")
    low = min(axes.get_xlim()[0], axes.get_ylim()[0])
    high = max(axes.get_xlim()[1], axes.get_ylim()[1])
    axes.plot([low, high], [low, high], color=INK, linewidth=0.8, zorder=0)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set(xlabel="exact force component (eV/Å)", ylabel="measured (eV/Å)")
    _legend(axes)
    return figure


@rc_context(STYLE)
def deviation_figure(measured: Sequence[DeviceForces]) -> Figure:
    """Deviation from the exact force against the reported standard error, with the band of shot noise.

    Args:
        measured: one entry a colour.
    """
    figure, axes = new_figure()
    for colour, entry in zip(COLOURS, measured, strict=False):
        label = f"{entry.name}: {entry.covered:.0%} in the band"
        _points(axes, MEV_PER_EV * entry.std_errors, entry.deviations, colour, label)
    edge = axes.get_xlim()[1]
    reach = 1.05 * max(float(np.abs(entry.deviations).max()) for entry in measured)
    axes.fill_between([0.0, edge], [0.0, -2.0 * edge], [0.0, 2.0 * edge], color=INK, alpha=0.12, linewidth=0, zorder=0)
    axes.axhline(0.0, color=INK, linewidth=0.8, zorder=0)
    axes.set(xlim=(0.0, edge), ylim=(-reach, reach))
    axes.set(xlabel="reported standard error (meV/Å)", ylabel="measured − exact (meV/Å)")
    _legend(axes)
    return figure


def _points(axes: Axes, x: FloatArray, y: FloatArray, colour: str, label: str) -> None:
    """Small points, drawn as an image inside vector figures."""
    axes.scatter(x.ravel(), y.ravel(), s=7.0, color=colour, alpha=0.6, linewidths=0, label=label, rasterized=True)


def _legend(axes: Axes) -> None:
    """A legend above the axes, where no point can be below it."""
    legend = axes.legend(fontsize=8, handletextpad=0.2, loc="lower left", bbox_to_anchor=(0.0, 1.0), borderaxespad=0.2)
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set(alpha=1.0, sizes=[16.0])
