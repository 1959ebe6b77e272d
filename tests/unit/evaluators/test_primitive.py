"""The Estimator evaluator: jobs, transpilation, failed extrapolations, covariances."""

from types import SimpleNamespace

import numpy as np
import pytest
from circuits import loaded
from qiskit.primitives import BaseEstimatorV2, StatevectorEstimator

from qiskit_qff.circuit.ansatz import AnsatzSpec, build_program
from qiskit_qff.errors import ConfigError
from qiskit_qff.evaluators.exact import ExactEvaluator, SampledEvaluator
from qiskit_qff.evaluators.primitive import PrimitiveEvaluator, sets_per_job
from qiskit_qff.evaluators.protocol import MeasurementTask, Request
from qiskit_qff.evaluators.z_strings import string_set

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


def test_requests_share_jobs_and_are_cut_at_the_limit():
    estimator = CountingEstimator()
    evaluator = PrimitiveEvaluator(estimator, most_sets=5)
    requests = [request_of(3), request_of(6, seed=2), request_of(1, seed=3)]
    results = evaluator.evaluate(requests)
    assert estimator.jobs == [[3, 2], [4, 1]]
    for result, exact in zip(results, ExactEvaluator().evaluate(requests), strict=True):
        np.testing.assert_allclose(result.values, exact.values, atol=1e-10)


def test_shots_also_limit_a_job():
    assert sets_per_job(None, most=100) == 100
    assert sets_per_job(3_000_000) == 3
    with pytest.raises(ConfigError, match="10000000 shots"):
        sets_per_job(20_000_000)


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
    fallback = string_set(request_of(1).task).readout_values(np.array([[0.6, 0.2, 0.1]]))
    np.testing.assert_allclose(result.values, fallback)
    # The second string counts the step to the next noise factor as an error.
    assert result.std_errors[0, 2] == pytest.approx(np.hypot(0.02, 0.1), rel=0.05)
    assert np.isfinite(result.covariances).all()


@pytest.mark.parametrize(
    "spec", [AnsatzSpec("ry_tree", "rank_one", 7), AnsatzSpec("brickwork_cz", "z_diagonal", 8, layers=2, n_readouts=4)]
)
def test_z_strings_reproduce_the_covariance_of_counts(spec, rng):
    request = request_of(2, program=build_program(spec))
    strings = string_set(request.task)
    diagonals = np.array([np.diag(observable.to_matrix()).real for observable in strings.observables()])
    task = MeasurementTask(request.task.circuit, diagonals)
    exact, values = ExactEvaluator().evaluate([request, Request(task, request.parameters)])
    np.testing.assert_allclose(strings.readout_values(values.values), exact.values, atol=1e-12)
    shots = 10**6
    found = strings.readout_covariances(values.values, np.sqrt((1 - values.values**2) / shots), shots)
    (sampled,) = SampledEvaluator(rng, shots=shots).evaluate([request])
    np.testing.assert_allclose(found, sampled.covariances, atol=0.02 * np.abs(found).max())
