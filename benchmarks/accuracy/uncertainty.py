"""How far grades, uncertainties and selections can be trusted.

    python benchmarks/accuracy/uncertainty.py [--data DIR] [--only coverage refits unseen selection] [--smoke]

coverage: the factor is fitted to one part of the held-out frames, coverage is counted on another (lips83), or each half
of the held-out frames is judged with the factor of the other (limof5, the shipped set, drawn evenly from its replicas).
refits: the same for a committee of restarts and one of refits to bootstrap samples of the frames.
unseen: the lips83 model on the 3000 K melts of other Li-P-S compositions, which it has never seen; forces alone,
because their energies have another reference.
selection: li7p3s11_melt, trained on its first frames and some of the next 440: chosen by `qff select`, by grade alone,
at random; errors on the last 100. Sets that are absent are skipped by name; results are written as they come.
"""

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from qiskit_qff import train
from qiskit_qff.model.config import parse_config
from qiskit_qff.model.coverage import Spreads, coverage, cross_checked_coverage, spreads_of
from qiskit_qff.model.extrapolation import Grader
from qiskit_qff.model.metrics import compare_model, measure
from qiskit_qff.model.uncertainty import calibration_factor
from qiskit_qff.structures.reading import read_frames
from qiskit_qff.structures.shipped import read_shipped
from qiskit_qff.training.objective import Objective
from qiskit_qff.training.optimisation import optimise
from qiskit_qff.training.selection import grade_candidates, select
from qiskit_qff.training.statistics import quadratic_statistics
from qiskit_qff.training.trainer import loss_weights
from qiskit_qff.training.warm_start import prepare_from_model

RESULT = Path(__file__).parents[1] / "results" / "uncertainty.json"
ALL = {"data": {"split": "none"}}
SMALL = {
    "descriptor": {"r_cut": 4.0, "n_narrow": 3, "n_broad": 2, "powers": [2], "n_radial": 2, "l_max": 1},
    "optimizer": {"restarts": 2, "max_iterations": 10},
    "max_parameters": 30,
}
MELTS = ("li7p3s11_melt", "li4p2s6_melt")


def read(folder, name):
    path = folder / f"{name}.extxyz.xz"
    if name == "limof5":
        return read_shipped()
    if not path.exists():
        print(f"{name}: {path} is absent, skipped")
        return None
    return read_frames(path)


def judge(found, factor):
    at = {level: int(np.argmin(np.abs(found.nominal - level))) for level in (0.5, 0.683, 0.9, 0.954, 0.99)}
    return {
        "factor": factor,
        "forces": {str(level): float(found.forces[k]) for level, k in at.items()},
        "energies": {str(level): float(found.energies[k]) for level, k in at.items()},
        "rank_correlation": found.force_rank,
        "force_std_mev_per_ang": found.force_std_mev_per_ang,
        "energy_std_mev_per_atom": found.energy_std_mev_per_atom,
    }


def with_factor(field, calibration, judged, members=None):
    """Coverage on some frames with the factor of others."""
    fitted = spreads_around(field, calibration, members)
    factor = calibration_factor(fitted.force_errors, fitted.forces)
    spreads = spreads_around(field, judged, members)
    found = coverage(spreads, factor * spreads.forces, factor * spreads.energies)
    excess = float(np.sqrt(np.mean((spreads.force_errors / (factor * spreads.forces[:, None])) ** 2)))
    return judge(found, factor) | {"rms_error_over_uncertainty": excess, "n_frames": len(judged)}


def grades_of(grader, frames):
    graded = [grader.frame(frame) for frame in frames]
    largest = [grades.values.max() for grades in graded]
    return {
        "frames_outside": float(np.mean([grades.outside.any() for grades in graded])),
        "atoms_outside": float(np.mean([grades.outside.mean() for grades in graded])),
        "largest_grade_median": float(np.median(largest)),
        "largest_grade_min": float(np.min(largest)),
        "largest_grade_max": float(np.max(largest)),
    }


