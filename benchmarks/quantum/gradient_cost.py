"""One full-batch gradient of a loss of energies and forces: circuits, and wall time on Aer, two ways.

    python benchmarks/quantum/gradient_cost.py [--data DIR] [--atoms 83] [--smoke]

Ours: the derivative of the loss with respect to every M_r is one matrix; at most 2^n of its eigenvectors per register
are prepared at two settings of each rotation, whatever the data. ``ParamShiftEstimatorGradient`` of
qiskit-machine-learning differentiates one expectation value at a time: an energy is one for each atom, and a force
needs, by the chain rule, two more for each encoding angle, so that a frame of N atoms takes N (2 (2^n - 1) + 1)
gradients of 2R circuits each.

Circuits are counted for 600 frames of lips83 with forces. Wall time is measured on Aer's EstimatorV2, the same for both
and exact, for the gradient of a batch that both can run: all energies and forces through some atoms of each species.
Both gradients must agree, so it is the same loss.
"""

import argparse
import json
import os
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
from qiskit_aer.primitives import EstimatorV2
from qiskit_machine_learning.gradients import ParamShiftEstimatorGradient

from qiskit_qff import train
from qiskit_qff.circuit.compiled import compile_program
from qiskit_qff.circuit.program import diagonal_observable
from qiskit_qff.encoding.preparation import loader_circuit
from qiskit_qff.encoding.tree import loader_angles, loader_jacobian, tree_layout
from qiskit_qff.evaluators.parameter_shift import shifted_parameters
from qiskit_qff.evaluators.primitive import PrimitiveEvaluator
from qiskit_qff.evaluators.strategies.density import joint_slopes
from qiskit_qff.model.config import parse_config
from qiskit_qff.model.sensitivity import environments
from qiskit_qff.structures.reading import read_frames
from qiskit_qff.training.loss import LossWeights

RESULT = Path(__file__).parents[1] / "results" / "gradient_cost.json"
CONFIG = {
    "data": {"split": "none"},
    "circuit": {"n_qubits": 3, "family": "brickwork_cz", "readout": "z_diagonal", "layers": 3, "n_readouts": 8},
    "optimizer": {"max_iterations": 5, "restarts": 1},
}
N_FRAMES, LIMIT = 600, 20.0


def counts(field, frame, n_frames):
    """Circuits of one gradient, and of the residuals it needs, by either way over all registers."""
    total = dict.fromkeys(("circuits", "limit", "residual_circuits"), 0)
    total |= dict.fromkeys(("param_shift_circuits", "param_shift_residual_circuits"), 0)
    for (number, _), register in field.registers.items():
        program = register.bound_program().program
        rotations, size = len(compile_program(program).gates.rotations), program.n_amplitudes
        atoms = int(np.count_nonzero(frame.numbers == number))
        values = n_frames * atoms * (2 * (size - 1) + 1)
        total["circuits"] += size * 2 * rotations
        total["limit"] += 2**program.n_qubits * 2 * program.n_angles
        total["residual_circuits"] += size * (size + 1) // 2
        total["param_shift_circuits"] += values * 2 * rotations
        total["param_shift_residual_circuits"] += values
    return {"frames": n_frames, "atoms_per_frame": frame.n_atoms, **total}


def batch(field, frame, per_species):
    """Amplitudes of some atoms of each species in a register, dL/dE, and dL/dx of all forces through them."""
    weights, seen, predicted = LossWeights(), environments(field, frame), field.predict(frame)
    by_energy = 2.0 * weights.energy_weight(frame.n_atoms) * (predicted.energy - frame.energy)
    labels = weights.force_labels(frame)
    by_force = 2.0 * weights.force_weights(frame.numbers) * (predicted.forces.ravel() - labels)
    chosen = {}
    for key in field.registers:
        x = seen.amplitudes[key][:per_species]
        # F = -dE/dR, so the loss depends on dE/dx through -dx/dR.
        chosen[key] = x, by_energy, -np.einsum("a,iaj->ij", by_force, seen.slopes(key)[:per_species])
    return chosen


def ours(evaluator, bound, x, by_energy, by_slope):
    """Gradient from the eigenvectors of one matrix: dL = by_energy * sum x^T M x + sum by_slope . 2 M x."""
    matrix = by_energy * x.T @ x + x.T @ by_slope + by_slope.T @ x
    size = bound.program.n_qubits
    (slopes,) = joint_slopes({size: evaluator}, [bound], [matrix])
    return slopes.values, slopes.cost.circuits


