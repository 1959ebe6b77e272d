"""The EstimatorQNN of qiskit-machine-learning has our values and gradients."""

import numpy as np
import pytest
from qiskit.primitives import StatevectorEstimator

from qiskit_qff.circuit.ansatz import AnsatzSpec, BoundProgram, build_program
from qiskit_qff.circuit.compiled import operator_matrix, readout_jacobian
from qiskit_qff.encoding.tree import loader_angles, loader_jacobian, normalise, tree_layout
from qiskit_qff.evaluators.qnn import to_qnn

pytest.importorskip("qiskit_machine_learning")


def agree(network, bound, rng):
    program, layout = bound.program, tree_layout(bound.program.n_amplitudes)
    x = np.zeros((2, 2**program.n_qubits))
    x[:, : program.n_amplitudes] = rng.normal(size=(2, program.n_amplitudes))
    x = normalise(x)[0]
    angles, matrix = loader_angles(layout, x), operator_matrix(program, bound.theta, bound.weights)
    values = np.einsum("bi,ij,bj->b", x, matrix, x)
    np.testing.assert_allclose(network.forward(angles, bound.theta)[:, 0], values, atol=1e-8)
    by_input, by_theta = network.backward(angles, bound.theta)
    slopes = np.einsum("k,akij,bi,bj->ba", bound.weights, readout_jacobian(program, bound.theta), x, x)
    np.testing.assert_allclose(by_theta[:, 0], slopes, atol=1e-8)
    # Moving x along itself turns no angle.
    gradients = np.einsum("bg,bgj->bj", by_input[:, 0], loader_jacobian(layout, x))
    expected = 2 * (x @ matrix - values[:, None] * x)
    np.testing.assert_allclose(gradients[:, : program.n_amplitudes], expected[:, : program.n_amplitudes], atol=1e-8)


@pytest.mark.parametrize(
    "spec",
    [AnsatzSpec("ry_tree", "rank_one", 7), AnsatzSpec("brickwork_rzz", "z_diagonal", 4, layers=1, n_readouts=3)],
    ids=["tied_tree", "brickwork"],
)
def test_values_and_gradients_agree(spec, rng):
    program = build_program(spec)
    bound = BoundProgram(program, rng.normal(size=program.n_angles), rng.normal(size=program.n_readouts))
    agree(to_qnn(bound, StatevectorEstimator()), bound, rng)
