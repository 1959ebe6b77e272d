"""All strategies give the numbers of the exact matrix, and honest standard errors."""

import numpy as np
import pytest
from qiskit.primitives import StatevectorEstimator

from qiskit_qff.circuit.ansatz import AnsatzSpec, BoundProgram, build_program
from qiskit_qff.circuit.compiled import compile_program, operator_matrix, readout_jacobian, readout_matrices
from qiskit_qff.evaluators.exact import ExactEvaluator, SampledEvaluator
from qiskit_qff.evaluators.primitive import PrimitiveEvaluator
from qiskit_qff.evaluators.strategies import density, environment, operator

SPECS = [
    AnsatzSpec("ry_tree", "rank_one", 7),
    AnsatzSpec("brickwork_cz", "rank_one", 4, layers=2),
    AnsatzSpec("brickwork_rzz", "z_diagonal", 4, layers=1, n_readouts=3),
]
EVALUATORS = {"exact": ExactEvaluator, "statevector": lambda: PrimitiveEvaluator(StatevectorEstimator())}


class Case:
    """A bound program, amplitudes with empty branches, and the exact matrix."""

    def __init__(self, spec, *, n_states=4):
        rng = np.random.default_rng(11)
        self.program = build_program(spec)
        angles = rng.normal(size=self.program.n_angles)
        self.bound = BoundProgram(self.program, angles, 2.0 * rng.normal(size=self.program.n_readouts))
        size, used = 2**self.program.n_qubits, self.program.n_amplitudes
        self.x = np.zeros((n_states, size))
        self.x[:, :used] = rng.normal(size=(n_states, used))
        self.x[0, 2:] = 0.0
        self.matrix = operator_matrix(self.program, angles, self.bound.weights)
        self.matrix[used:] = self.matrix[:, used:] = 0.0
        self.w = np.zeros((2, size, size))
        self.w[:, :used, :used] = rng.normal(size=(2, used, used))
        self.w += self.w.transpose(0, 2, 1)

    @property
    def energies(self):
        return np.einsum("bi,ij,bj->b", self.x, self.matrix, self.x)

    def theta_gradient(self, w):
        jacobian = readout_jacobian(self.program, self.bound.theta)
        return np.einsum("jkab,k,ab->j", jacobian, self.bound.weights, w)


@pytest.fixture(params=SPECS, ids=lambda spec: f"{spec.family}-{spec.readout}")
def case(request):
    return Case(request.param)


@pytest.fixture(params=EVALUATORS)
def evaluator(request):
    return EVALUATORS[request.param]()


def test_energies_agree(case, evaluator):
    single = environment.energies(evaluator, case.bound, case.x)
    np.testing.assert_allclose(single.values, case.energies, atol=1e-8)
    assert single.cost.circuits == len(case.x)
    total = density.contract(evaluator, case.bound, density.density_matrix(case.x)[None])
    np.testing.assert_allclose(total.values, case.energies.sum(), atol=1e-8)
    assert total.cost.circuits <= 2**case.program.n_qubits


def test_gradients_agree_also_in_empty_branches(case, evaluator):
    before = case.x.copy()
    measured = environment.amplitude_gradients(evaluator, case.bound, case.x)
    np.testing.assert_allclose(measured.gradients, 2 * case.x @ case.matrix, atol=1e-8)
    np.testing.assert_allclose(measured.energies, case.energies, atol=1e-8)
    np.testing.assert_array_equal(case.x, before)


def test_contractions_agree(case, evaluator):
    expected = np.einsum("bij,ij->b", case.w, case.matrix)
    np.testing.assert_allclose(density.contract(evaluator, case.bound, case.w).values, expected, atol=1e-8)
    measured = operator.measure_operator(evaluator, case.bound)
    np.testing.assert_allclose(measured.contract(case.w).values, expected, atol=1e-8)
    np.testing.assert_allclose(measured.energies(case.x).values, case.energies, atol=1e-8)


def test_operator_is_the_exact_matrix(case):
    measured = operator.measure_operator(ExactEvaluator(), case.bound)
    np.testing.assert_allclose(measured.matrix, case.matrix, atol=1e-10)
    pairs = ExactEvaluator().evaluate(operator.pair_requests(case.bound))
    found, used = operator.assemble_pairs(case.bound, pairs), case.program.n_amplitudes
    np.testing.assert_allclose(found.matrix, case.matrix, atol=1e-10)
    assert found.cost.circuits == used * (used + 1) // 2


def test_theta_gradients_are_exact(case, evaluator):
    w = np.einsum("b,bi,bj->ij", np.linspace(-1.0, 2.0, len(case.x)), case.x, case.x)
    weights = np.einsum("kab,ab->k", readout_matrices(case.program, case.bound.theta), w)
    gradient = density.theta_gradient(evaluator, case.bound, w)
    np.testing.assert_allclose(gradient.theta, case.theta_gradient(w), atol=1e-8)
    np.testing.assert_allclose(gradient.weights, weights, atol=1e-8)


def test_density_gradient_costs_no_more_for_more_data(rng):
    case = Case(SPECS[1])
    x = rng.normal(size=(5000, 4))
    gradient = density.theta_gradient(ExactEvaluator(), case.bound, density.density_matrix(x))
    n_rotations = len(compile_program(case.program).gates.rotations)
    assert gradient.cost.circuits == 4 * (2 * n_rotations + 1)


def scores(estimate, expected, *, repetitions=200):
    rng = np.random.default_rng(77)
    evaluator = SampledEvaluator(rng, shots=400)
    results = [estimate(evaluator) for _ in range(repetitions)]
    return np.concatenate([((value - expected) / error).ravel() for value, error in results])


@pytest.mark.parametrize("spec", [SPECS[0], SPECS[2]], ids=["tree", "brickwork"])
@pytest.mark.parametrize("quantity", ["environment", "forces", "density", "operator", "pairs", "theta"])
def test_standard_errors_are_right(spec, quantity):
    case = Case(spec, n_states=3)
    bound, x, w = case.bound, case.x, case.w

    def estimate(evaluator):
        if quantity == "environment":
            result = environment.energies(evaluator, bound, x)
        elif quantity == "density":
            result = density.contract(evaluator, bound, w, shots=400)
        elif quantity == "operator":
            result = operator.measure_operator(evaluator, bound).contract(w)
        elif quantity == "pairs":
            answers = evaluator.evaluate(operator.pair_requests(bound))
            result = operator.assemble_pairs(bound, answers).contract(w)
        elif quantity == "forces":
            gradients = environment.amplitude_gradients(evaluator, bound, x)
            direction = np.arange(x.shape[1]) - 1.5
            values = gradients.gradients @ direction
            return values, np.sqrt(np.einsum("i,bij,j->b", direction, gradients.covariances, direction))
        else:
            gradient = density.theta_gradient(evaluator, bound, w[0])
            return gradient.theta[:2], gradient.theta_std_errors[:2]
        return result.values, result.std_errors

    expected = {
        "environment": case.energies,
        "density": np.einsum("bij,ij->b", w, case.matrix),
        "operator": np.einsum("bij,ij->b", w, case.matrix),
        "pairs": np.einsum("bij,ij->b", w, case.matrix),
        "forces": 2 * x @ case.matrix @ (np.arange(x.shape[1]) - 1.5),
        "theta": case.theta_gradient(w[0])[:2],
    }[quantity]
    z = scores(estimate, expected)
    assert np.std(z) == pytest.approx(1.0, abs=0.15)
    assert abs(np.mean(z)) < 0.25
