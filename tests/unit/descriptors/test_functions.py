"""Radial functions, cutoff, core and spherical harmonics against finite differences and scipy."""

import numba
import numpy as np
import pytest
from eightwise import eightwise
from hypothesis import given
from hypothesis import strategies as st
from numpy.polynomial import legendre as polynomials
from scipy.special import eval_legendre

from qiskit_qff.descriptors.blocks import (
    cutoff_function,
    fill_gradients,
    fill_harmonics,
    fill_polynomials,
    radial_function,
)
from qiskit_qff.descriptors.channels import (
    SQUARED_NORMS,
    cosine_power,
    cosine_powers,
    describe_angular,
    gaussian_rows,
    kernel_rows,
    power_rows,
)
from qiskit_qff.descriptors.eights import LANES, exponential, load, logarithm

STEP = 1e-5
L_MAX = 6


@numba.njit
def fill(block, legendre, circular, values, gradients):
    fill_polynomials(load(block, 0), load(block, 1), load(block, 2), L_MAX, legendre, circular)
    fill_harmonics(L_MAX, legendre, circular, values)
    fill_gradients(block, 0, L_MAX, legendre, circular, gradients)


def harmonics(vectors):
    """Normalised harmonics of eight vectors, shape ``(49, 8)``, and their gradients, ``(49, 3, 8)``."""
    r = np.linalg.norm(vectors, axis=1)
    block = np.ascontiguousarray(np.column_stack([vectors / r[:, None], r]).T[None])
    legendre, circular = np.zeros((L_MAX + 1, L_MAX + 2, LANES)), np.empty((L_MAX + 1, 2, LANES))
    values, gradients = np.empty((len(SQUARED_NORMS), LANES)), np.empty((len(SQUARED_NORMS), 3, LANES))
    fill(block, legendre, circular, values, gradients)
    norms = np.sqrt(SQUARED_NORMS)
    return values * norms[:, None], gradients * norms[:, None, None]


vectors = st.lists(
    st.tuples(*[st.floats(-4, 4)] * 3).filter(lambda v: np.linalg.norm(v) > 0.3), min_size=LANES, max_size=LANES
).map(np.array)


def test_cutoff_ends_smoothly_to_second_derivative():
    values, slopes = eightwise(cutoff_function, [5.0, 5.0 - 1e-3, 5.0 - 2e-3, 5.1, 0.0], 5.0)
    assert values[[0, 3]] == pytest.approx([0.0, 0.0], abs=0.0)
    assert slopes[[0, 3]] == pytest.approx([0.0, 0.0], abs=0.0)
    assert abs(slopes[1] - slopes[0]) / 1e-3 < 0.02  # grows linearly from zero: third derivative of 60/r_cut^3 per Å
    assert values[4] == 1.0


@numba.njit
def radial(r, rows, f):
    switch, slope = cutoff_function(r, 5.0)
    return radial_function(r, logarithm(r), switch, slope, rows, f)


@pytest.mark.parametrize("f", range(4))
def test_radial_functions_and_their_derivatives(f):
    rows = np.concatenate(
        [gaussian_rows(np.array([1.1, 2.5]), np.array([0.1, 0.9])), power_rows(np.array([1.0, 12.0]), 2.0)]
    )
    r, table = np.linspace(0.4, 5.5, 64), kernel_rows(rows)
    u = np.minimum(r / 5.0, 1.0)
    center, sharpness, length, power = rows[f]
    expected = np.exp(-sharpness * (r - center) ** 2) * (length / r) ** power
    values, exact = eightwise(radial, r, table, f)
    np.testing.assert_allclose(
        values, expected * (1.0 - 10.0 * u**3 + 15.0 * u**4 - 6.0 * u**5), rtol=1e-9, atol=1e-290
    )
    higher, lower = (eightwise(radial, r + sign * STEP, table, f)[0] for sign in (1, -1))
    np.testing.assert_allclose(exact, (higher - lower) / (2 * STEP), rtol=1e-5, atol=1e-7)


@given(u=vectors, v=vectors)
def test_addition_theorem(u, v):
    cosines = np.clip(np.sum(u * v, axis=1) / np.linalg.norm(u, axis=1) / np.linalg.norm(v, axis=1), -1, 1)
    product = harmonics(u)[0] * harmonics(v)[0]
    for degree in range(L_MAX + 1):
        total = product[degree**2 : (degree + 1) ** 2].sum(axis=0)
        np.testing.assert_allclose(total, eval_legendre(degree, cosines), atol=1e-12)


@given(v=vectors)
def test_harmonic_gradient_matches_finite_difference(v):
    numeric = np.stack(
        [(harmonics(v + STEP * e)[0] - harmonics(v - STEP * e)[0]) / (2 * STEP) for e in np.eye(3)], axis=1
    )
    np.testing.assert_allclose(harmonics(v)[1], numeric, atol=1e-7)


@pytest.mark.parametrize(("sign", "exponent"), [(1, 2), (-1, 2), (1, 4), (-1, 4), (1, 3)])
def test_powers_of_the_cosine(sign, exponent):
    x, row = np.linspace(-1.0, 1.0, 11), cosine_power(sign, exponent)
    np.testing.assert_allclose(polynomials.legval(x, row), ((1.0 + sign * x) / 2.0) ** exponent, atol=1e-14)
    assert describe_angular(row) == f"((1 {'+' if sign > 0 else '-'} cos θ)/2)^{exponent}"
    basis = cosine_powers(exponent)
    assert np.linalg.matrix_rank(basis) == len(basis)


@numba.njit
def twice(x):
    return exponential(x), exponential(x)


def test_exponential_is_exact_to_a_unit_in_the_last_place():
    x = np.concatenate([np.linspace(-699.0, 30.0, 100_001), -np.logspace(-18, 0, 1000), [0.0, -0.0, -700.0]])
    np.testing.assert_allclose(eightwise(twice, x)[0], np.exp(x), rtol=3e-16)
    few = eightwise(twice, [-1e9, -701.0])
    assert np.all((few >= 0.0) & (few < 1e-303))
