"""The EstimatorQNN of qiskit-machine-learning has our values and gradients."""

import numpy as np
import pytest
from qiskit.primitives import StatevectorEstimator

from qiskit_qff.circuit.ansatz import AnsatzSpec, BoundProgram, build_program
from qiskit_qff.encoding.tree import loader_angles, normalise, tree_layout
from qiskit_qff.evaluators.exact import ExactEvaluator
from qiskit_qff.evaluators.protocol import Request
from qiskit_qff.evaluators.qnn import to_qnn
from qiskit_qff.evaluators.strategies import density, environment
from qiskit_qff.evaluators.tasks import loader_parameters, loader_task, shift_derivatives, shifted_parameters

pytest.importorskip("qiskit_machine_learning")


@pytest.mark.parametrize(
    "spec",
    [AnsatzSpec("ry_tree", "rank_one", 7), AnsatzSpec("brickwork_rzz", "z_diagonal", 4, layers=1, n_readouts=3)],
    ids=["tied_tree", "brickwork"],
)
def test_values_and_gradients_agree(spec, rng):
    program = build_program(spec)
    bound = BoundProgram(program, rng.normal(size=program.n_angles), rng.normal(size=program.n_readouts))
    x = np.zeros((2, 2**program.n_qubits))
    x[:, : program.n_amplitudes] = rng.normal(size=(2, program.n_amplitudes))
    x = normalise(x)[0]
    network = to_qnn(bound, StatevectorEstimator())
    angles = loader_angles(tree_layout(program.n_amplitudes), x)
    evaluator = ExactEvaluator()
    values = environment.energies(evaluator, bound, x).values
    np.testing.assert_allclose(network.forward(angles, bound.theta)[:, 0], values, atol=1e-8)
    input_gradients, weight_gradients = network.backward(angles, bound.theta)
    task = loader_task(program)
    shifted = shifted_parameters(loader_parameters(program, x, bound.theta), range(task.n_preparation))
    (result,) = evaluator.evaluate([Request(task, shifted)])
    slopes = shift_derivatives(result.weighted(bound.weights)[0], n_columns=task.n_preparation)
    np.testing.assert_allclose(input_gradients[:, 0], slopes, atol=1e-8)
    for row, state in enumerate(x):
        gradient = density.theta_gradient(evaluator, bound, np.outer(state, state))
        np.testing.assert_allclose(weight_gradients[row, 0], gradient.theta, atol=1e-8)
