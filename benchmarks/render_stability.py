"""Lines and tables of what molecular dynamics did in `benchmarks/dynamics/stability.py`."""

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
FITTED = {"li6ps5cl_stress": "li6ps5cl"}
"""Systems whose models were fitted to stresses, and the system that they are otherwise like."""
REMARKS = {"li6ps5cl": ", whose reference is 0.15 ps at 770 K"}
"""What should be known of a reference."""
AB_INITIO = 1.4e-5
"""Diffusivity of lithium in lips83 at 520 K, cm²/s; the paper could not be looked up."""
LITERATURE = (
    f"about {1e5 * AB_INITIO:.1f}e-5 by ab initio dynamics (Batzner et al., Nat. Commun. 13, 2453 (2022), from memory)"
)


def every_run():
    return json.loads(RESULTS.read_text())["runs"] if RESULTS.exists() else []


def runs():
    """Those whose bonds were free to break."""
    return [r for r in every_run() if not r.get("held")]


def held_line():
    """How runs went whose bonds were held."""
    parts = []
    for name, words in WORDS.items():
        own = [r for r in every_run() if r.get("held") and r["kind"] == "nvt" and r["system"] == name]
        if own:
            share, most = max(r.get("share_felt", 0) for r in own), max(r.get("largest_wall_ev", 0) for r in own)
            parts.append(
                f"{words} {sum(r['survived'] for r in own)} of {len(own)} ({max(r['asked_ps'] for r in own):g} ps; "
                f"walls felt in at most {100 * share:.1f} % of the frames, up to {most:.1f} eV)"
            )
    return [f"with bonds held (`qff md --hold-bonds`) {', '.join(parts)}"] if parts else []


def _place(row):
    place = list(WORDS).index(row["system"]), not row["fence"], row.get("held", False)
    return *place, row["kind"], row["asked_ps"], row["seed"]


def diffusivities(name):
    """Of lithium, in cm²/s, of the longest NVT runs that came to their end."""
    found = [r for r in runs() if r["system"] == name and "lithium" in r]
    longest = max((r["asked_ps"] for r in found), default=0.0)
    values = [r["lithium"]["cm2_per_s"] for r in found if r["asked_ps"] == longest]
    return np.array([value for value in values if value is not None])  # of caged lithium there is none


def _times(values):
    """Mean and its standard error over runs."""
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return f"({values.mean() * 1e5:.2f} ± {error * 1e5:.2f})e-5"


def lines():
    """One line for the README."""
    done = runs()
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
    parts += held_line()
    drifts = [abs(r["drift_mev_per_atom_per_ps"]) for r in done if r["kind"] == "nve" and r["failure"] is None]
    parts += [f"NVE drift at most {max(drifts):.1g} meV/atom/ps in {len(drifts)} such runs"] if drifts else []
    broken = [r for r in done if r["kind"] == "nve" and r["failure"] is None and not r["survived"]]
    parts += [
        f"in NVE of {WORDS[r['system']]} {_lost(r)} of {r['n_bonds']} contacts that count as bonds in its first, hot "
        "frame did not last"
        for r in broken
    ]
    lost = [r for r in done if r["kind"] == "nve" and r["failure"]]
    parts += [f"NVE of {WORDS[r['system']]} exploded after {r['time_ps']:.1f} ps" for r in lost]
    for name in WORDS:
        found = [r["rdf_mae"] for r in done if r["system"] == name and r.get("rdf_mae")]
        if found and name not in FITTED:
            pair, worst = max((item for errors in found for item in errors.items()), key=lambda item: item[1])
            mean = max(errors["all"] for errors in found)
            parts.append(
                f"g(r) of {name} within {mean:.2f} of ab initio over all atoms, {worst:.2f} for every pair "
                f"(worst: {pair}){REMARKS.get(name, '')}{_expected(name, pair)}"
            )
    moved = diffusivities("lips83")
    if len(moved):
        parts.append(
            f"lithium diffusivity in lips83 at 520 K {_times(moved)} cm²/s over {len(moved)} runs, in the literature "
            f"{LITERATURE}: {100 * abs(moved.mean() / AB_INITIO - 1):.0f} % "
            f"{'below' if moved.mean() < AB_INITIO else 'above'} that"
        )
    cells = [r for r in done if "volume_ratio" in r]
    if cells:
        told = {
            fitted: [
                f"{WORDS[FITTED.get(r['system'], r['system'])]} {_swelling(r)}"
                for r in cells
                if (r["system"] in FITTED) == fitted
            ]
            for fitted in (True, False)
        }
        words = {True: "a model fitted to stresses", False: "models that never saw one"}
        parts.append(
            f"volume in NPT at no pressure, mean of the second half of one run of {cells[0]['asked_ps']:g} ps, "
            + ", ".join(f"{words[fitted]} ({', '.join(changes)})" for fitted, changes in told.items() if changes)
        )
    big = [f"{WORDS[r['system']]}, {r['n_atoms']} atoms, {_kept(r)}" for r in done if r["kind"] == "supercell"]
    parts += [f"2x2x2 supercells: {', '.join(big)}"] if big else []
    bare = sorted({WORDS[r["system"]] for r in done if not r["fence"]})
    parts += [f"without walls around the training data {', '.join(bare)}"] if bare else []
    return [f"- Stability of molecular dynamics: {'; '.join(parts)}. `benchmarks/dynamics/stability.py`", *wall_line()]


