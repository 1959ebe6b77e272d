"""Ansatz families: parameter counts, reach of the trees, errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qiskit_qff.circuit.ansatz import AnsatzSpec, angles_for_vector, build_program, n_parameters
from qiskit_qff.circuit.compiled import circuit_matrix, readout_matrices
from qiskit_qff.circuit.program import CircuitProgram, diagonal_observable, z_diagonals, z_supports
from qiskit_qff.errors import ConfigError


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


@pytest.mark.parametrize("n_amplitudes", [2, 3, 5, 8, 13, 16, 21, 32, 47, 64])
def test_rank_one_tree_has_one_angle_less_than_amplitudes_and_stays_on_them(n_amplitudes, rng):
    program = build_program(AnsatzSpec("ry_tree", "rank_one", n_amplitudes))
    assert program.n_angles == n_amplitudes - 1
    first_row = circuit_matrix(program, rng.normal(size=program.n_angles))[0]
    np.testing.assert_allclose(first_row[n_amplitudes:], 0.0, atol=1e-12)


@pytest.mark.parametrize("n_qubits", [2, 3, 4, 5])
def test_full_tree_needs_few_entangling_gates(n_qubits):
    counts = build_program(AnsatzSpec("ry_tree", "rank_one", 2**n_qubits)).circuit.count_ops()
    assert counts == {"ry": 2**n_qubits - 1, "cz": 2**n_qubits - 1 - n_qubits}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (AnsatzSpec("ry_tree", "rank_one", 32), 32),
        (AnsatzSpec("brickwork_cz", "z_diagonal", 16, layers=4, n_readouts=8), 28),
        (AnsatzSpec("brickwork_rzz", "z_diagonal", 16, layers=2, n_readouts=3), 21),
    ],
)
def test_parameters_are_counted_without_building(spec, expected):
    program = build_program(spec)
    assert n_parameters(spec) == program.n_angles + program.n_readouts == expected
    assert build_program(spec) is program


def test_z_strings_come_in_the_documented_order():
    assert z_supports(3) == [(), (0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)]
    diagonals = z_diagonals(3, 8)
    np.testing.assert_array_equal(diagonals @ diagonals.T, 8 * np.eye(8))
    np.testing.assert_array_equal(diagonals[1], [1, -1] * 4)


def test_observables_have_the_readout_diagonals(rng):
    diagonal = rng.normal(size=8)
    np.testing.assert_allclose(np.diag(diagonal_observable(diagonal).to_matrix()).real, diagonal, atol=1e-13)
    assert diagonal_observable(np.zeros(4)).num_qubits == 2


@pytest.mark.parametrize(
    "make",
    [
        lambda: AnsatzSpec("tree", "rank_one", 4),
        lambda: AnsatzSpec("ry_tree", "rank_two", 4),
        lambda: AnsatzSpec("ry_tree", "rank_one", 4, n_readouts=2),
        lambda: AnsatzSpec("brickwork_cz", "z_diagonal", 4, n_readouts=5),
        lambda: AnsatzSpec("brickwork_cz", "rank_one", 4, layers=0),
        lambda: AnsatzSpec("ry_tree", "rank_one", 1),
        lambda: angles_for_vector(AnsatzSpec("brickwork_cz", "rank_one", 4), np.ones(4)),
        lambda: angles_for_vector(AnsatzSpec("ry_tree", "rank_one", 4), np.ones(3)),
        lambda: angles_for_vector(AnsatzSpec("ry_tree", "rank_one", 4), np.zeros(4)),
        lambda: CircuitProgram(build_program(AnsatzSpec("ry_tree", "rank_one", 4)).circuit, np.eye(8), 4),
        lambda: CircuitProgram(build_program(AnsatzSpec("ry_tree", "rank_one", 4)).circuit, np.eye(4), 5),
        lambda: z_diagonals(2, 5),
    ],
)
def test_bad_choices_are_refused(make):
    with pytest.raises(ConfigError):
        make()
