"""Rank-one registers by their vector: values, and whether the reported errors are the real ones."""

import numpy as np
import pytest

from qiskit_qff.circuit.ansatz import AnsatzSpec, BoundProgram, angles_for_vector, build_program
from qiskit_qff.errors import ConfigError
from qiskit_qff.evaluators.exact import SampledEvaluator
from qiskit_qff.evaluators.protocol import Cost, Evaluation
from qiskit_qff.evaluators.strategies.operator import fit_vectors, measure_operator, programmed_vector, vector_requests

REPETITIONS, SHOTS = 200, 2000


def register(rng, n_qubits) -> BoundProgram:
    spec = AnsatzSpec("ry_tree", "rank_one", 2**n_qubits)
    vector = np.append(1.0, rng.normal(size=2**n_qubits - 1))
    vector[1:] /= np.linalg.norm(vector[1:])
    return BoundProgram(build_program(spec), angles_for_vector(spec, vector), np.array([-0.7]))


@pytest.mark.parametrize("n_qubits", [2, 3])
def test_reported_errors_are_the_real_ones(rng, n_qubits) -> None:
    bound, size = register(rng, n_qubits), 2**n_qubits
    vector = programmed_vector(bound)
    probes = rng.normal(size=(4, size, size))
    probes += probes.transpose(0, 2, 1)
    truth = -0.7 * np.einsum("bij,i,j->b", probes, vector, vector)
    scores, values = [], []
    for _ in range(REPETITIONS):
        found = measure_operator(SampledEvaluator(rng, shots=SHOTS), bound, shots=SHOTS)
        contracted = found.contract(probes)
        scores.append((contracted.values - truth) / contracted.std_errors)
        values.append(contracted.values)
    assert np.sqrt(np.mean(np.square(scores))) == pytest.approx(1.0, abs=0.12)
    # No measurement of a real state can do better than (1 - u u^T) / 4 N (n + 1); the contrast costs a little.
    across = 2.0 * 0.7 * (probes @ vector) @ (np.eye(size) - np.outer(vector, vector))
    bound_ = np.square(across).sum(axis=1) / (4.0 * SHOTS * (n_qubits + 1))
    assert (np.var(values, axis=0) > 0.75 * bound_).all()
    assert np.mean(np.var(values, axis=0)) < 1.8 * np.mean(bound_)


def test_a_smaller_contrast_is_no_error_of_the_vector(rng) -> None:
    """A uniform loss of contrast, as depolarisation makes it, leaves u and is found."""
    bound = register(rng, 2)
    exact = SampledEvaluator(rng, shots=10**9).evaluate(vector_requests(bound))
    faded = [Evaluation(0.6 * one.values, one.covariances, Cost()) for one in exact]
    start = programmed_vector(bound)[None]
    found, whole = fit_vectors(start, faded), fit_vectors(start, exact)
    assert found.contrasts[0] == pytest.approx(0.6, abs=1e-3)
    np.testing.assert_allclose(found.vectors, whole.vectors, atol=1e-3)
    nothing = [Evaluation(0.0 * one.values, one.covariances, Cost()) for one in exact]
    with pytest.raises(ConfigError, match="noise has left nothing"):
        fit_vectors(start, nothing)
