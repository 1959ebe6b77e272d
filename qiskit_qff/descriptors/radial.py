r"""Radial functions: how a channel sees the distance to a neighbour.

Every radial function of the package, narrow bond Gaussian, broad Gaussian or inverse power, is one
row of four numbers (centre :math:`c`, sharpness :math:`a`, length :math:`\rho`, power :math:`k`):

.. math:: g(r) = e^{-a (r - c)^2} (\rho / r)^k f_c(r)

with :math:`a = 0` for a pure power and :math:`k = 0` for a pure Gaussian. One kernel therefore serves
all of them, and a model file can list its functions explicitly.
"""

import math

import numba
import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.descriptors.cutoff import cutoff_function

CENTER, SHARPNESS, LENGTH, POWER = 0, 1, 2, 3
"""Columns of a radial function's row: Å, 1/Å^2, Å, no unit."""

CORE_WIDTH = 0.1
"""Distances stop counting over this fraction of the core's radius."""


def gaussian_rows(centers: FloatArray, widths: FloatArray) -> FloatArray:
    """Rows of Gaussians.

    Args:
        centers: Shape ``(n,)``, in Å.
        widths: Standard deviations, shape ``(n,)``, in Å.

    Returns:
        Shape ``(n, 4)``.
    """
    rows = np.zeros((len(centers), 4))
    rows[:, CENTER] = centers
    rows[:, SHARPNESS] = 0.5 / np.asarray(widths) ** 2
    rows[:, LENGTH] = 1.0
    return rows


def power_rows(powers: FloatArray, length: float) -> FloatArray:
    """Rows of inverse powers ``(length / r)**k``.

    Args:
        powers: Exponents ``k``, shape ``(n,)``.
        length: Distance in Å at which every power is one (before the switch).

    Returns:
        Shape ``(n, 4)``.
    """
    rows = np.zeros((len(powers), 4))
    rows[:, LENGTH] = length
    rows[:, POWER] = powers
    return rows


@numba.njit(cache=True, inline="always")
def core_distance(r: float, start: float) -> tuple[float, float]:
    r"""The distance that radial functions see: r itself, and a constant deep inside the core.

    .. math:: \tilde r = r_0 - w\,(t - t^3 + t^4/2),\qquad t = \min(1, (r_0 - r)/w),\quad w = r_0/10

    with :math:`r_0` the start of the core, below every distance of the training data. Nothing trained
    reaches there: without this, inverse powers and steep Gaussians extrapolate to wells of any depth, which
    no core repulsion can fill. Twice continuously differentiable.

    Args:
        r: Distance in Å.
        start: Where the core begins, in Å; 0 for none.

    Returns:
        The distance seen, in Å, and its derivative, no unit.
    """
    if r >= start:
        return r, 1.0
    width = CORE_WIDTH * start
    t = min(1.0, (start - r) / width)
    return start - width * (t - t * t * t + 0.5 * t * t * t * t), 1.0 - t * t * (3.0 - 2.0 * t)


@numba.njit(cache=True, inline="always")
def radial_function(r: float, row: FloatArray, switch: float, switch_slope: float) -> tuple[float, float]:
    """Value and derivative of one radial function.

    Args:
        r: Distance in Å.
        row: Shape ``(4,)``: centre, sharpness, length, power.
        switch: Cutoff function at ``r``.
        switch_slope: Its derivative, in 1/Å.

    Returns:
        Value (no unit) and derivative in 1/Å.
    """
    offset = r - row[CENTER]
    bare = math.exp(-row[SHARPNESS] * offset * offset)
    log_slope = -2.0 * row[SHARPNESS] * offset
    if row[POWER] > 0.0:
        bare *= (row[LENGTH] / r) ** row[POWER]
        log_slope -= row[POWER] / r
    return bare * switch, bare * (log_slope * switch + switch_slope)


@numba.njit(cache=True)
def radial_values(r: float, rows: FloatArray, r_cut: float) -> FloatArray:
    """Values of many radial functions at one distance, for plots and tests.

    Args:
        r: Distance in Å.
        rows: Shape ``(n, 4)``.
        r_cut: Cutoff radius in Å.

    Returns:
        Shape ``(n, 2)``: values and derivatives (1/Å).
    """
    switch, slope = cutoff_function(r, r_cut)
    out = np.empty((rows.shape[0], 2))
    for n in range(rows.shape[0]):
        out[n, 0], out[n, 1] = radial_function(r, rows[n], switch, slope)
    return out
