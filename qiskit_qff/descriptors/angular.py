r"""Real spherical harmonics of the direction to a neighbour, with gradients.

Racah-normalised, so that the addition theorem reads
:math:`\sum_m Y_{lm}(\hat u) Y_{lm}(\hat v) = P_l(\hat u\cdot\hat v)`: a contraction over m depends only on
the angle between two neighbours, which is what makes a channel rotation invariant.

.. math::
    Y_{l,\pm m} = N_{lm} Q_l^m(z)\, \{c_m, s_m\}(x, y),\quad c_m + i s_m = (x + iy)^m,\quad
    N_{lm} = \sqrt{(2 - \delta_{m0}) (l-m)!/(l+m)!}

with :math:`Q_l^m = d^m P_l / dz^m`. Order: index ``l*l + l + m``, m from -l (sine) to l (cosine).

References:
    F. Bigi et al., J. Chem. Phys. 159, 064802 (2023), doi:10.1063/5.0156307 (the same recursion).
"""

import math

import numba
import numpy as np

from qiskit_qff.array_types import FloatArray

MAX_L = 6
"""Highest degree the tables hold; far beyond what a pool uses."""


def _normalisation() -> FloatArray:
    table = np.zeros((MAX_L + 1, MAX_L + 1))
    for degree in range(MAX_L + 1):
        for order in range(degree + 1):
            ratio = math.factorial(degree - order) / math.factorial(degree + order)
            table[degree, order] = math.sqrt((1.0 if order == 0 else 2.0) * ratio)
    return table


_NORM = _normalisation()


@numba.njit(cache=True)
def _legendre_derivatives(z: float, l_max: int, table: FloatArray) -> None:
    """Fill ``table[l, m]`` with the m-th derivative of the Legendre polynomial P_l at z, m <= l + 1."""
    for m in range(l_max + 2):
        for degree in range(l_max + 1):
            table[degree, m] = 0.0
    diagonal = 1.0
    for m in range(l_max + 1):
        table[m, m] = diagonal
        if m < l_max:
            table[m + 1, m] = (2 * m + 1) * z * diagonal
        for degree in range(m + 2, l_max + 1):
            table[degree, m] = (
                (2 * degree - 1) * z * table[degree - 1, m] - (degree + m - 1) * table[degree - 2, m]
            ) / (degree - m)
        diagonal *= 2 * m + 1


@numba.njit(cache=True)
def spherical_harmonics(
    ux: float,
    uy: float,
    uz: float,
    inverse_r: float,
    l_max: int,
    legendre: FloatArray,
    values: FloatArray,
    gradients: FloatArray,
) -> None:
    """Fill harmonics and their gradients with respect to the vector r (not the unit vector).

    Args:
        ux: First component of the unit vector.
        uy: Second component.
        uz: Third component.
        inverse_r: 1/|r| in 1/Å.
        l_max: Highest degree.
        legendre: Work space, shape ``(l_max + 1, l_max + 2)``.
        values: Output, shape ``((l_max + 1)**2,)``.
        gradients: Output, shape ``((l_max + 1)**2, 3)``, in 1/Å.
    """
    _legendre_derivatives(uz, l_max, legendre)
    cosine, sine, cosine_below, sine_below = 1.0, 0.0, 0.0, 0.0
    for m in range(l_max + 1):
        for degree in range(m, l_max + 1):
            center = degree * degree + degree
            norm = _NORM[degree, m]
            polynomial = norm * legendre[degree, m]
            slope = norm * legendre[degree, m + 1]
            below = m * polynomial
            values[center + m] = polynomial * cosine
            _tangential(
                ux, uy, uz, inverse_r, below * cosine_below, -below * sine_below, slope * cosine,
                gradients, center + m,
            )  # fmt: skip
            if m > 0:
                values[center - m] = polynomial * sine
                _tangential(
                    ux, uy, uz, inverse_r, below * sine_below, below * cosine_below, slope * sine,
                    gradients, center - m,
                )  # fmt: skip
        cosine_below, sine_below = cosine, sine
        cosine, sine = ux * cosine - uy * sine, ux * sine + uy * cosine


@numba.njit(cache=True, inline="always")
def _tangential(
    ux: float,
    uy: float,
    uz: float,
    inverse_r: float,
    gx: float,
    gy: float,
    gz: float,
    gradients: FloatArray,
    row: int,
) -> None:
    """Project a gradient in u onto the sphere: the harmonic does not depend on the length of r."""
    radial = gx * ux + gy * uy + gz * uz
    gradients[row, 0] = (gx - radial * ux) * inverse_r
    gradients[row, 1] = (gy - radial * uy) * inverse_r
    gradients[row, 2] = (gz - radial * uz) * inverse_r
