"""The exact compiled path against Qiskit simulators that run one circuit per atom and register.

    python benchmarks/speed/against_circuits.py [--data DIR] [--model model.json] [--repeats 5] [--smoke]

One frame of lips83, 83 atoms, one thread, processor time, medians of runs in turns.

`energies`: from given amplitudes x to the energy of the frame. Theirs: one bound circuit (loader, ansatz) and one
observable per atom and register, all in one job of qiskit's `StatevectorEstimator` or Aer's `EstimatorV2` (exact,
precision 0), and the same with one parametrised circuit for all atoms in a register. Ours: the quadratic forms x^T M x.

Energies agree to 1e-8, or the script fails.
"""
# ruff: noqa: E402

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

# One thread for everybody; before anything that starts threads is imported.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np
from qiskit.primitives import StatevectorEstimator
from qiskit_aer.primitives import EstimatorV2

from qiskit_qff import train
from qiskit_qff.circuit.ansatz import diagonal_observable
from qiskit_qff.encoding.tree import loader_angles, loader_circuit
from qiskit_qff.model.config import TrainConfig
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.structures.reading import read_frames, read_shipped

RESULTS = Path(__file__).parents[1] / "results"
MAX_DIFFERENCE = 1e-8


class Circuits:
    """What a circuit-by-circuit evaluation of one frame needs, prepared outside of the clock."""

    def __init__(self, field, frame):
        self.constant = sum(field.reference_energies[int(z)] for z in frame.numbers)
        self.parts = []
        for key, amplitudes in field.amplitudes(frame).items():
            bound = field.registers[key].bound_program()
            layout = bound.program.n_amplitudes
            loader = loader_circuit(bound.program.n_amplitudes)
            ansatz = bound.program.circuit
            circuit = loader.compose(ansatz.assign_parameters(dict(zip(ansatz.parameters, bound.theta, strict=True))))
            observable = diagonal_observable(bound.weights @ bound.program.readouts)
            angles, squares = loader_angles(layout, amplitudes), (amplitudes**2).sum(axis=1)
            order = [list(loader.parameters).index(parameter) for parameter in circuit.parameters]
            self.parts.append((circuit, observable, angles[:, order], squares))

    def one_by_one(self, estimator):
        """Energy from one bound circuit per atom and register, in one job."""
        pubs = [
            (circuit.assign_parameters(row), observable)
            for circuit, observable, angles, _ in self.parts
            for row in angles
        ]
        values = [float(result.data.evs) for result in estimator.run(pubs, precision=0.0).result()]
        return self.constant + np.concatenate([part[3] for part in self.parts]) @ values

    def broadcast(self, estimator):
        """Energy from one parametrised circuit per register."""
        pubs = [(circuit, observable, angles) for circuit, observable, angles, _ in self.parts]
        results = estimator.run(pubs, precision=0.0).result()
        return self.constant + sum(part[3] @ result.data.evs for part, result in zip(self.parts, results, strict=True))


def in_turns(works, repeats):
    """Median milliseconds of each; works that take no time run often."""
    counts, times = {}, {name: [] for name in works}
    for name, work in works.items():
        begin = time.process_time()
        work()
        counts[name] = max(1, int(0.02 / max(1e-6, time.process_time() - begin)))
    for _ in range(repeats):
        for name, work in works.items():
            begin = time.process_time()
            for _ in range(counts[name]):
                work()
            times[name].append(1e3 * (time.process_time() - begin) / counts[name])
    return {name: statistics.median(values) for name, values in times.items()}


def check(values, expected, what):
    difference = float(np.abs(np.asarray(values) - expected).max())
    if not difference < MAX_DIFFERENCE:
        raise SystemExit(f"{what} differ by {difference} eV")
    return difference


def matrices_of(field):
    """M of every register."""
    return {key: register.operator_matrix() for key, register in field.registers.items()}


def energies(field, frame, repeats):
    circuits, aer = Circuits(field, frame), EstimatorV2(options={"default_precision": 0.0})
    amplitudes, matrices = field.amplitudes(frame), matrices_of(field)

    def compiled():
        forms = sum(float(((x @ matrices[key]) * x).sum()) for key, x in amplitudes.items())
        return circuits.constant + forms

    works = {
        "compiled": compiled,
        "statevector_one_circuit_per_atom": lambda: circuits.one_by_one(StatevectorEstimator()),
        "aer_one_circuit_per_atom": lambda: circuits.one_by_one(aer),
        "statevector_broadcast": lambda: circuits.broadcast(StatevectorEstimator()),
        "aer_broadcast": lambda: circuits.broadcast(aer),
    }
    found = [work() for work in works.values()]
    difference = check(found, field.predict(frame).energy, "energies")  # no atoms are in reach of the repulsion
    return {"largest_difference_ev": difference, **summary(in_turns(works, repeats))}


def summary(medians):
    slower = {name: value / medians["compiled"] for name, value in medians.items() if name != "compiled"}
    return {"ms": medians, "times_slower_than_compiled": slower}


def measure(field, frame, repeats):
    return {
        "n_atoms": frame.n_atoms,
        "n_qubits": field.n_qubits,
        "repeats": repeats,
        "energies": energies(field, frame, repeats),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, shared with other jobs",
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("QFF_DATA", "../shared/data")))
    parser.add_argument("--model", type=Path, help="default: what qff train makes of the first 600 frames")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--smoke", action="store_true", help="the shipped set once, nothing written")
    arguments = parser.parse_args()
    frames = read_shipped() if arguments.smoke else read_frames(arguments.data / "lips83.extxyz.xz")
    if arguments.model:
        field = ForceField.load(arguments.model)
    else:
        config = TrainConfig(max_parameters=40) if arguments.smoke else None
        field = train(frames[: 10 if arguments.smoke else 600], config).force_field
    result = measure(field, frames[0], 1 if arguments.smoke else arguments.repeats)
    print(json.dumps(result, indent=1))
    if not arguments.smoke:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "against_circuits.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
