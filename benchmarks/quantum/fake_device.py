"""Forces and energies from a fake device against noiseless ones, with every preset of error mitigation.

    python benchmarks/quantum/fake_device.py [--backend fake_torino] [--shots 4096] [--seeds 3] [--smoke]

Models of 99 parameters, in registers of 2 or 3 qubits, all registers side by side on tiles of the device. Strategy
`operator`: the readout vector of every register in n + 1 settings.

Figures are means over seeds of the device's noise: force MAE and relative energy MAE (its mean over frames taken off)
against the exact prediction of the same model. Claim: <= 50 meV/Å and <= 2 meV/atom with mitigation. The models are
trained with the shot noise of `--trained-for` shots counted as loss. The costly presets run on 2 qubits only.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

from qiskit_qff import train
from qiskit_qff.evaluators.backends import build_evaluator
from qiskit_qff.model.calibrated_operator import Provenance
from qiskit_qff.model.calibration import calibrate
from qiskit_qff.model.config import parse_config
from qiskit_qff.structures.reading import read_frames
from qiskit_qff.structures.shipped import read_shipped

RESULT = Path(__file__).parents[1] / "results" / "fake_device.json"
MODELS = {
    "lips83, 2 qubits": ("lips83", 2),
    "lips83, 3 qubits": ("lips83", 3),
    "limof5, 2 qubits": ("limof5", 2),
    "limof5, 3 qubits": ("limof5", 3),
}
PRESETS = ("none", "readout", "zne", "pec")


def model(label, trained_for, data_dir, budget):
    """Model and test frames."""
    name, n_qubits = MODELS[label]
    loss = {"shots": trained_for}
    if name == "limof5":
        frames = read_shipped()
        order = np.random.default_rng(0).permutation(len(frames))
        frames = [frames[k] for k in order]
        fitted, test, loss["element_weights"] = frames[5:], frames[:5], {"Zn": 0.76}
    else:
        frames = read_frames(data_dir / "lips83.extxyz.xz")
        fitted, test = frames[:200], frames[600:620]
    settings = {"data": {"split": "none"}, "circuit": {"n_qubits": n_qubits}, "max_parameters": budget, "loss": loss}
    return train(fitted, parse_config(settings, where="benchmark")).force_field, test


def measured_model(field, backend, preset, shots, seed):
    """Calibrated model, and the joint circuits that it took."""
    rng = np.random.default_rng(seed)
    return calibrate(
        field,
        evaluator_for=lambda size, count: build_evaluator(
            backend, n_qubits=size, n_registers=count, shots=shots, mitigation=preset, rng=rng
        ),
        provenance=Provenance(backend, shots, preset, "-"),
    )


def deviations(measured, exact, frames):
    """Force MAE in meV/Å and relative energy MAE in meV/atom."""
    found = [measured.predict(frame) for frame in frames]
    forces = np.mean([np.abs(p.forces - e.forces).mean() for p, e in zip(found, exact, strict=True)])
    energies = np.array([(p.energy - e.energy) / f.n_atoms for p, e, f in zip(found, exact, frames, strict=True)])
    return 1e3 * float(forces), 1e3 * float(np.abs(energies - energies.mean()).mean())


def run_model(label, options):
    """Rows of one model, one a preset."""
    field, test = model(label, options.trained_for, options.data, 40 if options.smoke else 99)
    exact = [field.predict(frame) for frame in test]
    truth = np.mean([np.abs(e.forces - f.forces).mean() for e, f in zip(exact, test, strict=True)])
    rows = []
    presets = [p for p in options.presets if p in ("none", "readout") or MODELS[label][1] < 3]
    for backend, preset in [("exact", "none"), *((options.backend, preset) for preset in presets)]:
        start, samples = time.perf_counter(), []
        for seed in range(options.seeds):
            measured, cost = measured_model(field, backend, preset, options.shots, seed)
            samples.append(deviations(measured, exact, test))
        (force, energy), spread = np.mean(samples, axis=0), np.std(samples, axis=0)
        row = {"model": label, "n_trainable": field.n_trainable, "model_force_mae_mev_per_ang": 1e3 * float(truth)}
        row |= {"backend": backend, "mitigation": preset, "seconds": time.perf_counter() - start}
        row["settings"] = {
            "circuits": cost.circuits,
            "force_mae_mev_per_ang": float(force),
            "force_std": float(spread[0]),
            "energy_mae_mev_per_atom": float(energy),
            "energy_std": float(spread[1]),
        }
        print(
            f"{label} {backend} {preset:8s} {force:6.1f} ± {spread[0]:.1f} meV/Å, {energy:.2f} meV/atom, "
            f"{cost.circuits} circuits",
            flush=True,
        )
        rows.append(row)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("QFF_DATA", "../shared/data")))
    parser.add_argument("--backend", default="fake_torino")
    parser.add_argument("--shots", type=int, default=4096)
    parser.add_argument("--trained-for", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--presets", nargs="+", default=list(PRESETS), choices=PRESETS)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--smoke", action="store_true", help="one small model of the shipped set, nothing written")
    options = parser.parse_args()
    if options.smoke:
        options.models, options.seeds, options.presets, options.shots = ["limof5, 2 qubits"], 1, ["none"], 256
    rows = []
    for label in options.models:
        rows += run_model(label, options)
        if not options.smoke:
            content = {
                "backend": options.backend,
                "shots": options.shots,
                "trained_for_shots": options.trained_for,
                "seeds": options.seeds,
                "rows": rows,
            }
            RESULT.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
