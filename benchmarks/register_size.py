"""The same data in registers of 1 to 6 qubits: error, noise on a fake device, depth, executions.

    python benchmarks/register_size.py [--backend fake_kingston] [--shots 4096] [--repeats 5] [--smoke]

Claim: the size of the registers brings no accuracy; small ones are what makes the model measurable. Models of at most
99 parameters of the shipped Li6PS5Cl, made as `qff train li6ps5cl` does but for the size of registers, judged on at
most 20 of the frames that they hold out; readout mitigation, all registers side by side on tiles of the device. Noise
is the mean absolute deviation of forces from those of the noiseless model; two-qubit gates are those of a register's
preparation on a line, and the depth is that of the deepest circuit on the device.
"""

import argparse

import models
from fake_device import N_JUDGED, measured_row
from qiskit.transpiler import CouplingMap, generate_preset_pass_manager

from qiskit_qff import train
from qiskit_qff.encoding.preparation import vector_circuit
from qiskit_qff.evaluators.backends import Settings
from qiskit_qff.model.calibration import estimate
from qiskit_qff.model.config import parse_config
from qiskit_qff.structures.dataset import read_shipped

SET = "li6ps5cl"


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


def row_of(n_qubits, options):
    """Error and noise of a model in registers of one size."""
    settings = {"circuit": {"n_qubits": n_qubits}}
    if options.smoke:
        settings |= {"max_parameters": 30, "descriptor": {"r_cut": 4.0, "products": 0}}
    frames = read_shipped(SET)[:: 5 if options.smoke else 1]
    trained = train(frames, parse_config(settings, where="benchmark"))
    field = trained.force_field
    counts, _ = estimate(field, Settings(options.backend, options.shots, "readout"))
    row = measured_row(
        field,
        trained.data.held_out[:N_JUDGED],
        backend=options.backend,
        preset="readout",
        shots=options.shots,
        repeats=options.repeats,
    )
    own, rise = row["force_mae_mev_per_ang"], row["rise_percent"]
    measured = {"mean": own * (1 + rise["mean"] / 100), "std": own * rise["std"] / 100}
    return {
        "n_qubits": n_qubits,
        "n_registers": len(field.registers),
        "n_trainable": field.n_trainable,
        "two_qubit_gates": two_qubit_gates(n_qubits),
        "two_qubit_depth": counts["two_qubit_depth"],
        **row,
        "measured_force_mae_mev_per_ang": measured,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="fake_kingston")
    parser.add_argument("--shots", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--qubits", type=int, nargs="+", default=[1, 2, 3, 4, 5, 6])
    parser.add_argument("--smoke", action="store_true", help="pairs of qubits, a small model, nothing written")
    options = parser.parse_args()
    if options.smoke:
        options.qubits, options.shots, options.repeats = [2], 256, 1
    rows = []
    for n_qubits in options.qubits:
        rows.append(row_of(n_qubits, options))
        print(rows[-1], flush=True)
        if not options.smoke:
            content = {"set": SET, "backend": options.backend, "shots": options.shots, "repeats": options.repeats}
            models.record("register_size", content | {"rows": rows})


if __name__ == "__main__":
    main()
