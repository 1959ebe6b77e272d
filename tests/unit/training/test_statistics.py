"""Sums over frames on several threads, against those of one."""

import numpy as np
import pytest
from contracts.force_field.quantum_model import SMALL, labelled_frames
from fitting import prepare, silent

from qiskit_qff.compression.selection import product_pool
from qiskit_qff.model.config import TrainConfig
from qiskit_qff.structures.frame import species_of
from qiskit_qff.training.statistics import (
    LossWeights,
    channel_statistics,
    find_shortest,
    pool_statistics,
    quadratic_statistics,
)
from qiskit_qff.training.trainer import fit_pool, register_sizes

CONFIG = TrainConfig.model_validate(SMALL)


def test_merged_sums_equal_serial_ones(monkeypatch):
    frames = labelled_frames(7)
    species, weights = species_of(frames), LossWeights.of(CONFIG)
    shortest = find_shortest(frames, species, 5.0, silent)
    maps = prepare(frames, CONFIG).maps
    registers = {z: register_sizes(CONFIG, m.n_features) for z, m in maps.items()}

    options = {"settings": fit_pool(CONFIG.descriptor, len(species)), "weights": weights, "others": frames[5:]}
    sets, _ = product_pool(
        pool_statistics(frames[:5], species, shortest, progress=silent, **options), most=50, selected=10
    )

    def sums(progress):
        return (
            pool_statistics(frames[:5], species, shortest, progress=progress, **options),
            channel_statistics(frames, sets, r_cut=5.0, weights=weights, progress=silent),
            quadratic_statistics(frames, maps, registers, r_cut=5.0, weights=weights, progress=progress),
        )

    told = []
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    serial = sums(silent)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    merged = sums(lambda *what: told.append(what))
    for ours, theirs in zip(merged[:2], serial[:2], strict=True):
        np.testing.assert_allclose(ours.mean, theirs.mean, atol=1e-12 * np.abs(theirs.mean).max())
        for z in species:
            scale = np.abs(theirs.covariance[z]).max()
            np.testing.assert_allclose(ours.covariance[z], theirs.covariance[z], atol=1e-12 * scale)
    for ours, theirs in zip(merged, serial, strict=True):
        one, other = ours.equations, theirs.equations
        np.testing.assert_allclose(one.gram, other.gram, atol=1e-12 * np.abs(other.gram).max())
        np.testing.assert_allclose(one.moment, other.moment, atol=1e-12 * np.abs(other.moment).max())
        assert one.constant == pytest.approx(other.constant, rel=1e-12)
    assert [what for what in told if what[0] == "pool"] == [("pool", done, 5) for done in range(6)]
    assert [what for what in told if what[0] == "statistics"] == [("statistics", done, 7) for done in range(8)]
