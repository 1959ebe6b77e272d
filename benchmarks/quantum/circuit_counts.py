"""Circuits that a frame takes, counted while it is predicted, for cells of 83, 664 and 5,312 atoms.

    python benchmarks/quantum/circuit_counts.py [--smoke]

Claim: `density` takes at most 2^n circuits per register for the energy of a frame of any size, `operator` none after
its calibration; both give the energy of the exact evaluator. `environment` takes one circuit per atom
and register of its species. The cells are
lips83 (or the shipped Li-MOF in the short form) repeated, with random displacements so that no two atoms are alike.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

from qiskit_qff import train
from qiskit_qff.evaluators.exact import ExactEvaluator
from qiskit_qff.model.config import parse_config
from qiskit_qff.model.measured import predict_measured
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.reading import read_frames, read_shipped

RESULT = Path(__file__).parents[1] / "results" / "circuit_counts.json"


class Counting(ExactEvaluator):
    """Counts what it is asked for."""

    circuits = 0

    def evaluate(self, requests, *, shots=None):
        """Count and answer."""
        Counting.circuits += sum(len(request.parameters) for request in requests)
        return super().evaluate(requests, shots=shots)


def repeated(frame, times, rng):
    """A supercell with every atom displaced by about 0.02 Å."""
    atoms = frame.to_atoms().repeat(times)
    atoms.positions += rng.normal(0.0, 0.02, atoms.positions.shape)
    return Frame.from_atoms(atoms)


def counted(field, frame, strategy):
    """Circuits of the calibration and of the frame, and the energy."""
    Counting.circuits = 0
    predict_measured(field, [], evaluator_for=lambda *_: Counting(), strategy=strategy)
    once = Counting.circuits
    begin = time.perf_counter()
    found = predict_measured(field, [frame], evaluator_for=lambda *_: Counting(), strategy=strategy)
    return once, Counting.circuits - 2 * once, found.frames[0].energy, time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("QFF_DATA", "../shared/data")))
    parser.add_argument("--smoke", action="store_true", help="one repetition of the shipped set, nothing written")
    options = parser.parse_args()
    frames = read_shipped() if options.smoke else read_frames(options.data / "lips83.extxyz.xz")[:60]
    settings = {"data": {"split": "none"}, "max_parameters": 30 if options.smoke else 99}
    field = train(frames[:20], parse_config(settings, where="benchmark")).force_field
    rows = []
    for times in (1,) if options.smoke else (1, 2, 4):
        frame = repeated(frames[0], times, np.random.default_rng(times))
        exact = field.predict(frame).energy
        row = {"n_atoms": frame.n_atoms, "n_registers": len(field.registers), "n_qubits": field.n_qubits}
        own = sum(int(np.sum(frame.numbers == number)) for number, _ in field.registers)
        row["environment"] = {"once": 0, "energy": own}
        for strategy in ("density", "operator"):
            once, each, energy, seconds = counted(field, frame, strategy)
            error = abs(energy - exact) / frame.n_atoms
            row[strategy] = {"once": once, "energy": each, "seconds": seconds, "error_ev_per_atom": error}
            if each > 2**field.n_qubits * len(field.registers) or error > 1e-8:
                raise SystemExit(f"the claim does not hold: {row}")
        print(row, flush=True)
        rows.append(row)
    if not options.smoke:
        RESULT.write_text(json.dumps({"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
