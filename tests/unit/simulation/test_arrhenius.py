"""Activation energies: exact lines, independent fits, and error bars that hold what they say."""

import numpy as np
import pytest
from ase import units
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from qiskit_qff.simulation.transport import fit_arrhenius

TEMPERATURES = np.array([500.0, 600.0, 750.0, 900.0])


def exact(temperatures, activation=0.25, prefactor=3e-3):
    return prefactor * np.exp(-activation / (units.kB * temperatures))


@settings(max_examples=30, deadline=None)
@given(activation=st.floats(0.05, 1.0), prefactor=st.floats(1e-5, 1e-1), n_points=st.integers(2, 6))
def test_a_line_is_found_again(activation, prefactor, n_points):
    temperatures = np.linspace(400.0, 1000.0, n_points)
    values = exact(temperatures, activation, prefactor)
    fitted = fit_arrhenius(temperatures, values, 0.1 * values)
    assert fitted.activation_ev == pytest.approx(activation)
    assert fitted.prefactor_cm2_per_s == pytest.approx(prefactor)
    assert fitted.diffusivity(300.0)[0] == pytest.approx(exact(300.0, activation, prefactor))


def test_agrees_with_an_unlinearised_fit(rng):
    errors = np.array([0.2, 0.1, 0.05, 0.02]) * exact(TEMPERATURES)
    values = exact(TEMPERATURES) + 0.1 * errors * rng.standard_normal(4)
    fitted = fit_arrhenius(TEMPERATURES, values, errors)

    def model(temperatures, activation, logarithm_at_300):
        return np.exp(logarithm_at_300 - activation / units.kB * (1.0 / temperatures - 1.0 / 300.0))

    (activation, at_300), covariance = curve_fit(
        model, TEMPERATURES, values, p0=(0.2, -15.0), sigma=errors, absolute_sigma=True
    )
    assert fitted.activation_ev == pytest.approx(activation, rel=0.02)
    assert fitted.activation_error_ev == pytest.approx(np.sqrt(covariance[0, 0]), rel=0.1)
    value, error = fitted.diffusivity(300.0)
    assert np.log(value) == pytest.approx(at_300, abs=0.1 * error)
    assert error == pytest.approx(np.sqrt(covariance[1, 1]), rel=0.1)


def test_error_bars_cover_the_truth(rng):
    """Each D with an error bar that is itself estimated from ten blocks, as in practice."""
    activation, at_300 = [], []
    for _ in range(600):
        blocks = exact(TEMPERATURES)[:, None] * (1 + 0.3 * rng.standard_normal((4, 10)))
        fitted = fit_arrhenius(TEMPERATURES, blocks.mean(axis=1), blocks.std(axis=1, ddof=1) / np.sqrt(10))
        value, error = fitted.diffusivity(300.0)
        activation.append((fitted.activation_ev - 0.25) / fitted.activation_error_ev)
        at_300.append(np.log(value / exact(300.0)) / error)
    for scaled in (activation, at_300):
        assert abs(np.mean(scaled)) < 0.15
        assert 0.90 < np.mean(np.abs(scaled) < 2.0) < 0.99
