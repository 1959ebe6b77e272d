"""A picture of a structure with arrows for the forces on its atoms, drawn by ASE."""

from collections.abc import Mapping

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from ase.data.colors import jmol_colors
from ase.neighborlist import natural_cutoffs, neighbor_list
from ase.visualize.plot import Matplotlib
from matplotlib import rc_context
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.report.figures import INK, PALETTE, STYLE
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.framework import BOND, MOBILE, NONMETALS

MOST_ATOMS = 1500
"""Larger structures are not drawn: nobody would see an atom."""
_LONG_ARROW_ANG = 2.2
"""Nine of ten arrows are shorter."""
_ROTATION = "-80x,15y"
"""The cell seen a little from the left of the a axis' far end, with c upwards."""


@rc_context(STYLE)
def structure_figure(frame: Frame, forces: Mapping[str, FloatArray] | None = None) -> Figure:
    """Atoms, bonds, cell, and an arrow on every atom for each kind of force, the first drawn wide."""
    atoms, bonds = whole(frame)
    figure = Figure(figsize=(4.2, 4.4))
    axes = figure.subplots()
    axes.set_rasterization_zorder(10.0)  # one image: thousands of shapes would make a page of many megabytes
    view = Matplotlib(atoms, axes, rotation=_ROTATION, radii=0.12 + 0.3 * covalent_radii[atoms.numbers])  # type: ignore[no-untyped-call]
    view.write()  # type: ignore[no-untyped-call]
    for patch in axes.patches:
        patch.set(linewidth=0.5, edgecolor=INK, zorder=2)
    flat = view.positions[: len(atoms), :2]
    axes.add_collection(LineCollection(list(flat[bonds]), colors=INK, linewidths=1.2, alpha=0.6, zorder=1))
    kinds = forces or {}
    sizes = np.concatenate([np.linalg.norm(values, axis=1) for values in kinds.values()] or [np.zeros(1)])
    typical = float(np.quantile(sizes, 0.9))
    for index, (colour, values) in enumerate(zip(PALETTE, kinds.values(), strict=False)):
        arrows = values @ view.rotation * (_LONG_ARROW_ANG / typical if typical > 1e-6 else 1.0)
        width, alpha = (0.22, 0.55) if index == 0 else (0.1, 0.95)
        axes.quiver(
            *flat.T, *arrows[:, :2].T, color=colour, alpha=alpha, width=width, zorder=3 + index,
            angles="xy", scale_units="xy", scale=1.0, units="xy",
        )  # fmt: skip
        axes.update_datalim(flat + arrows[:, :2])
    axes.update_datalim([[0.0, 0.0], [view.w, view.h]])
    axes.autoscale(tight=True)
    axes.set_axis_off()
    _legend(figure, np.unique(atoms.numbers), tuple(kinds))
    return figure


def whole(frame: Frame) -> tuple[Atoms, IntArray]:
    """Atoms with every molecule in one piece and its middle inside the cell, and its bonds, shape ``(n_bonds, 2)``.

    A framework that closes on itself has no whole piece: its atoms are put into the cell one by one, and bonds across
    the cell's border are left out.
    """
    atoms = frame.to_atoms()
    atoms.wrap()  # type: ignore[no-untyped-call]
    i, j, vectors = neighbor_list("ijD", atoms, natural_cutoffs(atoms, mult=BOND))  # type: ignore[no-untyped-call]
    ion, nonmetal = np.isin(atoms.numbers, MOBILE), np.isin(atoms.numbers, NONMETALS)
    bonded = ~ion[i] & ~ion[j] & (nonmetal[i] | nonmetal[j])
    i, j, vectors = i[bonded], j[bonded], vectors[bonded]
    graph = coo_array((np.ones(len(i)), (i, j)), shape=(len(atoms), len(atoms))).tocsr()
    way = {(int(a), int(b)): vector for a, b, vector in zip(i, j, vectors, strict=True)}
    n_pieces, piece = connected_components(graph, directed=False)
    for number in range(n_pieces):
        members = np.flatnonzero(piece == number)
        places = atoms.positions.copy()
        order, before = breadth_first_order(graph, members[0], directed=False)
        for atom in order[1:]:
            places[atom] = places[before[atom]] + way[int(before[atom]), int(atom)]
        own = piece[i] == number
        if np.allclose(places[j[own]] - places[i[own]], vectors[own], atol=1e-6):
            middle = atoms.cell.scaled_positions(places[members].mean(axis=0)) if frame.pbc.all() else np.zeros(3)
            atoms.positions[members] = places[members] - np.floor(middle) @ atoms.cell.array
    drawn = (np.linalg.norm(atoms.positions[j] - atoms.positions[i] - vectors, axis=1) < 1e-6) & (i < j)
    return atoms, np.stack([i[drawn], j[drawn]], axis=1)


def _legend(figure: Figure, numbers: IntArray, names: tuple[str, ...]) -> None:
    """What colours of atoms mean, above, and those of arrows, below."""
    arrows = [Line2D([], [], color=c, linewidth=2.5, label=name) for c, name in zip(PALETTE, names, strict=False)]
    elements = [
        Line2D([], [], marker="o", linestyle="none", markersize=8.0, color=tuple(jmol_colors[number]),
               markeredgecolor=INK, label=chemical_symbols[number])
        for number in numbers
    ]  # fmt: skip
    figure.legend(
        handles=elements, loc="outside upper center", ncols=min(6, len(elements)), columnspacing=1.0, handletextpad=0.3
    )
    figure.legend(handles=arrows, loc="outside lower center", ncols=2)