def _swelling(row):
    """Change of the volume in percent, with the error of five blocks where it was recorded."""
    change, error = 100 * (row["volume_ratio"] - 1), row.get("volume_error")
    return f"{change:+.0f} %" if error is None else f"({change:+.1f} ± {100 * error:.1f}) %"


def _expected(name, pair):
    """How far parts of a run that are as long as the reference are from all of it."""
    errors = window_errors(name)
    return f"; parts of the run as long as that are {errors[pair]:.2f} from all of it" if errors else ""


def window_errors(name):
    """By pair; None where there is no reference of known length."""
    like = FITTED.get(name, name)
    return next((r["window_errors"] for r in runs() if r["system"] == like and r["kind"] == "windows"), None)


def structure_table():
    """Errors of radial distributions, pair by pair."""
    lines = []
    for name, system in WORDS.items():
        found = [r["rdf_mae"] for r in runs() if r["system"] == name and r.get("rdf_mae")]
        expected = window_errors(name)
        for pair in found[0] if found else ():
            errors = np.array([one[pair] for one in found])
            floor = "-" if expected is None else f"{expected[pair]:.3f}"
            words = "all atoms" if pair == "all" else pair
            lines.append(f"| {system} | {words} | {errors.mean():.3f} ({errors.max():.3f}) | {floor} |")
    scope = (
        "Mean absolute difference up to 6 Å, mean over seeds and the worst; beside it how far parts of the model's own "
        "run that are as long as the reference, and as finely recorded, are from all of it."
    )
    head = [
        "### Radial distributions beside ab initio ones",
        "",
        scope,
        "",
        "| system | pair | difference (worst) | parts of the run |",
        "|---|---|---|---|",
    ]
    return [*head, *lines, ""] if lines else []


def _lost(row):
    """How many of its bonds were broken at some time."""
    return row["n_bonds"] - round(row["fewest_bonds"] * row["n_bonds"])


def _kept(row):
    """How long a run lasted, and how many of its bonds."""
    if row["failure"]:
        return f"exploded after {row['time_ps']:.1f} ps"
    bonds = row["n_bonds"]
    return f"{row['time_ps']:g} ps: {'whole' if row['survived'] else f'{bonds - _lost(row)} of {bonds} bonds kept'}"


def wall_line():
    """What walls do for models of few frames."""
    if not WALLS.exists():
        return []
    found = json.loads(WALLS.read_text())
    asked = found["asked_ps"]
    parts = [
        f"{row['n_frames']} frames {sum(t >= asked for t in row['bare'])} of {len(row['bare'])} without "
        f"(median {np.median(row['bare']):.2g} ps), {sum(t >= asked for t in row['walls'])} within "
        f"({np.median(row['walls']):.2g} ps)"
        for row in found["models"]
    ]
    said = f"Li-MOF-5 at {found['temperature_k']:g} K, runs that lasted {asked:g} ps: {'; '.join(parts)}"
    return [
        f"- Walls around the training data (`qff md`) for models of few frames, {said}. `benchmarks/dynamics/walls.py`"
    ]


def _walls(row):
    return ("yes" if row["fence"] else "no") + (", bonds held" if row.get("held") else "")


def _moved(row):
    lithium = row.get("lithium")
    if lithium is None:
        return "-"
    if lithium["cm2_per_s"] is None:
        return "caged"
    return f"({lithium['cm2_per_s'] * 1e5:.2f} ± {lithium['error_cm2_per_s'] * 1e5:.2f})e-5"


def _picture():
    """The figure, where it was drawn."""
    if not (RESULTS.parent / "stability.png").exists():
        return []
    return ["![Temperatures, radial distributions, and lithium's displacements](results/stability.png)", ""]


def sections():
    """The table of all runs."""
    done = every_run()
    if not done:
        return []
    names = ("system", "walls", "run", "seed", "atoms", "ps", "to its end", "bonds left", "T / K")
    head = f"| {' | '.join(names)} | drift meV/atom/ps | g(r) worst pair | D of Li, cm²/s |"
    table = ["## Stability of molecular dynamics", "", *_picture(), head, "|" + "---|" * 12]
    for r in sorted((r for r in done if r["kind"] != "windows"), key=_place):
        ended = "yes" if r["failure"] is None else f"{r['time_ps']:.2f} ps: {r['failure'].split(': ')[-1]}"
        bonds = f"{100 * r['fewest_bonds']:.1f} %" if "fewest_bonds" in r else "-"
        heat = f"{r['temperature_k']:.0f}" if "temperature_k" in r else "-"
        drift = r.get("drift_mev_per_atom_per_ps")
        worst = max(r["rdf_mae"].items(), key=lambda item: item[1]) if r.get("rdf_mae") else None
        table.append(
            f"| {WORDS[r['system']]} | {_walls(r)} | {r['kind']} | {r['seed']} | {r['n_atoms']} | "
            f"{r['asked_ps']:g} | {ended} | {bonds} | {heat} | {'-' if drift is None else f'{drift:+.1g}'} | "
            f"{'-' if worst is None else f'{worst[1]:.3f} ({worst[0]})'} | {_moved(r)} |"
        )
    return [
        *table,
        "",
        "`benchmarks/dynamics/stability.py`; drift of NVT runs: of Bussi's conserved quantity. D: error of 5 blocks.",
        "",
        *structure_table(),
    ]
