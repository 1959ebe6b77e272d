"""Lines and tables for `benchmarks/dynamics/stability.py` and `benchmarks/dynamics/walls.py`."""

import json
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results" / "stability.json"
WALLS = RESULTS.with_name("walls.json")
WORDS = {
    "lips83": "lips83, 520 K",
    "li6ps5cl": "shipped Li6PS5Cl, 600 K",
    "uio66": "UiO-66, 300 K",
    "limof5": "shipped Li-MOF-5, 300 K",
    "limof5_li2": "Li-MOF-5 with two Li, 300 K",
    "limof5_li0": "MOF-5 without Li, 300 K",
    "li6ps5cl_stress": "shipped Li6PS5Cl with stresses fitted, 600 K",
}
REMARKS = {"li6ps5cl": " (reference: 0.15 ps at 770 K)"}


def runs():
    return json.loads(RESULTS.read_text())["runs"] if RESULTS.exists() else []


def of_system(name, kind="nvt"):
    return [r for r in runs() if r["system"] == name and r["kind"] == kind]


def lines():
    """What the runs show, in one line."""
    if not runs():
        return []
    nvt = {words: own for name, words in WORDS.items() if (own := of_system(name))}
    counts = [f"{words} {sum(r['survived'] for r in own)} of {len(own)}" for words, own in nvt.items()]
    parts = [f"{next(iter(nvt.values()))[0]['asked_ps']:g} ps of NVT with all bonds whole: {', '.join(counts)}"]
    nve = [r for r in runs() if r["kind"] == "nve" and r["failure"] is None]
    parts += (
        [f"NVE drift at most {max(abs(r['drift_mev_per_atom_per_ps']) for r in nve):.1g} meV/atom/ps"] if nve else []
    )
    for name in ("lips83", "li6ps5cl"):
        found = [r["rdf_mae"] for r in of_system(name) if "rdf_mae" in r]
        if found:
            pair, worst = max((item for errors in found for item in errors.items()), key=lambda item: item[1])
            mean = max(errors["all"] for errors in found)
            parts.append(
                f"g(r) of {name} within {mean:.2f} of ab initio over all atoms, worst pair {pair} within {worst:.2f}"
                f"{REMARKS.get(name, '')}"
            )
    moved = np.array([r["lithium"]["cm2_per_s"] for r in of_system("lips83") if "lithium" in r])
    if len(moved) > 1:
        error = moved.std(ddof=1) / np.sqrt(len(moved))
        parts.append(
            f"lithium diffusivity in lips83 at 520 K ({1e5 * moved.mean():.2f} ± {1e5 * error:.2f})e-5 cm²/s over "
            f"{len(moved)} runs"
        )
    cells = [f"{WORDS[r['system']]} {_swelling(r)}" for r in runs() if "volume_ratio" in r]
    parts += [f"change of volume in NPT at no pressure: {', '.join(cells)}"] if cells else []
    big = [f"{WORDS[r['system']]}, {r['n_atoms']} atoms, {_kept(r)}" for r in runs() if r["kind"] == "supercell"]
    parts += [f"2x2x2 supercells: {', '.join(big)}"] if big else []
    return [f"- Stability of molecular dynamics: {'; '.join(parts)}. `benchmarks/dynamics/stability.py`", *wall_line()]


def wall_line():
    """What walls do for models of few frames."""
    if not WALLS.exists():
        return []
    found = json.loads(WALLS.read_text())
    asked = found["asked_ps"]
    parts = [
        f"{row['n_frames']} training frames {sum(t >= asked for t in row['bare'])} of {len(row['bare'])} without walls "
        f"(median {np.median(row['bare']):.2g} ps), {sum(t >= asked for t in row['walls'])} with them "
        f"({np.median(row['walls']):.2g} ps)"
        for row in found["models"]
    ]
    said = f"Li-MOF-5 at {found['temperature_k']:g} K, runs that lasted {asked:g} ps: {'; '.join(parts)}"
    return [f"- Walls around the training data: {said}. `benchmarks/dynamics/walls.py`"]


def sections():
    """The tables of all runs and of the radial distributions."""
    if not runs():
        return []
    table = ["## Stability of molecular dynamics", ""]
    if (RESULTS.parent / "stability.png").exists():
        table += ["![Temperatures, radial distributions, lithium's displacements](results/stability.png)", ""]
    table += [
        "| system | run | seed | atoms | ps | completed | bonds left | T / K | drift meV/atom/ps | D of Li, cm²/s |"
    ]
    table += ["|" + "---|" * 10]
    order = list(WORDS)
    for r in sorted(runs(), key=lambda r: (order.index(r["system"]), r["kind"], r["seed"])):
        ended = "yes" if r["failure"] is None else f"{r['time_ps']:.2f} ps: {r['failure'].split(': ')[-1]}"
        bonds = f"{100 * r['fewest_bonds']:.1f} %" if "fewest_bonds" in r else "-"
        heat = f"{r['temperature_k']:.0f}" if "temperature_k" in r else "-"
        drift = r.get("drift_mev_per_atom_per_ps")
        table.append(
            f"| {WORDS[r['system']]} | {r['kind']} | {r['seed']} | {r['n_atoms']} | {r['asked_ps']:g} | {ended} | "
            f"{bonds} | {heat} | {'-' if drift is None else f'{drift:+.1g}'} | {_moved(r)} |"
        )
    table += ["", "### Radial distributions compared with ab initio ones", ""]
    table += ["Mean absolute difference up to 6 Å, mean over seeds (and the largest).", ""]
    table += ["| system | pair | difference |", "|---|---|---|"]
    for name, system in WORDS.items():
        found = [r["rdf_mae"] for r in of_system(name) if "rdf_mae" in r]
        for pair in found[0] if found else ():
            errors = np.array([one[pair] for one in found])
            words = "all atoms" if pair == "all" else pair
            table.append(f"| {system} | {words} | {errors.mean():.3f} ({errors.max():.3f}) |")
    return [*table, "", "`benchmarks/dynamics/stability.py`", ""]


def _swelling(row):
    """Change of the volume in percent."""
    change, error = 100 * (row["volume_ratio"] - 1), row.get("volume_error")
    return f"{change:+.0f} %" if error is None else f"({change:+.1f} ± {100 * error:.1f}) %"


def _kept(row):
    """How long a run lasted, and how many of its bonds."""
    if row["failure"]:
        return f"exploded after {row['time_ps']:.1f} ps"
    bonds = round(row["fewest_bonds"] * row["n_bonds"])
    kept = "whole" if row["survived"] else f"{bonds} of {row['n_bonds']} bonds kept"
    return f"{row['time_ps']:g} ps: {kept}"


def _moved(row):
    """Diffusivity of lithium."""
    lithium = row.get("lithium")
    if lithium is None:
        return "-"
    if lithium["cm2_per_s"] is None:
        return "caged"
    return f"({lithium['cm2_per_s'] * 1e5:.2f} ± {lithium['error_cm2_per_s'] * 1e5:.2f})e-5"
