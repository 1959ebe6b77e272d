"""The accuracy part of benchmarks/RESULTS.md: the quantum model beside classical baselines, and ablations."""

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
SETS = {
    "lips83": "lips83, 600 / 200",
    "uio66": "uio66, leave 5 out",
    "limof5": "limof5, 20 % out, balanced",
    "li7p3s11_melt": "li7p3s11_melt, first 450 / last 100",
    "li4p2s6_melt": "li4p2s6_melt, first 80 / last 20 %",
    "lgps50": "lgps50, first 80 / last 20 %",
}
SCOPE = (
    "Force MAE in meV/Å / energy MAE in meV/atom on the frames held out, mean over splits (how many: in the head). All "
    "models: the same frames, cutoff, pool of channels and loss. Parameters are all numbers fitted to an energy or a "
    "force, the largest of all sets; SNAP has its own descriptors, with cutoffs and neighbour weights chosen by "
    "the loss on training frames. The network is fitted to at most 100 of the frames."
)
WHY = {
    "li7p3s11_melt": (
        "32 of the 100 test frames have an S-S distance below 2.19 Å, a bond no training frame has. There the fixed "
        "core repulsion, placed below the shortest distance seen (2.31 Å), pushes with up to 28 eV/Å; all models here "
        "but SNAP have it. A linear model of 150 of the frames has 230 meV/Å and 9.8 meV/atom without it, 310 and "
        "15.7 with it."
    ),
}
WHAT_IT_IS = (
    "What the quantum part does and does not bring: an atom's energy is $x^T M x$ with $x = (1, y)$ the compressed "
    "channels and $M = U^\\dagger O U$ at most 64 x 64. So every quantum model here has this exact classical form, and "
    "these errors were computed through it; with the default tree and rank-one readout it is one square a species, "
    "$w (u \\cdot x)^2$. The circuit is a way to spend few parameters on M, and to measure it on a device, no source "
    "of accuracy that a classical quadratic form could not have. How little the default differs from a linear model, "
    "the linear rows show."
)
ABLATION_SCOPE = (
    "One seed, one restart: differences of a few % mean nothing. Loss on the training frames, of the circuit and "
    "of the best symmetric matrices on its features (the bound); those with other labels are not comparable. "
    "`benchmarks/accuracy/ablations.py`"
)


def read(name):
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def records():
    return {name: record for name in SETS if (record := read(f"compare_{name}")) is not None}


def summary_lines():
    """One line for the README."""
    found = records()
    if not found:
        return []
    parts = [
        f"{name} {record['summary']['quantum_over_best']['force_mae_mev_per_ang']:.2f}"
        for name, record in found.items()
    ]
    words = "Force MAE of the model over that of the best of seven classical ones of at most as many parameters"
    return [f"- {words}: {', '.join(parts)}. `benchmarks/accuracy/compare.py`"]


def sections():
    return [*comparison_section(), *species_section(), *ablation_section(), *learning_section()]


def comparison_section():
    found = records()
    if not found:
        return []
    lines = ["## Beside classical models of at most as many parameters", ""]
    lines += [SCOPE, "", WHAT_IT_IS, ""]
    head = [f"{SETS[name]} ({record['seeds']})" for name, record in found.items()]
    lines += ["| model | parameters | " + " | ".join(head) + " |", "|---" * (2 + len(head)) + "|"]
    names = list(dict.fromkeys(name for record in found.values() for name in record["summary"]["models"]))
    for name in names:
        entries = [record["summary"]["models"].get(name) for record in found.values()]
        present = [entry for entry in entries if entry]
        words = present[0]["words"] if name != "snap" else "linear SNAP, largest 2J within the limit"
        cells = [
            f"{e['force_mae_mev_per_ang']:.1f} / {e['energy_mae_mev_per_atom']:.2f}" if e else "-" for e in entries
        ]
        beyond = "" if all(e["within_limit"] for e in present) else " (beyond the limit)"
        lines.append(f"| {words}{beyond} | {max(e['n_trainable'] for e in present)} | {' | '.join(cells)} |")
    wanted = [f"{r['target'][0]:g} / {r['target'][1]:g}" if r["target"] else "-" for r in found.values()]
    lines.append(f"| *required* | 99 | {' | '.join(wanted)} |")
    best = [
        f"{r['summary']['best_baseline'].replace('_', ' ')}: "
        f"{r['summary']['quantum_over_best']['force_mae_mev_per_ang']:.3f} / "
        f"{r['summary']['quantum_over_best']['energy_mae_mev_per_atom']:.3f}"
        for r in found.values()
    ]
    lines.append(f"| *quantum over the best baseline by force* | | {' | '.join(best)} |")
    return [*lines, ""]


def species_section():
    lines = []
    for name, record in records().items():
        best, runs = record["summary"]["best_baseline"], record["splits"]
        elements = list(runs[0]["models"]["quantum"]["species"])
        if not lines:
            lines = ["Force MAE by element in meV/Å, quantum model / best baseline:", ""]
        cells = []
        for element in elements:
            pair = [
                sum(r["models"][m]["species"][element]["force_mae_mev_per_ang"] for r in runs) / len(runs)
                for m in ("quantum", best)
            ]
            cells.append(f"{element} {pair[0]:.0f} / {pair[1]:.0f}")
        lines.append(f"- {name}: {', '.join(cells)}")
    notes = [f"{name}: {words}" for name, words in WHY.items() if name in records()]
    return [*lines, "", *notes, ""] if lines else []


def ablation_section():
    record = read("ablations")
    if record is None:
        return []
    numbers = f"{record['set']}, {record['n_train']} frames fitted to, {record['n_test']} held out."
    lines = ["## Ablations", "", f"{numbers} {ABLATION_SCOPE}", ""]
    lines += [
        "| variant | parameters | force MAE meV/Å | energy MAE meV/atom | loss | bound |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['words']} | {row['n_trainable']} | {row['force_mae_mev_per_ang']:.1f} | "
        f"{row['energy_mae_mev_per_atom']:.2f} | {row['loss']:.3g} | {row['bound']:.3g} |"
        for row in record["variants"].values()
    ]
    return [*lines, ""]


def learning_section():
    record = read("learning_curves")
    if record is None:
        return []
    words = (
        f"{record['set']}, {record['n_test']} frames held out, one seed, one restart; force MAE in meV/Å / energy "
        "MAE in meV/atom. `benchmarks/accuracy/learning_curves.py`"
    )
    lines = [
        "## Learning curves",
        "",
        words,
        "",
        "| frames | limit on parameters | quantum model | linear, selected channels |",
        "|---|---|---|---|",
    ]
    for row in [*record["parameters"], *record["frames"]]:
        pair = [
            f"{row[m]['force_mae_mev_per_ang']:.1f} / {row[m]['energy_mae_mev_per_atom']:.2f}"
            for m in ("quantum", "linear_selected")
        ]
        lines.append(f"| {row['n_train']} | {row['max_parameters']} | {pair[0]} | {pair[1]} |")
    return [*lines, ""]
