"""Pools of products: what is in them, how large they get, and that a model finds an energy that only they can give."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from fitting import fitted, silent

from qiskit_qff.descriptors.channels import PoolSettings, make_tables
from qiskit_qff.model.config import parse_config
from qiskit_qff.training import trainer
from qiskit_qff.training.statistics import LossWeights, channel_rows, find_shortest, pool_statistics

SPECIES, WEIGHTS = (10, 18), LossWeights()
SETTINGS = PoolSettings(r_cut=4.5, n_narrow=4, n_broad=2, powers=(2.0, 6.0), n_radial=2, l_max=1, bonds=False)
DESCRIPTOR = {"r_cut": 4.5, "n_radial": 2, "l_max": 1}


@pytest.fixture(scope="module")
def simple(frames):
    shortest = find_shortest(frames, SPECIES, 4.5, silent)
    return pool_statistics(frames, SPECIES, shortest, settings=SETTINGS, weights=WEIGHTS, progress=silent)


@pytest.fixture(scope="module")
def bent(frames, simple):
    """Frames whose energy is a product of two channels of argon, which no sum of channels is."""
    channels, mean = simple.sets[18], simple.mean[simple.tables.channel_start[1] :]
    one, other = 2, len(channels.pair_species) + 3
    offsets = np.array([[mean[one], mean[other]]]) * np.array([[0.7, 1.2]])
    widths = 3.0 * np.sqrt(np.diagonal(simple.covariance[18]))[[[one, other]]]
    truth = channels.with_products(np.array([[one, other]]), offsets, widths).subset(np.array([channels.n_channels]))[0]
    tables = make_tables({10: simple.sets[10], 18: truth}, 4.5)
    labelled = []
    for frame in frames:
        energy, others = channel_rows(tables, frame)
        forces = others[: 3 * frame.n_atoms, -1]
        labelled.append(replace(frame, energy=3.0 * energy[-1], forces=3.0 * forces.reshape(-1, 3)))
    return labelled


def test_a_product_is_found(bent, monkeypatch):
    """The products of selected channels hold it; without them the error is what the linear part leaves."""
    monkeypatch.setattr(trainer, "PoolSettings", partial(PoolSettings, bonds=False))
    errors = {}
    for products in (0, 1):
        config = parse_config(
            {"descriptor": DESCRIPTOR | {"products": products}, "loss": {"shots": None}, "max_parameters": 60},
            where="test",
        )
        result = fitted(bent, config, rng=np.random.default_rng(0))
        found = [
            [np.abs(model.predict(f).forces - f.forces).mean() for f in bent]
            for model in (result.force_field, result.linear)
        ]
        errors[products] = np.mean(found, axis=1)
    # Products within registers already find part of it without that: compare with the linear model.
    assert (errors[1] < 0.2 * errors[0][1]).all(), errors
    assert errors[1][0] < errors[0][0]
