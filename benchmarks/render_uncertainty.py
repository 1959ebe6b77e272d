"""The part of the results on grades and uncertainties."""

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
LEVELS = ("0.5", "0.683", "0.9", "0.954", "0.99")
SETS = {"lips83": "lips83", "limof5": "shipped Li-MOF-5"}
MELTS = {"li7p3s11_melt": "Li7P3S11 at 3000 K", "li4p2s6_melt": "Li4P2S6 at 3000 K"}
SCOPE = (
    "Measured before the posterior of the linear terms, with what it replaced: the spread of 16 draws from the "
    "curvature of the loss, times one factor fitted to force errors. "
    "lips83: {n_train} frames to train, the factor from {n_calibration} others, coverage on {n_frames} more. Shipped "
    "set: {shipped_train} to train, {shipped_test} held out, each half judged with the factor of the other; so few "
    "energies say little. Energies take the factor of the forces."
)
UNSEEN = (
    "Far outside the training data forces are less certain than they claim, although uncertainties grow; the "
    "extrapolation grade tells these frames, and that is what `qff md` and `qff select` go by."
)


def read():
    path = RESULTS / "uncertainty.json"
    return json.loads(path.read_text()) if path.exists() else {}


def lines():
    """One line for the README."""
    found = read()
    rows, melts = found.get("coverage_lips83", []), found.get("unseen", [])
    if not rows or not melts:
        return []
    covered = " and ".join(f"{100 * row['forces']['0.683']:.0f} %" for row in rows)
    known = max(row["grades"]["frames_outside"] for row in rows)
    strange = min(row["grades"]["frames_outside"] for row in melts)
    line = (
        f"- Uncertainties without further training: intervals for 68 % hold {covered} of the force errors on held-out "
        f"frames of lips83 ({len(rows)} seeds). Extrapolation grades flag at most {100 * known:.0f} % of these frames, "
        f"and {100 * strange:.0f} % of those of melts that the model has never seen. "
        "`benchmarks/accuracy/uncertainty.py`"
    )
    return [line]


def shares(entry):
    return " / ".join(f"{100 * entry[level]:.0f}" for level in LEVELS)


def scope(found):
    """What was trained on and judged by how many frames."""
    glass, framework = found["coverage_lips83"][0], found["coverage_limof5"][0]
    return SCOPE.format_map(glass | {"shipped_train": framework["n_train"], "shipped_test": framework["n_test"]})


def sections():
    """Tables for RESULTS.md."""
    found = read()
    page = []
    if all(f"coverage_{name}" in found for name in SETS):
        page += ["## Uncertainties", "", scope(found), ""]
        if (RESULTS / "coverage.png").exists():
            page += ["![Errors within their intervals](results/coverage.png)", ""]
        page += [
            "| model | factor | errors of forces within 50 / 68 / 90 / 95 / 99 % | of energies | rank correlation "
        ]
        page[-1] += "of uncertainty and error of atoms | frames with an atom outside |"
        page += ["|---|---|---|---|---|---|"]
        for name, words in SETS.items():
            for row in found.get(f"coverage_{name}", []):
                page.append(
                    f"| {words}, seed {row['seed']} | {row['factor']:.2f} | {shares(row['forces'])} | "
                    f"{shares(row['energies'])} | {row['rank_correlation']:.2f} | "
                    f"{100 * row['grades']['frames_outside']:.0f} % |"
                )
        page.append("")
    if rows := found.get("unseen"):
        page += [
            "| the lips83 model on | errors of forces within 50 / 68 / 90 / 95 / 99 % | rms of error / uncertainty "
        ]
        page[-1] += "| rank correlation | frames with an atom outside | atoms outside |"
        page += ["|---|---|---|---|---|---|"]
        page += [
            f"| {MELTS[row['set']]} | {shares(row['forces'])} | {row['rms_error_over_uncertainty']:.1f} | "
            f"{row['rank_correlation']:.2f} | {100 * row['grades']['frames_outside']:.0f} % | "
            f"{100 * row['grades']['atoms_outside']:.0f} % |"
            for row in rows
        ]
        page += ["", UNSEEN, ""]
    return page
