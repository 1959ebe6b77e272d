"""A pool of channels that would be too large is refused with its size, and what to change."""

import pytest

from qiskit_qff.errors import ConfigError
from qiskit_qff.model.config import DescriptorConfig
from qiskit_qff.training.trainer import MAX_POOL, fit_pool


def test_defaults_are_lowered_and_what_was_given_is_not():
    free = DescriptorConfig(n_radial=5)
    lowered = fit_pool(free, 6, lower=True).n_radial
    assert lowered < 5
    settings = fit_pool(DescriptorConfig(n_radial=lowered), 6)
    assert settings.n_radial == lowered
    assert 6 * settings.n_channels(6) <= MAX_POOL
    with pytest.raises(ConfigError, match=r"n_radial 9, l_max 4.*Lower n_radial or l_max"):
        fit_pool(DescriptorConfig(n_radial=9), 6)
