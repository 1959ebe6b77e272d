"""What every evaluator promises: right values, honest errors, order, no side effects, a cost."""

import numpy as np
import pytest
from circuits import loaded
from qiskit.primitives import BackendEstimatorV2, StatevectorEstimator
from qiskit_aer import AerSimulator
from qiskit_aer.primitives import EstimatorV2 as AerEstimator

from qiskit_qff.circuit.ansatz import AnsatzSpec, build_program, gates_of
from qiskit_qff.evaluators.backends import Settings, build_evaluator
from qiskit_qff.evaluators.exact import ExactEvaluator
from qiskit_qff.evaluators.operator import pair_requests
from qiskit_qff.evaluators.primitive import PrimitiveEvaluator
from qiskit_qff.evaluators.protocol import Request

SHOTS = 500
PROGRAMS = [
    build_program(AnsatzSpec("brickwork_cz", "z_diagonal", 4, layers=1, n_readouts=3)),
    build_program(AnsatzSpec("ry_tree", "rank_one", 3)),
]


def backend_estimator(rng):
    backend = AerSimulator()
    return PrimitiveEvaluator(BackendEstimatorV2(backend=backend), backend=backend, shots=SHOTS, rng=rng)


def aer_noise(rng):
    return PrimitiveEvaluator(AerEstimator(), shots=SHOTS, rng=rng)


EVALUATORS = {
    "exact": lambda _: ExactEvaluator(),
    "statevector": lambda _: PrimitiveEvaluator(StatevectorEstimator()),
    "aer_exact": lambda _: PrimitiveEvaluator(AerEstimator()),
    "sampled": lambda rng: ExactEvaluator(rng, shots=SHOTS),
    "statevector_shots": lambda rng: build_evaluator(Settings("statevector", SHOTS), [2], rng=rng),
    "aer_normal_noise": aer_noise,
    "backend_estimator": backend_estimator,
    "aer": lambda rng: build_evaluator(Settings("aer", SHOTS), [2], rng=rng),
}
EXACT = ("exact", "statevector", "aer_exact")
NOISY = {
    "fake": lambda rng: build_evaluator(Settings("fake_torino", 4000), [2], rng=rng),
    "fake_readout": lambda rng: build_evaluator(Settings("fake_torino", 4000, mitigation="readout"), [2], rng=rng),
    "fake_zne": lambda rng: build_evaluator(Settings("fake_torino", 4000, mitigation="zne"), [2], rng=rng),
    "fake_pec": lambda rng: build_evaluator(Settings("fake_torino", 4000, mitigation="pec"), [2], rng=rng),
}


@pytest.fixture(params=PROGRAMS, ids=["brickwork", "tree"])
def requests(request):
    """Two circuits, a batch each."""
    program, rng = request.param, np.random.default_rng(9)
    theta = rng.normal(size=program.n_angles)
    states = np.zeros((3, 4))
    states[:, : program.n_amplitudes] = rng.normal(size=(3, program.n_amplitudes))
    rotations = gates_of(program).rotation_angles(theta)[None]
    return [loaded(program, states, theta), *pair_requests(program, rotations)]


@pytest.mark.parametrize("name", EVALUATORS)
def test_values_are_right_inputs_are_not_changed_and_cost_is_reported(name, requests, rng):
    before, evaluator = [item.parameters.copy() for item in requests], EVALUATORS[name](rng)
    results = evaluator.evaluate(requests)
    for item, copy in zip(requests, before, strict=True):
        np.testing.assert_array_equal(item.parameters, copy)
    cost, circuits = evaluator.cost(requests), sum(map(len, before))
    assert (cost.circuits, cost.shots) == (circuits, 0 if name in EXACT else SHOTS * circuits)
    assert (cost.seconds > 0) == (name not in EXACT)
    for result, exact in zip(results, ExactEvaluator().evaluate(requests), strict=True):
        if name in EXACT:
            np.testing.assert_allclose(result.values, exact.values, atol=1e-10)
            assert not result.std_errors.any()
        else:
            assert (np.abs(result.values - exact.values) <= 5 * result.std_errors + 1e-12).all()


@pytest.mark.parametrize("name", [name for name in EVALUATORS if name not in EXACT])
def test_standard_errors_are_right_over_200_repetitions(name, requests, rng):
    repeated = [Request(item.task, np.repeat(item.parameters, 200, axis=0)) for item in requests[:1]]
    weights = np.array([0.3, -1.0, 2.0])[: len(requests[0].task.readouts)]
    (result,), (exact,) = EVALUATORS[name](rng).evaluate(repeated), ExactEvaluator().evaluate(repeated)
    values, variances = result.weighted(weights)
    errors = values - exact.values @ weights
    assert np.std(errors / np.sqrt(variances)) == pytest.approx(1.0, abs=0.15)
    means = errors.reshape(-1, 200).mean(axis=1)
    assert (np.abs(means) < 4 * errors.reshape(-1, 200).std(axis=1) / np.sqrt(200)).all()


@pytest.mark.parametrize("name", NOISY)
def test_noisy_devices_are_near(name, requests, rng):
    results = NOISY[name](rng).evaluate(requests)
    for result, exact in zip(results, ExactEvaluator().evaluate(requests), strict=True):
        assert np.abs(result.values - exact.values).mean() < 0.05
        assert np.isfinite(result.covariances).all()
