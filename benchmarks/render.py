"""Render the records in benchmarks/results/ into benchmarks/RESULTS.md, the README's results, and their figures.

    python benchmarks/render.py [--check]

`--check` writes nothing and fails where the pages are not what the records say. The text is in `RESULTS.md.j2` and
`README.md.j2`; here the numbers are gathered for it.
"""

import argparse
import re
import sys
from pathlib import Path

import figures
import numpy as np
from default_model import REQUIRED
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from models import RESULTS, WORDS, read

from qiskit_qff.simulation.transport import fit_arrhenius

HERE = Path(__file__).parent
README, PAGE = HERE.parent / "README.md", HERE / "RESULTS.md"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
RECORDS = (
    *("default_model", "md_step", "peers", "parameters", "stability", "scaling", "uncertainty", "stresses"),
    *("fake_device", "standard_errors", "register_size", "gradient_cost", "estimator_training", "active_learning"),
    *("faults", "install", "transport", "lips83_order"),
)
FORCE, ENERGY = "force_mae_mev_per_ang", "energy_mae_mev_per_atom"
GPA = 0.160217663
"""One meV/Å³ in GPa."""
PEERS = {
    "qff": "this package, `train` defaults",
    "pod_small": "LAMMPS POD, small",
    "pod_medium": "LAMMPS POD, medium",
    "pod_large": "LAMMPS POD, large",
    "mace": "MACE, 16 channels, L = 0",
}


def spread(values, digits=1):
    """Mean, and of several values the lowest and the highest."""
    words = f"{np.mean(values):.{digits}f}"
    return words if len(values) == 1 else f"{words} ({min(values):.{digits}f} - {max(values):.{digits}f})"


def overview(records):
    """One row a block of frames that a default model was judged on."""
    device = {row["set"]: row for row in records["fake_device"]["rows"] if row["mitigation"] == "readout"}
    runs = (records["stability"] or {"runs": []})["runs"]
    rows = records["default_model"]["rows"]
    for judged in dict.fromkeys(row["judged"] for row in rows):
        own = [row for row in rows if row["judged"] == judged]
        name = own[0]["set"]
        nvt = [run["survived"] for run in runs if run["system"] == name and run["kind"] == "nvt"]
        measured = device.get(name)
        yield {
            "words": judged,
            "n_given": own[0]["n_given"],
            "n_trainable": own[0]["n_trainable"],
            "force": spread([row[FORCE] for row in own]),
            "energy": spread([row[ENERGY] for row in own], 2),
            "step": f"{records['md_step']['calculator_ms']:.2f}" if name == "lips83" else "-",
            "whole": f"{sum(nvt)} of {len(nvt)}" if nvt else "-",
            "executions": f"{measured['executions']:,}" if measured else "-",
            "rise": f"{measured['rise_percent']['mean']:+.1f} %" if measured else "-",
        }


def missed(rows):
    """Blocks whose mean errors are above what was asked for."""
    found = []
    for judged, limits in REQUIRED.items():
        own = [row for row in rows if row["judged"] == judged]
        for limit, key, unit in zip(limits, (FORCE, ENERGY), ("meV/Å", "meV/atom"), strict=True):
            if own and limit and (mean := np.mean([row[key] for row in own])) > limit:
                found.append(f"{judged}: {mean:.{1 if key == FORCE else 2}f} {unit} (target {limit:g})")
    return found


def linear_rows(rows):
    """Linear models on the same channels beside ours, on what the runs held out."""
    pairs = {row["set"]: (row["linear"], row["own"]) for row in rows if "linear" in row}
    for name, both in pairs.items():
        linear, own = (f"{one[FORCE]:.1f} / {one[ENERGY]:.2f}" for one in both)
        yield {"words": WORDS.get(name, name), "linear": linear, "ours": own}


def peer_table(record):
    """Learning curves as a table, ours against the best peer, zero-shot errors and times of steps."""
    curves = [row for row in record["rows"] if row["n_given"]]
    frames = sorted({row["n_given"] for row in curves})
    zero = {}
    for row in record["rows"]:
        if not row["n_given"]:
            zero.setdefault("uio66" if row["set"].startswith("uio66") else row["set"], []).append(row)
    table, means = [], {}
    for model, words in PEERS.items():
        own = [row for row in curves if row["model"] == model]
        if own:
            errors = {n: [row[FORCE] for row in own if row["n_given"] == n] for n in frames}
            row = {"words": words, "n_trainable": f"{own[0]['n_trainable']:,}"}
            largest = max(row["n_given"] for row in own)
            most = [row for row in own if row["n_given"] == largest]
            row["seconds"] = f"{np.mean([row['processor_seconds'] for row in most]):.0f} ({largest})"
            table.append(row | {"errors": [deviation(found) for found in errors.values()]})
            means[model] = {n: np.mean(found) for n, found in errors.items() if found}
    against = []
    for n, error in means["qff"].items():
        others = {model: found[n] for model, found in means.items() if model != "qff" and n in found}
        if len(others) >= 3:  # all sizes of POD
            best = min(others, key=others.get)
            against.append(f"{n} frames {100 * (error / others[best] - 1):+.0f} % ({PEERS[best]})")
    return {
        "rows": table,
        "frames": frames,
        "n_judged": curves[0]["n_judged"],
        "against": "; ".join(against),
        "zero": [
            {"words": WORDS.get(name, name), "n": sum(row["n_judged"] for row in rows)}
            | {"chgnet": both(rows), "ours": both([row["ours"] for row in rows])}
            for name, rows in zero.items()
        ],
        "steps": record.get("steps"),
        "chgnet": record["packages"].get("chgnet"),
    }


