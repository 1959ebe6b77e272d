"""dE/dθ of a whole frame through one Estimator, by parameter shift, against the exact derivative."""

import numpy as np
import pytest
from qiskit.primitives import StatevectorEstimator
from qiskit_aer.primitives import EstimatorV2 as AerEstimator

from qiskit_qff.circuit.compiled import readout_jacobian
from qiskit_qff.evaluators.backends import build_evaluator
from qiskit_qff.evaluators.primitive import PrimitiveEvaluator
from qiskit_qff.evaluators.strategies import density
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.structures.reading import read_frames


@pytest.fixture
def registers(trained):
    """Bound program, summed state, and exact gradient of the frame's energy, per register."""
    field = ForceField.load(trained / "run" / "model.json")
    found = []
    for key, x in field.amplitudes(read_frames(trained / "data.extxyz")[0]).items():
        bound = field.registers[key].bound_program()
        rho = density.density_matrix(x)
        jacobian = readout_jacobian(bound.program, bound.theta)
        found.append((bound, rho, np.einsum("jkab,k,ab->j", jacobian, bound.weights, rho)))
    return found


@pytest.mark.parametrize("estimator", [StatevectorEstimator, AerEstimator])
def test_gradient_is_exact_without_shots(registers, estimator):
    for bound, rho, exact in registers:
        gradient = density.theta_gradient(PrimitiveEvaluator(estimator()), bound, rho)
        np.testing.assert_allclose(gradient.theta, exact, atol=1e-8 * max(1.0, np.abs(exact).max()))
        assert gradient.cost.circuits <= 2**bound.program.n_qubits * (2 * bound.program.n_angles + 1)


def test_gradient_is_within_its_errors_with_shots(registers, rng):
    for bound, rho, exact in registers:
        evaluator = build_evaluator("aer", n_qubits=bound.program.n_qubits, shots=1000, rng=rng)
        gradient = density.theta_gradient(evaluator, bound, rho)
        assert (np.abs(gradient.theta - exact) < 5 * gradient.theta_std_errors).all()
