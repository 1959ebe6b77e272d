"""The accuracy part of the results: every set and split, beside classical models, by element and by temperature."""

import json
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results"
SETS = {
    "lips83": (
        "Li-P-S glass, 83 atoms, AIMD at 520 K",
        "the last 200 of 800 frames, three other blocks, 200 at random",
    ),
    "uio66": ("UiO-66, 114 atoms, 15 strained frames", "each frame in one of three parts of 5, five groupings"),
    "limof5": ("shipped Li-MOF-5, 110 atoms", "20 %, evenly from its replicas, copies with their parents, five draws"),
    "limof5_whole": (
        "the same without frames whose nodes came apart",
        "20 %, evenly from its replicas, copies with their parents, five draws",
    ),
    "li6ps5cl": (
        "shipped Li6PS5Cl, 104 atoms, 0.25 ps of AIMD",
        "each fifth of the trajectory, 20 frames (40 fs) apart",
    ),
    "li7p3s11_melt": ("Li7P3S11 melt, 84 atoms, AIMD at 3000 K", "last 100 frames, four other blocks, 50 frames apart"),
    "li4p2s6_melt": ("Li4P2S6 melt, 96 atoms, AIMD at 3000 K", "each fifth of the trajectory, 20 frames apart"),
    "lgps50": ("Li10GeP2S12, 50 atoms, perturbed and active learning", "each fifth of the file"),
}
"""What every set is, and what is held out."""
QUANTUM, NOISELESS, SAME, SELECTED = "quantum", "quantum_noiseless", "linear_same_channels", "linear_selected"
ENERGY, FORCE = "energy_mae_mev_per_atom", "force_mae_mev_per_ang"
ENERGY_RMSE, FORCE_RMSE = "energy_rmse_mev_per_atom", "force_rmse_mev_per_ang"
OWN_SPLIT = "the split that errors are required on: energy, force"
SCRIPT = "`benchmarks/accuracy/run_all.py`"
SCOPE = (
    "Force MAE in meV/Å / energy MAE in meV/atom on the frames held out, mean over splits (how many: in the head). "
    "All models of a split: the same frames, cutoff, pool of channels and loss. Parameters are all numbers fitted "
    "to an energy or a force, the largest of all sets; SNAP has its own descriptors, with cutoffs and neighbour "
    "weights chosen by the loss on training frames. The network is fitted to at most 100 of the frames, and on sets "
    "of more than that to two splits only. Nothing was chosen by a frame held out, except the best baseline of a "
    "split, which is the one with the smallest error there: this favours it."
)
WHAT_IT_IS = (
    "What the quantum part does and does not bring: an atom's energy is $x^T M x$ with $x = (1, y)$ the compressed "
    "channels and $M = U^\\dagger O U$ at most 64 x 64. So every quantum model here has this exact classical form, "
    "and these errors were computed through it; with the default tree and rank-one readout it is one square a "
    "species, $w (u \\cdot x)^2$, with a parameter to spare: it is tied so that the readout is as small as it can be. "
    "What remains is $\\beta \\cdot y$, as many numbers as the linear model on the same channels has, and a small "
    "square of it: a linear model up to a few thousandths of its energies, whose coefficients are kept small by the "
    "noise of the shots that it is trained for. The circuit is a way to spend few parameters on M, and to measure it "
    "on a device, "
    "no source of accuracy that a classical quadratic form could not have."
)


def read(name):
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def entries(name):
    """Entries of a file of results by key; empty where there is no such file."""
    return read(name).get("entries", {})


def records():
    """Splits of every set that has any, the named one first."""
    found = {}
    for name in SETS:
        if (record := read(f"splits_{name}")).get("entries"):
            ordered = sorted(record["entries"].items(), key=lambda item: item[1]["seed"])
            found[name] = record | {"entries": dict(ordered)}
    return found


def runs_of(record):
    return list(record["entries"].values())


def values(runs, model, key):
    """One error of one model in every run that has the model."""
    return np.array([run["models"][model][key] for run in runs if model in run["models"]])


def spread(numbers, digits):
    """Mean and standard deviation; one number alone has none."""
    if len(numbers) == 1:
        return f"{numbers[0]:.{digits}f}"
    return f"{np.mean(numbers):.{digits}f} ± {np.std(numbers):.{digits}f}"


