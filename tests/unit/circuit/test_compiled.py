"""Every gate that is compiled, against qiskit.quantum_info; families and derivatives are in the contract of ansätze."""

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector
from qiskit.quantum_info import Operator

from qiskit_qff.circuit.ansatz import (
    CircuitProgram,
    circuit_matrix,
    operator_matrix,
    readout_matrices,
)


def mixed_program():
    """Every gate that the walker knows, with shared, scaled and constant angles."""
    theta = ParameterVector("theta", 3)
    circuit = QuantumCircuit(3)
    circuit.h(0)
    circuit.rx(theta[0], 1)
    circuit.rz(2 * theta[1] + 0.3, 2)
    circuit.cx(2, 0)
    circuit.barrier()
    circuit.ry(theta[0] - theta[2], 0)
    circuit.rzz(theta[2], 0, 2)
    circuit.cz(1, 2)
    circuit.x(1)
    circuit.ry(0.7, 1)
    return CircuitProgram(circuit, np.random.default_rng(5).normal(size=(2, 8)), 8)


def test_matrices_equal_qiskit_operator(rng):
    program = mixed_program()
    theta = rng.uniform(-np.pi, np.pi, program.n_angles)
    unitary = Operator(program.circuit.assign_parameters(theta)).data
    np.testing.assert_allclose(circuit_matrix(program, theta), unitary, atol=1e-12)
    expected = np.einsum("zi,kz,zj->kij", unitary.conj(), program.readouts, unitary).real
    np.testing.assert_allclose(readout_matrices(program, theta), expected, atol=1e-12)
    weights = np.linspace(-1.0, 2.0, program.n_readouts)
    weighted = np.tensordot(weights, expected, axes=1)
    np.testing.assert_allclose(operator_matrix(program, theta, weights), weighted, atol=1e-12)
