"""Fixtures shared by all tests."""

import numpy as np
import pytest
from hypothesis import settings

# Kernels compile on first use and CI machines are shared: a slow example is no error.
settings.register_profile("qiskit_qff", deadline=None, derandomize=True)
settings.load_profile("qiskit_qff")


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same in every run."""
    return np.random.default_rng(20240)
