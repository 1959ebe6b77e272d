"""How far extrapolation grades and uncertainties can be trusted.

    python benchmarks/uncertainty.py [--smoke]

lips83: the factor is fitted to one part of the held-out frames, coverage is counted on another. limof5, the shipped
set, held out evenly from its replicas: each half of the held-out frames is judged with the factor of the other.
Unseen: the lips83 model on the 3000 K melts of other Li-P-S compositions, which it has never seen; forces alone,
because their energies have another reference. Sets that are absent are skipped by name.
"""

import argparse
import itertools
import json
from dataclasses import replace

import models
import numpy as np

from qiskit_qff import train
from qiskit_qff.model.config import parse_config
from qiskit_qff.model.metrics import compare_model, coverage, cross_checked_coverage, deviations_of, measure
from qiskit_qff.structures.dataset import read_frames, read_shipped

ALL = {"data": {"split": "none"}}
SMALL = {
    "descriptor": {"r_cut": 4.0, "n_radial": 2, "l_max": 1},
    "max_parameters": 30,
}
MELTS = ("li7p3s11_melt", "li4p2s6_melt")


def read(name):
    path = models.file_of(name)
    return None if path is None else read_frames(path)


def judge(found, factor):
    at = {level: int(np.argmin(np.abs(found["nominal"] - level))) for level in (0.5, 0.683, 0.9, 0.954, 0.99)}
    return {
        "factor": factor,
        "forces": {str(level): float(found["forces"][k]) for level, k in at.items()},
        "energies": {str(level): float(found["energies"][k]) for level, k in at.items()},
        "rank_correlation": found["force_rank_correlation"],
        "force_std_mev_per_ang": found["force_std_mev_per_ang"],
        "energy_std_mev_per_atom": found["energy_std_mev_per_atom"],
    }


def with_factor(field, calibration, judged):
    """Coverage on some frames with the factor of others."""
    factor = unscaled(field, calibration).factor
    found = unscaled(field, judged)
    found = replace(found, forces=factor * found.forces, energies=factor * found.energies)
    return judge(coverage(found), factor) | {"rms_error_over_uncertainty": found.factor, "n_frames": len(judged)}


def unscaled(field, frames):
    """Uncertainties before scaling beside the errors."""
    bare = replace(field, posterior=replace(field.posterior, factor=1.0))
    return deviations_of(bare.uncertainty(), frames, compare_model(field, frames))


def grades_of(grader, frames):
    graded = [grader.grade(frame) for frame in frames]
    largest = [grades.values.max() for grades in graded]
    return {
        "frames_outside": float(np.mean([grades.outside.any() for grades in graded])),
        "atoms_outside": float(np.mean([grades.outside.mean() for grades in graded])),
        "largest_grade_median": float(np.median(largest)),
        "largest_grade_min": float(np.min(largest)),
        "largest_grade_max": float(np.max(largest)),
    }


def measure_lips(settings, sizes, seeds):
    """Coverage for models of lips83, and of the first of them on melts."""
    frames = read("lips83")
    if frames is None:
        return
    n_train, n_calibration, n_test = sizes
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(frames))
        cut = np.cumsum([n_train, n_calibration, n_test])
        learnt, held, judged = ([frames[k] for k in part] for part in np.split(order[: cut[2]], cut[:2]))
        trained = train(learnt, parse_config(settings | ALL, where="benchmark"), rng=rng)
        field = trained.force_field
        grader = field.uncertainty()
        row = {"seed": seed, "n_train": n_train, "n_calibration": n_calibration, "seconds": trained.seconds}
        row |= {"force_mae_mev_per_ang": measure(compare_model(field, judged)).force_mae_mev_per_ang}
        yield "coverage_lips83", row | with_factor(field, held, judged) | {"grades": grades_of(grader, judged)}
        if seed == 0:
            for name in MELTS:
                if (melt := read(name)) is not None:
                    some = melt[:: max(1, len(melt) // n_test)][:n_test]
                    row = {"set": name} | with_factor(field, held, some) | {"grades": grades_of(grader, some)}
                    yield "unseen", {key: value for key, value in row.items() if "energ" not in key}


def measure_shipped(settings, draws):
    """Coverage for models of the shipped set."""
    frames = read_shipped()
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        own = {"data": {"split": "balanced"}}
        trained = train(frames, parse_config(settings | own, where="benchmark"), rng=rng)
        field, learnt, held = trained.force_field, trained.data.training, trained.data.held_out
        found = unscaled(field, held)
        row = judge(cross_checked_coverage(found), found.factor) | {"n_train": len(learnt), "n_test": len(held)}
        grader = field.uncertainty()
        yield "coverage_limof5", row | {"seed": seed, "grades": grades_of(grader, held)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, nothing written")
    arguments = parser.parse_args()
    smoke, found = arguments.smoke, {}
    settings, sizes = (SMALL, (4, 3, 3)) if smoke else ({}, (100, 50, 100))
    parts = (
        measure_shipped(settings, 1 if smoke else 3),
        measure_lips(settings, sizes, 1 if smoke else 2),
    )
    for name, row in itertools.chain(*parts):
        print(name, json.dumps(row), flush=True)
        found.setdefault(name, []).append(row)
        if not smoke:
            models.record("uncertainty", found)


if __name__ == "__main__":
    main()
