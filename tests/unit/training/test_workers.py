"""Sums over frames on several processes and on a Dask cluster, against those of one process."""

import importlib.util
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from contracts.force_field.quantum_model import SMALL, labelled_frames
from fitting import fitted

from qiskit_qff.compression.product_pool import product_pool
from qiskit_qff.errors import BackendError, ConfigError
from qiskit_qff.model.config import TrainConfig
from qiskit_qff.structures.species import species_of
from qiskit_qff.training.budget import fit_pool, register_sizes
from qiskit_qff.training.statistics import channel_statistics, find_shortest, pool_statistics, quadratic_statistics
from qiskit_qff.training.trainer import loss_weights, prepare
from qiskit_qff.training.workers import SUMS_LIMIT, Workers, dask_workers, process_workers, sum_frames, thread_workers

needs_dask = pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="distributed is not installed")
CONFIG = TrainConfig.model_validate(SMALL)


@contextmanager
def two_processes():
    with process_workers(2) as workers:
        yield workers


@contextmanager
def two_threads():
    with thread_workers(2) as workers:
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


def merged_on_threads(start):
    return start is two_threads


class Slow:
    """Sums that take their time, tell of every frame, and count those begun."""

    def __init__(self, n_bytes):
        self.n_bytes, self.begun = n_bytes, []

    def __call__(self, frames, progress=None):
        for k, frame in enumerate(frames):
            progress(k)
            self.begun.append(frame)
            time.sleep(0.01)
        return Total(len(frames))


class Total:
    """A number of frames."""

    def __init__(self, count):
        self.count, self.parts = count, 1

    def merge(self, other):
        self.count += other.count
        self.parts += other.parts


def test_an_error_on_one_thread_ends_all_at_once():
    work = Slow(8)

    def fail(stage, done, total):
        if (stage, done, total) == ("slow", 5, 400):
            raise ConfigError("five is too many")

    with thread_workers(2) as workers, pytest.raises(ConfigError, match="five"):
        sum_frames(work, [None] * 400, stage="slow", progress=fail, workers=workers)
    assert len(work.begun) < 20


@pytest.mark.parametrize(("n_bytes", "parts"), [(8, 4), (SUMS_LIMIT // 2, 2), (2 * SUMS_LIMIT, 1)])
def test_large_sums_are_held_by_fewer_threads(n_bytes, parts):
    with thread_workers(4) as workers:
        total = sum_frames(Slow(n_bytes), [None] * 8, stage="slow", progress=silent, workers=workers)
    assert (total.count, total.parts) == (8, parts)


def assert_close(value, expected):
    np.testing.assert_allclose(value, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("start", [two_threads, two_processes, pytest.param(local_cluster, marks=needs_dask)])
def test_merged_sums_equal_serial_ones(start):
    frames = labelled_frames(7)
    species, weights = species_of(frames), loss_weights(CONFIG)
    shortest = find_shortest(frames, species, 5.0, silent)
    maps = prepare(frames, CONFIG).maps
    registers = {z: register_sizes(CONFIG, m.n_features) for z, m in maps.items()}
    options = {"settings": fit_pool(CONFIG.descriptor, species), "weights": weights}
    told = []

    def tell(stage, done, total):
        told.append((stage, done, total))

    pool = pool_statistics(frames, species, shortest, progress=silent, **options)
    serial = quadratic_statistics(frames, maps, registers, r_cut=5.0, weights=weights, progress=silent)
    sets, _ = product_pool(pool, most=50, selected=10)
    more = {"r_cut": 5.0, "weights": weights, "stage": "products 1"}
    products = channel_statistics(frames, species, sets, progress=silent, **more)
    with start() as workers:
        merged_products = channel_statistics(frames, species, sets, progress=silent, workers=workers, **more)
        merged_pool = pool_statistics(frames, species, shortest, progress=tell, workers=workers, **options)
        merged = quadratic_statistics(
            frames, maps, registers, r_cut=5.0, weights=weights, progress=tell, workers=workers
        )
    for ours, theirs in ((merged_pool, pool), (merged_products, products)):
        assert_close(ours.mean, theirs.mean)
        for z in species:
            assert_close(ours.covariance[z], theirs.covariance[z])
    pairs = ((merged_pool, pool), (merged_products, products), (merged, serial))
    for ours, theirs in ((ours.equations, theirs.equations) for ours, theirs in pairs):
        assert_close(ours.gram, theirs.gram)
        assert_close(ours.moment, theirs.moment)
        assert ours.constant == pytest.approx(theirs.constant, rel=1e-12)
    np.testing.assert_array_equal(merged.references.baseline, serial.references.baseline)
    steps = range(8) if merged_on_threads(start) else (0, 3, 7)
    assert told == [(stage, done, 7) for stage in ("pool", "statistics") for done in steps]


def test_training_on_two_processes_gives_the_same_force_field():
    noise = np.random.default_rng(1)
    # Exact labels are fitted nearly exactly, and rounding decides which channels do so.
    frames = [replace(f, forces=f.forces + noise.normal(0.0, 0.05, f.forces.shape)) for f in labelled_frames(5)]
    # With many registers rounding also decides which signs of their weights are tried to the end.
    config = CONFIG.model_copy(update={"max_parameters": 20})
    alone = fitted(frames, config, rng=np.random.default_rng(0))
    with process_workers(2) as workers:
        shared = fitted(frames, config, rng=np.random.default_rng(0), workers=workers)
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
