"""Columns are chosen again where their coefficients nearly cancel and shot noise would drown the model."""

import numpy as np
import pytest
from fitting import silent

from qiskit_qff.model.config import parse_config
from qiskit_qff.structures.dataset import read_shipped
from qiskit_qff.structures.frame import species_of
from qiskit_qff.training.objective import BalancedRegister
from qiskit_qff.training.pipeline import resolve_config
from qiskit_qff.training.statistics import LossWeights, find_shortest
from qiskit_qff.training.trainer import choose_channels, fit, noise_of_choice, prepare, size_limits, sum_pool

SHOTS = 4096
SMALL = {
    "max_parameters": 40,
    "descriptor": {"r_cut": 4.0, "l_max": 1, "n_radial": 2},
    "loss": {"shots": SHOTS},
}


@pytest.fixture(scope="module")
def frames():
    return read_shipped()[:6]


@pytest.fixture(scope="module")
def config(frames):
    return resolve_config(parse_config(SMALL, where="test"), frames)[0]


@pytest.fixture(scope="module")
def pool(frames, config):
    species = species_of(frames)
    shortest = find_shortest(frames, species, config.descriptor.r_cut, silent)
    return sum_pool(frames, species, shortest, config, LossWeights.of(config), silent)


def test_loss_and_noise_are_those_of_training(frames, config, pool):
    prepared = prepare(frames, config, pool=pool)
    limits = size_limits(config, species_of(frames), 1)
    choice = noise_of_choice(pool, choose_channels(pool, config, limits), config, SHOTS)
    objective = prepared.objective
    linear, coefficients, _ = objective.linear_solution()
    # The pool's sums are those of all frames together, and know nothing of squares.
    statistics, per_frame, noise = objective.statistics, linear / choice.loss, 0.0
    for beta, start, size in zip(coefficients, statistics.starts, statistics.sizes, strict=False):
        block = statistics.equations.gram[start:, start:][: size * (size + 1) // 2, : size * (size + 1) // 2].copy()
        block[size:] = block[:, size:] = 0.0
        register = BalancedRegister.of(block, int(size), config.circuit.n_qubits)
        noise += register.shot_noise(beta, 1.0)[0] / config.loss.shots
    assert choice.noise * per_frame == pytest.approx(noise, rel=1e-3)
    assert noise > 0.0
    # Training may end a little above or, by its squares, below.
    result = fit(prepared, rng=np.random.default_rng(0))
    assert choice.trained * per_frame == pytest.approx(result.loss, rel=0.05)
    assert choice.loss < choice.trained
