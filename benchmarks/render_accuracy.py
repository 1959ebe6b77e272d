"""The accuracy part of the results: errors over the number of parameters, and classical models beside the circuit."""

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
SETS = {
    "lips83": "Li-P-S glass, 520 K",
    "uio66": "UiO-66",
    "limof5": "shipped Li-MOF-5",
    "limof5_whole": "the same, whole nodes only",
    "li6ps5cl": "shipped Li6PS5Cl",
    "li7p3s11_melt": "Li7P3S11 melt",
    "li4p2s6_melt": "Li4P2S6 melt",
    "lgps50": "Li10GeP2S12",
}
FORCE, ENERGY = "force_mae_mev_per_ang", "energy_mae_mev_per_atom"
CLAIM = 99
"""Trainable parameters of the package's claim."""
CLASSICAL = (
    "Force MAE in meV/Å / energy MAE in meV/atom on held-out frames, mean over splits (how many: in the head). "
    "All models of a split had the same frames, cutoff, pool of channels and loss; parameters are all numbers "
    "fitted to an energy or a force. SNAP has its own descriptors, with cutoffs and neighbour weights chosen by "
    "the loss on training frames. Measured at commit {commit}, before registers, on circuits of up to 6 qubits "
    "per element; `qff baseline` repeats the comparison with the linear models and SNAP on any data."
)
WHAT_IT_IS = (
    "What the quantum part does and does not bring: an atom's energy is a sum of $x^T M x$ over registers with $x "
    "= (1, y)$ the features and $M = U^\\dagger O U$. So every model here has this exact classical form, and these "
    "errors were computed through it. With the default tree and balanced rank-one readout what remains is $\\beta "
    "\\cdot y$, as many numbers as the linear model on the same channels has, and a small square of it: a linear "
    "model up to a few thousandths of its energies, whose coefficients are kept small by the noise of the shots "
    "that it is trained for. The circuit is a way to spend few parameters on M, and to measure it on a device, no "
    "source of accuracy that a classical quadratic form could not have."
)


def read(name):
    """A record; None where there is none."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def lines():
    """One line on the number of parameters."""
    if (record := read("parameters")) is None:
        return []
    parts = [f"{row['n_trainable']}: {row['test'][FORCE]:.1f}" for row in record["rows"]]
    words = (
        f"- Force MAE of {record['set']} in meV/Å by the number of parameters ({record['n_train']} training frames, "
        f"the last {record['n_test']} held out): {', '.join(parts)}. More than {CLAIM} is beyond the package's claim. "
        "`benchmarks/accuracy/parameters.py`"
    )
    return [words]


def sections():
    """The tables of RESULTS.md."""
    return [*_parameters(), *_classical()]


def _parameters():
    if (record := read("parameters")) is None:
        return []
    words = (
        f"{record['set']}, {record['n_train']} training frames, the last {record['n_test']} held out, settings of "
        f"`qff train`. More than {CLAIM} parameters are beyond the package's claim. `benchmarks/accuracy/parameters.py`"
    )
    found = ["## Errors over the number of parameters", "", words, ""]
    if (RESULTS / "parameters.png").exists():
        found += ["![Errors over the number of parameters](results/parameters.png)", ""]
    found += ["| parameters | force MAE meV/Å | in training | energy MAE meV/atom | in training |"]
    found += ["|---" * 5 + "|"]
    for row in record["rows"]:
        cells = [
            f"{row[side][key]:.{digits}f}" for key, digits in ((FORCE, 1), (ENERGY, 2)) for side in ("test", "train")
        ]
        found.append(f"| {row['n_trainable']} | {' | '.join(cells)} |")
    return [*found, ""]


def _classical():
    if (record := read("classical_models")) is None:
        return []
    sets = record["sets"]
    head = [f"{words} ({sets[name]['quantum']['n_splits']})" for name, words in SETS.items()]
    found = [
        "## Beside classical models of at most as many parameters",
        "",
        CLASSICAL.format(commit=record["made_with_commit"]),
    ]
    found += ["", WHAT_IT_IS, "", f"| model | parameters | {' | '.join(head)} |", "|---" * (2 + len(head)) + "|"]
    for model, first in sets["lips83"].items():
        rows = [sets[name].get(model) for name in SETS]
        cells = [f"{row[FORCE]:.1f} / {row[ENERGY]:.2f}" if row else "-" for row in rows]
        words = "linear SNAP, largest 2J within the limit" if model == "snap" else first["words"]
        beyond = "" if all(row["within_limit"] for row in rows if row) else " (beyond the limit)"
        most = max(row["n_trainable"] for row in rows if row)
        found.append(f"| {words}{beyond} | {most} | {' | '.join(cells)} |")
    return [*found, ""]
