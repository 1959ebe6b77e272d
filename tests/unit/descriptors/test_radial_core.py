"""The distance that radial functions see inside a core."""

import numpy as np
import pytest

from qiskit_qff.descriptors.radial import CORE_WIDTH, core_distance


def test_distance_levels_off_smoothly_below_the_core_radius():
    start = 2.5
    r = np.linspace(1.5, 3.0, 3001)
    seen, slope = np.array([core_distance(x, start) for x in r]).T
    np.testing.assert_array_equal(seen[r >= start], r[r >= start])
    assert seen[0] == pytest.approx(start * (1 - CORE_WIDTH / 2))
    np.testing.assert_allclose(np.gradient(seen, r)[2:-2], slope[2:-2], atol=1e-4)
    curvature = np.gradient(slope, r)
    assert np.abs(np.diff(curvature)).max() < 0.1  # no jump: twice differentiable
    assert np.all(np.diff(seen) >= 0)


def test_no_core_no_change():
    assert core_distance(0.3, 0.0) == (0.3, 1.0)
