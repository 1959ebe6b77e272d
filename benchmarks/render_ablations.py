"""The part of the results on variants of the model."""

import numpy as np
from render_accuracy import ENERGY, FORCE, SCRIPT, entries, read, spread

SCOPE = (
    "Mean over seeds (other frames, other random starts), one restart: differences of a few % mean nothing. Loss on "
    "the training frames, of the circuit and of the best symmetric matrices on its features (the bound); those "
    f"with other labels are not comparable. {SCRIPT}"
)


def sections():
    """The table of RESULTS.md."""
    groups = {}
    for entry in entries("ablations").values():
        groups.setdefault(entry["variant"], []).append(entry)
    if not groups:
        return []
    first = next(iter(groups.values()))[0]
    numbers = f"{read('ablations')['set']}, {first['n_train']} frames fitted to, {first['n_test']} held out."
    lines = ["## Ablations", "", f"{numbers} {SCOPE}", ""]
    lines += [
        "| variant | parameters | seeds | force MAE meV/Å | energy MAE meV/atom | loss | bound |",
        "|---" * 7 + "|",
    ]
    for rows in groups.values():
        force, energy = ([row[key] for row in rows] for key in (FORCE, ENERGY))
        losses = [f"{np.mean([row[key] for row in rows]):.3g}" for key in ("loss", "bound")]
        lines.append(
            f"| {rows[0]['words']} | {max(row['n_trainable'] for row in rows)} | {len(rows)} | {spread(force, 1)} | "
            f"{spread(energy, 2)} | {' | '.join(losses)} |"
        )
    return [*lines, ""]
