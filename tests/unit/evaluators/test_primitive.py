"""The Estimator evaluator: jobs, transpilation, failed extrapolations, covariances."""

from types import SimpleNamespace

import numpy as np
import pytest
from circuits import loaded
from qiskit.primitives import BaseEstimatorV2, StatevectorEstimator

from qiskit_qff.circuit.ansatz import AnsatzSpec, MeasurementTask, build_program
from qiskit_qff.errors import ConfigError
from qiskit_qff.evaluators.exact import ExactEvaluator
from qiskit_qff.evaluators.primitive import PrimitiveEvaluator
from qiskit_qff.evaluators.protocol import Request, split_jobs
from qiskit_qff.evaluators.z_strings import read_strings, string_observables

PROGRAM = build_program(AnsatzSpec("brickwork_cz", "z_diagonal", 4, layers=1, n_readouts=3))


def request_of(batch, seed=1, program=PROGRAM):
    rng = np.random.default_rng(seed)
    states = np.zeros((batch, 2**program.n_qubits))
    states[:, : program.n_amplitudes] = rng.normal(size=(batch, program.n_amplitudes))
    return loaded(program, states, rng.normal(size=program.n_angles))


class CountingEstimator(StatevectorEstimator):
    """Counts the parameter sets of every job."""

    def __init__(self):
        super().__init__()
        self.jobs = []

    def run(self, pubs, *, precision=None):
        pubs = list(pubs)
        self.jobs.append([len(pub[2]) for pub in pubs])
        return super().run(pubs, precision=precision)


def test_requests_share_jobs_and_circuits():
    estimator = CountingEstimator()
    requests = [request_of(3), request_of(6, seed=2), request_of(1, seed=3)]
    alike = Request(requests[0].task, requests[0].parameters[:2])
    results = PrimitiveEvaluator(estimator).evaluate([*requests, alike])
    assert estimator.jobs == [[5, 6, 1]]
    for result, exact in zip(results, ExactEvaluator().evaluate([*requests, alike]), strict=True):
        np.testing.assert_allclose(result.values, exact.values, atol=1e-10)


def test_jobs_stay_within_the_executions_that_a_server_takes():
    assert split_jobs([3, 4, 3000], None) == [[0, 1, 2]]
    assert split_jobs([3, 4, 3000, 1], 1_000_000) == [[0, 1], [2], [3]]
    assert split_jobs([3, 1], 1_000_000, 3.0) == [[0], [1]]  # three noise factors
    with pytest.raises(ConfigError, match="10000000 executions"):
        split_jobs([1], 20_000_000)


def test_failed_extrapolation_falls_back_to_the_lowest_noise():
    data = SimpleNamespace(
        evs=np.array([[0.6], [0.3], [np.nan]]),
        stds=np.array([[0.01], [np.inf], [np.nan]]),
        evs_noise_factors=np.array([[[0.5, 0.4, 0.3]], [[0.2, 0.1, 0.1]], [[0.1, 0.1, 0.1]]]),
        stds_noise_factors=np.full((3, 1, 3), 0.02),
    )

    class Canned(BaseEstimatorV2):
        def run(self, pubs, *, precision=None):
            del precision
            results = [SimpleNamespace(data=data) for _ in pubs]
            return SimpleNamespace(result=lambda: results)

    (result,) = PrimitiveEvaluator(Canned(), gaussian_noise=False).evaluate([request_of(1)], shots=1000)
    strings = {"evs": np.array([[0.6], [0.2], [0.1]]), "stds": np.full((3, 1), 0.02)}
    np.testing.assert_allclose(result.values, read_strings(strings, PROGRAM.readouts, 1000).values)
    # The second string counts the step to the next noise factor as an error.
    assert result.std_errors[0, 2] == pytest.approx(np.hypot(0.02, 0.1), rel=0.05)
    assert np.isfinite(result.covariances).all()


@pytest.mark.parametrize(
    "spec", [AnsatzSpec("ry_tree", "rank_one", 7), AnsatzSpec("brickwork_cz", "z_diagonal", 8, layers=2, n_readouts=4)]
)
def test_z_strings_reproduce_the_covariance_of_counts(spec, rng):
    request = request_of(2, program=build_program(spec))
    n_qubits, readouts = request.task.circuit.num_qubits, request.task.readouts
    diagonals = np.array([np.diag(one.to_matrix()).real for one in string_observables(n_qubits)])
    task = MeasurementTask(request.task.circuit, diagonals)
    exact, values = ExactEvaluator().evaluate([request, Request(task, request.parameters)])
    shots = 10**6
    data = {"evs": values.values.T, "stds": np.sqrt((1 - values.values.T**2) / shots)}
    found = read_strings(data, readouts, shots)
    np.testing.assert_allclose(found.values, exact.values, atol=1e-12)
    (sampled,) = ExactEvaluator(rng, shots=shots).evaluate([request])
    largest = np.abs(sampled.covariances).max()
    np.testing.assert_allclose(found.covariances, sampled.covariances, atol=0.02 * largest)
