"""The compiled matrices against qiskit.quantum_info; their derivatives are in the contract of ansatz families."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector
from qiskit.quantum_info import Operator

from qiskit_qff.circuit.ansatz import (
    AnsatzSpec,
    CircuitProgram,
    build_program,
    circuit_matrix,
    operator_matrix,
    readout_matrices,
)

SPECS = [
    AnsatzSpec("ry_tree", "rank_one", 8),
    AnsatzSpec("ry_tree", "rank_one", 11),
    AnsatzSpec("brickwork_cz", "z_diagonal", 8, layers=3, n_readouts=6),
    AnsatzSpec("brickwork_rzz", "z_diagonal", 5, layers=2, n_readouts=4),
    AnsatzSpec("brickwork_rzz", "rank_one", 4, layers=2),
]


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


PROGRAMS = [build_program(spec) for spec in SPECS] + [mixed_program()]


def random_angles(program, seed):
    return np.random.default_rng(seed).uniform(-np.pi, np.pi, program.n_angles)


@settings(max_examples=15, deadline=None)
@given(index=st.integers(0, len(PROGRAMS) - 1), seed=st.integers(0, 2**31))
def test_matrices_equal_qiskit_operator(index, seed):
    program = PROGRAMS[index]
    theta = random_angles(program, seed)
    unitary = Operator(program.circuit.assign_parameters(theta)).data
    np.testing.assert_allclose(circuit_matrix(program, theta), unitary, atol=1e-12)
    expected = np.einsum("zi,kz,zj->kij", unitary.conj(), program.readouts, unitary).real
    np.testing.assert_allclose(readout_matrices(program, theta), expected, atol=1e-12)
    weights = np.linspace(-1.0, 2.0, program.n_readouts)
    weighted = np.tensordot(weights, expected, axes=1)
    np.testing.assert_allclose(operator_matrix(program, theta, weights), weighted, atol=1e-12)