def deviation(values):
    """Mean and, of several values, standard deviation."""
    if not values:
        return "-"
    return f"{np.mean(values):.1f}" + (f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else "")


def both(rows):
    """Mean errors of forces and energies."""
    return f"{np.mean([row[FORCE] for row in rows]):.1f} / {np.mean([row[ENERGY] for row in rows]):.2f}"


def stability_rows(record):
    """One row a system."""
    for name, words in figures.SYSTEMS.items():
        own = [run for run in record["runs"] if run["system"] == name]
        nvt = [run for run in own if run["kind"] == "nvt"]
        if not nvt:
            continue
        lost = [run for run in nvt if not run["survived"]]
        one = {kind: next((run for run in own if run["kind"] == kind), None) for kind in ("nve", "npt", "supercell")}
        npt, big, nve = one["npt"], one["supercell"], one["nve"]
        yield {
            "words": words,
            "whole": f"{len(nvt) - len(lost)} of {len(nvt)}",
            "lost": "; ".join(
                f"ended at {run['time_ps']:.1f} ps" if run["failure"] else f"{100 * (1 - run['fewest_bonds']):.1f} %"
                for run in lost
            )
            or "-",
            "drift": f"{nve['drift_mev_per_atom_per_ps']:.0e}" if nve and not nve["failure"] else "-",
            "volume": f"{100 * (npt['volume_ratio'] - 1):+.1f} %" if npt and "volume_ratio" in npt else "-",
            "supercell": f"{big['n_atoms']} atoms: {100 * big['fewest_bonds']:.1f} % of the bonds"
            if big and not big["failure"]
            else "-",
        }


def uncertainty(record):
    """Coverage on known frames, and what happens far away."""
    known, melts = record["coverage_lips83"], record["unseen"]
    return {
        "covered": " and ".join(f"{100 * row['forces']['0.683']:.0f} %" for row in known),
        "known": f"{100 * max(row['grades']['frames_outside'] for row in known):.0f} %",
        "strange": f"{100 * min(row['grades']['frames_outside'] for row in melts):.0f} %",
        "too_small": f"{max(row['rms_error_over_uncertainty'] for row in melts):.1f}",
    }


def stress_rows(record):
    """What fitting stresses costs and brings, per data set."""
    entries = [entry for entry in record["entries"].values() if "scales" in entry]
    keys = {"force": FORCE, "stress": "stress_mae_mev_per_ang3", "pressure": "mean_stress_off_mev_per_ang3"}
    for name in dict.fromkeys(entry["set"] for entry in entries):
        row = {"words": WORDS.get(name, name)}
        for column, key in keys.items():
            pair = [
                np.mean([abs(e["scales"][s][key]) for e in entries if e["set"] == name]) for s in ("not fitted", "2")
            ]
            factor, digits = (GPA, 2) if column == "pressure" else (1.0, 1 if column == "force" else 2)
            row[column] = " → ".join(f"{factor * value:.{digits}f}" for value in pair)
        yield row


def active_learning(record):
    """One sentence a claim."""
    rounds, first = record["rounds"], record["rounds"][0]
    lasted = ", ".join(f"{min(run['time_ps'] for run in entry['runs']):.2g}" for entry in rounds)
    errors = [entry for entry in record.get("held_out_by_model", []) if entry]
    return {
        "words": f"`qff learn` on Li4@MOF-5 ({record['n_atoms']} atoms) with GFN1-xTB as the reference (which binds "
        f"lithium wrongly there, so this shows the machinery only): from {first['n_train']} rattled frames "
        f"{len(rounds)} rounds and {rounds[-1]['n_labels']} labels. The shortest of {len(first['runs'])} runs of "
        f"{first['runs'][0]['asked_ps']:g} ps lasted, round by round, {lasted} ps; the force error on "
        f"{errors[-1]['n_frames']} held-out frames of these runs fell from {errors[0][FORCE]:.0f} to "
        f"{errors[-1][FORCE]:.0f} meV/Å."
    }


