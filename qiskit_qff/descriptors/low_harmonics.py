r"""The real spherical harmonics up to l = 4 written out, and a weighted sum's gradient: what dynamics evaluates.

The same functions, normalisation and order as in :mod:`~qiskit_qff.descriptors.angular`, as polynomials in the unit
vector :math:`u = (x, y, z)`, for example :math:`Y_{20} = (3z^2 - 1)/2`, :math:`Y_{22} = \sqrt3 (x^2 - y^2)/2`.

A sweep backwards never needs the gradient of each harmonic, only that of :math:`\sum_{lm} w_{lm} Y_{lm}`: three sums
of polynomials, projected onto the sphere once. That is a tenth of the arithmetic.
"""

import math

import numba

from qiskit_qff.array_types import FloatArray

HIGHEST = 4
"""Highest degree written out here."""

_ROOT3 = math.sqrt(3.0)
_THREE_ONE = 0.5 / math.sqrt(6.0)  # N_31 / 2
_THREE_TWO = 15.0 / math.sqrt(60.0)  # 15 N_32
_THREE_THREE = 15.0 / math.sqrt(360.0)  # 15 N_33
_FOUR_ONE = 0.5 / math.sqrt(10.0)  # N_41 / 2
_FOUR_TWO = 0.5 / math.sqrt(180.0)  # N_42 / 2
_FOUR_THREE = 105.0 / math.sqrt(2520.0)  # 105 N_43
_FOUR_FOUR = 105.0 / math.sqrt(20160.0)  # 105 N_44


@numba.njit(cache=True, inline="always")
def low_harmonics(x: float, y: float, z: float, l_max: int, values: FloatArray, row: int) -> None:
    """Fill one row of harmonics.

    Args:
        x: First component of the unit vector.
        y: Second component.
        z: Third component.
        l_max: Highest degree, at most :data:`HIGHEST`.
        values: Output, shape ``(n, >= (l_max + 1)**2)``.
        row: Which row.
    """
    values[row, 0] = 1.0
    if l_max == 0:
        return
    values[row, 1] = y
    values[row, 2] = z
    values[row, 3] = x
    if l_max == 1:
        return
    difference, product = x * x - y * y, x * y
    values[row, 4] = _ROOT3 * product
    values[row, 5] = _ROOT3 * y * z
    values[row, 6] = 1.5 * z * z - 0.5
    values[row, 7] = _ROOT3 * x * z
    values[row, 8] = 0.5 * _ROOT3 * difference
    if l_max == 2:
        return
    middle = _THREE_ONE * (15.0 * z * z - 3.0)
    values[row, 9] = _THREE_THREE * y * (2.0 * x * x + difference)
    values[row, 10] = 2.0 * _THREE_TWO * product * z
    values[row, 11] = middle * y
    values[row, 12] = 0.5 * z * (5.0 * z * z - 3.0)
    values[row, 13] = middle * x
    values[row, 14] = _THREE_TWO * difference * z
    values[row, 15] = _THREE_THREE * x * (difference - 2.0 * y * y)
    if l_max == 3:
        return
    c3, s3 = x * (difference - 2.0 * y * y), y * (2.0 * x * x + difference)
    first, second = _FOUR_ONE * z * (35.0 * z * z - 15.0), _FOUR_TWO * (105.0 * z * z - 15.0)
    values[row, 16] = 4.0 * _FOUR_FOUR * difference * product
    values[row, 17] = _FOUR_THREE * z * s3
    values[row, 18] = 2.0 * second * product
    values[row, 19] = first * y
    values[row, 20] = 0.125 * (z * z * (35.0 * z * z - 30.0) + 3.0)
    values[row, 21] = first * x
    values[row, 22] = second * difference
    values[row, 23] = _FOUR_THREE * z * c3
    values[row, 24] = _FOUR_FOUR * (difference * difference - 4.0 * product * product)


@numba.njit(cache=True, inline="always")
def low_gradient(x: float, y: float, z: float, l_max: int, w: FloatArray) -> tuple[float, float, float]:
    """Gradient of the weighted sum of harmonics in x, y, z as free variables; not yet projected onto the sphere.

    Args:
        x: First component of the unit vector.
        y: Second component.
        z: Third component.
        l_max: Highest degree, at most :data:`HIGHEST`.
        w: Weights, shape ``(>= (l_max + 1)**2,)``.

    Returns:
        The three components.
    """
    if l_max == 0:
        return 0.0, 0.0, 0.0
    gx, gy, gz = w[3], w[1], w[2]
    if l_max >= 2:
        gx += _ROOT3 * (y * w[4] + z * w[7] + x * w[8])
        gy += _ROOT3 * (x * w[4] + z * w[5] - y * w[8])
        gz += _ROOT3 * (y * w[5] + x * w[7]) + 3.0 * z * w[6]
    if l_max >= 3:
        difference, product = x * x - y * y, x * y
        middle = _THREE_ONE * (15.0 * z * z - 3.0)
        gx += (
            _THREE_THREE * (6.0 * product * w[9] + 3.0 * difference * w[15])
            + 2.0 * _THREE_TWO * z * (y * w[10] + x * w[14])
            + middle * w[13]
        )
        gy += (
            _THREE_THREE * (3.0 * difference * w[9] - 6.0 * product * w[15])
            + 2.0 * _THREE_TWO * z * (x * w[10] - y * w[14])
            + middle * w[11]
        )
        gz += (
            _THREE_TWO * (2.0 * product * w[10] + difference * w[14])
            + 30.0 * _THREE_ONE * z * (y * w[11] + x * w[13])
            + (7.5 * z * z - 1.5) * w[12]
        )
    if l_max >= 4:
        c2, s2 = x * x - y * y, 2.0 * x * y
        c3, s3 = x * c2 - y * s2, x * s2 + y * c2
        first, second = z * (35.0 * z * z - 15.0), 105.0 * z * z - 15.0
        inner, outer = 2.0 * _FOUR_TWO * second, 3.0 * _FOUR_THREE * z
        gx += (
            _FOUR_ONE * first * w[21]
            + inner * (x * w[22] + y * w[18])
            + outer * (c2 * w[23] + s2 * w[17])
            + 4.0 * _FOUR_FOUR * (c3 * w[24] + s3 * w[16])
        )
        gy += (
            _FOUR_ONE * first * w[19]
            + inner * (x * w[18] - y * w[22])
            + outer * (c2 * w[17] - s2 * w[23])
            + 4.0 * _FOUR_FOUR * (c3 * w[16] - s3 * w[24])
        )
        gz += (
            0.5 * first * w[20]
            + _FOUR_ONE * second * (x * w[21] + y * w[19])
            + 210.0 * _FOUR_TWO * z * (c2 * w[22] + s2 * w[18])
            + _FOUR_THREE * (c3 * w[23] + s3 * w[17])
        )
    return gx, gy, gz
