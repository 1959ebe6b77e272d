"""Processor time that measuring all energy matrices of a Li-MOF model takes, estimated for a device before it runs.

    python benchmarks/quantum/calibration_cost.py [--backend fake_torino] [--shots 4096] [--smoke]

Claim: a full calibration of the shipped Li-MOF model fits in 10 minutes. Counted are the circuits of the default design
(n + 1 settings a register) and of the full set of pair states, D (D + 1) / 2; nothing is run.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from qiskit_qff import train
from qiskit_qff.evaluators.mitigation import PRESETS
from qiskit_qff.evaluators.timing import TimingModel
from qiskit_qff.model.config import parse_config
from qiskit_qff.model.quantum_cost import quantum_costs
from qiskit_qff.structures.shipped import read_shipped

RESULT = Path(__file__).parents[1] / "results" / "calibration_cost.json"
MODELS = {"99 parameters, registers of 2 qubits": (2, 99), "99 parameters, registers of 3 qubits": (3, 99)}
LIMIT_S = 600.0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="fake_torino")
    parser.add_argument("--shots", type=int, default=4096)
    parser.add_argument("--smoke", action="store_true", help="the small model, no mitigation, nothing written")
    options = parser.parse_args()
    presets = ["none"] if options.smoke else [name for name in PRESETS if name != "pec"]
    rows = []
    for label, (n_qubits, budget) in list(MODELS.items())[: 1 if options.smoke else 2]:
        frames = read_shipped()
        settings = {
            "data": {"split": "none"},
            "circuit": {"n_qubits": n_qubits},
            "max_parameters": 40 if options.smoke else budget,
        }
        field = train(frames, parse_config(settings, where="benchmark")).force_field
        atoms = {number: int(np.sum(frames[0].numbers == number)) for number in field.species}
        sizes = [register.ansatz.n_amplitudes for register in field.registers.values()]
        full = sum(size * (size + 1) // 2 for size in sizes)
        for preset in presets:
            costs = quantum_costs(
                field, atoms, backend=options.backend, n_frames=len(frames), shots=options.shots, mitigation=preset
            )
            (once,) = (c for c in costs if c.strategy == "operator" and c.quantity == "once")
            factor = PRESETS[preset].time_factor
            row = {
                "model": label,
                "mitigation": preset,
                "circuits": once.circuits,
                "shots": once.shots,
                "seconds": once.seconds,
                "two_qubit_depth": once.two_qubit_depth,
                "pair_states": full,
                "seconds_of_all_pairs": TimingModel(mitigation_factor=factor).seconds(
                    shots=full * options.shots, jobs=len(field.registers)
                ),
                "fits": once.seconds <= LIMIT_S,
            }
            rows.append(row)
            print(row, flush=True)
    if not options.smoke:
        RESULT.write_text(
            json.dumps({"backend": options.backend, "shots": options.shots, "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
