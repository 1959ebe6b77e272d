"""The closed form of shot noise against sampling, its gradient against finite differences, and what it buys."""

import numpy as np
import pytest

from qiskit_qff.circuit.ansatz import AnsatzSpec, angles_for_vector, build_program
from qiskit_qff.circuit.program import BoundProgram
from qiskit_qff.evaluators.exact import SampledEvaluator
from qiskit_qff.evaluators.strategies.operator import measure_operator
from qiskit_qff.training.shot_noise import SpeciesNoise, design_of

SPECS = [
    AnsatzSpec("ry_tree", "rank_one", 7),
    AnsatzSpec("ry_tree", "rank_two", 8, n_readouts=2),
    AnsatzSpec("brickwork_cz", "z_diagonal", 8, layers=2, n_readouts=4),
    AnsatzSpec("brickwork_rzz", "rank_one", 8, layers=1),
]
IDS = ["tree", "two vectors", "brickwork", "complex"]


def gram_of_entries(rng, size):
    """A positive semidefinite Gram matrix of the upper triangle of M."""
    rows = rng.normal(size=(40, size * (size + 1) // 2))
    return rows.T @ rows / 40


@pytest.mark.parametrize("spec", SPECS, ids=IDS)
def test_gradient_and_curvature(spec, rng):
    noise = SpeciesNoise.from_gram(spec, gram_of_entries(rng, spec.n_amplitudes))
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


@pytest.mark.parametrize("spec", [SPECS[1], SPECS[2]], ids=IDS[1:3])
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
    expected = SpeciesNoise.from_gram(spec, gram).value(theta, weights) / 1000
    assert np.mean(rises) == pytest.approx(expected, rel=0.15)


def test_the_first_column_counts_the_linear_terms(rng):
    spec = SPECS[0]
    assert design_of(spec) == "first_column"
    size = spec.n_amplitudes
    gram = np.zeros((size * (size + 1) // 2,) * 2)
    gram[1:size, 1:size] = np.diag(rng.uniform(1.0, 2.0, size - 1))
    vector = np.concatenate([[1.0], 0.4 * rng.normal(size=size - 1)])
    theta, weights = angles_for_vector(spec, vector), np.array([2.0])
    bound = BoundProgram(build_program(spec), theta, weights)
    exact = 2.0 * np.outer(vector, vector)[0] / (vector @ vector)
    rises = []
    for _ in range(300):
        measured = measure_operator(SampledEvaluator(rng, shots=1000), bound, design="first_column")
        error = measured.matrix[0, 1:size] - exact[1:]
        rises.append(error @ gram[1:size, 1:size] @ error)
    expected = SpeciesNoise.from_gram(spec, gram).value(theta, weights) / 1000
    # Completing M with its known weight removes some more.
    assert 0.6 * expected < np.mean(rises) < 1.15 * expected
