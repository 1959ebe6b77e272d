"""M from its first column: exact without noise, honest errors with it, and far fewer states."""

from dataclasses import replace

import numpy as np
import pytest

from qiskit_qff.circuit.ansatz import AnsatzSpec, angles_for_vector, build_program
from qiskit_qff.circuit.compiled import readout_matrices
from qiskit_qff.circuit.program import BoundProgram
from qiskit_qff.errors import BackendError, ConfigError
from qiskit_qff.evaluators.exact import ExactEvaluator, ExpectedEvaluator, SampledEvaluator
from qiskit_qff.evaluators.strategies import operator, spectrum
from qiskit_qff.evaluators.strategies.completion import complete
from qiskit_qff.evaluators.strategies.designs import operator_design


def tree(rng, n_amplitudes=11, weight=-3.0):
    """A rank-one tree whose vector points about half into the first basis state."""
    spec = AnsatzSpec("ry_tree", "rank_one", n_amplitudes)
    vector = np.concatenate([[1.0], 0.3 * rng.normal(size=n_amplitudes - 1)])
    bound = BoundProgram(build_program(spec), angles_for_vector(spec, vector), np.array([weight]))
    matrix = weight * readout_matrices(bound.program, bound.theta)[0]
    full = np.zeros((2**bound.program.n_qubits,) * 2)
    full[:n_amplitudes, :n_amplitudes] = matrix[:n_amplitudes, :n_amplitudes]
    return bound, full


def test_the_completed_matrix_is_exact(rng):
    bound, matrix = tree(rng)
    assert spectrum.default_design(bound) == "first_column"
    measured = operator.measure_operator(ExactEvaluator(), bound, design="first_column")
    np.testing.assert_allclose(measured.matrix, matrix, atol=1e-12)
    assert measured.cost.circuits == measured.design.n_states == 2 * 11 - 1
    assert measured.with_spectrum(spectrum.known_spectrum(bound)) is measured


@pytest.mark.parametrize("weight", [-2.5, 0.7])
@pytest.mark.parametrize(("contrast", "offset"), [(1.0, 0.0), (0.6, 0.2), (0.8, -0.05)])
def test_contrast_and_offset_drop_out(rng, weight, contrast, offset):
    vector = np.concatenate([[1.0], 0.5 * rng.normal(size=6)])
    vector /= np.linalg.norm(vector)
    matrix = weight * np.outer(vector, vector)
    noisy = contrast * matrix + offset * np.eye(7)
    done = complete(noisy[0], float(np.trace(noisy)), weight)
    np.testing.assert_allclose(done.matrix, matrix, atol=1e-12)
    assert done.contrast == pytest.approx(contrast)


def test_the_response_is_the_derivative():
    column, trace, weight = np.array([-1.1, 0.6, -0.4, 0.2, 0.3, 0.05]), -2.2, -2.5
    done = complete(column, trace, weight)
    for k in range(6):
        step = 1e-6 * np.eye(6)[k]
        slope = (complete(column + step, trace, weight).matrix - complete(column - step, trace, weight).matrix) / 2e-6
        np.testing.assert_allclose(done.by_column[k], slope, atol=1e-8)
    slope = (complete(column, trace + 1e-6, weight).matrix - complete(column, trace - 1e-6, weight).matrix) / 2e-6
    np.testing.assert_allclose(done.by_trace, slope, atol=1e-8)


@pytest.mark.parametrize("size", [2, 4, 8])
def test_the_response_holds_where_the_overlap_is_that_of_white_noise(rng, size):
    """At t = 1/D the diagonal tells nothing of the column; training drives one-qubit species there."""
    rest = rng.normal(size=size - 1)
    vector = np.concatenate([[1.0], np.sqrt(size - 1.0) * rest / np.linalg.norm(rest)]) / np.sqrt(size)
    column, trace = -2.0 * vector[0] * vector, -2.0
    done = complete(column, trace, -2.0)
    np.testing.assert_allclose(done.matrix, -2.0 * np.outer(vector, vector), atol=1e-15)
    step = 1e-5 * np.eye(size)[0]
    slope = (complete(column + step, trace, -2.0).matrix - complete(column - step, trace, -2.0).matrix) / 2e-5
    np.testing.assert_allclose(done.by_column[0], slope, atol=1e-8)
    assert np.abs(slope).max() > 0.5


