"""The quantum model and every baseline of `qff baseline`, on the same splits of every data set.

    python benchmarks/accuracy/compare.py [--data DIR] [--sets ...] [--splits N] [--smoke]

Splits, fixed before anything was fitted: lips83 (already shuffled) frames 0-599 against 600-799; uio66 in random groups
of five, each left out once; limof5, the shipped set, 20 % of the frames, evenly from its replicas, near copies on one
side; li7p3s11_melt the first 450 frames against the last 100 of 600; li4p2s6_melt and lgps50 the first 80 % against the
last 20 %. `--splits` bounds how many of several groupings or draws are run (2 by default, to be cheap). The default
configuration throughout; all models see the same frames, cutoff and loss. Sets that are absent are skipped by name.
"""

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from qiskit_qff.cli.baseline_run import NAMES, fit_rows, quantum_row
from qiskit_qff.errors import MissingDependencyError
from qiskit_qff.model.config import DataConfig, parse_config
from qiskit_qff.structures.reading import read_frames
from qiskit_qff.structures.shipped import read_shipped
from qiskit_qff.training.baselines.suite import gather
from qiskit_qff.training.holdout import hold_out
from qiskit_qff.training.objective import Objective
from qiskit_qff.training.trainer import fit, prepare

RESULTS = Path(__file__).parents[1] / "results"
TARGETS = {
    "uio66": (90.0, 1.5),
    "limof5": (150.0, 3.0),
    "lips83": (85.0, 1.3),
    "li7p3s11_melt": (230.0, 8.0),
    "li4p2s6_melt": None,
    "lgps50": (110.0, 5.0),
}
BLOCKS = {"lips83": (600, 200), "li7p3s11_melt": (450, 100)}
QUANTUM = "quantum model, as trained by default: shot noise of 40,000 shots a state counts as loss"
NOISELESS = "quantum model, trained without regard to shot noise"
ERRORS = ("energy_mae_mev_per_atom", "energy_rmse_mev_per_atom", "force_mae_mev_per_ang", "force_rmse_mev_per_ang")


def load(name, folder):
    if name == "limof5":
        return read_shipped()
    path = folder / f"{name}.extxyz.xz"
    return read_frames(path) if path.exists() else None


