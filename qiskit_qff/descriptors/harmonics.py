r"""Real spherical harmonics of the direction to a neighbour, and the gradient of a weighted sum of them.

.. math:: Y_{l,\pm m} = Q_l^m(z)\, \{c_m, s_m\}(x, y),\quad c_m + i s_m = (x + iy)^m,\quad Q_l^m = d^m P_l / dz^m

in the order ``l*l + l + m``, m from -l (sine) to l (cosine). With :data:`SQUARED_NORMS` the addition theorem reads
:math:`\sum_m N_{lm}^2 Y_{lm}(\hat u) Y_{lm}(\hat v) = P_l(\hat u\cdot\hat v)`: a contraction over m depends only on the
angle between two neighbours, which is what makes a channel rotation invariant. Everything here is of eight neighbours.

References:
    F. Bigi et al., J. Chem. Phys. 159, 064802 (2023), doi:10.1063/5.0156307 (the same recursion).
"""

import math

import numba
import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.descriptors.eights import Eight, load, repeated, store

MAX_L = 6
"""Highest degree of a channel; far beyond what a pool uses."""

SQUARED_NORMS = np.array(
    [
        (1 if m == 0 else 2) * math.factorial(degree - abs(m)) / math.factorial(degree + abs(m))
        for degree in range(MAX_L + 1)
        for m in range(-degree, degree + 1)
    ]
)
""":math:`N_{lm}^2 = (2 - \\delta_{m0}) (l - |m|)! / (l + |m|)!`, shape ``((MAX_L + 1)**2,)``."""


@numba.njit(cache=True)
def fill_polynomials(x: Eight, y: Eight, z: Eight, l_max: int, legendre: FloatArray, circular: FloatArray) -> None:
    """Fill the factors of the harmonics.

    Args:
        legendre: Output Q, place ``l * (l_max + 2) + m``, shape ``(l_max + 1, l_max + 2, 8)``; zero before.
        circular: Output c_m and s_m, shape ``(l_max + 1, 2, 8)``.
    """
    width = l_max + 2
    cosine, sine, diagonal = repeated(1.0), repeated(0.0), 1.0
    for m in range(l_max + 1):
        store(circular, 2 * m, cosine)
        store(circular, 2 * m + 1, sine)
        cosine, sine = x * cosine - y * sine, x * sine + y * cosine
        below, value = repeated(0.0), repeated(diagonal)
        store(legendre, m * width + m, value)
        for degree in range(m + 1, l_max + 1):
            scale = 1.0 / (degree - m)
            below, value = value, z * value * (scale * (2 * degree - 1)) - below * (scale * (degree + m - 1))
            store(legendre, degree * width + m, value)
        diagonal *= 2 * m + 1


@numba.njit(cache=True)
def fill_harmonics(l_max: int, legendre: FloatArray, circular: FloatArray, values: FloatArray) -> None:
    """Fill the harmonics from their factors, shape ``((l_max + 1)**2, 8)``."""
    for m in range(l_max + 1):
        cosine, sine = load(circular, 2 * m), load(circular, 2 * m + 1)
        for degree in range(m, l_max + 1):
            polynomial, center = load(legendre, degree * (l_max + 2) + m), degree * degree + degree
            store(values, center - m, polynomial * sine)
            store(values, center + m, polynomial * cosine)


@numba.njit(cache=True)
def fill_gradients(
    vectors: FloatArray, row: int, l_max: int, legendre: FloatArray, circular: FloatArray, gradients: FloatArray
) -> None:
    """Fill the gradients of the harmonics with respect to the vector to the neighbour, from their factors.

    Args:
        vectors: Unit vectors and distances in Å, shape ``(rows, 4, 8)``.
        gradients: Output in 1/Å, shape ``((l_max + 1)**2, 3, 8)``.
    """
    x, y, z = load(vectors, 4 * row), load(vectors, 4 * row + 1), load(vectors, 4 * row + 2)
    inverse = 1.0 / load(vectors, 4 * row + 3)
    cosine_below, sine_below = repeated(0.0), repeated(0.0)
    for m in range(l_max + 1):
        cosine, sine = load(circular, 2 * m), load(circular, 2 * m + 1)
        for degree in range(m, l_max + 1):
            place = degree * (l_max + 2) + m
            below, slope = m * load(legendre, place), load(legendre, place + 1)
            # The sine of m = 0 is written first, because the cosine has the same place.
            for sign in range(-1, 2, 2):
                if sign < 0:
                    gx, gy, gz = below * sine_below, below * cosine_below, slope * sine
                else:
                    gx, gy, gz = below * cosine_below, -below * sine_below, slope * cosine
                # A harmonic does not depend on the distance: what points along the vector goes.
                along, place = gx * x + gy * y + gz * z, 3 * (degree * degree + degree + sign * m)
                store(gradients, place, (gx - along * x) * inverse)
                store(gradients, place + 1, (gy - along * y) * inverse)
                store(gradients, place + 2, (gz - along * z) * inverse)
        cosine_below, sine_below = cosine, sine
