"""The part of the results on learning curves and on what models know beyond the data they were fitted to."""

import numpy as np
from render_accuracy import (
    ENERGY,
    FORCE,
    QUANTUM,
    RESULTS,
    SAME,
    SCRIPT,
    SELECTED,
    best_of,
    entries,
    records,
    runs_of,
    spread,
    values,
)

CURVES = {"parameters": "limit on parameters", "qubits": "qubits per register"}
CURVE_SCOPE = (
    "Force MAE in meV/Å / energy MAE in meV/atom, mean ± standard deviation over seeds; each seed is another split, "
    "with other training and test frames. One restart, but three for all frames, whose figures are those of the "
    "splits. Linear models: on the circuit's channels, and on as many selected channels as the limit allows."
)
TRANSFER_SCOPE = (
    "Models of a set's first split on the frames that another set's first split holds out: force MAE in meV/Å / "
    "energy MAE in meV/atom after one constant per composition is taken off. The last column: the quantum model "
    "fitted to that other set. Linear is the better of the two linear models. No training set has more than one "
    "composition, so the reference energies of its elements are not known apart, and energies of another "
    "composition mean nothing without the constant."
)
METHODS = (
    "Sets may differ in their ab initio method. Nothing but their energies is known here: about -4.31 eV/atom in "
    "lips83 and lgps50, -239.5 and -237.3 eV/atom in the melts, so at least the pseudopotentials differ, perhaps "
    "the code and the functional. An error between these two groups contains that difference. They also differ in "
    "temperature: lips83 at 520 K to the melts at 3000 K is an extrapolation in temperature and composition at "
    "once. lgps50 alone holds germanium, so it can be trained on for the others, not tested on by their models."
)
JOINT_SCOPE = (
    "Trained on 150 frames of each of two sets, tested on a third, as above. Each set's mean energy per atom is "
    "taken off before training: one constant a set, fitted to labels, that cancels in every difference of energies."
)
TEMPERATURE_SCOPE = (
    "limof5, all frames of one temperature held out; force MAE in meV/Å / energy MAE in meV/atom, energies as they "
    "are. The replicas differ in temperature and in their lithium sites at once, so this is a transfer in both; "
    "there are few frames to train on, and rattled copies (0.045 Å) are listed apart."
)


def pair(entry):
    return f"{entry[FORCE]:.0f} / {entry[ENERGY]:.2f}"


def better_linear(models):
    """The linear model with the smaller force error."""
    return models[min((SAME, SELECTED), key=lambda name: models[name][FORCE])]


def sections():
    """The parts of RESULTS.md on curves, sizes, compositions and temperatures."""
    return [*curve_section(), *size_section(), *transfer_section(), *temperature_section()]


def curve_points():
    """Points of all curves: (axis, set, value, runs), in order."""
    points = {}
    for entry in entries("curve_frames").values():
        points.setdefault(("frames", entry["set"], entry["n_train"]), []).append(entry)
    for name in {key[1] for key in points}:
        # All training frames of a split: its own entry is the last point.
        runs = runs_of(records()[name]) if name in records() else []
        if runs:
            points["frames", name, max(run["n_train"] for run in runs)] = runs
    for axis in CURVES:
        for entry in entries(f"curve_{axis}").values():
            for value, point in entry["points"].items():
                points.setdefault((axis, entry["set"], int(value)), []).append(point)
    return [(*key, points[key]) for key in sorted(points)]


def curve_section():
    points = curve_points()
    if not points:
        return []
    lines = ["## Learning curves", "", f"{CURVE_SCOPE} {SCRIPT}", ""]
    if (RESULTS / "learning_curves.png").exists():
        lines += ["![Errors over frames, parameters and qubits](results/learning_curves.png)", ""]
    lines += [
        "| set | over | value | frames | seeds | quantum model | linear, the circuit's channels | linear, selected |"
    ]
    lines += ["|---" * 8 + "|"]
    for axis, name, value, runs in points:
        done = [run for run in runs if "models" in run]
        head = f"| {name} | {CURVES.get(axis, axis)} | {value} |"
        if not done:
            lines.append(f"{head} - | {len(runs)} | not possible: {runs[0]['impossible'].split(';')[0]} | - | - |")
            continue
        cells = [
            f"{spread(values(done, m, FORCE), 1)} / {spread(values(done, m, ENERGY), 2)}"
            if m in done[0]["models"]
            else "-"
            for m in (QUANTUM, SAME, SELECTED)
        ]
        lines.append(f"{head} {round(np.mean([r['n_train'] for r in done]))} | {len(done)} | {' | '.join(cells)} |")
    return [*lines, ""]


