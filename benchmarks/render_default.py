"""The model of `qff train DATA`: errors on frames it never had, what its training takes, and one step against SNAP."""

import json
from pathlib import Path

import numpy as np
from default_model import REQUIRED

RESULTS = Path(__file__).parent / "results"


def lines():
    """The table, and what training and a step cost."""
    path = RESULTS / "default_model.json"
    if not path.exists():
        return []
    record = json.loads(path.read_text())
    rows = record["rows"]
    found = [
        "| judged by | frames given | parameters | force MAE meV/Å | energy MAE meV/atom | required | training |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for words in dict.fromkeys(row["judged"] for row in rows):
        own = [row for row in rows if row["judged"] == words]
        force, energy = ([row[key] for row in own] for key in ("force_mae_mev_per_ang", "energy_mae_mev_per_atom"))
        limits = REQUIRED.get(words, (None, None))
        pairs = zip(limits, (force, energy), strict=True)
        required = ", ".join(_required(limit, values) for limit, values in pairs if limit) or "-"
        seconds, memory = (max(row[key] for row in own) for key in ("seconds", "peak_mib"))
        found.append(
            f"| {words} | {own[0]['n_given']} | {own[0]['n_trainable']} | {_spread(force, 1)} | {_spread(energy, 2)} | "
            f"{required} | {seconds:.0f} s, {memory:,.0f} MiB |"
        )
    found += [
        "",
        (
            "The model of `qff train DATA` with nothing else said, which holds a fifth of the frames given out again; "
            "several draws: mean, lowest and highest. Training is timed on two cores, from the command to its end; the "
            "first run after an installation also compiles kernels, for about a minute. `benchmarks/default_model.py`"
        ),
    ]
    step = json.loads((RESULTS / "md_step.json").read_text())
    found.append(
        f"\nOne step of molecular dynamics of a lips83 model of {step['n_trainable']} parameters takes "
        f"{step['calculator_ms']:.2f} ms on one core ({step['ase_ms']:.2f} inside ASE). At the same cutoff of "
        f"{step['cutoff_ang']:g} Å, in the same run, LAMMPS takes {step['snap_over_calculator']:.1f} times as long "
        f"with `pair_style snap`, 2J = 6, and {step['pod_over_calculator']:.1f} times with `pair_style pod` of "
        f"{step['pod_coefficients']} coefficients, fitted by `fitpod`; shortest of {step['repeats']} repeats. "
        "`benchmarks/speed/md_step.py`"
    )
    return found


def _spread(values, digits):
    """Mean, and of several values the lowest and the highest."""
    words = f"{np.mean(values):.{digits}f}"
    return words if len(values) == 1 else f"{words} ({min(values):.{digits}f} - {max(values):.{digits}f})"


def _required(limit, values):
    """A limit, and whether the mean keeps it."""
    return f"{limit:g} {'met' if np.mean(values) <= limit else '**missed**'}"
