"""Figures of a molecular dynamics run and of what is read off its trajectory.

The functions take columns of the log or curves of an analysis and return a matplotlib Figure; files are
written by :func:`qiskit_qff.report.figures.save`.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qiskit_qff.array_types import FloatArray
from qiskit_qff.report.figures import INK, PALETTE, STYLE, new_figure

# Lines with more points than this are drawn thinner, below a running mean.
_MANY_POINTS = 400
# The running mean covers this fraction of the run.
_MEAN_FRACTION = 0.05


@rc_context(STYLE)
def temperature_figure(log: Mapping[str, FloatArray], *, target_k: FloatArray | None = None) -> Figure:
    """Temperature along the run, with its running mean and the thermostat's target.

    Args:
        log: columns of the log, each of shape ``(n_lines,)``.
        target_k: temperature of the thermostat in K, shape ``(n_lines,)``; None at constant energy.
    """
    figure, axes = new_figure(width=5.6, height=3.2)
    time_ps, temperatures = log["time_fs"] / 1e3, log["temperature_k"]
    _noisy_line(axes, time_ps, temperatures, PALETTE[0])
    if target_k is not None:
        ends = " to ".join(f"{target:g}" for target in dict.fromkeys(target_k[[0, -1]].tolist()))
        axes.plot(time_ps, target_k, color=INK, linestyle="--", linewidth=1.0, label=f"thermostat, {ends} K")
    axes.set(xlabel="time (ps)", ylabel="temperature (K)")
    if target_k is None or np.ptp(target_k) == 0.0:
        axes.set_title(f"{temperatures.mean():.0f} ± {temperatures.std():.0f} K", loc="left")
    if target_k is not None or len(temperatures) > _MANY_POINTS:
        axes.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.18))
    return figure


@rc_context(STYLE)
def energy_figure(log: Mapping[str, FloatArray], *, n_atoms: int, drift_mev_per_atom_per_ps: float) -> Figure:
    """Potential and kinetic energy above, the conserved quantity with its straight-line drift below.

    Args:
        log: columns of the log, each of shape ``(n_lines,)``.
        n_atoms: to give energies per atom.
        drift_mev_per_atom_per_ps: slope that is written and drawn, in meV/atom/ps.
    """
    figure = Figure(figsize=(5.6, 4.8))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    time_ps, per_atom = log["time_fs"] / 1e3, 1e3 / n_atoms
    for colour, (name, column) in zip(
        PALETTE, {"potential": "potential_ev", "kinetic": "kinetic_ev"}.items(), strict=False
    ):
        energies = (log[column] - log[column][0]) * per_atom
        above.plot(time_ps, energies, color=colour, linewidth=0.9, label=name)
    above.set(ylabel="energy − start\n(meV/atom)")
    above.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    conserved = (log["conserved_ev"] - log["conserved_ev"][0]) * per_atom
    below.plot(time_ps, conserved, color=PALETTE[2], linewidth=0.9)
    if len(time_ps) > 2:
        line = conserved.mean() + drift_mev_per_atom_per_ps * (time_ps - time_ps.mean())
        below.plot(time_ps, line, color=INK, linestyle="--", linewidth=1.0)
    below.set_title(f"drift {drift_mev_per_atom_per_ps:+.2g} meV/atom/ps", loc="right", fontsize=9)
    below.set(xlabel="time (ps)", ylabel="conserved − start\n(meV/atom)")
    figure.align_ylabels()
    return figure


@rc_context(STYLE)
def pressure_figure(log: Mapping[str, FloatArray]) -> Figure:
    """Pressure along the run, and the volume where it moves.

    Args:
        log: columns of the log, each of shape ``(n_lines,)``.
    """
    time_ps, volumes = log["time_fs"] / 1e3, log["volume_ang3"]
    moves = bool(np.ptp(volumes) > 0.0)
    figure = Figure(figsize=(5.6, 4.4 if moves else 3.0))
    panels = figure.subplots(2 if moves else 1, 1, sharex=True, squeeze=False)[:, 0]
    _noisy_line(panels[0], time_ps, log["pressure_gpa"], PALETTE[0])
    panels[0].set(ylabel="pressure (GPa)")
    panels[0].set_title(f"mean {log['pressure_gpa'].mean():.3g} GPa", loc="left")
    if moves:
        panels[1].plot(time_ps, volumes, color=PALETTE[1], linewidth=1.0)
        panels[1].set(ylabel="volume (Å³)")
    panels[-1].set(xlabel="time (ps)")
    figure.align_ylabels()
    return figure


@rc_context(STYLE)
def radial_distribution_figure(
    r: FloatArray,
    curves: Mapping[str, FloatArray],
    *,
    reference: Mapping[str, FloatArray] | None = None,
    errors: Mapping[str, float] | None = None,
) -> Figure:
    """Partial radial distribution functions, one small panel a pair of elements.

    Args:
        r: distances in Å, shape ``(n_bins,)``.
        curves: g(r) by pair, each of shape ``(n_bins,)``.
        reference: the same for a trajectory to compare with.
        errors: mean absolute difference by pair, written into the panel.
    """
    n_columns = min(3, len(curves))
    n_rows = -(-len(curves) // n_columns)
    figure = Figure(figsize=(1.0 + 2.2 * n_columns, 0.6 + 1.7 * n_rows))
    panels = figure.subplots(n_rows, n_columns, sharex=True, squeeze=False)
    for axes, (pair, values) in zip(panels.flat, curves.items(), strict=False):
        if reference is not None:
            axes.fill_between(r, reference[pair], color=INK, alpha=0.25, linewidth=0, label="reference")
        axes.plot(r, values, color=PALETTE[0], linewidth=1.2, label="this run")
        note = pair if errors is None else f"{pair}   MAE {errors[pair]:.3f}"
        axes.set_title(note, loc="left", fontsize=9)
        axes.axhline(1.0, color=INK, linewidth=0.6, linestyle=":")
        axes.set_ylim(bottom=0.0)
    for index in range(len(curves), n_rows * n_columns):
        panels.flat[index].set_visible(False)
        panels.flat[index - n_columns].tick_params(labelbottom=True)  # it is now the lowest of its column
    if reference is not None:
        figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    figure.supxlabel("r (Å)", fontsize=9)
    figure.supylabel("g(r)", fontsize=9)
    return figure


@rc_context(STYLE)
def displacement_figure(
    lag_ps: FloatArray,
    curves: Mapping[str, FloatArray],
    *,
    fit: tuple[float, float, float] | None = None,
    fit_range_ps: tuple[float, float] | None = None,
    note: str = "",
) -> Figure:
    """Mean squared displacement of each element against the lag time, with the line of the diffusivity.

    Args:
        lag_ps: lag times in ps, shape ``(n_lags,)``.
        curves: mean squared displacement by element in Å², each of shape ``(n_lags,)``.
        fit: diffusivity in Å²/ps, its standard error, and the intercept in Å².
        fit_range_ps: lags that the line was fitted over.
        note: written above the axes, for example the diffusivity in cm²/s.
    """
    figure, axes = new_figure(width=5.2, height=3.6)
    for index, (name, values) in enumerate(curves.items()):
        axes.plot(lag_ps, values, color=PALETTE[index % len(PALETTE)], linewidth=1.4, label=name)
    if fit is not None and fit_range_ps is not None:
        span = np.asarray(fit_range_ps)
        diffusivity, error, intercept = fit
        axes.plot(span, intercept + 6.0 * diffusivity * span, color=INK, linestyle="--", linewidth=1.2)
        axes.fill_between(
            span,
            intercept + 6.0 * (diffusivity - error) * span,
            intercept + 6.0 * (diffusivity + error) * span,
            color=INK,
            alpha=0.15,
            linewidth=0,
        )
    axes.set(xlabel="lag time (ps)", ylabel="mean squared displacement (Å²)", xlim=(0.0, None), ylim=(0.0, None))
    if note:
        axes.set_title(note, loc="left", fontsize=9)
    axes.legend()
    return figure


def _noisy_line(axes: Axes, x: FloatArray, values: FloatArray, colour: str) -> None:
    """A fluctuating quantity: every value faint, and its running mean, once there are many."""
    if len(values) <= _MANY_POINTS:
        axes.plot(x, values, color=colour, linewidth=1.0, label="instantaneous")
        return
    axes.plot(x, values, color=colour, linewidth=0.5, alpha=0.35, label="instantaneous")
    width = max(3, int(_MEAN_FRACTION * len(values)))
    running = np.convolve(values, np.full(width, 1.0 / width), mode="valid")
    offset = (len(values) - len(running)) // 2
    axes.plot(x[offset : offset + len(running)], running, color=colour, linewidth=1.6, label="running mean")
