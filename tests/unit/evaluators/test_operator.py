"""Measured operators are the exact ones, with honest standard errors."""

import numpy as np
import pytest
from qiskit.primitives import StatevectorEstimator

from qiskit_qff.circuit.ansatz import (
    AnsatzSpec,
    BoundProgram,
    angles_for_vector,
    build_program,
    gates_of,
    operator_matrix,
)
from qiskit_qff.errors import ConfigError
from qiskit_qff.evaluators import operator
from qiskit_qff.evaluators.exact import ExactEvaluator
from qiskit_qff.evaluators.measured_operator import MeasuredOperator
from qiskit_qff.evaluators.primitive import PrimitiveEvaluator
from qiskit_qff.evaluators.protocol import Evaluation

SPECS = [
    AnsatzSpec("ry_tree", "rank_one", 7),
    AnsatzSpec("brickwork_cz", "rank_one", 4, layers=2),
    AnsatzSpec("brickwork_rzz", "z_diagonal", 4, layers=1, n_readouts=3),
    AnsatzSpec("efficient_su2", ("XX", "IZ", "YX"), 4),
]
REPETITIONS, SHOTS = 200, 2000


def measured(evaluator, bound):
    """M of a register."""
    return operator.assemble_operator(bound, evaluator.evaluate(operator.operator_requests(bound)))


def contract(bound, found, matrices):
    """``Tr(M W)`` with standard errors, for some matrices W."""
    pulled = np.einsum("bij,sij->bs", matrices, operator.operator_errors(bound, found))
    return np.einsum("bij,ij->b", matrices, found.matrix), np.linalg.norm(pulled, axis=1)


class Case:
    """A bound program, its exact matrix, and a matrix to contract it with."""

    def __init__(self, spec):
        rng = np.random.default_rng(11)
        program = build_program(spec)
        self.bound = BoundProgram(program, rng.normal(size=program.n_angles), 2 * rng.normal(size=program.n_readouts))
        size, used = 2**program.n_qubits, program.n_amplitudes
        self.matrix = operator_matrix(program, self.bound.theta, self.bound.weights)
        self.matrix[used:] = self.matrix[:, used:] = 0.0
        self.w = np.zeros((size, size))
        self.w[:used, :used] = rng.normal(size=(used, used))
        self.w += self.w.T

    def operator(self, evaluator):
        return measured(evaluator, self.bound)

    def pairs(self, evaluator):
        program = self.bound.program
        rotations = gates_of(program).rotation_angles(self.bound.theta)[None]
        answers = operator.joined(program, evaluator.evaluate(operator.pair_requests(program, rotations)))
        pairs = [answer.weighted(self.bound.weights) for answer in answers]
        values, variances = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        response = operator.pair_response(program)
        found = MeasuredOperator(np.tensordot(values, response, axes=1), variances, "pairs")
        return found, len(values)


@pytest.fixture(params=SPECS, ids=lambda spec: f"{spec.family}-{spec.readout}")
def case(request):
    return Case(request.param)


@pytest.mark.parametrize("evaluator", [ExactEvaluator(), PrimitiveEvaluator(StatevectorEstimator())])
def test_operators_agree(case, evaluator):
    np.testing.assert_allclose(case.operator(evaluator).matrix, case.matrix, atol=1e-8)
    (pairs, count), used = case.pairs(evaluator), case.bound.program.n_amplitudes
    np.testing.assert_allclose(pairs.matrix, case.matrix, atol=1e-8)
    assert count == used * (used + 1) // 2


def vector_register(rng, n_qubits) -> BoundProgram:
    spec = AnsatzSpec("ry_tree", "rank_one", 2**n_qubits)
    vector = np.append(1.0, rng.normal(size=2**n_qubits - 1))
    vector[1:] /= np.linalg.norm(vector[1:])
    return BoundProgram(build_program(spec), angles_for_vector(spec, vector), np.array([-0.7]))


@pytest.mark.parametrize("n_qubits", [2, 3])
def test_errors_of_a_vector_are_the_real_ones_and_nearly_the_least_possible(rng, n_qubits) -> None:
    bound, size = vector_register(rng, n_qubits), 2**n_qubits
    vector = operator.programmed_vector(bound)
    probes = rng.normal(size=(4, size, size))
    probes += probes.transpose(0, 2, 1)
    truth = -0.7 * np.einsum("bij,i,j->b", probes, vector, vector)
    scores, values = [], []
    for _ in range(REPETITIONS):
        value, error = contract(bound, measured(ExactEvaluator(rng, shots=SHOTS), bound), probes)
        scores.append((value - truth) / error)
        values.append(value)
    assert np.sqrt(np.mean(np.square(scores))) == pytest.approx(1.0, abs=0.12)
    # No measurement of a real state can do better than (1 - u u^T) / 4 N (n + 1); the contrast costs a little.
    across = 2.0 * 0.7 * (probes @ vector) @ (np.eye(size) - np.outer(vector, vector))
    least = np.square(across).sum(axis=1) / (4.0 * SHOTS * (n_qubits + 1))
    assert (np.var(values, axis=0) > 0.75 * least).all()
    assert np.mean(np.var(values, axis=0)) < 1.8 * np.mean(least)


def test_a_smaller_contrast_is_no_error_of_the_vector(rng) -> None:
    """A uniform loss of contrast, as depolarisation makes it, leaves u and is found."""
    bound = vector_register(rng, 2)
    exact = ExactEvaluator(rng, shots=10**9).evaluate(operator.operator_requests(bound))
    faded = [Evaluation(0.6 * one.values, one.covariances) for one in exact]
    start = operator.programmed_vector(bound)[None]
    found, whole = operator.fit_vectors(start, faded), operator.fit_vectors(start, exact)
    assert found.contrasts[0] == pytest.approx(0.6, abs=1e-3)
    np.testing.assert_allclose(found.vectors, whole.vectors, atol=1e-3)
    nothing = [Evaluation(0.0 * one.values, one.covariances) for one in exact]
    with pytest.raises(ConfigError, match="noise has left nothing"):
        operator.fit_vectors(start, nothing)
