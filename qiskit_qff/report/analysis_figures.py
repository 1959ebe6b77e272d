"""Figures of what a trajectory tells: coordination, vibrations, where ions are, and the Arrhenius line."""

from collections.abc import Mapping
from typing import Any

import contourpy
import numpy as np
from ase.data import covalent_radii
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Line3DCollection

from qiskit_qff.model.metrics import FloatArray
from qiskit_qff.report.figures import INK, PALETTE, STYLE, new_figure
from qiskit_qff.simulation.arrhenius import Arrhenius
from qiskit_qff.simulation.radial_distribution import Shell
from qiskit_qff.simulation.site_density import SiteDensity
from qiskit_qff.simulation.vibrations import PER_CM, Vibrations
from qiskit_qff.structures.framework import BOND
from qiskit_qff.structures.neighbors import neighbor_list

# Contours of an isosurface are drawn on so many planes along each cell vector.
_PLANES = 18


@rc_context(STYLE)
def coordination_figure(r: FloatArray, neighbors: Mapping[str, FloatArray], shells: Mapping[str, Shell]) -> Figure:
    """Running coordination numbers, the end of the first shell marked, for the pairs that have one.

    Args:
        r: distances in Å, shape ``(n_bins,)``.
        neighbors: running coordination number by ordered pair, each of shape ``(n_bins,)``.
        shells: first shells by ordered pair.
    """
    n_columns = 1 + (len(shells) > 12)
    figure, axes = new_figure(width=4.8 + 1.1 * n_columns, height=3.6)
    for index, (name, shell) in enumerate(shells.items()):
        colour = PALETTE[index % len(PALETTE)]
        style = ("-", "--", ":")[index // len(PALETTE) % 3]
        label = f"{name}  {shell.neighbors:.2f}"
        axes.plot(r, neighbors[name], color=colour, linestyle=style, linewidth=1.3, label=label)
        axes.plot(shell.end_ang, shell.neighbors, "o", color=colour, markersize=4)
    highest = max((shell.neighbors for shell in shells.values()), default=1.0)
    axes.set(xlabel="r (Å)", ylabel="neighbours within r", ylim=(0.0, 1.3 * highest), xlim=(r[0], r[-1]))
    if shells:
        figure.legend(fontsize=8, ncols=n_columns, loc="outside right upper")
    return figure


@rc_context(STYLE)
def vibrations_figure(vibrations: Vibrations) -> Figure:
    """Velocity autocorrelation above, vibrational density of states below, by element.

    Args:
        vibrations: both.
    """
    figure = Figure(figsize=(5.6, 5.2))
    above, below = figure.subplots(2, 1, height_ratios=[2, 3])
    early = vibrations.lag_ps <= min(1.0, float(vibrations.lag_ps[-1]))
    total = np.zeros_like(vibrations.frequency_thz)
    for index, (name, curve) in enumerate(vibrations.correlation.items()):
        colour = PALETTE[index % len(PALETTE)]
        above.plot(vibrations.lag_ps[early], curve[early], color=colour, linewidth=1.1, label=name)
        below.plot(vibrations.frequency_thz, vibrations.density[name], color=colour, linewidth=1.1, label=name)
        total += vibrations.density[name]
    below.fill_between(vibrations.frequency_thz, total, color=INK, alpha=0.15, linewidth=0, label="all")
    above.axhline(0.0, color=INK, linewidth=0.6)
    above.set(xlabel="lag time (ps)", ylabel="velocity\nautocorrelation")
    # Nothing moves faster than where 99.9 % of the modes lie.
    shares = np.cumsum(total) / total.sum()
    end = min(1.15 * vibrations.frequency_thz[int(np.searchsorted(shares, 0.999))], vibrations.highest_thz)
    below.set(xlabel="frequency (THz)", ylabel="modes per THz", xlim=(0.0, end), ylim=(0.0, None))
    second = below.secondary_xaxis("top", functions=(lambda x: x * PER_CM, lambda x: x / PER_CM))
    second.set_xlabel("wavenumber (1/cm)", fontsize=8)
    second.tick_params(labelsize=8)
    below.legend(fontsize=8)
    return figure


@rc_context(STYLE)
def arrhenius_figure(fitted: Arrhenius, *, extrapolate_k: float, element: str) -> Figure:
    """Diffusivities against 1/T with their error bars, the line, and its band of one standard error.

    Args:
        fitted: points and line.
        extrapolate_k: temperature that the line is drawn to, in K.
        element: chemical symbol, for the label.
    """
    figure, axes = new_figure(width=5.0, height=3.9)
    coldest = min(extrapolate_k, float(fitted.temperatures_k.min()))
    inverse = np.linspace(0.95e3 / fitted.temperatures_k.max(), 1.02e3 / coldest, 100)
    line = [fitted.diffusivity(1e3 / x) for x in inverse]
    values, errors = np.array([value for value, _ in line]), np.array([error for _, error in line])
    axes.fill_between(inverse, values * np.exp(-errors), values * np.exp(errors), color=INK, alpha=0.15, linewidth=0)
    axes.plot(inverse, values, color=INK, linestyle="--", linewidth=1.1)
    axes.errorbar(
        1e3 / fitted.temperatures_k, fitted.diffusivities, yerr=fitted.errors, fmt="o", color=PALETTE[0], capsize=3
    )
    value, error = fitted.diffusivity(extrapolate_k)
    spread = [[value * (1.0 - np.exp(-error))], [value * (np.exp(error) - 1.0)]]
    axes.errorbar([1e3 / extrapolate_k], [value], yerr=spread, fmt="s", color=PALETTE[1], capsize=3, mfc="none")
    axes.set(xlabel="1000 / T (1/K)", ylabel=f"D({element}) (cm²/s)", yscale="log")
    axes.set_title(f"Ea = {fitted.activation_ev:.3f} ± {fitted.activation_error_ev:.3f} eV", loc="left", fontsize=9)
    axes.annotate(
        f"{extrapolate_k:g} K: {value:.1e}\n(× or ÷ {np.exp(error):.2g})",
        (1e3 / extrapolate_k, value),
        textcoords="offset points",
        xytext=(-14, -18),
        ha="right",
        fontsize=8,
    )
    return figure


@rc_context(STYLE)
def sites_figure(sites: SiteDensity, *, level: float) -> Figure:
    """The isosurface of an ion density as a net of contours around the framework, and the density seen along a, b, c.

    Args:
        sites: the density.
        level: of the isosurface, in 1/Å³.
    """
    figure = Figure(figsize=(8.0, 5.0))
    wide, narrow = np.ravel(figure.subfigures(1, 2, width_ratios=[5, 2], squeeze=False)).tolist()
    axes: Any = wide.add_subplot(projection="3d")
    _draw_framework(axes, sites)
    net = _isosurface_net(sites.values, level)
    segments = [points @ sites.cell for points in net]
    if segments:
        axes.add_collection3d(Line3DCollection(segments, colors=PALETTE[0], linewidths=0.5, alpha=0.7))
    _draw_cell(axes, sites.cell)
    corners = np.array(np.meshgrid([0, 1], [0, 1], [0, 1])).reshape(3, -1).T @ sites.cell
    low, high = corners.min(axis=0), corners.max(axis=0)
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
    axes.set_box_aspect(high - low, zoom=1.12)
    axes.view_init(elev=18.0, azim=-65.0)
    axes.set_axis_off()
    wide.suptitle(f"{sites.element} density = {level:.2g} Å⁻³", fontsize=9)
    panels = narrow.subplots(3, 1)
    for axis, panel in enumerate(panels):
        _draw_projection(panel, sites, axis)
    return figure


def _draw_projection(panel: Axes, sites: SiteDensity, axis: int) -> None:
    """The density summed along one cell vector, in the plane of the other two."""
    first, second = (other for other in range(3) if other != axis)
    lengths = np.linalg.norm(sites.cell, axis=1)
    angle = np.arccos(np.dot(sites.cell[first], sites.cell[second]) / (lengths[first] * lengths[second]))
    summed = sites.values.mean(axis=axis)
    summed = np.pad(summed, ((0, 1), (0, 1)), mode="wrap")
    u, v = np.meshgrid(*(np.linspace(0.0, 1.0, n) for n in summed.shape), indexing="ij")
    x = u * lengths[first] + v * lengths[second] * np.cos(angle)
    y = v * lengths[second] * np.sin(angle)
    panel.pcolormesh(x, y, summed, cmap="Blues", shading="gouraud", rasterized=True)
    panel.set(aspect="equal", xticks=[], yticks=[])
    panel.grid(visible=False)
    panel.set_title(f"along {'abc'[axis]}", fontsize=8, loc="left")


def _isosurface_net(values: FloatArray, level: float) -> list[FloatArray]:
    """Contour lines of a periodic density on planes across each cell vector, in fractional coordinates."""
    net = []
    periodic = np.pad(values, 1, mode="wrap")[1:, 1:, 1:]  # the plane at 1 is that at 0
    for axis in range(3):
        count = values.shape[axis]
        for plane in np.unique(np.linspace(0, count, _PLANES, endpoint=False).astype(int)):
            section = np.take(periodic, plane, axis=axis)
            rows, columns = (np.linspace(0.0, 1.0, n) for n in section.shape)
            for line in contourpy.contour_generator(x=columns, y=rows, z=section).lines(level):
                points = np.asarray(line)[:, ::-1]
                net.append(np.insert(points, axis, plane / count, axis=1))
    return net


def _draw_framework(axes: Any, sites: SiteDensity) -> None:
    """Atoms of the framework as points, and its bonds as lines."""
    atoms = sites.framework
    for index, number in enumerate(np.unique(atoms.numbers)):
        chosen = atoms.positions[atoms.numbers == number]
        symbol = atoms.symbols[atoms.numbers == number][0]
        colour = PALETTE[1 + index % (len(PALETTE) - 1)]
        size = 18.0 * covalent_radii[number] ** 2
        axes.scatter(*chosen.T, s=size, color=colour, label=symbol, depthshade=False, linewidths=0)
    radii = covalent_radii[atoms.numbers]
    reach = 2.0 * BOND * float(radii.max(initial=0.5))
    near = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, reach)
    i, j = near.centers, near.neighbor
    inside = (near.shifts == 0).all(axis=1) & (i < j) & (near.distances < BOND * (radii[i] + radii[j]))
    bonds = np.stack([atoms.positions[i[inside]], atoms.positions[j[inside]]], axis=1)
    if len(bonds):
        axes.add_collection3d(Line3DCollection(bonds, colors=INK, linewidths=0.8))
    if len(atoms):
        axes.legend(fontsize=8, loc="upper left")


def _draw_cell(axes: Any, cell: FloatArray) -> None:
    """The edges of the cell."""
    edges = []
    for axis in range(3):
        others = [other for other in range(3) if other != axis]
        for u in (0.0, 1.0):
            for v in (0.0, 1.0):
                start = u * cell[others[0]] + v * cell[others[1]]
                edges.append([start, start + cell[axis]])
    axes.add_collection3d(Line3DCollection(edges, colors=INK, linewidths=0.6, linestyles=":"))
