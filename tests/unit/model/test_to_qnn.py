"""A force field's EstimatorQNN: values and gradients of qiskit-machine-learning against ours."""

import numpy as np
import pytest
from qiskit.primitives import StatevectorEstimator

from qiskit_qff.circuit.ansatz import BoundProgram
from qiskit_qff.circuit.compiled import operator_matrix, readout_jacobian
from qiskit_qff.encoding.tree import loader_angles, loader_jacobian, normalise, tree_layout
from qiskit_qff.evaluators.exact import ExactEvaluator
from qiskit_qff.evaluators.protocol import Request
from qiskit_qff.evaluators.tasks import loader_parameters, loader_task, shift_derivatives, shifted_parameters
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.structures.reading import read_frames


@pytest.fixture(scope="module")
def field(trained) -> ForceField:
    return ForceField.load(trained / "run" / "model.json")


def test_values_and_gradients_are_ours(trained, field) -> None:
    pytest.importorskip("qiskit_machine_learning")
    frame = read_frames(trained / "data.extxyz")[0]
    for key, register in field.registers.items():
        program = register.bound_program().program
        network = field.to_qnn(key, StatevectorEstimator())
        states = normalise(field.amplitudes(frame)[key][:2])[0]
        angles = loader_angles(tree_layout(program.n_amplitudes), states)
        theta, weights = register.theta, register.weights
        matrix = operator_matrix(program, theta, weights)
        values = np.einsum("bi,ij,bj->b", states, matrix, states)
        assert np.allclose(network.forward(angles, theta)[:, 0], values, rtol=0, atol=1e-8)
        slopes = np.einsum("k,akij,bi,bj->ba", weights, readout_jacobian(program, theta), states, states)
        by_input, by_theta = network.backward(angles, theta)
        assert np.allclose(by_theta[:, 0], slopes, rtol=0, atol=1e-8)
        bound = BoundProgram(program, theta, weights)
        layout = tree_layout(program.n_amplitudes)
        shifted = shifted_parameters(loader_parameters(program, states, theta), range(layout.n_gates))
        (moved,) = ExactEvaluator().evaluate([Request(loader_task(program), shifted)])
        ours = shift_derivatives(moved.weighted(bound.weights)[0], n_columns=layout.n_gates)
        assert np.allclose(by_input[:, 0], ours, rtol=0, atol=1e-8)
        # The same through our gradients with respect to x: moving x along itself turns no angle.
        gradients = 2 * (states @ matrix - values[:, None] * states)
        jacobian = loader_jacobian(layout, states)
        assert np.allclose(np.einsum("bg,bgj->bj", by_input[:, 0], jacobian), gradients, rtol=0, atol=1e-8)
