"""Amplitude vectors, tree angles and the loader circuit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit.quantum_info import Statevector
from qiskit.transpiler import CouplingMap, generate_preset_pass_manager

from qiskit_qff.encoding.preparation import vector_angles, vector_circuit
from qiskit_qff.encoding.tree import loader_angles, loader_circuit, qubits_for


def random_vectors(n_amplitudes, seed, *, batch=3, zeros=0):
    rng = np.random.default_rng(seed)
    vectors = np.zeros((batch, 2 ** qubits_for(n_amplitudes)))
    vectors[:, :n_amplitudes] = rng.normal(size=(batch, n_amplitudes))
    # Whole pairs: a single zero may sit on the branch cut of atan2, where finite differences fail.
    for pair in 2 * rng.integers(1, vectors.shape[1] // 2, zeros if n_amplitudes > 2 else 0):
        vectors[:, pair : pair + 2] = 0.0
    vectors[:, 0] = 1.0
    return vectors


@pytest.mark.parametrize("n_amplitudes", [2, 3, 5, 8, 11, 16, 27, 32])
def test_loader_prepares_its_vector_signs_included(n_amplitudes):
    circuit = loader_circuit(n_amplitudes)
    vectors = random_vectors(n_amplitudes, 7, zeros=2)
    for vector, angles in zip(vectors, loader_angles(n_amplitudes, vectors), strict=True):
        prepared = Statevector(circuit.assign_parameters(angles))
        np.testing.assert_allclose(prepared.data, vector / np.linalg.norm(vector), atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(n_qubits=st.integers(1, 4), seed=st.integers(0, 2**31), zeros=st.integers(0, 7))
def test_shallow_circuits_prepare_any_real_vector(n_qubits, seed, zeros):
    rng = np.random.default_rng(seed)
    vector = rng.normal(size=2**n_qubits)
    vector[rng.permutation(2**n_qubits)[: min(zeros, 2**n_qubits - 1)]] = 0.0
    prepared = Statevector(vector_circuit(n_qubits).assign_parameters(vector_angles(vector)))
    np.testing.assert_allclose(prepared.data, vector / np.linalg.norm(vector), atol=1e-10)


@pytest.mark.parametrize(("n_qubits", "tree", "shallow"), [(1, 0, 0), (2, 1, 1), (3, 7, 3)])
def test_a_vector_of_three_qubits_takes_three_gates_on_a_line(n_qubits, tree, shallow):
    line = generate_preset_pass_manager(
        3, coupling_map=CouplingMap.from_line(n_qubits), basis_gates=["rz", "sx", "x", "cz"]
    )
    for circuit, gates in ((loader_circuit(2**n_qubits), tree), (vector_circuit(n_qubits), shallow)):
        placed = line.run(circuit)
        assert placed.num_nonlocal_gates() <= gates
        assert placed.depth(lambda gate: gate.operation.num_qubits == 2) <= gates
