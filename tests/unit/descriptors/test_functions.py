"""Radial functions, cutoff and spherical harmonics against finite differences and scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import eval_legendre

from qiskit_qff.descriptors.angular import spherical_harmonics
from qiskit_qff.descriptors.cutoff import cutoff_function
from qiskit_qff.descriptors.radial import gaussian_rows, power_rows, radial_values

STEP = 1e-5


def harmonics(vector, l_max=4):
    r = np.linalg.norm(vector)
    values, gradients = np.zeros((l_max + 1) ** 2), np.zeros(((l_max + 1) ** 2, 3))
    work = np.zeros((l_max + 1, l_max + 2))
    spherical_harmonics(*(np.asarray(vector) / r), 1.0 / r, l_max, work, values, gradients)
    return values, gradients


vectors = st.tuples(*[st.floats(-4, 4)] * 3).map(np.array).filter(lambda v: np.linalg.norm(v) > 0.3)


def test_cutoff_ends_smoothly_to_second_derivative():
    inside = np.array([cutoff_function(5.0 - h, 5.0) for h in (0.0, 1e-3, 2e-3)])
    assert inside[0] == pytest.approx([0.0, 0.0])
    curvature = (inside[1, 1] - inside[0, 1]) / 1e-3
    assert abs(curvature) < 0.02  # grows linearly from zero: third derivative of 60/r_cut^3 per Å
    assert cutoff_function(5.1, 5.0) == (0.0, 0.0)
    assert cutoff_function(0.0, 5.0)[0] == 1.0


@given(r=st.floats(0.4, 5.5))
def test_radial_derivative_matches_finite_difference(r):
    rows = np.concatenate(
        [gaussian_rows(np.array([1.1, 2.5]), np.array([0.1, 0.9])), power_rows(np.array([1.0, 12.0]), 2.0)]
    )
    numeric = (radial_values(r + STEP, rows, 5.0)[:, 0] - radial_values(r - STEP, rows, 5.0)[:, 0]) / (2 * STEP)
    exact = radial_values(r, rows, 5.0)[:, 1]
    np.testing.assert_allclose(exact, numeric, rtol=1e-5, atol=1e-7 * max(1.0, np.abs(exact).max()))


@given(u=vectors, v=vectors)
def test_addition_theorem(u, v):
    cosine = float(np.clip(u @ v / np.linalg.norm(u) / np.linalg.norm(v), -1, 1))
    product = harmonics(u)[0] * harmonics(v)[0]
    for degree in range(5):
        total = product[degree**2 : (degree + 1) ** 2].sum()
        assert total == pytest.approx(eval_legendre(degree, cosine), abs=1e-12)


@given(v=vectors)
def test_harmonic_gradient_matches_finite_difference(v):
    numeric = np.stack(
        [(harmonics(v + STEP * e)[0] - harmonics(v - STEP * e)[0]) / (2 * STEP) for e in np.eye(3)], axis=1
    )
    np.testing.assert_allclose(harmonics(v)[1], numeric, atol=3e-8)
