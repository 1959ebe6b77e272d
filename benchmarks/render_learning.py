"""Lines and tables of the active learning benchmark."""

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
SCRIPT = "`benchmarks/dynamics/active_learning.py`"


def read():
    path = RESULTS / "active_learning.json"
    return json.loads(path.read_text()) if path.exists() else None


def lines():
    if (found := read()) is None:
        return []
    rounds, first = found["rounds"], found["rounds"][0]
    asked, runs = first["runs"][0]["asked_ps"], len(first["runs"])
    lasted = ", ".join(f"{min(run['time_ps'] for run in entry['runs']):.2g}" for entry in rounds)
    told = (
        f"- Active learning of Li4@MOF-5 ({found['n_atoms']} atoms) with GFN1-xTB, which binds lithium wrongly there "
        f"and shows the machinery only: from {first['n_train']} rattled frames, {len(rounds)} rounds, "
        f"{rounds[-1]['n_labels']} labels. Shortest of {runs} runs of {asked:g} ps at 300 K, by round: {lasted} ps"
    )
    errors = [entry for entry in found.get("held_out_by_model", []) if entry]
    if errors:
        told += (
            f"; force MAE on {errors[-1]['n_frames']} frames of these runs that were held out: "
            f"{errors[0]['force_mae_mev_per_ang']:.0f} meV/Å with the first model, "
            f"{errors[-1]['force_mae_mev_per_ang']:.0f} with the last"
        )
    return [f"{told}. {SCRIPT}"]


def sections():
    if (found := read()) is None:
        return []
    first = found["rounds"][0]
    text = (
        f"{len(first['runs'])} runs of {first['runs'][0]['asked_ps']:g} ps at 300 K a round; a run ends where an "
        "extrapolation grade is three times its limit. Force MAE in meV/Å on frames that the model of the round was "
        "not trained on: chosen ones lie outside its training data, drawn ones inside. The last column is the force "
        "MAE (and energy MAE in meV/atom) of the same model on all frames drawn in all rounds. GFN1-xTB binds lithium "
        f"wrongly in this framework; the set shows the machinery, not the material. {SCRIPT}"
    )
    header = (
        "round", "frames trained on", "runs lasted, ps", "largest grade / limit", "structures outside", "labels",
        "failed", "chosen", "drawn", "all held out",
    )  # fmt: skip
    rows = ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
    final = found.get("held_out_by_model", [])
    rows += [row(entry, final[k] if k < len(final) else None) for k, entry in enumerate(found["rounds"])]
    if len(final) > len(found["rounds"]):
        rows.append(f"| after | {found['n_train']} | | | | | | | | {both(final[-1])} |")
    return ["## Active learning of Li4@MOF-5 with GFN1-xTB", "", text, "", *rows, ""]


def row(entry, held_out):
    runs = entry["runs"]
    cells = (
        entry["round"],
        entry["n_train"],
        ", ".join(f"{run['time_ps']:.3g}" for run in runs),
        f"{max(run['largest_ratio'] for run in runs):.2f}",
        ", ".join(f"{run['outside']:.0%}" for run in runs),
        f"{entry['n_chosen']} + {entry['n_drawn']}",
        entry["n_failed"],
        force(entry["chosen"]),
        force(entry["drawn"]),
        both(held_out),
    )
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def force(errors):
    return "–" if errors is None else f"{errors['force_mae_mev_per_ang']:.0f}"


def both(errors):
    return "–" if errors is None else f"{force(errors)} ({errors['energy_mae_mev_per_atom']:.2f})"
