r"""The circuits that measure M where the readout is not of rank one: preparation of pair states and U joined.

Every rotation of U gets a parameter of its own (``rotation[r]``), whatever the program's θ are, so that the
two-term parameter shift holds for each of them; the angles follow as :math:`A\theta + b`. One circuit prepares the
states :math:`(|j\rangle + |k\rangle)/\sqrt 2` of one difference mask :math:`j \oplus k`, and all basis states: one RY
per qubit (``beta``) and a chain of CNOT gates over the qubits of the mask, one fewer than it has.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector

from qiskit_qff.array_types import FloatArray
from qiskit_qff.circuit.ansatz import CircuitProgram, MeasurementTask
from qiskit_qff.circuit.compiled import gates_of, untied_circuit


@lru_cache(maxsize=1024)
def pair_task(program: CircuitProgram, mask: int) -> MeasurementTask:
    """Task for basis states and pair states of one difference mask; parameters ``beta``, then ``rotation``."""
    circuit = QuantumCircuit(program.n_qubits, name=f"pair_{mask}")
    for qubit, angle in enumerate(ParameterVector("beta", program.n_qubits)):
        circuit.ry(angle, qubit)
    for control, target in pairwise(_bits(mask)):
        circuit.cx(control, target)
    return _join(circuit, program)


def with_rotations(program: CircuitProgram, preparation: FloatArray, theta: FloatArray) -> FloatArray:
    """Preparation parameters followed by the rotation angles of U, shape ``(batch, n_parameters)``."""
    rotations = gates_of(program).rotation_angles(theta)
    return np.hstack([preparation, np.broadcast_to(rotations, (len(preparation), len(rotations)))])


def pair_angles(n_qubits: int, first: int, mask: int) -> FloatArray:
    r"""Angles ``beta`` of :math:`(|j\rangle + |j \oplus mask\rangle)/\sqrt 2`, or of the basis state if mask is 0."""
    bits = np.array([first >> qubit & 1 for qubit in range(n_qubits)], dtype=float)
    qubits = _bits(mask)
    # The CNOT chain adds to each qubit of the mask what its predecessor holds at the end: take it off beforehand.
    for control, target in zip(qubits[-2::-1], qubits[:0:-1], strict=True):
        bits[target] = (bits[target] + bits[control]) % 2
    angles = np.pi * bits
    if qubits:
        angles[qubits[0]] = np.pi / 2
    return np.asarray(angles)


def _join(preparation: QuantumCircuit, program: CircuitProgram) -> MeasurementTask:
    """Preparation followed by U; Qiskit sorts parameters by name, so the preparation's come first."""
    circuit = preparation.compose(untied_circuit(program.circuit, name="rotation"))
    return MeasurementTask(circuit, program.readouts)


def _bits(mask: int) -> list[int]:
    """Qubits of a mask, ascending."""
    return [qubit for qubit in range(mask.bit_length()) if mask >> qubit & 1]
