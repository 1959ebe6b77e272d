"""Errors over the number of frames and of parameters: the quantum model and the linear one of the same budget.

    python benchmarks/accuracy/learning_curves.py [--data DIR] [--tests 50] [--smoke]

lips83: trained on frames spread over the first 600, tested on frames spread over the last 200, one seed, one restart.
Frames vary at 99 parameters, parameters at 60 frames. The linear model spends its whole budget on selected channels.
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np

from qiskit_qff.cli.baseline_run import fit_rows, quantum_row
from qiskit_qff.model.config import parse_config
from qiskit_qff.structures.reading import read_frames
from qiskit_qff.structures.shipped import read_shipped
from qiskit_qff.training.baselines.suite import gather
from qiskit_qff.training.trainer import train

RESULTS = Path(__file__).parents[1] / "results"
FRAMES, PARAMETERS = (10, 20, 40, 60, 120, 240), (12, 24, 36, 48, 72, 99)
TINY = {"r_cut": 3.5, "n_narrow": 4, "n_broad": 2, "powers": [2, 6], "n_radial": 2, "l_max": 1}


def silent(*_):
    """Report nothing."""


def point(frames, test, settings):
    """Errors of both models."""
    config = parse_config({"optimizer": {"restarts": 1, "max_iterations": 150}} | settings, where="learning curve")
    result = train(frames, config, rng=np.random.default_rng(0))
    maps = {model.number: model.compression for model in result.force_field.models}
    data = gather(frames, config, maps=maps, progress=silent)
    rows = [quantum_row(result.force_field, test), *fit_rows("linear_selected", data, test, seed=0, progress=silent)]
    found = {
        "n_train": len(frames),
        "max_parameters": config.max_parameters,
        "loss": result.loss,
        "bound": result.bound,
    }
    for row in rows:
        found[row.name] = {
            "n_trainable": row.ledger["n_trainable"],
            "force_mae_mev_per_ang": row.metrics.force_mae_mev_per_ang,
            "energy_mae_mev_per_atom": row.metrics.energy_mae_mev_per_atom,
        }
    print(json.dumps(found), flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("QFF_DATA", "../shared/data")))
    parser.add_argument("--tests", type=int, default=50)
    parser.add_argument("--smoke", action="store_true", help="one point of the shipped set, nothing written")
    arguments = parser.parse_args()
    if arguments.smoke:
        shipped = read_shipped()
        point(shipped[:4], shipped[4:6], {"descriptor": TINY, "max_parameters": 40})
        return
    path = arguments.data / "lips83.extxyz.xz"
    if not path.exists():
        print(f"lips83: not in {arguments.data}, skipped")
        return
    frames = read_frames(path)
    test = [frames[k] for k in np.linspace(600, 799, arguments.tests).round().astype(int)]

    def spread(count):
        return [frames[k] for k in np.linspace(0, 599, count).round().astype(int)]

    result = {"set": "lips83", "n_test": len(test), "seeds": 1}
    result["parameters"] = [point(spread(60), test, {"max_parameters": limit}) for limit in PARAMETERS]
    result["frames"] = [point(spread(count), test, {}) for count in FRAMES]
    (RESULTS / "learning_curves.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
