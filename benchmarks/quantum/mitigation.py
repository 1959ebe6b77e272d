"""How far a measured energy matrix M is from the exact one, by mitigation preset, with and without its known spectrum.

Claim: replacing the eigenvalues of the measured M by the known ones of the readout removes most of the error of an
unmitigated fake device, complements every preset of the runtime's Estimator, and costs no circuit. Errors are root mean
square per entry of M, relative to the norm of the readout; forces inherit them, because they are linear in M.

    python benchmarks/quantum/mitigation.py [--backend fake_torino] [--shots 4096] [--presets none readout zne]
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from qiskit_qff.circuit.ansatz import AnsatzSpec, build_program
from qiskit_qff.circuit.compiled import operator_matrix
from qiskit_qff.circuit.program import BoundProgram
from qiskit_qff.evaluators.backends import build_evaluator
from qiskit_qff.evaluators.strategies.operator import measure_operator
from qiskit_qff.evaluators.strategies.spectrum import known_spectrum

SPECS = {
    "brickwork cz, 4 layers, n=3": AnsatzSpec("brickwork_cz", "z_diagonal", 8, layers=4, n_readouts=6),
    "tree rank one, n=2": AnsatzSpec("ry_tree", "rank_one", 4),
    "tree rank one, n=3": AnsatzSpec("ry_tree", "rank_one", 8),
}


def errors(bound, evaluator):
    """Relative errors of M as measured and with its spectrum, and the seconds it took."""
    exact = operator_matrix(bound.program, bound.theta, bound.weights)
    scale = np.abs(bound.program.weighted_diagonal(bound.weights)).max()
    start = time.perf_counter()
    measured = measure_operator(evaluator, bound)
    projected = measured.with_spectrum(known_spectrum(bound))
    return {
        "measured": float(np.sqrt(np.mean((measured.matrix - exact) ** 2)) / scale),
        "projected": float(np.sqrt(np.mean((projected.matrix - exact) ** 2)) / scale),
        "circuits": measured.cost.circuits,
        "seconds": time.perf_counter() - start,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", default="fake_torino")
    parser.add_argument("--shots", type=int, default=4096)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--presets", nargs="+", default=["none", "readout", "zne", "pec"])
    parser.add_argument("--circuits", nargs="+", default=list(SPECS), choices=list(SPECS))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/mitigation.json"))
    parser.add_argument("--smoke", action="store_true", help="the smallest case, nothing written")
    options = parser.parse_args()
    if options.smoke:
        options.shots, options.seeds, options.presets, options.circuits = 128, 1, ["none"], list(SPECS)[:1]
    rows = []
    for label in options.circuits:
        program = build_program(SPECS[label])
        for backend, preset in [("aer", "none"), *((options.backend, preset) for preset in options.presets)]:
            found = []
            for seed in range(options.seeds):
                rng = np.random.default_rng(seed)
                bound = BoundProgram(program, rng.normal(size=program.n_angles), rng.normal(size=program.n_readouts))
                evaluator = build_evaluator(
                    backend, n_qubits=program.n_qubits, shots=options.shots, mitigation=preset, rng=rng
                )
                found.append(errors(bound, evaluator))
            row = {key: float(np.mean([item[key] for item in found])) for key in found[0]}
            rows.append({"circuit": label, "backend": backend, "mitigation": preset, **row})
            print(
                f"{label:28s} {backend:12s} {preset:8s} measured {row['measured']:.4f}  with known spectrum "
                f"{row['projected']:.4f}  ({row['circuits']:.0f} circuits, {row['seconds']:.1f} s)",
                flush=True,
            )
    if options.smoke:
        return
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"shots": options.shots, "seeds": options.seeds, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