def size_section():
    found = {name: run["extensivity"] for name, r in records().items() for run in runs_of(r) if "extensivity" in run}
    if not found:
        return []
    worst = {
        key: max(models[QUANTUM][key] for models in found.values())
        for key in ("energy_mev_per_atom", "force_mev_per_ang")
    }
    sizes = [models[QUANTUM]["atoms"] for models in found.values()]
    words = (
        f"Energies are sums over atoms, so size alone cannot cost accuracy: models of {len(found)} sets, fitted to the "
        f"small cell, on 2 x 2 x 2 copies of a test frame ({min(sizes)} - {max(sizes)} atoms) differ from the cell by "
        f"at most {worst['energy_mev_per_atom']:.0e} meV/atom and {worst['force_mev_per_ang']:.0e} meV/Å. No larger "
        "cell of these systems has labels; nearest are lgps50 (50 atoms) to lips83 (83) and the melts (84 and 96) "
        "below, which change composition as well."
    )
    return ["## Larger cells", "", words, ""]


def transfer_section():
    lines, own = [], {name: runs_of(record)[0] for name, record in records().items()}
    for name, run in own.items():
        for other, models in run.get("transfer", {}).items():
            lines.append(_row(name, other, models, own))
    if not lines:
        return []
    head = ["| trained on | tested on | no force, mean energy | linear | SNAP | quantum | best baseline by force | "]
    head[0] += "quantum, fitted to that set |"
    head += ["|---" * 8 + "|"]
    pairs = [models for run in own.values() for models in run.get("transfer", {}).values()]
    page = ["## Other compositions", "", TRANSFER_SCOPE, "", METHODS, "", *head, *lines, "", _behind(pairs), ""]
    found = entries("joint_training")
    joint = [_row(*key.split(" to "), entry["models"], own) for key, entry in found.items()]
    pairs = [entry["models"] for entry in found.values()]
    return [*page, JOINT_SCOPE, "", *head, *joint, "", _behind(pairs), ""] if joint else page


def _best(models):
    """The baseline within the limit that has the smallest force error on the other set."""
    fair = [name for name in models if not name.startswith(QUANTUM) and name != "snap_full"]
    return min(fair, key=lambda name: models[name][FORCE])


def _behind(pairs):
    """How often a baseline is better, and by how much."""
    over = np.array([models[QUANTUM][FORCE] / models[_best(models)][FORCE] for models in pairs])
    useless = sum(models[QUANTUM][FORCE] >= models["mean"][FORCE] for models in pairs)
    words = (
        f"By force the best of the baselines is ahead of the quantum model in {(over > 1.0).sum()} of {len(over)} of "
        f"these, by up to {100 * (over.max() - 1.0):.0f} %"
    )
    if useless:
        words += f"; in {useless} of them the quantum model is worse than no forces at all"
    return f"{words}. The few channels that serve one composition best need not serve another."


def _row(name, other, models, own):
    """One transfer, beside what can be had on that set."""
    snap = pair(models["snap"]) if "snap" in models else "-"
    itself = pair(own[other]["models"][QUANTUM]) if other in own else "-"
    best = _best(models)
    named = f"{pair(models[best])} ({best.replace('_', ' ')})"
    cells = [pair(models["mean"]), pair(better_linear(models)), snap, pair(models[QUANTUM]), named, itself]
    return f"| {name} | {other} | {' | '.join(cells)} |"


def temperature_section():
    found = entries("temperature")
    if not found:
        return []
    lines = ["## Other temperatures", "", TEMPERATURE_SCOPE, ""]
    lines += ["| from, to | frames | no force, mean energy | linear | SNAP | quantum | over the best baseline, force |"]
    lines += ["|---" * 7 + "|"]
    for key, run in found.items():
        linear = SAME if better_linear(run["models"]) is run["models"][SAME] else SELECTED
        for one in run["models"][QUANTUM]["conditions"]:
            parts = {name: m["conditions"][one] for name, m in run["models"].items()}
            snap = pair(parts["snap"]) if "snap" in parts else "-"
            ratio = parts[QUANTUM][FORCE] / parts[best_of(run)][FORCE]
            cells = [pair(parts["mean"]), pair(parts[linear]), snap, pair(parts[QUANTUM]), f"{ratio:.3f}"]
            where = "rattled copies" if "rattled" in one else "snapshots"
            lines.append(f"| {key}, {where} | {run['n_train']} / {parts[QUANTUM]['n_frames']} | {' | '.join(cells)} |")
    return [*lines, ""]
