"""The textbook circuit, as a check that is independent of how the package measures: a state is loaded, U and read."""

import numpy as np

from qiskit_qff.circuit.ansatz import MeasurementTask, gates_of, untied_circuit
from qiskit_qff.encoding.tree import loader_angles, loader_circuit
from qiskit_qff.evaluators.protocol import Request


def loaded(program, states, theta) -> Request:
    """Readouts of a program in states of any norm, shape ``(batch, 2**n)``."""
    circuit = loader_circuit(program.n_amplitudes).compose(untied_circuit(program.circuit, name="rotation"))
    rotations = gates_of(program).rotation_angles(theta)
    angles = loader_angles(program.n_amplitudes, states)
    parameters = np.hstack([angles, np.broadcast_to(rotations, (len(states), len(rotations)))])
    return Request(MeasurementTask(circuit, program.readouts), parameters)
