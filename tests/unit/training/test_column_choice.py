"""Columns are chosen again where their coefficients nearly cancel and shot noise would drown the model."""

from dataclasses import replace

import numpy as np
import pytest

from qiskit_qff.compression.compressor import SizeLimits
from qiskit_qff.compression.forward_selection import ForwardSelection, eligible_columns, select_columns
from qiskit_qff.compression.normal_equations import NormalEquations
from qiskit_qff.model.config import parse_config
from qiskit_qff.structures.shipped import read_shipped
from qiskit_qff.structures.species import species_of
from qiskit_qff.training.balance import BalancedObjective
from qiskit_qff.training.column_choice import MUCH, choose_columns, noise_of_choice
from qiskit_qff.training.defaults import resolve_config
from qiskit_qff.training.pool_sums import sum_pool
from qiskit_qff.training.statistics import find_shortest
from qiskit_qff.training.trainer import fit, loss_weights, prepare

SMALL = {"max_parameters": 40, "descriptor": {"r_cut": 4.0, "l_max": 1, "n_radial": 2}, "loss": {"shots": 4096}}


def silent(*_):
    """Report nothing."""


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
    return sum_pool(frames, species, shortest, config, loss_weights(config), silent)


def test_loss_and_noise_are_those_of_training(frames, config, pool):
    prepared = prepare(frames, config, pool=pool)
    choice = noise_of_choice(pool, prepared.selection, config, ForwardSelection())
    objective = prepared.objective
    linear, coefficients, references = objective.linear_solution()
    balanced = BalancedObjective(objective, np.ones(len(coefficients)))
    noise = balanced.shot_noise(np.concatenate([*coefficients, references]))
    # The pool's sums are those of all frames together; they know nothing of squares, whose noise is small.
    per_frame = linear / choice.loss
    assert choice.noise * per_frame == pytest.approx(noise, rel=0.03)
    assert noise > 0.0
    # Training may end a little above or, by its squares, below.
    result = fit(prepared, rng=np.random.default_rng(0))
    assert choice.reachable * per_frame == pytest.approx(result.restarts[0].losses[-1], rel=0.05)
    assert choice.trained * per_frame == pytest.approx(result.loss, rel=0.05)
    assert choice.loss < choice.trained < choice.reachable


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


def test_columns_that_cancel_are_left_where_noise_would_cost_more(config, pool):
    changed, pair, third = cancelling(pool, 1e4)
    species = len(pool.tables.species)
    # Two features each: the readout of a single one is an eigenvector's, without noise.
    limits, selector = SizeLimits(total=2 * species, per_species=2, equal=False, least=2), ForwardSelection()
    plain = selector.path(changed, limits)
    chosen = choose_columns(changed, config, limits, selector, progress=silent)
    before, after = (noise_of_choice(changed, path, config, selector) for path in (plain, chosen))
    assert pair <= set(plain.columns.tolist())
    assert third in chosen.columns
    assert not pair <= set(chosen.columns.tolist())
    assert before.noise > MUCH * before.loss
    assert after.noise < 0.1 * before.noise
    assert after.reachable < 0.5 * before.reachable
    assert after.trained < 0.5 * before.trained
    noiseless = config.model_copy(update={"loss": config.loss.model_copy(update={"shots": None})})
    other = choose_columns(changed, noiseless, limits, selector, progress=silent)
    assert other.columns.tolist() == plain.columns.tolist()


def test_little_noise_changes_nothing(config, pool):
    limits, selector = SizeLimits(total=12, per_species=7, equal=False), ForwardSelection()
    plain = selector.path(pool, limits)
    found = noise_of_choice(pool, plain, config, selector)
    assert found.noise <= MUCH * found.loss
    chosen = choose_columns(pool, config, limits, selector, progress=silent)
    assert chosen.columns.tolist() == plain.columns.tolist()


def test_first_columns_that_depend_on_others_are_passed_over():
    rows = np.random.default_rng(0).normal(size=(50, 4))
    rows[:, 1] = rows[:, 0] + 1e-3 * rows[:, 1]
    labels = rows @ [1.0, 0.0, 2.0, 3.0]
    path = select_columns(
        rows.T @ rows, rows.T @ labels, np.zeros(4, dtype=np.int64), SizeLimits(total=3, per_species=3, equal=False),
        constant=float(labels @ labels), first=(0, 1, 2), dependent=1e-2,
    )  # fmt: skip
    assert path.columns.tolist() == [0, 2, 3]