def splits(name, frames):
    """Pairs of index lists (train, test)."""
    everything = np.arange(len(frames))
    if name == "uio66":
        for seed in range(5):
            for part in np.array_split(np.random.default_rng(seed).permutation(len(frames)), 3):
                yield np.setdiff1d(everything, part), np.sort(part)
    elif name == "limof5":
        for seed in range(5):
            split = hold_out(frames, DataConfig(split="balanced"), rng=np.random.default_rng(seed))
            yield split.train, split.test
    else:
        train_count, test_count = BLOCKS.get(name, (len(frames) * 4 // 5, len(frames) - len(frames) * 4 // 5))
        yield everything[:train_count], everything[-test_count:]


def record(row):
    metrics = row.metrics.to_dict()
    species = {
        symbol: {
            "force_mae_mev_per_ang": e["force_mae_mev_per_ang"],
            "force_rmse_mev_per_ang": e["force_rmse_mev_per_ang"],
        }
        for symbol, e in metrics["species"].items()
    }
    numbers = {key: metrics[key] for key in ERRORS}
    return {"words": row.words, "n_trainable": row.ledger["n_trainable"], **numbers, "species": species}


def run_split(frames, train_index, test_index, config, names, seed):
    """Errors of all models by name."""
    fitted, test = [frames[i] for i in train_index], [frames[i] for i in test_index]
    begin = time.perf_counter()
    prepared, rows = prepare(fitted, config), {}
    statistics, layout = prepared.objective.statistics, prepared.objective.layout
    noiseless = replace(prepared, objective=Objective(statistics, layout))
    for name, words, training in (("quantum", QUANTUM, prepared), ("quantum_noiseless", NOISELESS, noiseless)):
        result = fit(training, rng=np.random.default_rng(seed))
        rows[name] = record(quantum_row(result.force_field, test)) | {"words": words}
        rows[name] |= {"loss": result.loss, "linear_loss": result.linear_loss, "bound": result.bound}
        rows[name] |= {"seconds": time.perf_counter() - begin, "features": sizes(result.force_field)}
    maps = {model.number: model.compression for model in result.force_field.models}
    data = gather(fitted, config, maps=maps, progress=lambda *_: None)
    for name in names:
        try:
            found = fit_rows(name, data, test, seed=seed, progress=lambda *_: None)
        except MissingDependencyError as error:
            print(f"{name}: skipped: {error}")
            continue
        rows |= {row.name: record(row) | {"seconds": row.seconds, "within_limit": row.comparable} for row in found}
    return {"n_train": len(fitted), "n_test": len(test), "models": rows}


def sizes(field):
    """Features of each species."""
    return {chemical_symbols[model.number]: model.compression.n_features for model in field.models}


def summarise(runs):
    """Mean over splits of every error of every model, and the best baseline within the limit."""
    models = {}
    for name, first in runs[0]["models"].items():
        models[name] = {"words": first["words"], "n_trainable": max(r["models"][name]["n_trainable"] for r in runs)}
        models[name] |= {key: float(np.mean([r["models"][name][key] for r in runs])) for key in ERRORS}
        models[name]["within_limit"] = all(r["models"][name].get("within_limit", True) for r in runs)
    fair = [name for name, m in models.items() if not name.startswith("quantum") and m["within_limit"]]
    best = min(fair, key=lambda name: models[name]["force_mae_mev_per_ang"])
    ratios = {key: models["quantum"][key] / models[best][key] for key in ERRORS}
    return {"models": models, "best_baseline": best, "quantum_over_best": ratios}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("QFF_DATA", "../shared/data")))
    parser.add_argument("--sets", nargs="+", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--splits", type=int, default=2, help="most splits of one set")
    parser.add_argument("--smoke", action="store_true", help="a tiny pool on the shipped set, nothing written")
    arguments = parser.parse_args()
    settings, names = {}, NAMES
    if arguments.smoke:
        settings = {
            "descriptor": {"r_cut": 3.5, "n_narrow": 4, "n_broad": 2, "powers": [2, 6], "n_radial": 2, "l_max": 1}
        }
        settings |= {"compression": {"selection_frames": 6}, "optimizer": {"restarts": 1, "max_iterations": 20}}
        names = [name for name in NAMES if name != "mlp"]
    for name in ["limof5"] if arguments.smoke else arguments.sets:
        frames = load(name, arguments.data)
        if frames is None:
            print(f"{name}: not in {arguments.data}, skipped")
            continue
        config, runs = parse_config(settings, where=name), []
        for k, (train_index, test_index) in enumerate(splits(name, frames)):
            if k == (1 if arguments.smoke else arguments.splits):
                break
            runs.append(run_split(frames, train_index, test_index, config, names, seed=k))
            for model, row in runs[-1]["models"].items():
                print(
                    f"{name} split {k} {model}: {row['n_trainable']} parameters, {row['force_mae_mev_per_ang']:.1f} "
                    f"meV/Å, {row['energy_mae_mev_per_atom']:.2f} meV/atom, {row['seconds']:.0f} s",
                    flush=True,
                )
        if arguments.smoke:
            return
        result = {"set": name, "n_frames": len(frames), "target": TARGETS[name], "seeds": len(runs)}
        result |= {
            "config": config.model_dump(mode="json", exclude={"data"}),
            "summary": summarise(runs),
            "splits": runs,
        }
        (RESULTS / f"compare_{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        print(name, json.dumps(result["summary"]["quantum_over_best"]), flush=True)


if __name__ == "__main__":
    main()