def fair(run):
    """Baselines within the limit on parameters."""
    return [name for name, m in run["models"].items() if not name.startswith(QUANTUM) and m["within_limit"]]


def best_of(run, key=FORCE):
    """The baseline with the smallest error in a run."""
    return min(fair(run), key=lambda name: run["models"][name][key])


def best_on_average(runs, key=FORCE):
    """The baseline with the smallest mean error over runs."""
    always = [name for name in fair(runs[0]) if all(name in run["models"] for run in runs)]
    return min(always, key=lambda name: values(runs, name, key).mean())


def ratios(runs, key, model=QUANTUM):
    """The quantum model's error over that of the best baseline, run by run."""
    return np.array([run["models"][model][key] / run["models"][best_of(run, key)][key] for run in runs])


def accuracy_table(*, short=False):
    """All sets on one page: mean, spread, worst and named split, and the best classical model.

    Args:
        short: Whether to leave out what is held out, and the split that the required errors are stated for.
    """
    names = ["data", "held out", "parameters", "energy MAE meV/atom (worst)", "force MAE meV/Å (worst)"]
    names += [OWN_SPLIT, "required: energy, force", "force MAE over the best classical"]
    rows = []
    for name, record in records().items():
        runs, (words, held) = runs_of(record), SETS[name]
        energy, force = values(runs, QUANTUM, ENERGY), values(runs, QUANTUM, FORCE)
        target, several = record.get("target"), sum(run["named"] for run in runs) > 1
        held = f"{held}; {len(runs)} splits" if len(runs) > 2 else runs[0]["words"]
        rows.append([words, held, f"{runs[0]['models'][QUANTUM]['n_trainable']}"])
        rows[-1] += [f"{spread(energy, 2)} ({energy.max():.2f})", f"{spread(force, 1)} ({force.max():.1f})"]
        rows[-1] += ["all of them" if several else f"{energy[0]:.2f}, {force[0]:.1f}"]
        rows[-1] += [f"{target[1]:g}, {target[0]:g}" if target else "-", spread(ratios(runs, FORCE), 3)]
    if not rows:
        return []
    kept = [k for k in range(len(names)) if not short or names[k] not in {"held out", OWN_SPLIT}]
    table = [names, ["---"] * len(names), *rows]
    lines = [f"| {' | '.join(row[k] for k in kept)} |" for row in table]
    scope = f"Mean ± standard deviation over splits and the worst of them, {SCRIPT}.{_mixed()}"
    return [*lines, "", scope, "", *target_lines()]


def target_lines():
    """Which required errors are reached: on the split they were stated for, or on average over several such splits."""
    said = {True: [], False: []}
    for name, record in records().items():
        if not (target := record.get("target")):
            continue
        runs = [run for run in runs_of(record) if run["named"]]
        where = f"{len(runs)} splits" if len(runs) > 1 else runs[0]["words"].removesuffix(", gap 0")
        parts = {True: [], False: []}
        for key, limit, words in (
            (FORCE, target[0], "{:.1f} of {:g} meV/Å"),
            (ENERGY, target[1], "{:.2f} of {:g} meV/atom"),
        ):
            found = values(runs, QUANTUM, key)
            met, beyond = bool(found.mean() <= limit), int((found > limit).sum())
            parts[met].append(
                words.format(found.mean(), limit) + (f" (above it in {beyond} splits)" if beyond and met else "")
            )
        for met, own in parts.items():
            said[met] += [f"{name} ({where}) {', '.join(own)}"] if own else []
    lines = [f"Required errors that are **missed**: {'; '.join(said[False])}."] if said[False] else ["None is missed."]
    return [*lines, "", f"Met: {'; '.join(said[True])}."] if said[True] else lines


def _mixed():
    """A warning where results of different sources of the model stand side by side."""
    files = [*(f"splits_{name}" for name in SETS), "curve_frames", "curve_parameters", "curve_qubits"]
    files += ["temperature", "joint_training", "ablations"]
    # Entries that the shipped set goes into have a mark of their own.
    marks = {
        (
            name == "temperature" or any(shipped in name + key for shipped in ("limof5", "li6ps5cl")),
            entry.get("made_with"),
        )
        for name in files
        for key, entry in entries(name).items()
    }
    of_one_code = len(marks) <= len({shipped for shipped, _ in marks})
    return "" if of_one_code else " Results made with different sources of the model are mixed here."


