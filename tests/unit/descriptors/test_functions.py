"""Radial functions, cutoff, powers of the cosine and the exponential, eight at a time, against numpy."""

import numba
import numpy as np
import pytest
from eightwise import eightwise
from numpy.polynomial import legendre as polynomials

from qiskit_qff.descriptors.blocks import cutoff_function, radial_function
from qiskit_qff.descriptors.channels import (
    cosine_power,
    cosine_powers,
    describe_angular,
    gaussian_rows,
    kernel_rows,
    power_rows,
)
from qiskit_qff.descriptors.eights import exponential, logarithm

STEP = 1e-5


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
