"""Columns are chosen again where their coefficients nearly cancel and shot noise would drown the model."""

from dataclasses import replace

import numpy as np
import pytest
from fitting import silent

from qiskit_qff.compression.least_squares import NormalEquations, SizeLimits
from qiskit_qff.compression.selection import eligible_columns, select_channels
from qiskit_qff.model.config import parse_config
from qiskit_qff.structures.dataset import read_shipped
from qiskit_qff.structures.frame import species_of
from qiskit_qff.training import trainer
from qiskit_qff.training.objective import BalancedRegister
from qiskit_qff.training.pipeline import resolve_config
from qiskit_qff.training.statistics import LossWeights, find_shortest
from qiskit_qff.training.trainer import MUCH, choose_channels, fit, noise_of_choice, prepare, size_limits, sum_pool

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


def cancelling(pool, size):
    """Labels that two nearly equal columns of different species explain together, and another nearly as well."""
    starts, gram = pool.tables.channel_start, pool.equations.gram
    owner = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    fit_to_take = eligible_columns(pool)
    scale = 1.0 / np.sqrt(np.maximum(np.diagonal(gram), 1e-300))
    alike = np.abs(gram * np.outer(scale, scale))
    alike[(owner[:, None] == owner) | (alike > 1.0 - 1e-6)] = 0.0
    alike *= np.outer(fit_to_take, fit_to_take)
    first, second = (int(k) for k in np.unravel_index(np.argmax(alike), alike.shape))
    wanted = np.zeros(len(gram))
    wanted[first] = size * scale[first]
    wanted[second] = -np.sign(gram[first, second]) * size * scale[second]
    # A third column of the first one's species becomes what is wanted, and a tenth of its norm something else.
    mine = np.flatnonzero((owner == owner[first]) & fit_to_take)
    third = int(next(k for k in mine[::-1] if k != first and alike[k, second] < 0.9))
    change = np.eye(len(gram))
    change[third] = wanted
    change[third, third] = 0.1 * np.sqrt(wanted @ gram @ wanted) * scale[third]
    moment = change @ gram @ wanted
    equations = NormalEquations(change @ gram @ change.T, moment, 1.001 * float(wanted @ gram @ wanted))
    return replace(pool, equations=equations, start=np.array([first, second])), {first, second}, third


def test_columns_that_cancel_are_left_where_noise_would_cost_more(config, pool, monkeypatch):
    monkeypatch.setattr(trainer, "SEARCH_RESTARTS", 0)
    changed, pair, third = cancelling(pool, 1e4)
    species = len(pool.tables.species)
    # Two features each: the readout of a single one is an eigenvector's, without noise.
    limits = SizeLimits(total=2 * species, per_species=2, least=2)
    plain = select_channels(changed, limits)
    chosen = choose_channels(changed, config, limits)
    before, after = (noise_of_choice(changed, path, config, SHOTS) for path in (plain, chosen))
    assert pair <= set(plain.tolist())
    assert third in chosen
    assert not pair <= set(chosen.tolist())
    assert before.noise > MUCH * before.loss
    assert after.noise < 0.1 * before.noise
    assert after.trained < 0.5 * before.trained
    noiseless = config.model_copy(update={"loss": config.loss.model_copy(update={"shots": None})})
    other = choose_channels(changed, noiseless, limits)
    assert other.tolist() == plain.tolist()
