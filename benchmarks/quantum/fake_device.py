"""Forces of the default models of several materials, measured on a fake device, against DFT and the exact model.

    python benchmarks/quantum/fake_device.py [--backend fake_torino] [--shots 4096 16384] [--seeds 5] [--smoke]

Each model is the one that `qff train DATA` makes with nothing else said; it is judged on frames that the run held out.
All registers are measured side by side on tiles of the device in n + 1 settings, with readout
mitigation; one set also with the other presets, and without noise of the device. Claim: the mean absolute error of
forces against DFT rises by at most 5 %. Noise is the mean absolute deviation from the exact model; z is the root mean
square of deviations in units of the reported standard errors, over all forces of all seeds.
"""

import argparse
import json
import os
from operator import itemgetter
from pathlib import Path

import numpy as np

from qiskit_qff import train
from qiskit_qff.evaluators.backends import evaluators_for
from qiskit_qff.model.calibrated_operator import Provenance
from qiskit_qff.model.calibration import calibrate, calibration_errors
from qiskit_qff.structures.reading import read_frames

RESULT = Path(__file__).parents[1] / "results" / "fake_device.json"
SETS = ("lips83", "limof5", "li6ps5cl", "uio66", "li2tp_xtb")
SHIPPED = {"limof5": "shipped", "li6ps5cl": "li6ps5cl"}
N_FRAMES = {"lips83": 600}
"""How many frames of a set are given to the run; else all."""
N_JUDGED = 20
"""Most held-out frames that are judged."""
COMPARED, PRESETS = "lips83", ("none", "zne", "pec")
"""The set that is measured without the device's noise and with the other presets too, at the lowest number of shots."""


def source(name, folder):
    """What `train` is given; None where the set is absent."""
    if name in SHIPPED:
        return SHIPPED[name]
    path = folder / f"{name}.extxyz.xz"
    return read_frames(path)[: N_FRAMES.get(name)] if path.exists() else None


def mean_error(predictions, references):
    """Mean absolute difference of forces in meV/Å."""
    return 1e3 * float(np.mean(np.abs(np.concatenate(predictions) - np.concatenate(references))))


def measured_row(field, frames, *, backend, preset, shots, seeds):
    """Deviations of a model measured several times."""
    labels, exact = [f.forces for f in frames], [field.predict(f) for f in frames]
    n_atoms = np.array([f.n_atoms for f in frames])
    forces = [p.forces for p in exact]
    found = {"noise_mev_per_ang": [], "rise_percent": [], "energy_noise_mev_per_atom": []}
    scores, own = [], mean_error(forces, labels)
    for seed in range(seeds):
        evaluator_for = evaluators_for(backend, shots=shots, mitigation=preset, rng=np.random.default_rng(seed))
        model, cost = calibrate(
            field, evaluator_for=evaluator_for, provenance=Provenance(backend, shots, preset, "-", seed)
        )
        predicted = [model.predict(f) for f in frames]
        energies = np.array([p.energy - e.energy for p, e in zip(predicted, exact, strict=True)]) / n_atoms
        found["noise_mev_per_ang"].append(mean_error([p.forces for p in predicted], forces))
        found["rise_percent"].append(100 * (mean_error([p.forces for p in predicted], labels) / own - 1))
        found["energy_noise_mev_per_atom"].append(1e3 * float(np.abs(energies - energies.mean()).mean()))
        errors = calibration_errors(model, frames)
        scores += [
            ((p.forces - e.forces) / s.force_std).ravel() for p, e, s in zip(predicted, exact, errors, strict=True)
        ]
    row = {"backend": backend, "mitigation": preset, "shots": shots, "force_mae_mev_per_ang": own}
    row |= {
        key: {"mean": float(np.mean(v)), "std": float(np.std(v, ddof=1)) if seeds > 1 else 0.0}
        for key, v in found.items()
    }
    return row | {
        "z": float(np.sqrt(np.mean(np.concatenate(scores) ** 2))),
        "circuits": cost.circuits,
        "executions": cost.shots,
    }


def cases(name, options):
    """Backend, preset and shots of each row of a set."""
    for shots in options.shots:
        yield options.backend, "readout", shots
    if name == COMPARED:
        yield "exact", "none", options.shots[0]
        for preset in PRESETS:
            yield options.backend, preset, options.shots[0]


def merged(rows):
    """The rows, and those of the record that measured another set, backend, preset or number of shots."""
    kind = itemgetter("set", "backend", "mitigation", "shots")
    known = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else []
    found = {kind(row): row for row in [*known, *rows]}
    return sorted(found.values(), key=lambda row: (SETS.index(row["set"]), row["backend"], row["shots"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("QFF_DATA", "../shared/data")))
    parser.add_argument("--backend", default="fake_torino")
    parser.add_argument("--shots", type=int, nargs="+", default=[4096, 16384])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--smoke", action="store_true", help="the shipped electrolyte once, nothing written")
    options = parser.parse_args()
    if options.smoke:
        options.sets, options.seeds, options.shots = ["li6ps5cl"], 1, [256]
    rows = []
    for name in options.sets:
        given = source(name, options.data)
        if given is None:
            print(f"{name}: not in {options.data}, skipped", flush=True)
            continue
        trained = train(given)
        field, frames = trained.force_field, trained.data.held_out[:N_JUDGED]
        for backend, preset, shots in cases(name, options):
            row = measured_row(field, frames, backend=backend, preset=preset, shots=shots, seeds=options.seeds)
            rows.append({"set": name, "n_trainable": field.n_trainable, "n_judged": len(frames)} | row)
            print(rows[-1], flush=True)
            if not options.smoke:
                RESULT.write_text(json.dumps({"seeds": options.seeds, "rows": merged(rows)}, indent=1) + "\n")


if __name__ == "__main__":
    main()