def measure_lips(folder, settings, sizes, parts, seeds):
    """Coverage, refits and melts for models of lips83."""
    frames = read(folder, "lips83")
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
        grader = Grader.of(field.models, r_cut=field.r_cut)
        row = {"seed": seed, "n_train": n_train, "n_calibration": n_calibration, "seconds": trained.seconds}
        row |= {"force_mae_mev_per_ang": measure(compare_model(field, judged)).force_mae_mev_per_ang}
        if "coverage" in parts:
            yield "coverage_lips83", row | with_factor(field, held, judged) | {"grades": grades_of(grader, judged)}
        if "refits" in parts and seed == 0:
            for name, members in refits(trained, rng).items():
                yield "refits_lips83", {"committee": name} | with_factor(field, held, judged, members)
        if "unseen" in parts and seed == 0:
            for name in MELTS:
                if (melt := read(folder, name)) is not None:
                    some = melt[:: max(1, len(melt) // n_test)][:n_test]
                    row = {"set": name} | with_factor(field, held, some) | {"grades": grades_of(grader, some)}
                    yield "unseen", {key: value for key, value in row.items() if "energ" not in key}


def measure_shipped(settings, draws, parts):
    """Coverage for models of the shipped set."""
    frames = read_shipped()
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        own = {"data": {"split": "balanced"}}
        trained = train(frames, parse_config(settings | own, where="benchmark"), rng=rng)
        field, learnt, held = trained.force_field, trained.data.training, trained.data.held_out
        committees = {"draws": None}
        if "refits" in parts and seed == 0:
            committees |= refits(trained, rng)
        for name, members in committees.items():
            spreads = spreads_around(field, held, members)
            factor = calibration_factor(spreads.force_errors, spreads.forces)
            row = judge(cross_checked_coverage(spreads), factor) | {"n_train": len(learnt), "n_test": len(held)}
            if members is not None:
                yield "refits_limof5", {"committee": name} | row
            elif "coverage" in parts:
                grader = Grader.of(field.models, r_cut=field.r_cut)
                yield "coverage_limof5", row | {"seed": seed, "grades": grades_of(grader, held)}


def refits(trained, rng, members=6):
    """Committees that need training, in place of the draws."""
    frames, config = trained.data.training, trained.config
    prepared, _ = prepare_from_model(frames, config, trained.force_field, progress=lambda *_: None)
    objective = prepared.objective
    once = config.model_copy(update={"optimizer": config.optimizer.model_copy(update={"restarts": 1})})
    found = {
        "restarts": [(run.parameters, objective.statistics.references.baseline) for run in trained.result.restarts],
        "bootstrap": [],
    }
    for _ in range(members):
        sample = [frames[k] for k in rng.integers(0, len(frames), len(frames))]
        statistics = quadratic_statistics(
            sample,
            prepared.maps,
            {m.number: [register.n_features for register in m.registers] for m in trained.force_field.models},
            r_cut=config.descriptor.r_cut,
            weights=loss_weights(config),
            progress=lambda *_: None,
        )
        again = Objective(statistics, objective.layout, shots=objective.shots)
        run = optimise(again, once, rng=rng, progress=lambda *_: None)[0]
        found["bootstrap"].append((run.parameters, statistics.references.baseline))
    return {name: [whole(prepared, *row) for row in rows] for name, rows in found.items()}


def whole(prepared, parameters, baseline):
    """The force field of a member."""
    field, shifts = prepared.force_field(parameters), baseline - prepared.objective.statistics.references.baseline
    models = zip(field.models, shifts, strict=True)
    return replace(field, models=tuple(replace(m, reference_energy=m.reference_energy + shift) for m, shift in models))


def spreads_around(field, frames, members=None):
    """The spread of the model's own committee, or that of other models around it, beside the errors."""
    own = compare_model(field, frames)
    if members is None:
        return spreads_of(field, frames, own)
    others = [compare_model(member, frames) for member in members]
    sizes = np.array([frame.n_atoms for frame in frames])
    energies = np.mean([(o.predicted_energies - own.predicted_energies) ** 2 for o in others], axis=0)
    forces = np.mean([((o.predicted_forces - own.predicted_forces) ** 2).mean(axis=1) for o in others], axis=0)
    return Spreads(
        energies=np.sqrt(energies),
        energy_errors=1e-3 * own.energy_errors,
        forces=np.sqrt(forces),
        force_errors=1e-3 * own.force_errors,
        frame_of=np.repeat(np.arange(len(frames)), sizes),
    )


def measure_selection(folder, count, seeds):
    """Errors after adding frames chosen in several ways."""
    frames = read(folder, "li7p3s11_melt")
    if frames is None:
        return
    start, candidates, test = frames[:count], frames[count:450], frames[-100:]
    config = parse_config(ALL, where="benchmark")
    first = train(start, config).force_field
    grader = Grader.of(first.models, r_cut=first.r_cut)
    started = time.perf_counter()
    graded = grade_candidates(grader, candidates, progress=lambda *_: None)
    chosen = {"none": [], "select": [s.candidate.index for s in select(graded, count)]}
    seconds = time.perf_counter() - started
    chosen["grade alone"] = np.argsort([-c.grades.values.max() for c in graded])[:count].tolist()
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        chosen[f"random {seed}"] = rng.choice(len(candidates), count, replace=False).tolist()
    for name, indices in chosen.items():
        field = first
        if indices:
            more = [candidates[k] for k in indices]
            field = train([*start, *more], config).force_field
        metrics = measure(compare_model(field, test))
        yield (
            "selection",
            {
                "added": name,
                "indices": sorted(indices),
                "n_start": count,
                "force_mae_mev_per_ang": metrics.force_mae_mev_per_ang,
                "energy_mae_mev_per_atom": metrics.energy_mae_mev_per_atom,
                "outside_after": grades_of(Grader.of(field.models, r_cut=field.r_cut), test)["frames_outside"],
                "seconds_to_select": seconds,
            },
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("QFF_DATA", "../shared/data")))
    parser.add_argument("--only", nargs="+", default=["coverage", "refits", "unseen", "selection"])
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, nothing written")
    arguments = parser.parse_args()
    parts, smoke = set(arguments.only), arguments.smoke
    settings = SMALL if smoke else {}
    sizes = (4, 3, 3) if smoke else (100, 50, 100)
    found = json.loads(RESULT.read_text()) if RESULT.exists() and not smoke else {}
    for name in [key for key in found if key.split("_")[0] in parts | {"made"}]:
        del found[name]

    def runs():
        if parts & {"coverage", "refits", "unseen"}:
            several = "coverage" in parts and not smoke
            if parts & {"coverage", "refits"}:
                yield from measure_shipped(settings, 3 if several else 1, parts)
            yield from measure_lips(arguments.data, settings, sizes, parts, 2 if several else 1)
        if "selection" in parts and not smoke:
            yield from measure_selection(arguments.data, 10, 3)

    for name, row in runs():
        print(name, json.dumps(row), flush=True)
        if not smoke:
            found.setdefault(name, []).append(row)
            RESULT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
