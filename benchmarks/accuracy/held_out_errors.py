"""Energy and force errors on frames that training never saw, over several splits.

    python benchmarks/accuracy/held_out_errors.py [--data DIR] [--sets lips83 uio66 limof5] [--smoke]

Splits: lips83 (already shuffled) frames 0-599 against 600-799, then four random 600/200 splits; uio66 every frame
left out once in groups of five, for five random groupings (15 splits); limof5, the shipped set, 20 % of the frames,
evenly from its replicas, a frame and its rattled copies on one side, five draws. One configuration per set, written
into the result. Sets that are absent are skipped by name.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

from qiskit_qff.model.config import DataConfig, parse_config
from qiskit_qff.report.metrics import compare, measure
from qiskit_qff.structures.reading import read_frames
from qiskit_qff.structures.shipped import read_shipped
from qiskit_qff.training.holdout import hold_out
from qiskit_qff.training.trainer import train

RESULTS = Path(__file__).parents[1] / "results"
CONFIGS = {"lips83": {}, "uio66": {}, "limof5": {}}
LIMITS = {"lips83": (100.0, 1.7), "uio66": (110.0, 3.0), "limof5": (220.0, 6.0)}


def load(name, folder):
    if name == "limof5":
        return read_shipped()
    path = folder / f"{name}.extxyz.xz"
    return read_frames(path) if path.exists() else None


def splits(name, frames, count):
    """Pairs of index lists (train, test)."""
    everything = np.arange(len(frames))
    if name == "lips83":
        yield everything[:600], everything[600:]
        for seed in range(1, count):
            order = np.random.default_rng(seed).permutation(len(frames))
            yield np.sort(order[:600]), np.sort(order[600:])
    elif name == "uio66":
        for seed in range(count):
            order = np.random.default_rng(seed).permutation(len(frames))
            for part in np.array_split(order, 3):
                yield np.setdiff1d(everything, part), part
    else:
        for seed in range(count):
            split = hold_out(frames, DataConfig(split="balanced"), rng=np.random.default_rng(seed))
            yield split.train, split.test


def evaluate_split(frames, train_index, test_index, config, seed):
    started = time.perf_counter()
    result = train([frames[i] for i in train_index], config, rng=np.random.default_rng(seed))
    seconds = time.perf_counter() - started
    test = [frames[i] for i in test_index]
    predictions = [result.force_field.predict(f) for f in test]
    metrics = measure(compare(test, energies=[p.energy for p in predictions], forces=[p.forces for p in predictions]))
    mean = np.concatenate([(f.forces - f.forces.mean(axis=0)).ravel() for f in test])
    return {
        "n_train": len(train_index),
        "n_test": len(test_index),
        "n_trainable": result.force_field.n_trainable,
        "energy_mae_mev_per_atom": metrics.energy_mae_mev_per_atom,
        "energy_rmse_mev_per_atom": metrics.energy_rmse_mev_per_atom,
        "force_mae_mev_per_ang": metrics.force_mae_mev_per_ang,
        "force_rmse_mev_per_ang": metrics.force_rmse_mev_per_ang,
        "force_mae_of_predicting_zero": float(1e3 * np.abs(mean).mean()),
        "loss": result.loss,
        "linear_loss": result.linear_loss,
        "bound": result.bound,
        "seconds": seconds,
    }


def summarise(rows):
    keys = ("energy_mae_mev_per_atom", "energy_rmse_mev_per_atom", "force_mae_mev_per_ang", "force_rmse_mev_per_ang")
    return {k: {"mean": float(np.mean([r[k] for r in rows])), "std": float(np.std([r[k] for r in rows]))} for k in keys}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("QFF_DATA", "../shared/data")))
    parser.add_argument("--sets", nargs="+", default=list(CONFIGS), choices=list(CONFIGS))
    parser.add_argument("--smoke", action="store_true", help="one split of the shipped set, nothing written")
    arguments = parser.parse_args()
    for name in ["limof5"] if arguments.smoke else arguments.sets:
        frames = load(name, arguments.data)
        if frames is None:
            print(f"{name}: not in {arguments.data}, skipped")
            continue
        config = parse_config(CONFIGS[name], where=name)
        rows = []
        for k, (train_index, test_index) in enumerate(splits(name, frames, 5)):
            rows.append(evaluate_split(frames, train_index, test_index, config, seed=k))
            print(
                f"{name} split {k}: {rows[-1]['force_mae_mev_per_ang']:.1f} meV/Å, "
                f"{rows[-1]['energy_mae_mev_per_atom']:.2f} meV/atom, {rows[-1]['seconds']:.0f} s",
                flush=True,
            )
            if arguments.smoke:
                return
        result = {"set": name, "config": config.model_dump(mode="json", exclude={"data"}), "limits": LIMITS[name]}
        result |= {"summary": summarise(rows), "splits": rows}
        (RESULTS / f"held_out_errors_{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        print(name, json.dumps(result["summary"]))


if __name__ == "__main__":
    main()