def summary_lines():
    """One line for the README."""
    parts, noiseless = [], []
    for name, record in records().items():
        runs = runs_of(record)
        same = values(runs, QUANTUM, FORCE) / values(runs, SAME, FORCE)
        parts.append(f"{name} {same.mean():.3f}")
        if all(NOISELESS in run["models"] for run in runs):
            noiseless.append(ratios(runs, FORCE, NOISELESS).mean())
    if not parts:
        return []
    words = "Force MAE of the model over that of the linear model on the circuit's own channels"
    span = f"{min(noiseless):.3f} to {max(noiseless):.3f}" if noiseless else "not measured"
    exact = f" Trained without regard to shot noise, over the best baseline of each split: {span}."
    return [f"- {words}: {', '.join(parts)}. Both have at most 99 parameters.{exact} {SCRIPT}"]


def sections():
    """The parts of RESULTS.md over all splits of a set."""
    return [*comparison_section(), *element_section(), *condition_section()]


def comparison_section():
    found = {name: runs_of(record) for name, record in records().items()}
    if not found:
        return []
    lines = ["## Beside classical models of at most as many parameters", "", SCOPE, "", WHAT_IT_IS, ""]
    if (RESULTS / "accuracy_sets.png").exists():
        lines += ["![Force errors of the quantum model and of classical ones](results/accuracy_sets.png)", ""]
    lines += ["| model | parameters | " + " | ".join(f"{name} ({len(runs)})" for name, runs in found.items()) + " |"]
    lines += ["|---" * (2 + len(found)) + "|"]
    for name in dict.fromkeys(model for runs in found.values() for model in runs[0]["models"]):
        present = [run["models"][name] for runs in found.values() for run in runs if name in run["models"]]
        cells = []
        for runs in found.values():
            force, energy = values(runs, name, FORCE), values(runs, name, ENERGY)
            cells.append(f"{force.mean():.1f} / {energy.mean():.2f}" if len(force) else "-")
        words = present[0]["words"] if name != "snap" else "linear SNAP, largest 2J within the limit"
        beyond = "" if all(m["within_limit"] for m in present) else " (beyond the limit)"
        lines.append(f"| {words}{beyond} | {max(m['n_trainable'] for m in present)} | {' | '.join(cells)} |")
    targets = [record.get("target") for record in records().values()]
    lines.append(f"| *required* | 99 | {' | '.join(f'{t[0]:g} / {t[1]:g}' if t else '-' for t in targets)} |")
    cells = [f"{spread(ratios(r, FORCE), 3)} / {spread(ratios(r, ENERGY), 3)}" for r in found.values()]
    lines.append(f"| *quantum over the best baseline of each split, by force / by energy* | | {' | '.join(cells)} |")
    cells = [f"{ratios(r, FORCE).max():.3f} / {ratios(r, ENERGY).max():.3f}" for r in found.values()]
    lines.append(f"| *the same, worst split* | | {' | '.join(cells)} |")
    cells = ["-"] * len(found)
    for place, runs in enumerate(found.values()):
        if all(NOISELESS in run["models"] for run in runs):
            cells[place] = " / ".join(spread(ratios(runs, key, NOISELESS), 3) for key in (FORCE, ENERGY))
    lines.append(f"| *the same of the quantum model trained without regard to shots* | | {' | '.join(cells)} |")
    return [*lines, "", *ratio_lines(found), ""]


