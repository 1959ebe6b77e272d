"""A register as an EstimatorQNN of qiskit-machine-learning has our values and gradients."""

import numpy as np
import pytest
from qiskit.primitives import StatevectorEstimator

from qiskit_qff.circuit.ansatz import (
    AnsatzSpec,
    BoundProgram,
    build_program,
    diagonal_observable,
    operator_matrix,
    readout_jacobian,
)
from qiskit_qff.encoding.tree import loader_angles, loader_circuit

networks = pytest.importorskip("qiskit_machine_learning.neural_networks")
gradients = pytest.importorskip("qiskit_machine_learning.gradients")


def network_of(bound, estimator):
    """Inputs are the loader's angles, weights are θ; the output is the energy of a normalised state."""
    loader = loader_circuit(bound.program.n_amplitudes)
    return networks.EstimatorQNN(
        circuit=loader.compose(bound.program.circuit),
        estimator=estimator,
        observables=[diagonal_observable(bound.weights @ bound.program.readouts)],
        input_params=list(loader.parameters),
        weight_params=list(bound.program.circuit.parameters),
        gradient=gradients.ParamShiftEstimatorGradient(estimator),
        default_precision=0.0,
    )


def agree(network, bound, rng):
    program = bound.program
    x = np.zeros((2, 2**program.n_qubits))
    x[:, : program.n_amplitudes] = rng.normal(size=(2, program.n_amplitudes))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    angles, matrix = loader_angles(program.n_amplitudes, x), operator_matrix(program, bound.theta, bound.weights)
    values = np.einsum("bi,ij,bj->b", x, matrix, x)
    np.testing.assert_allclose(network.forward(angles, bound.theta)[:, 0], values, atol=1e-8)
    _, by_theta = network.backward(angles, bound.theta)
    slopes = np.einsum("k,akij,bi,bj->ba", bound.weights, readout_jacobian(program, bound.theta), x, x)
    np.testing.assert_allclose(by_theta[:, 0], slopes, atol=1e-8)


@pytest.mark.parametrize(
    "spec",
    [AnsatzSpec("ry_tree", "rank_one", 7), AnsatzSpec("brickwork_rzz", "z_diagonal", 4, layers=1, n_readouts=3)],
    ids=["tied_tree", "brickwork"],
)
def test_values_and_gradients_agree(spec, rng):
    program = build_program(spec)
    bound = BoundProgram(program, rng.normal(size=program.n_angles), rng.normal(size=program.n_readouts))
    agree(network_of(bound, StatevectorEstimator()), bound, rng)
