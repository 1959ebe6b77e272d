"""A structure for the page: atoms, bonds, cell and forces, as a still picture and as data for the turning view.

Both start from the same side: a little to the left of the a axis' far end, with c upwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.data.colors import jmol_colors
from matplotlib import rc_context
from matplotlib.collections import EllipseCollection, LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.spatial import cKDTree

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.report.figures import INK, PALETTE, STYLE
from qiskit_qff.report.scene import Scene
from qiskit_qff.structures.frame import Frame

MOST_ATOMS = 1500
"""Larger structures are not shown: nobody would see an atom."""
_BOND = 1.2
"""Atoms nearer than this many sums of covalent radii are joined."""
_LOOSE = (3, 11, 19, 37, 55)
"""Alkali ions are joined to nothing."""
_LONG_ARROW_ANG = 2.2
"""Nine of ten arrows are shorter."""
_TURN_DEG = (-80.0, 15.0)
"""Turns about x, then about y, before the first look; `viewer.js` has the same."""
_COLOURS = (PALETTE[0], PALETTE[1], PALETTE[2], PALETTE[3])


@dataclass(frozen=True, eq=False)
class ForceSet:
    """Forces on all atoms of a structure."""

    name: str
    """What they are, in a few words."""
    values: FloatArray
    """Shape ``(n_atoms, 3)``, in eV/Å."""
    magnified: float = 1.0
    """How many times longer than the others they are drawn."""
    shown: bool = True
    """Whether they are drawn before the reader asks for them."""


def structure_scene(
    frame: Frame, forces: Sequence[ForceSet] = (), *, name: str = "structure", caption: str
) -> Scene | None:
    """A structure to look at; None if it is too large to see anything.

    Args:
        frame: atoms and cell.
        forces: at most four sets; the first is drawn wider, below the others.
        name: short name.
        caption: what it is.
    """
    if frame.n_atoms > MOST_ATOMS:
        return None
    counts = {symbol: frame.symbols.count(symbol) for symbol in dict.fromkeys(frame.symbols)}
    elements = ", ".join(f"{count} {symbol}" for symbol, count in counts.items())
    drawn = [entry for entry in forces if entry.shown]
    arrows = f"; arrows: {' and '.join(entry.name for entry in drawn)} forces" if drawn else ""
    scale = _scale(forces)
    return Scene(
        name=name,
        caption=caption,
        alt=f"Structure of {frame.n_atoms} atoms ({elements}) in its cell{arrows}.",
        still=_still(frame, drawn, scale),
        data=_data(frame, forces, scale),
    )


def bonded_pairs(frame: Frame) -> IntArray:
    """Pairs of atoms as they lie, not across borders, that are close enough for a bond; shape ``(n_bonds, 2)``."""
    radii = covalent_radii[frame.numbers]
    pairs = cKDTree(frame.positions).query_pairs(2.0 * _BOND * float(radii.max(initial=0.1)), output_type="ndarray")
    i, j = pairs.T
    distances = np.linalg.norm(frame.positions[i] - frame.positions[j], axis=1)
    loose = np.isin(frame.numbers, _LOOSE)
    both_hydrogen = (frame.numbers[i] == 1) & (frame.numbers[j] == 1)
    bonded = (distances < _BOND * (radii[i] + radii[j])) & ~loose[i] & ~loose[j] & ~both_hydrogen
    return np.asarray(pairs[bonded], dtype=np.int64)


def cell_edges(frame: Frame) -> FloatArray:
    """Ends of the edges of the cell in Å, shape ``(n_edges, 2, 3)``; none where there is no whole cell."""
    if not frame.cell.any(axis=1).all():
        return np.empty((0, 2, 3))
    edges = []
    for axis in range(3):
        first, second = (other for other in range(3) if other != axis)
        for u in (0.0, 1.0):
            for v in (0.0, 1.0):
                start = u * frame.cell[first] + v * frame.cell[second]
                edges.append([start, start + frame.cell[axis]])
    return np.array(edges)


def _scale(forces: Sequence[ForceSet]) -> float:
    """Length in Å of an arrow for 1 eV/Å."""
    sizes = [np.linalg.norm(entry.values, axis=1) for entry in forces if entry.magnified == 1.0]
    typical = float(np.quantile(np.concatenate(sizes), 0.9)) if sizes else 0.0
    return _LONG_ARROW_ANG / typical if typical > 1e-6 else 1.0


def _radii(numbers: IntArray) -> FloatArray:
    """Radii of the balls in Å: small, so that arrows and bonds show."""
    return np.asarray(0.12 + 0.28 * covalent_radii[numbers])


def _data(frame: Frame, forces: Sequence[ForceSet], scale: float) -> dict[str, Any]:
    """Plain numbers for the viewer."""
    numbers = np.unique(frame.numbers)
    return {
        "symbols": frame.symbols,
        "positions": np.round(frame.positions, 3).tolist(),
        "bonds": bonded_pairs(frame).tolist(),
        "edges": np.round(cell_edges(frame), 3).tolist(),
        "elements": {
            chemical_symbols[number]: {"color": to_hex(jmol_colors[number]), "radius": round(float(radius), 3)}
            for number, radius in zip(numbers, _radii(numbers), strict=True)
        },
        "forces": [
            {
                "name": entry.name,
                "color": colour,
                "magnified": entry.magnified,
                "shown": entry.shown,
                "values": np.round(entry.values, 3).tolist(),
            }
            for colour, entry in zip(_COLOURS, forces, strict=False)
        ],
        "scale": round(scale, 4),
    }


@rc_context(STYLE)
def _still(frame: Frame, forces: Sequence[ForceSet], scale: float) -> Figure:
    """The structure as flat discs, the nearest last, with its arrows."""
    figure = Figure(figsize=(5.4, 4.3))
    axes = figure.subplots()
    axes.set_rasterization_zorder(10.0)  # one image: thousands of shapes would be larger than the viewer
    turn = _rotation()
    places = frame.positions @ turn.T
    order = np.argsort(places[:, 2], kind="stable")
    flat, widths = places[order, :2], 2.0 * _radii(frame.numbers[order])
    edges = cell_edges(frame) @ turn.T
    axes.add_collection(LineCollection(list(edges[:, :, :2]), colors=INK, linewidths=0.6, linestyles=":"))
    bonds = places[bonded_pairs(frame)][:, :, :2]
    axes.add_collection(LineCollection(list(bonds), colors=INK, linewidths=1.0, alpha=0.5))
    discs = EllipseCollection(
        widths,
        widths,
        np.zeros_like(widths),
        units="xy",
        offsets=flat,
        transOffset=axes.transData,
        facecolors=jmol_colors[frame.numbers[order]],
        edgecolors=INK,
        linewidths=0.5,
        zorder=2,
    )
    axes.add_collection(discs)
    for index, (colour, entry) in enumerate(zip(_COLOURS, forces, strict=False)):
        arrows = entry.values[order] @ turn.T * scale * entry.magnified
        width = 0.2 if index == 0 else 0.1
        axes.quiver(
            *flat.T,
            *arrows[:, :2].T,
            color=colour,
            alpha=0.55 if index == 0 else 0.95,
            angles="xy",
            scale_units="xy",
            scale=1.0,
            units="xy",
            width=width,
            zorder=3 + index,
        )
        axes.update_datalim(flat + arrows[:, :2])
    axes.update_datalim(np.vstack([edges[:, :, :2].reshape(-1, 2), flat - widths[:, None], flat + widths[:, None]]))
    axes.autoscale_view()
    axes.set_aspect("equal")
    axes.set_axis_off()
    _legend(figure, forces)
    return figure


def _legend(figure: Figure, forces: Sequence[ForceSet]) -> None:
    """What colours of arrows mean, below; those of elements stand on the page."""
    handles = [
        Line2D([], [], color=colour, linewidth=2.5, label=f"{entry.name} forces")
        for colour, entry in zip(_COLOURS, forces, strict=False)
    ]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8)


def _rotation() -> FloatArray:
    """From the laboratory to the page: x to the right, y up, z towards the reader."""
    x, y = np.deg2rad(_TURN_DEG)
    about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    return np.asarray(about_y @ about_x, dtype=np.float64)
