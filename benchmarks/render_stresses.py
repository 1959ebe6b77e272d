"""Line and table of what fitting stresses costs and brings, of the accuracy suite."""

import json
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results" / "stresses.json"
SCRIPT = "`benchmarks/accuracy/stresses.py`"
WORDS = {"li6ps5cl": "shipped Li6PS5Cl", "li4p2s6_melt": "molten Li4P2S6", "li7p3s11_melt": "molten Li7P3S11"}
SCALE = "2"
"""The one that help texts recommend, in meV/Å³."""
NOT_FITTED = "not fitted"
FORCE, ENERGY, STRESS = "force_mae_mev_per_ang", "energy_mae_mev_per_atom", "stress_mae_mev_per_ang3"
PRESSURE, NOISE = "mean_stress_off_mev_per_ang3", "mean_stress_std_mev_per_ang3"
GPA = 0.160217663
"""Of one meV/Å³."""


def entries():
    return [e for e in _every_entry() if "scales" in e]


def _every_entry():
    return list(json.loads(RESULTS.read_text())["entries"].values()) if RESULTS.exists() else []


def _volumes():
    """Frames at other volumes by scale; None where they were not tried."""
    return next((e["volumes"] for e in _every_entry() if "volumes" in e), None)


def _means(own, scale, key):
    return np.array([e["scales"][scale][key] for e in own if scale in e["scales"]])


def lines():
    """One line for the README."""
    parts = []
    for name, words in WORDS.items():
        own = [e for e in entries() if e["set"] == name]
        if not own:
            continue
        pressure = [GPA * np.abs(_means(own, scale, PRESSURE)).mean() for scale in (NOT_FITTED, SCALE)]
        error = [_means(own, scale, STRESS).mean() for scale in (NOT_FITTED, SCALE)]
        force = _means(own, SCALE, FORCE).mean() / _means(own, NOT_FITTED, FORCE).mean() - 1.0
        parts.append(
            f"{words} {error[0]:.2f} to {error[1]:.2f} meV/Å³ (mean pressure off by {pressure[0]:.2f} and "
            f"{pressure[1]:.2f} GPa), force errors {100 * force:+.0f} %, {len(own)} splits"
        )
    if not parts:
        return []
    if found := _volumes():
        off = {
            scale: max(abs(o["mean_stress_gpa"][1] - o["mean_stress_gpa"][0]) for o in found[scale])
            for scale in (NOT_FITTED, SCALE)
        }
        parts.append(
            "at volumes 6 % smaller and larger than the only one of training the pressure of Li6PS5Cl is off by at "
            f"most {off[SCALE]:.1f} GPa ({off[NOT_FITTED]:.1f} without)"
        )
    return [f"- Stresses fitted (`qff train --stress-scale 2`), MAE held out: {'; '.join(parts)}. {SCRIPT}"]


def sections():
    """The table, scale by scale."""
    if not entries():
        return []
    scope = (
        "The quantum model with stresses in its loss, by the error that counts as one unit; mean over a set's splits, "
        "and its first split alone, where more scales were tried. Pressure: error of a third of the stress's trace, "
        "its mean over held-out frames (mean size over splits) and its standard deviation."
    )
    head = "| set | splits | scale, meV/Å³ | force MAE | energy MAE | stress MAE, meV/Å³ | pressure off, GPa | ± |"
    table = ["### Stresses", "", scope, "", head, "|" + "---|" * 8]
    for name, words in WORDS.items():
        own = [e for e in entries() if e["set"] == name]
        for some, told in ((own, f"all {len(own)}"), (own[:1], "first")):
            scales = [s for s in some[0]["scales"] if all(s in e["scales"] for e in some)] if some else []
            table += [f"| {words} | {told} | {_row(some, scale)} |" for scale in scales]
    return [*table, "", SCRIPT, "", *_volume_table()]


def _volume_table():
    """Pressures and energies at other volumes."""
    found = _volumes()
    if found is None:
        return []
    scope = (
        "Models of all frames of `li6ps5cl`, which have one volume, at the volumes of `li6ps5cl_volumes`: a third of "
        "the stress's trace (positive under tension), and the energy beside that of frame 122 at its own volume."
    )
    head = "| frame | lengths | by PBE-D3, GPa / eV |"
    head += "".join(f" {'stresses not fitted' if s == NOT_FITTED else f'scale {s} meV/Å³'} |" for s in found)
    table = ["#### At other volumes", "", scope, "", head, "|" + "---|" * (3 + len(found))]
    for rows in zip(*found.values(), strict=True):
        cells = [f"{o['mean_stress_gpa'][1]:+.2f} / {o['energy_ev'][1]:+.2f}" for o in rows]
        one = rows[0]
        truth = f"{one['mean_stress_gpa'][0]:+.2f} / {one['energy_ev'][0]:+.2f}"
        table.append(f"| {one['row']} | {one['linear_scale']:g} | {truth} | {' | '.join(cells)} |")
    return [*table, ""]


def _row(some, scale):
    """Cells of some splits and one scale."""
    off, noise = np.abs(_means(some, scale, PRESSURE)).mean(), _means(some, scale, NOISE).mean()
    cells = (
        scale,
        f"{_means(some, scale, FORCE).mean():.1f}",
        f"{_means(some, scale, ENERGY).mean():.2f}",
        f"{_means(some, scale, STRESS).mean():.2f}",
        f"{GPA * off:.2f}",
        f"{GPA * noise:.2f}",
    )
    return " | ".join(cells)
