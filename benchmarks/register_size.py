"""The same model in registers of 1 to 6 qubits: error, noise on a fake device, two-qubit gates, executions.

    python benchmarks/register_size.py [--backend fake_torino] [--shots 4096] [--seeds 2] [--smoke]

Claim: the size of the registers brings no accuracy; small ones are what makes the model measurable. 99 parameters on
lips83 (200 frames to train on, 20 held out), readout mitigation, all registers side by side on
tiles of the device. Noise is the mean absolute deviation of forces from those of the noiseless model; two-qubit gates
are those of a register's preparation on a line.
"""

import argparse
from functools import partial

import models
import numpy as np
from qiskit.transpiler import CouplingMap, generate_preset_pass_manager

from qiskit_qff import train
from qiskit_qff.encoding.preparation import vector_circuit
from qiskit_qff.evaluators.backends import Settings, build_evaluator
from qiskit_qff.evaluators.measured_operator import Provenance
from qiskit_qff.model.calibration import calibrate
from qiskit_qff.model.config import parse_config
from qiskit_qff.structures.dataset import read_shipped


def two_qubit_gates(n_qubits):
    """Two-qubit gates of a register's preparation on a line of qubits, the fewest of five transpilations."""
    counts = []
    for seed in range(5):
        line = generate_preset_pass_manager(
            3,
            coupling_map=CouplingMap.from_line(n_qubits),
            basis_gates=["rz", "sx", "x", "cz"],
            seed_transpiler=seed,
        )
        counts.append(line.run(vector_circuit(n_qubits)).num_nonlocal_gates())
    return min(counts)


def mean_error(predictions, references):
    """Mean absolute difference of forces in meV/Å."""
    return 1e3 * float(np.mean([np.abs(p - r).mean() for p, r in zip(predictions, references, strict=True)]))


def measured_row(n_qubits, fitted, test, options):
    """Error and noise of a model in registers of one size."""
    settings = {
        "data": {"split": "none"},
        "circuit": {"n_qubits": n_qubits},
        "max_parameters": 30 if options.smoke else 99,
    }
    if options.smoke:
        settings["descriptor"] = {"r_cut": 4.0, "products": 0}
    field = train(fitted, parse_config(settings, where="benchmark")).force_field
    labels, exact = [frame.forces for frame in test], [field.predict(frame).forces for frame in test]
    noises, errors = [], []
    for seed in range(options.seeds):
        settings = Settings(options.backend, options.shots, "readout")
        factory = partial(build_evaluator, settings, rng=np.random.default_rng(seed))
        origin = Provenance(options.backend, options.shots, "readout", "-", seed)
        model, cost = calibrate(field, factory, provenance=origin)
        forces = [model.predict(frame).forces for frame in test]
        noises.append(mean_error(forces, exact))
        errors.append(mean_error(forces, labels))
    return {
        "n_qubits": n_qubits,
        "n_registers": len(field.registers),
        "n_trainable": field.n_trainable,
        "two_qubit_gates": two_qubit_gates(n_qubits),
        "circuits": cost.circuits,
        "executions": cost.shots,
        "force_mae_mev_per_ang": mean_error(exact, labels),
        "noise_mev_per_ang": noises,
        "measured_force_mae_mev_per_ang": errors,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="fake_torino")
    parser.add_argument("--shots", type=int, default=4096)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--qubits", type=int, nargs="+", default=[1, 2, 3, 4, 5, 6])
    parser.add_argument("--smoke", action="store_true", help="pairs of qubits on the shipped set, nothing written")
    options = parser.parse_args()
    if options.smoke:
        options.qubits, options.shots, options.seeds = [2], 256, 1
        frames = read_shipped()
        fitted, test = frames[5:], frames[:5]
    elif (found := models.frames_of("lips83")) is None:
        return
    else:
        fitted, test = found[0][:200], found[1]["last 200"][:20]
    rows = []
    for n_qubits in options.qubits:
        rows.append(measured_row(n_qubits, fitted, test, options))
        print(rows[-1], flush=True)
        if not options.smoke:
            content = {"set": "lips83", "backend": options.backend, "shots": options.shots, "rows": rows}
            models.record("register_size", content)


if __name__ == "__main__":
    main()
