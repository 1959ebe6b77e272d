"""Energies of several compositions are shown about the mean of their own."""

from dataclasses import replace

import numpy as np
import pytest

from qiskit_qff.model.metrics import Comparison
from qiskit_qff.report.figures import parity_energy


@pytest.fixture
def comparison() -> Comparison:
    """Two compositions, 40 eV/atom apart."""
    energies = np.array([-300.0, -300.01, -340.0, -340.02])
    nothing = np.empty((0, 3))
    return Comparison(4, 8, energies, energies + 0.001, nothing, nothing, np.empty(0, int), compositions=tuple("aabb"))


def shown(figure) -> np.ndarray:
    return np.concatenate([points.get_offsets() for points in figure.axes[0].collections])


def test_each_about_its_own_mean(comparison) -> None:
    sets = {"train": replace(comparison), "test": comparison}
    found = shown(parity_energy(sets))
    np.testing.assert_allclose(found[:4, 0], [5.0, -5.0, 10.0, -10.0], atol=1e-6)
    np.testing.assert_allclose(found[:, 1] - found[:, 0], 1.0, atol=1e-6)
    assert "composition mean" in parity_energy(sets).axes[0].get_xlabel()