@pytest.mark.parametrize("contrast", [1.0, 0.7])
def test_standard_errors_are_right_also_under_depolarising_noise(rng, contrast):
    bound, matrix = tree(rng)

    class Depolarised(SampledEvaluator):
        """Every outcome is replaced by white noise with some probability, as a depolarising channel would."""

        def evaluate(self, requests, *, shots=None):
            answers = super().evaluate(requests, shots=shots)
            return [
                replace(a, values=contrast * a.values + (1 - contrast) / 16, covariances=contrast**2 * a.covariances)
                for a in answers
            ]

    evaluator = Depolarised(rng, shots=20_000)
    probe = rng.normal(size=(3, 16, 16))
    probe = probe + probe.transpose(0, 2, 1)
    expected = np.einsum("bij,ij->b", probe, matrix)
    z = []
    for _ in range(200):
        measured = operator.measure_operator(evaluator, bound, design="first_column")
        result = measured.contract(probe)
        z.append((result.values - expected) / result.std_errors)
    assert np.std(z, axis=0) == pytest.approx(1.0, abs=0.15)
    assert np.abs(np.mean(z, axis=0)).max() < 0.25
    samples = np.array([np.sum(measured.sample(rng) * probe[0]) for _ in range(400)])
    assert np.std(samples) == pytest.approx(measured.contract(probe).std_errors[0], rel=0.15)
    assert measured.entry_errors().shape == (16, 16)


def test_the_column_is_less_noisy_for_the_same_number_of_shots(rng):
    bound, matrix = tree(rng, n_amplitudes=16)
    errors = {}
    for design in ("pairs", "first_column"):
        evaluator = SampledEvaluator(rng, shots=200_000 // operator_design(16, 4, design).n_states)
        runs = [operator.measure_operator(evaluator, bound, design=design) for _ in range(10)]
        known = [run.with_spectrum(spectrum.known_spectrum(bound)) for run in runs]
        errors[design] = np.sqrt(np.mean([np.sum((run.matrix - matrix) ** 2) for run in known]))
    assert errors["first_column"] < 0.8 * errors["pairs"]


def test_other_readouts_are_refused_and_measured_by_pairs(rng):
    two = build_program(AnsatzSpec("brickwork_cz", "z_diagonal", 8, n_readouts=2))
    bound = BoundProgram(two, rng.normal(size=two.n_angles), np.array([1.0, -2.0]))
    assert spectrum.default_design(bound) == "pairs"
    with pytest.raises(ConfigError, match="pairs"):
        operator.operator_requests(bound, design="first_column")
    spec = AnsatzSpec("ry_tree", "rank_one", 8)
    away = BoundProgram(build_program(spec), angles_for_vector(spec, np.eye(8)[3]), np.array([1.0]))
    assert spectrum.default_design(away) == "pairs"
    with pytest.raises(BackendError, match="first column"):
        complete(np.array([1.0, 0.0, 0.0]), 1.0, 1.0)
    with pytest.raises(ConfigError, match="auto"):
        spectrum.chosen_design("star", away)
    assert spectrum.chosen_design("auto", away) == "pairs"


def test_expected_errors_are_the_average_of_sampled_ones(rng):
    bound, _ = tree(rng)
    expected = operator.measure_operator(ExpectedEvaluator(shots=2000), bound, design="first_column")
    sampled = [
        operator.measure_operator(SampledEvaluator(rng, shots=2000), bound, design="first_column").variances
        for _ in range(100)
    ]
    np.testing.assert_allclose(expected.variances, np.mean(sampled, axis=0), rtol=0.1)
    assert expected.cost.shots == 2000 * expected.design.n_states
    with pytest.raises(ConfigError, match="positive"):
        ExpectedEvaluator(shots=0)