def ratio_lines(found):
    """Where the quantum model is behind, by how much, and what the better model has instead."""
    lines, energies = [], []
    for name, runs in found.items():
        by_energy, best = ratios(runs, ENERGY), best_on_average(runs, ENERGY)
        if by_energy.mean() > 1.0:
            same = values(runs, QUANTUM, ENERGY).mean() / values(runs, SAME, ENERGY).mean()
            mine, other = (values(runs, model, ENERGY).mean() for model in (QUANTUM, best))
            own = "" if best == SAME else f"; linear, the circuit's channels: {mine / same:.2f}"
            energies.append(
                f"- {name}: {100 * (by_energy.mean() - 1):.0f} % behind the best baselines. Best on average: "
                f"{runs[0]['models'][best]['words']}, {other:.2f} meV/atom where the quantum model has {mine:.2f}{own}."
            )
        ratio, best = ratios(runs, FORCE), best_on_average(runs)
        if ratio.mean() <= 1.0:
            continue
        channels = sum(runs[0]["models"][QUANTUM].get("channels", {}).values())
        count = runs[0]["models"][best]["n_trainable"]
        has = f"{count} parameters, where the circuit has {channels} channels"
        loss = np.mean([run["models"][QUANTUM]["loss"] / run["models"][QUANTUM]["linear_loss"] for run in runs])
        same = (values(runs, QUANTUM, FORCE) / values(runs, SAME, FORCE)).mean()
        lines.append(
            f"- {name}: {100 * (ratio.mean() - 1):.1f} % behind the best baselines, mostly "
            f"{runs[0]['models'][best]['words']} ({has}). On equal channels the quantum model's error is {same:.3f} of "
            f"the linear one's, and its training loss {loss:.3f} of the linear one's."
        )
    head = "Where the quantum model is behind the best baseline by force, mean over splits:"
    said = (
        [head, "", *lines] if lines else ["On every set the quantum model is at or below the best baseline by force."]
    )
    head = (
        "By energy, mean over splits. The best baseline is another one from split to split: energies of a few test "
        "frames scatter more than forces, and the smallest of several such errors is small by chance, too."
    )
    return [*said, "", head, "", *energies] if energies else said


def element_section():
    lines = []
    for name, record in records().items():
        runs = runs_of(record)
        best = best_on_average(runs)
        for element in runs[0]["models"][QUANTUM]["elements"]:
            cells = [
                f"{np.mean([run['models'][model]['elements'][element][key] for run in runs]):.0f}"
                for model in (QUANTUM, best)
                for key in (FORCE, FORCE_RMSE)
            ]
            lines.append(f"| {name} | {element} | {' | '.join(cells)} | {best.replace('_', ' ')} |")
    head = [
        "### Forces by element",
        "",
        "meV/Å, mean over splits; the baseline is the best of the set by force MAE.",
        "",
    ]
    head += [
        "| data | element | quantum MAE | RMSE | baseline MAE | RMSE | baseline |",
        "|---|---|---|---|---|---|---|",
    ]
    return [*head, *lines, ""] if lines else []


def condition_section():
    lines = []
    for name, record in records().items():
        runs = runs_of(record)
        best = best_on_average(runs)
        conditions = sorted({one for run in runs for one in run["models"][QUANTUM].get("conditions", {})})
        for one in conditions:
            parts = {m: [r["models"][m].get("conditions", {}).get(one) for r in runs] for m in (QUANTUM, best)}
            parts = {m: [p for p in found if p] for m, found in parts.items()}
            count = sum(p["n_frames"] for p in parts[QUANTUM])
            cells = [f"{pooled(parts[QUANTUM], key):.2f}" for key in (ENERGY, ENERGY_RMSE)]
            cells += [f"{pooled(parts[QUANTUM], key):.0f}" for key in (FORCE, FORCE_RMSE)]
            cells += [f"{pooled(parts[best], ENERGY):.2f}", f"{pooled(parts[best], FORCE):.0f}"]
            lines.append(f"| {name} | {one} | {count} | {' | '.join(cells)} |")
    words = (
        "Frames held out of all splits together; energies in meV/atom, forces in meV/Å; the baseline is the best of "
        "the set by force MAE."
    )
    head = ["| data | frames | test frames | energy MAE | RMSE | force MAE | RMSE | baseline energy MAE | force MAE |"]
    head += ["|---" * 9 + "|"]
    return ["### By temperature or origin", "", words, "", *head, *lines, ""] if lines else []


def pooled(parts, key):
    """An error over the frames of all splits together."""
    weights = [p["n_frames"] for p in parts]
    power = 2 if "rmse" in key else 1
    return float(np.average([p[key] ** power for p in parts], weights=weights) ** (1 / power))
