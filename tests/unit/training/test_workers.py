"""Sums over frames on several processes and on a Dask cluster, against those of one process."""

import importlib.util
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from contracts.force_field.quantum_model import SMALL, labelled_frames

from qiskit_qff.errors import BackendError, ConfigError
from qiskit_qff.model.config import TrainConfig
from qiskit_qff.structures.species import species_of
from qiskit_qff.training.budget import fit_pool
from qiskit_qff.training.statistics import find_shortest, pool_statistics, quadratic_statistics
from qiskit_qff.training.trainer import loss_weights, prepare, train
from qiskit_qff.training.workers import Workers, dask_workers, process_workers

needs_dask = pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="distributed is not installed")
CONFIG = TrainConfig.model_validate(SMALL)


@contextmanager
def two_processes():
    with process_workers(2) as workers:
        yield workers


@contextmanager
def local_cluster():
    from distributed import LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        dask_workers(cluster.scheduler_address) as workers,
    ):
        assert workers.count == 2
        yield workers


def silent(stage, done, total):
    """Report nothing."""


def assert_close(value, expected):
    np.testing.assert_allclose(value, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("start", [two_processes, pytest.param(local_cluster, marks=needs_dask)])
def test_merged_sums_equal_serial_ones(start):
    frames = labelled_frames(7)
    species, weights = species_of(frames), loss_weights(CONFIG)
    shortest = find_shortest(frames, species, 5.0, silent)
    maps = prepare(frames, CONFIG).maps
    options = {"settings": fit_pool(CONFIG.descriptor, species), "weights": weights}
    told = []

    def tell(stage, done, total):
        told.append((stage, done, total))

    pool = pool_statistics(frames, species, shortest, progress=silent, **options)
    serial = quadratic_statistics(frames, maps, r_cut=5.0, weights=weights, progress=silent)
    with start() as workers:
        merged_pool = pool_statistics(frames, species, shortest, progress=tell, workers=workers, **options)
        merged = quadratic_statistics(frames, maps, r_cut=5.0, weights=weights, progress=tell, workers=workers)
    assert_close(merged_pool.mean, pool.mean)
    for z in species:
        assert_close(merged_pool.covariance[z], pool.covariance[z])
    for ours, theirs in ((merged_pool.equations, pool.equations), (merged.equations, serial.equations)):
        assert_close(ours.gram, theirs.gram)
        assert_close(ours.moment, theirs.moment)
        assert ours.constant == pytest.approx(theirs.constant, rel=1e-12)
    np.testing.assert_array_equal(merged.references.baseline, serial.references.baseline)
    assert told == [(stage, done, 7) for stage in ("pool", "statistics") for done in (0, 3, 7)]


def test_training_on_two_processes_gives_the_same_force_field():
    noise = np.random.default_rng(1)
    # Exact labels are fitted nearly exactly, and rounding decides which channels do so.
    frames = [replace(f, forces=f.forces + noise.normal(0.0, 0.05, f.forces.shape)) for f in labelled_frames(5)]
    alone = train(frames, CONFIG, rng=np.random.default_rng(0))
    with process_workers(2) as workers:
        shared = train(frames, CONFIG, rng=np.random.default_rng(0), workers=workers)
    assert shared.loss == pytest.approx(alone.loss, rel=1e-6)
    np.testing.assert_allclose(
        shared.force_field.predict(frames[0]).forces, alone.force_field.predict(frames[0]).forces, atol=1e-4
    )


def test_more_workers_than_frames():
    frames = labelled_frames(2)
    with process_workers(1) as workers:
        many = Workers(workers.executor, 5)
        assert prepare(frames, CONFIG, workers=many).maps.keys() == prepare(frames, CONFIG).maps.keys()


def test_no_workers():
    with pytest.raises(ConfigError, match="at least one process"), process_workers(0):
        pass


@needs_dask
@pytest.mark.filterwarnings("ignore")
def test_no_scheduler():
    with pytest.raises(BackendError, match="no Dask scheduler answers"), dask_workers("tcp://127.0.0.1:9", timeout=0.5):
        pass