@lru_cache
def joined(program):
    """Loader and U as one circuit, the same object every time: the library caches circuits by their structure."""
    return loader_circuit(program.n_amplitudes).compose(program.circuit)


def theirs(gradient, bound, x, by_energy, by_slope):
    """The same from gradients of single expectation values, forces by parameter shift on the encoding angles."""
    program = bound.program
    layout = tree_layout(program.n_amplitudes)
    circuit, angles = joined(program), list(program.circuit.parameters)
    observable = diagonal_observable(program.weighted_diagonal(bound.weights))
    norms = np.sum(x**2, axis=1)
    encoded, jacobian = loader_angles(layout, x), loader_jacobian(layout, x)
    moved = shifted_parameters(encoded, range(layout.n_gates)).reshape(len(x), -1, layout.n_gates)
    # E = |x|^2 e(phi), dE/dx = 2 x e + |x|^2 de/dphi dphi/dx, de/dphi by two shifts of each angle.
    through = norms[:, None] * np.einsum("igj,ij->ig", jacobian, by_slope)
    factors = 0.5 * np.stack([through, -through], axis=2).reshape(len(x), -1)
    total, runs = np.zeros(len(angles)), 0
    for i in range(len(x)):
        inputs = np.vstack([encoded[i], moved[i]])
        scales = np.concatenate([[by_energy * norms[i] + 2.0 * by_slope[i] @ x[i]], factors[i]])
        values = [[*row, *bound.theta] for row in inputs]
        count = len(inputs)
        job = gradient.run([circuit] * count, [observable] * count, values, [angles] * count)
        total += scales @ np.array(job.result().gradients)
        runs += count * 2 * len(angles)
    return total, runs


def timed(function, *arguments):
    start = time.perf_counter()
    value, circuits = function(*arguments)
    return value, circuits, time.perf_counter() - start


def compare_wall_time(field, frame, per_species):
    """Wall time of both on the same batch, all registers."""
    estimator = EstimatorV2()
    evaluator, gradient = PrimitiveEvaluator(estimator), ParamShiftEstimatorGradient(estimator)
    rows = {"ours": [0, 0.0], "theirs": [0, 0.0]}
    difference, scale = 0.0, 0.0
    for key, part in batch(field, frame, per_species).items():
        bound = field.registers[key].bound_program()
        first, circuits, seconds = timed(ours, evaluator, bound, *part)
        rows["ours"][0] += circuits
        rows["ours"][1] += seconds
        second, circuits, seconds = timed(theirs, gradient, bound, *part)
        rows["theirs"][0] += circuits
        rows["theirs"][1] += seconds
        difference = max(difference, float(np.abs(first - second).max()))
        scale = max(scale, float(np.abs(first).max()))
        print(key, {name: (count, round(wall, 2)) for name, (count, wall) in rows.items()}, difference, flush=True)
    return rows, difference / scale


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("QFF_DATA", "../shared/data")))
    parser.add_argument("--atoms", type=int, default=83, help="most atoms of each species in the batch")
    parser.add_argument("--smoke", action="store_true", help="one atom of each species, nothing written")
    options = parser.parse_args()
    path = options.data / "lips83.extxyz.xz"
    if not path.exists():
        print(f"lips83: not in {options.data}, skipped")
        return
    frames = read_frames(path)[:20]
    field = train(frames, parse_config(CONFIG, where="benchmark")).force_field
    frame = frames[0]
    per_species = 1 if options.smoke else options.atoms
    rows, deviation = compare_wall_time(field, frame, per_species)
    atoms = sum(min(per_species, int(np.count_nonzero(frame.numbers == z))) for z in field.species)
    result = {
        "config": CONFIG,
        "full_batch": counts(field, frame, N_FRAMES),
        "wall_time": {
            "atoms": atoms,
            "circuits": rows["ours"][0],
            "seconds": rows["ours"][1],
            "param_shift_circuits": rows["theirs"][0],
            "param_shift_seconds": rows["theirs"][1],
            "ratio": rows["theirs"][1] / rows["ours"][1],
            "limit": LIMIT,
            "largest_relative_difference": deviation,
        },
    }
    print(json.dumps(result, indent=1))
    if not options.smoke:
        RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
