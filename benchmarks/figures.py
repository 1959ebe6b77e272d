"""Figures of RESULTS.md: learning curves, errors over parameters, registers, dynamics, uncertainties."""

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from models import read

from qiskit_qff.report.figures import INK, PALETTE, STYLE, save

SYSTEMS = {
    "lips83": "lips83, 520 K",
    "li6ps5cl": "Li6PS5Cl, 600 K",
    "uio66": "UiO-66, 300 K",
    "li2tp": "Li2TP, 300 K",
    "li2tp_450": "Li2TP, 450 K",
    "limof5": "Li-MOF-5, 300 K",
    "limof5_li2": "Li-MOF-5 with two Li, 300 K",
    "limof5_li0": "MOF-5 without Li, 300 K",
    "li6ps5cl_stress": "Li6PS5Cl with stresses fitted, 600 K",
}
FORCE, ENERGY = "force_mae_mev_per_ang", "energy_mae_mev_per_atom"
CLAIM = 99
"""Trainable parameters of the package's claim."""
LEVELS = ("0.5", "0.683", "0.9", "0.954", "0.99")
COVERAGE = {"coverage_lips83": "lips83", "coverage_limof5": "shipped Li-MOF-5"}
CURVES = {
    "qff": "99 parameters, this package",
    "pod_small": "POD, 93 coefficients",
    "pod_medium": "POD, 615 coefficients",
    "pod_large": "POD, 1,455 coefficients",
    "mace": "MACE, 16 channels, L = 0",
}


def draw(folder):
    """Draw every figure that there are results for."""
    for name, record, figure in (
        ("peers", "peers", peers_figure),
        ("parameters", "parameters", parameters_figure),
        ("stability", "stability", dynamics_figure),
        ("register_size", "register_size", register_figure),
        ("coverage", "uncertainty", coverage_figure),
    ):
        if found := read(record):
            save(figure(found), folder / f"{name}.png")


@rc_context(STYLE)
def peers_figure(record):
    """Force errors over training frames; bands from the lowest to the highest draw."""
    figure = Figure(figsize=(6.0, 3.6), layout="constrained")
    axes = figure.subplots()
    there = [row for row in record["rows"] if row["n_given"]]
    for colour, (model, words) in zip(PALETTE, CURVES.items(), strict=False):
        rows = [row for row in there if row["model"] == model]
        counts = sorted({row["n_given"] for row in rows})
        errors = [[row[FORCE] for row in rows if row["n_given"] == count] for count in counts]
        if counts:
            axes.plot(counts, [np.mean(e) for e in errors], "o-", color=colour, label=words)
            axes.fill_between(counts, [min(e) for e in errors], [max(e) for e in errors], color=colour, alpha=0.2)
    for row in record["rows"]:
        if row["model"] == "chgnet" and row["set"] == "lips83":
            axes.axhline(row[FORCE], color=INK, linestyle=":", linewidth=1.0, label="CHGNet as it comes")
    axes.set(xscale="log", yscale="log", xlabel="training frames of lips83", ylabel="force MAE (meV/Å)")
    counts = sorted({row["n_given"] for row in there})
    axes.set_xticks(counts, [str(count) for count in counts])
    ticks = [30, 40, 50, 60, 80, 100, 150, 200, 300]
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.legend()
    return figure


