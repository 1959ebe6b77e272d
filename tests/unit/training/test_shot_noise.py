"""The closed form of shot noise against sampling, its gradient against finite differences, and what it buys."""

import numpy as np
import pytest

from qiskit_qff.circuit.ansatz import AnsatzSpec, build_program
from qiskit_qff.circuit.program import BoundProgram
from qiskit_qff.evaluators.exact import SampledEvaluator
from qiskit_qff.evaluators.strategies.operator import measure_operator
from qiskit_qff.training.shot_noise import RegisterNoise

SPECS = [
    AnsatzSpec("brickwork_cz", "z_diagonal", 8, layers=2, n_readouts=4),
    AnsatzSpec("brickwork_rzz", "rank_one", 8, layers=1),
]
IDS = ["brickwork", "complex"]


def gram_of_entries(rng, size):
    """A positive semidefinite Gram matrix of the upper triangle of M."""
    rows = rng.normal(size=(40, size * (size + 1) // 2))
    return rows.T @ rows / 40


@pytest.mark.parametrize("size", [8, 6])
@pytest.mark.parametrize("spec", SPECS, ids=IDS)
def test_gradient_and_curvature(spec, size, rng):
    noise = RegisterNoise.from_gram(spec, size, gram_of_entries(rng, size))
    theta, weights = rng.normal(size=spec.n_angles), rng.normal(size=spec.n_readouts)
    value, gradient, curvature = noise.quadratic_model(theta, weights)
    assert value == pytest.approx(noise.value(theta, weights), rel=1e-12)
    p = np.concatenate([theta, weights])
    slopes = [
        (noise.value(*np.split(p + h, [len(theta)])) - noise.value(*np.split(p - h, [len(theta)]))) / 2e-5
        for h in 1e-5 * np.eye(len(p))
    ]
    np.testing.assert_allclose(2.0 * gradient, slopes, rtol=1e-5, atol=1e-6 * np.abs(slopes).max())
    assert np.linalg.eigvalsh(curvature)[0] > -1e-9 * np.trace(curvature)


@pytest.mark.parametrize("spec", SPECS, ids=IDS)
def test_it_is_the_average_rise_of_the_loss(spec, rng):
    gram = gram_of_entries(rng, spec.n_amplitudes)
    gram[0] = gram[:, 0] = 0.0  # M_00 is left to the reference energy
    theta, weights = rng.normal(size=spec.n_angles), rng.normal(size=spec.n_readouts)
    bound = BoundProgram(build_program(spec), theta, weights)
    exact = measure_operator(SampledEvaluator(rng, shots=10**9), bound).matrix
    rises, upper = [], np.triu_indices(spec.n_amplitudes)
    for _ in range(300):
        error = (measure_operator(SampledEvaluator(rng, shots=1000), bound).matrix - exact)[upper]
        rises.append(error @ gram @ error)
    expected = RegisterNoise.from_gram(spec, spec.n_amplitudes, gram).value(theta, weights) / 1000
    assert np.mean(rises) == pytest.approx(expected, rel=0.15)