def lithium(record, order):
    """Diffusivities by system and temperature, an activation energy, and the ab initio one of lips83."""
    runs = {}
    for row in record["runs"] if record else ():
        runs.setdefault((row["system"], row["temperature_k"]), []).append(row)
    points, parts = [], []
    for (name, kelvin), own in sorted(runs.items()):
        values, bounds = ([row[f"diffusivity{kind}_cm2_per_s"] for row in own] for kind in ("", "_upper"))
        found = f"{sum(value is not None for value in values)} of {len(own)} runs show diffusion"
        if all(bounds):
            found = f"below {max(bounds):.0e}, all ions in their cages"
        elif None not in values and len(values) > 1:
            mean, error = np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))
            found = f"({1e5 * mean:.2f} ± {1e5 * error:.2f})e-5"
            points += [(kelvin, mean, error)] if name == "li6ps5cl" else []
        parts.append(f"{WORDS.get(name, name)} at {kelvin:g} K {found} ({len(own)} of {own[0]['ps']:g} ps)")
    words = f"Mean and standard error over runs, in cm²/s: {'; '.join(parts)}." if parts else ""
    if len(points) > 1:
        line = fit_arrhenius(points)
        words += f" Activation energy of Li6PS5Cl: {line['activation_ev']:.2f} ± {line['activation_error_ev']:.2f} eV."
    if order:
        whole, one, two = (1e5 * order[part]["cm2_per_s"] for part in ("whole", "first half", "second half"))
        length = f"{order['length_ps']:.0f} ± {order['length_error_ps']:.0f} ps"
        words += f" The ab initio trajectory of lips83 at 520 K, put back in order ({length}), gives ({whole:.1f} ± "
        words += f"{1e5 * order['error_cm2_per_s']:.1f})e-5 cm²/s, its halves {one:.1f} and {two:.1f}."
    return words.strip()


def faults(record):
    """Counts by kind of fault."""
    found = {}
    for row in record["rows"]:
        tried, survived = found.get(row["fault"], (0, 0))
        found[row["fault"]] = (tried + row["tried"], survived + row["survived"])
    return "; ".join(f"{name} {good} of {count}" for name, (count, good) in found.items())


def trained_by_shots(record):
    """Losses and errors of trainings by shots beside the exact one."""
    errors = [run[FORCE] for run in record["runs"]]
    worst = 100 * (max(run["loss_ratio"] for run in record["runs"]) - 1)
    return record | {"worst": worst, "lowest": min(errors), "highest": max(errors)}


def context():
    """Everything that the templates name."""
    records = {name: read(name) for name in RECORDS}
    there = {name: record for name, record in records.items() if record}
    default, size = records["default_model"], (records["scaling"] or {}).get("size")
    first = next(row for row in default["rows"] if row["set"] == "lips83")
    backend = next(row["backend"] for row in records["fake_device"]["rows"] if row["mitigation"] == "readout")

    def made(name, how):
        return how(there[name]) if name in there else None

    return {
        "versions": sorted({record.get("version", "?") for record in there.values()}),
        "overview": list(overview(records)),
        "missed": missed(default["rows"]),
        "cost": {"seconds": round(first["seconds"]), "mib": round(first["peak_mib"]), "n_given": first["n_given"]},
        "linear": list(linear_rows(default["rows"])),
        "peers": made("peers", peer_table),
        "parameters": records["parameters"],
        "step": records["md_step"],
        "scaling": size
        and {"small": size["rows"][0], "large": size["rows"][-1], "kb_per_atom": size["kb_per_atom"]}
        | {"ratio": size["time_ratio_largest_to_smallest"]},
        "stability": made("stability", lambda record: list(stability_rows(record))),
        "transport": lithium(records["transport"], records["lips83_order"]),
        "uncertainty": made("uncertainty", uncertainty),
        "stresses": made("stresses", lambda record: list(stress_rows(record))),
        "device": records["fake_device"] | {"backend": backend},
        "standard_errors": made("standard_errors", lambda record: record["rows"]),
        "registers": made("register_size", lambda record: record["rows"]),
        "gradient": records["gradient_cost"],
        "training": made("estimator_training", trained_by_shots),
        "learning": made("active_learning", active_learning),
        "faults": made("faults", faults),
        "install": records["install"],
    }


def pages():
    """RESULTS.md and the README as the records have them."""
    environment = Environment(loader=FileSystemLoader(HERE), undefined=StrictUndefined, autoescape=False)  # noqa: S701
    environment.filters |= {
        "fixed": lambda value, digits: f"{value:.{digits}f}",
        "spread": lambda found: f"{found['mean']:.1f} ± {found['std']:.1f}",
    }
    numbers = context()
    before, rest = README.read_text().split(BEGIN)

    def rendered(template):
        text = environment.get_template(template).render(numbers)
        return re.sub(r"\n{3,}", "\n\n", text).strip()  # blank lines that blocks leave behind

    table = rendered("README.md.j2")
    return {
        README: f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}",
        PAGE: rendered("RESULTS.md.j2") + "\n",
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    if parser.parse_args().check:
        if any(path.read_text() != text for path, text in pages().items()):
            sys.exit("the README or RESULTS.md does not show benchmarks/results; run python benchmarks/render.py")
        return
    figures.draw(RESULTS)
    for path, text in pages().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