@rc_context(STYLE)
def register_figure(record):
    """One model in registers of each size: error with and without a device's noise, then gates and executions."""
    rows = record["rows"]
    sizes = [row["n_qubits"] for row in rows]
    measured = [row["measured_force_mae_mev_per_ang"] for row in rows]
    figure = Figure(figsize=(7.0, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(sizes, [row["force_mae_mev_per_ang"] for row in rows], "o-", color=PALETTE[0], label="exact")
    means, spreads = ([one[key] for one in measured] for key in ("mean", "std"))
    label = "measured on the fake device"
    left.errorbar(sizes, means, spreads, fmt="s--", color=PALETTE[1], capsize=3, label=label)
    left.set_ylabel("force MAE (meV/Å)")
    left.set_yscale("log")
    left.set_yticks([50, 100, 200, 400], ["50", "100", "200", "400"])
    left.yaxis.set_minor_formatter(NullFormatter())
    left.legend(fontsize=9)
    right.plot(sizes, [row["two_qubit_gates"] for row in rows], "o-", color=PALETTE[2], label="two-qubit gates")
    right.plot(sizes, [row["executions"] / 1000 for row in rows], "s--", color=PALETTE[3], label="thousand executions")
    right.set_ylabel("gates, executions")
    right.legend(fontsize=9)
    for axes in (left, right):
        axes.set_xlabel("qubits per register")
        axes.set_xticks(sizes)
    return figure


@rc_context(STYLE)
def parameters_figure(record):
    """Errors on held-out and training frames over the number of parameters."""
    figure = Figure(figsize=(7.4, 3.2))
    counts = [row["n_trainable"] for row in record["rows"]]
    for axes, key, unit in zip(figure.subplots(1, 2), (FORCE, ENERGY), ("meV/Å", "meV/atom"), strict=True):
        for colour, side, words in zip(
            PALETTE, ("test", "train"), ("held-out frames", "training frames"), strict=False
        ):
            errors = [row[side][key] for row in record["rows"]]
            axes.plot(counts, errors, color=colour, marker="o", markersize=4, label=words)
        axes.axvline(CLAIM, color=INK, linewidth=0.8, linestyle=":")
        axes.set_xscale("log")
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(bottom=0.0)
        axes.set_xlabel("trainable parameters")
        axes.set_ylabel(f"{'force' if key == FORCE else 'energy'} MAE ({unit})")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=9)
    return figure


@rc_context(STYLE)
def dynamics_figure(record):
    """Temperatures of all NVT runs, radial distributions beside ab initio ones, and the way that lithium went."""
    runs = [run for run in record["runs"] if "heat" in run]
    figure = Figure(figsize=(7.4, 6.8))
    places = figure.subplot_mosaic([["heat", "structure"], ["walk", "structure"]])
    heat, structure, walk = (places[name] for name in ("heat", "structure", "walk"))
    for colour, (name, words) in zip(PALETTE, SYSTEMS.items(), strict=False):
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
            structure.text(0.1, 4.0 * row + 0.4, pair, fontsize=9)
        structure.set_title(f"g(r), {SYSTEMS[shown['system']]}, seed {shown['seed']}", fontsize=10)
        structure.set_ylim(0.0, 4.0 * len(shells["pairs"]) + 6.0)
        structure.set_xlabel("r (Å)")
        structure.set_ylabel("g(r), each pair 4 higher")
        structure.set_yticks(4.0 * np.arange(len(shells["pairs"])), [])
        structure.legend(fontsize=9, loc="upper left")
    heat.set_xlabel("time (ps)")
    heat.set_ylabel("temperature, block means (K)")
    walk.set_xscale("log")
    walk.set_yscale("log")
    walk.set_xlabel("lag time (ps)")
    walk.set_ylabel("Li mean squared displacement (Å²)")
    figure.legend(*heat.get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=9)
    return figure


@rc_context(STYLE)
def coverage_figure(found):
    """How many errors lie within an interval that should hold a share of them; one line a training seed."""
    groups = {words: (found[key], "-") for key, words in COVERAGE.items()}
    for row in found.get("unseen", []):
        groups[f"lips83 model, {row['set']}"] = ([row], ":")
    nominal = 100.0 * np.array([float(level) for level in LEVELS])
    figure = Figure(figsize=(7.4, 3.6))
    for axes, kind in zip(figure.subplots(1, 2, sharey=True), ("forces", "energies"), strict=True):
        axes.plot([0, 100], [0, 100], color=INK, linewidth=0.8, linestyle="--", label="ideal")
        for colour, (words, (rows, line)) in zip(PALETTE, groups.items(), strict=False):
            for number, row in enumerate(row for row in rows if kind in row):
                shares = [100.0 * row[kind][level] for level in LEVELS]
                style = {"color": colour, "marker": "o", "markersize": 3, "linewidth": 1.0, "linestyle": line}
                axes.plot(nominal, shares, label=None if number else words, **style)
        axes.set(xlim=(0, 102), ylim=(0, 102), aspect="equal", title=kind)
        axes.set_xlabel("nominal coverage (%)")
    figure.axes[0].set_ylabel("errors within the interval (%)")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=9)
    return figure
