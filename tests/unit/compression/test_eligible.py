"""Channels that hardly vary are not chosen, however well they would fit."""

import numpy as np
import pytest

from qiskit_qff.compression.normal_equations import NormalEquations
from qiskit_qff.compression.search import SizeLimits
from qiskit_qff.compression.selection import LEAST_DEVIATION, PoolStatistics, eligible_columns, select_channels
from qiskit_qff.descriptors.channels import make_tables
from qiskit_qff.descriptors.pool import PoolSettings, build_channels
from qiskit_qff.errors import DataError


def statistics(deviations):
    """One species whose channels have given deviations; the label is the channel that varies least."""
    channels = build_channels(18, {18: 3.0}, PoolSettings(n_narrow=2, n_broad=2, powers=(1.0,), n_radial=2, l_max=0))
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, channels.n_channels)) * deviations[: channels.n_channels]
    labels = rows[:, int(np.argmin(deviations[: channels.n_channels]))] / deviations.min() + 0.1 * rng.normal(size=50)
    equations = NormalEquations.empty(channels.n_channels)
    equations.add(rows.copy(), labels, np.ones(50))
    equations.symmetric()
    covariance = {18: np.diag(deviations[: channels.n_channels] ** 2)}
    mean = np.zeros(channels.n_channels)
    return PoolStatistics({18: channels}, make_tables({18: channels}, 5.0), mean, covariance, equations)


def test_channels_seen_by_their_tail_are_left_out():
    deviations = np.full(20, 0.5)
    deviations[3] = 0.2 * LEAST_DEVIATION
    chosen = statistics(deviations)
    assert not eligible_columns(chosen)[3]
    path = select_channels(chosen, SizeLimits(4, 7))
    assert 3 not in path.columns
    assert len(path.columns) == 4


def test_a_species_where_nothing_varies_much_keeps_what_it_has():
    deviations = np.full(20, 0.1 * LEAST_DEVIATION)
    deviations[3] *= 0.5
    assert eligible_columns(statistics(deviations)).all()


def test_a_species_where_only_rounding_varies_is_refused():
    with pytest.raises(DataError, match="same surroundings"):
        eligible_columns(statistics(np.full(20, 1e-15)))
