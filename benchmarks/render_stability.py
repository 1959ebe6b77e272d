"""Lines and tables of what molecular dynamics did in `benchmarks/dynamics/stability.py`."""

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "stability.json"
WORDS = {
    "lips83": "lips83, 520 K",
    "li6ps5cl": "shipped Li6PS5Cl, 600 K",
    "uio66": "UiO-66, 300 K",
    "limof5": "shipped Li-MOF-5, 300 K",
}


REMARKS = {"li6ps5cl": ", whose reference is a tenth of a picosecond of cooling, no equilibrium"}


def runs():
    return json.loads(RESULTS.read_text())["runs"] if RESULTS.exists() else []


def _place(row):
    return list(WORDS).index(row["system"]), not row["fence"], row["kind"], row["asked_ps"], row["seed"]


def lines():
    """One line for the README."""
    walled = {r["system"] for r in runs() if r["fence"]}
    bare = [r for r in runs() if not r["fence"] and r["system"] in walled]
    done = [r for r in runs() if r not in bare]
    parts = []
    for length in sorted({r["asked_ps"] for r in done if r["kind"] == "nvt"}):
        group = [r for r in done if r["kind"] == "nvt" and r["asked_ps"] == length]
        counts = [
            f"{WORDS[name]} {sum(r['survived'] for r in own)} of {len(own)}"
            for name in WORDS
            if (own := [r for r in group if r["system"] == name])
        ]
        parts.append(f"{length:g} ps of NVT survived, all bonds whole: {', '.join(counts)}")
    if not parts:
        return []
    drifts = [abs(r["drift_mev_per_atom_per_ps"]) for r in done if r["kind"] == "nve" and r["failure"] is None]
    parts += [f"NVE drift at most {max(drifts):.1g} meV/atom/ps"] if drifts else []
    for name in WORDS:
        errors = [item for r in done if r["system"] == name for item in r.get("rdf_mae", {}).items()]
        if errors:
            pair, worst = max(errors, key=lambda item: item[1])
            parts.append(
                f"g(r) of {name} within {worst:.2f} of ab initio for every pair (worst: {pair}){REMARKS.get(name, '')}"
            )
    big = [
        f"{WORDS[r['system']]} {'whole' if r['survived'] else 'with broken bonds'}"
        for r in done
        if r["kind"] == "supercell"
    ]
    parts += [f"2x2x2 supercells after {done[0]['asked_ps']:g} ps: {', '.join(big)}"] if big else []
    walls = ", ".join(name for name in WORDS if any(r["fence"] for r in done if r["system"] == name))
    failed = [f"{WORDS[r['system']]} after {r['time_ps']:.1f} ps" for r in bare if r["failure"]]
    parts += [f"without walls {len(failed)} of {len(bare)} such runs exploded ({', '.join(failed)})"] if bare else []
    said = "; ".join(parts)
    line = f"- Stability of molecular dynamics (walls, `qff md --fence`, for {walls}): {said}. "
    return [f"{line}`benchmarks/dynamics/stability.py`"]


def sections():
    """The table of all runs."""
    done = runs()
    if not done:
        return []
    names = ("system", "walls", "run", "seed", "atoms", "ps", "ended", "bonds left", "T / K")
    head = f"| {' | '.join(names)} | drift meV/atom/ps | g(r) worst pair |"
    table = ["## Stability of molecular dynamics", "", head, "|" + "---|" * 11]
    for r in sorted(done, key=_place):
        ended = "whole" if r["failure"] is None else f"{r['time_ps']:.2f} ps: {r['failure'].split(': ')[-1]}"
        bonds = f"{100 * r['fewest_bonds']:.1f} %" if "fewest_bonds" in r else "-"
        heat = f"{r['temperature_k']:.0f}" if "temperature_k" in r else "-"
        drift = r.get("drift_mev_per_atom_per_ps")
        worst = max(r["rdf_mae"].items(), key=lambda item: item[1]) if r.get("rdf_mae") else None
        table.append(
            f"| {WORDS[r['system']]} | {'yes' if r['fence'] else 'no'} | {r['kind']} | {r['seed']} | {r['n_atoms']} | "
            f"{r['asked_ps']:g} | {ended} | {bonds} | {heat} | {'-' if drift is None else f'{drift:+.1g}'} | "
            f"{'-' if worst is None else f'{worst[1]:.3f} ({worst[0]})'} |"
        )
    return [
        *table,
        "",
        "`benchmarks/dynamics/stability.py`; drift of NVT runs is that of Bussi's conserved quantity.",
        "",
    ]
