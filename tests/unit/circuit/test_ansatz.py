"""Ansatz families: parameter counts, reach of the trees, errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qiskit_qff.circuit.ansatz import (
    AnsatzSpec,
    angles_for_vector,
    build_program,
    readout_matrices,
    z_diagonals,
    z_supports,
)


@settings(max_examples=30, deadline=None)
@given(n_amplitudes=st.integers(2, 40), seed=st.integers(0, 2**31), zeros=st.integers(0, 3))
def test_rank_one_tree_reaches_any_vector(n_amplitudes, seed, zeros):
    rng = np.random.default_rng(seed)
    vector = rng.normal(size=n_amplitudes)
    vector[rng.integers(1, n_amplitudes, zeros)] = 0.0
    spec = AnsatzSpec("ry_tree", "rank_one", n_amplitudes)
    program = build_program(spec)
    matrix = readout_matrices(program, angles_for_vector(spec, vector))[0]
    expected = np.zeros_like(matrix)
    expected[:n_amplitudes, :n_amplitudes] = np.outer(vector, vector) / (vector @ vector)
    np.testing.assert_allclose(matrix, expected, atol=1e-12)


@pytest.mark.parametrize("n_qubits", [2, 3, 4, 5])
def test_full_tree_needs_few_entangling_gates(n_qubits):
    counts = build_program(AnsatzSpec("ry_tree", "rank_one", 2**n_qubits)).circuit.count_ops()
    assert counts == {"ry": 2**n_qubits - 1, "cz": 2**n_qubits - 1 - n_qubits}


def test_z_strings_come_in_the_documented_order():
    assert z_supports(3) == [(), (0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)]
    diagonals = z_diagonals(3, 8)
    np.testing.assert_array_equal(diagonals @ diagonals.T, 8 * np.eye(8))
    np.testing.assert_array_equal(diagonals[1], [1, -1] * 4)
