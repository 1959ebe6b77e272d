"""Sums over pure degrees, turned into those over other angular functions, equal sums made with these functions."""

import numpy as np
from fitting import silent

from qiskit_qff.descriptors.channels import make_tables
from qiskit_qff.descriptors.pool import PoolSettings
from qiskit_qff.training.loss import LossWeights, eliminate_last, fit_references
from qiskit_qff.training.statistics import _PoolSums, find_shortest, pool_statistics


def test_reshaped_sums_equal_direct_ones(frames):
    species, weights = (10, 18), LossWeights()
    shortest = find_shortest(frames, species, 4.5, silent)
    settings = PoolSettings(r_cut=4.5, n_narrow=3, n_broad=2, powers=(2.0,), n_radial=2, l_max=3)
    found = pool_statistics(frames[:4], species, shortest, settings=settings, weights=weights, progress=silent)
    sums = _PoolSums(make_tables(found.sets, 4.5), fit_references(frames[:4], species), weights)
    for frame in frames[:4]:
        sums.add(frame)
    sums.equations.symmetric()
    direct = eliminate_last(sums.equations, sums.references.count)
    scale = np.sqrt(np.diagonal(direct.gram))
    scale[scale == 0.0] = 1.0
    np.testing.assert_allclose(
        found.equations.gram / np.outer(scale, scale), direct.gram / np.outer(scale, scale), atol=1e-7
    )
    np.testing.assert_allclose(found.equations.moment / scale, direct.moment / scale, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found.mean, sums.moments.mean(), atol=1e-10)
    for number, covariance in sums.moments.covariance().items():
        np.testing.assert_allclose(found.covariance[number], covariance, atol=1e-9)
    assert found.tables.channel_start[-1] == len(found.mean)
