r"""Forces as arrows on a piece of a structure, seen from where it is flattest.

Left the forces themselves, the exact ones wide and pale below the measured ones; right what is wrong with the measured
ones, magnified. The view looks along the direction in which the atoms vary least (principal components).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.data.colors import jmol_colors
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.model.metrics import MEV_PER_EV
from qiskit_qff.report.device_forces import COLOURS
from qiskit_qff.report.figures import INK, STYLE
from qiskit_qff.structures.frame import Frame

_BOND = 1.2
"""Atoms nearer than this many sums of covalent radii are joined by a line."""
_LOOSE = (1, 3, 11, 19)
"""Elements that get no lines to each other; alkali ions none at all."""


@rc_context(STYLE)
def force_arrows(
    frame: Frame,
    exact: FloatArray,
    measured: Mapping[str, FloatArray],
    *,
    centre: int,
    n_atoms: int = 24,
    ang_per_force: float = 0.6,
    magnified: float = 10.0,
    colours: Sequence[str] = COLOURS,
) -> Figure:
    """Exact and measured forces on the atoms around one of them, and the deviations beside.

    Args:
        frame: the structure.
        exact: forces, shape ``(n_atoms, 3)``, in eV/Å.
        measured: forces by name, same shape and unit.
        centre: index of the atom in the middle.
        n_atoms: number of atoms to show.
        ang_per_force: length of an arrow in Å for 1 eV/Å.
        magnified: how many times longer deviations are drawn.
        colours: of the measured forces, in their order.
    """
    shown, places = _fragment(frame, centre, n_atoms)
    view = np.linalg.svd(places - places.mean(axis=0))[2]
    flat = places @ view[:2].T
    order = np.argsort(places @ view[2])  # the nearest atoms are drawn last
    figure = Figure()
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    numbers = np.asarray(frame.numbers)[shown]
    for axes in (left, right):
        _structure(axes, flat, places, numbers, order)
    _arrows(left, flat, exact[shown] @ view[:2].T * ang_per_force, INK, wide=True)
    for colour, forces in zip(colours, measured.values(), strict=False):
        _arrows(left, flat, forces[shown] @ view[:2].T * ang_per_force, colour)
        deviation = (forces - exact)[shown] @ view[:2].T
        _arrows(right, flat, deviation * ang_per_force * magnified, colour)
    left.set_title("forces", loc="left")
    right.set_title(f"measured − exact, {magnified:g} times longer", loc="left")
    _scale(left, flat, ang_per_force, "1 eV/Å")
    _scale(right, flat, ang_per_force, f"{MEV_PER_EV / magnified:g} meV/Å")
    _legends(figure, numbers, colours, tuple(measured))
    (low_x, high_x), (low_y, high_y) = left.get_xlim(), left.get_ylim()
    figure.set_size_inches(9.6, 4.7 * (high_y - low_y) / (high_x - low_x) + 0.7)
    return figure


def _fragment(frame: Frame, centre: int, n_atoms: int) -> tuple[IntArray, FloatArray]:
    """The nearest atoms and where they are from the centre in Å, periodic images included."""
    atoms = frame.to_atoms()
    vectors = np.asarray(
        atoms.get_distances(centre, range(len(atoms)), mic=bool(frame.pbc.any()), vector=True)  # type: ignore[no-untyped-call]
    )
    nearest = np.argsort(np.linalg.norm(vectors, axis=1), kind="stable")[:n_atoms]
    return nearest, vectors[nearest]


def _structure(axes: Axes, flat: FloatArray, places: FloatArray, numbers: IntArray, order: IntArray) -> None:
    """Lines between bonded atoms, and the atoms as discs in the usual colours."""
    for one in range(len(numbers)):
        for other in range(one):
            pair = {int(numbers[one]), int(numbers[other])}
            reach = _BOND * (covalent_radii[numbers[one]] + covalent_radii[numbers[other]])
            bonded = np.linalg.norm(places[one] - places[other]) < reach
            if bonded and not pair <= set(_LOOSE) and not pair & set(_LOOSE[1:]):
                axes.plot(*flat[[one, other]].T, color=INK, alpha=0.25, linewidth=1.0, zorder=1)
    for atom in order:
        number = int(numbers[atom])
        size = 150.0 * covalent_radii[number]
        x, y = flat[atom]
        axes.scatter(x, y, s=size, color=jmol_colors[number], alpha=0.55, edgecolors=INK, linewidths=0.6, zorder=2)
    axes.set_axis_off()
    axes.set_aspect("equal")


def _arrows(axes: Axes, starts: FloatArray, arrows: FloatArray, colour: str, *, wide: bool = False) -> None:
    """Arrows in the units of the axes."""
    width = 0.16 if wide else 0.05
    axes.quiver(
        *starts.T,
        *arrows.T,
        color=colour,
        alpha=0.35 if wide else 0.95,
        angles="xy",
        scale_units="xy",
        scale=1.0,
        units="xy",
        width=width,
        headwidth=2.4 if wide else 4.0,
        headlength=2.4 if wide else 4.5,
        headaxislength=2.2 if wide else 4.0,
        minlength=0.2,
        zorder=3 if wide else 4,
    )
    # Arrows count for nothing in matplotlib's limits.
    axes.update_datalim(starts + arrows)
    axes.autoscale_view()


def _scale(axes: Axes, flat: FloatArray, length: float, text: str) -> None:
    """A bar that says how long a force is."""
    x, y = flat[:, 0].min(), flat[:, 1].min() - 1.2
    axes.plot([x, x + length], [y, y], color=INK, linewidth=2.0, solid_capstyle="butt")
    axes.text(x + length + 0.15, y, text, va="center", fontsize=8)


def _legends(figure: Figure, numbers: IntArray, colours: Sequence[str], names: tuple[str, ...]) -> None:
    """What colours and discs mean, below both drawings."""
    handles = [Line2D([], [], color=INK, alpha=0.35, linewidth=5.0, label="exact")]
    handles += [
        Line2D([], [], color=colour, linewidth=2.0, label=name) for colour, name in zip(colours, names, strict=False)
    ]
    handles += [
        Line2D(
            [],
            [],
            marker="o",
            linestyle="none",
            markersize=7.0,
            color=tuple(jmol_colors[number]),
            markeredgecolor=INK,
            label=chemical_symbols[number],
        )
        for number in np.unique(numbers)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8)
