"""One full-batch gradient of the default model: executions, and wall time on Aer, two ways.

    python benchmarks/gradient_cost.py [--smoke]

Claim: the gradient of all 99 parameters takes 2 (2^n - 1) + 1 parameter sets in n + 1 settings, whatever the number of
species, atoms and frames: the j-th angle of every register is shifted in the same circuit.
``ParamShiftEstimatorGradient`` of qiskit-machine-learning differentiates one expectation value at a time: an energy is
one for each atom and register, and a force needs, by the chain rule, two more for each encoding angle.

Executions are counted for 600 frames of lips83 with forces. Wall time is measured on Aer's EstimatorV2, the same for
both and exact, for the derivative of the total energy of one frame by all angles; both must agree.
"""

import argparse
import json
import time

import models
import numpy as np
from qiskit_aer.primitives import EstimatorV2
from qiskit_machine_learning.gradients import ParamShiftEstimatorGradient

from qiskit_qff import train
from qiskit_qff.circuit.ansatz import diagonal_observable
from qiskit_qff.encoding.tree import loader_angles, loader_circuit
from qiskit_qff.evaluators.gradient import cost_of_registers, measure_registers
from qiskit_qff.evaluators.primitive import PrimitiveEvaluator
from qiskit_qff.model.config import parse_config

N_FRAMES, MOST_SETS = 600, 15


def ours(field, amplitudes, evaluator):
    """Derivatives of the energy by all angles, and what was executed."""
    bounds = {key: register.bound_program() for key, register in field.registers.items()}
    circuits = [(bound.program, bound.theta) for bound in bounds.values()]
    measured = measure_registers(evaluator, circuits, slopes=True)
    return {
        key: one.slopes(bounds[key].weights[:, None, None] * (amplitudes[key].T @ amplitudes[key]))[0]
        for key, one in zip(bounds, measured, strict=True)
    }, cost_of_registers(evaluator, circuits, slopes=True).circuits


def theirs(field, amplitudes, estimator):
    """The same from the gradient of each atom's expectation value in each register."""
    gradient, found, runs = ParamShiftEstimatorGradient(estimator), {}, 0
    joined = {}  # the library caches circuits by the object
    for key, register in field.registers.items():
        bound, x = register.bound_program(), amplitudes[key]
        program, angles = bound.program, list(bound.program.circuit.parameters)
        layout = program.n_amplitudes
        if program not in joined:
            joined[program] = loader_circuit(program.n_amplitudes).compose(program.circuit)
        observable = diagonal_observable(bound.weights @ program.readouts)
        values = [[*row, *bound.theta] for row in loader_angles(layout, x)]
        count = len(values)
        job = gradient.run([joined[program]] * count, [observable] * count, values, [angles] * count)
        found[key] = np.sum(x**2, axis=1) @ np.array(job.result().gradients)
        runs += count * 2 * len(angles)
    return found, runs


def param_shift_circuits(field, frame):
    """Circuits of the other way for all frames with forces."""
    total = 0
    for (number, _), register in field.registers.items():
        program = register.bound_program().program
        values = int(np.count_nonzero(frame.numbers == number)) * (2 * (program.n_amplitudes - 1) + 1)
        total += N_FRAMES * values * 2 * program.n_angles
    return total


def timed(function, *arguments):
    start = time.perf_counter()
    return *function(*arguments), time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a small model, nothing written")
    options = parser.parse_args()
    found = models.frames_of("lips83")
    if found is None:
        return
    frames = found[0][:20]
    if options.smoke:
        field = train(frames, parse_config({"max_parameters": 14}, where="benchmark")).force_field
    else:
        field = models.model_of("lips83")
    amplitudes, estimator = field.amplitudes(frames[0]), EstimatorV2()
    first, executions, seconds = timed(ours, field, amplitudes, PrimitiveEvaluator(estimator))
    second, runs, other_seconds = timed(theirs, field, amplitudes, estimator)
    scale = max(float(np.abs(values).max()) for values in first.values())
    n_qubits = max(register.n_qubits for register in field.registers.values())
    result = {
        "set": "lips83",
        "n_trainable": field.n_trainable,
        "n_registers": len(field.registers),
        "n_qubits": n_qubits,
        "parameter_sets": executions // (n_qubits + 1),
        "settings": n_qubits + 1,
        "executions": executions,
        "most_parameter_sets": MOST_SETS,
        "full_batch": {"frames": N_FRAMES, "param_shift_circuits": param_shift_circuits(field, frames[0])},
        "energy_of_one_frame": {
            "seconds": seconds,
            "param_shift_circuits": runs,
            "param_shift_seconds": other_seconds,
            "ratio": other_seconds / seconds,
            "largest_relative_difference": max(float(np.abs(first[key] - second[key]).max()) for key in first) / scale,
        },
    }
    print(json.dumps(result, indent=1))
    if not options.smoke:
        models.record("gradient_cost", result, ["lips83"])


if __name__ == "__main__":
    main()
