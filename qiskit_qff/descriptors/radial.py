r"""Radial functions: how a channel sees the distance to a neighbour.

Every radial function of the package, narrow bond Gaussian, broad Gaussian or inverse power, is one
row of four numbers (centre :math:`c`, sharpness :math:`a`, length :math:`\rho`, power :math:`k`):

.. math:: g(r) = e^{-a (r - c)^2} (\rho / r)^k f_c(r),\qquad f_c = 1 - 10u^3 + 15u^4 - 6u^5,\quad u = r / r_\mathrm{cut}

with :math:`a = 0` for a pure power and :math:`k = 0` for a pure Gaussian. Value, first and second derivative of the
switch f_c vanish at the cutoff, so energies are twice continuously differentiable when an atom crosses it.
"""

from __future__ import annotations

import numba
import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.descriptors.eights import Eight, exponential, larger, repeated, smaller

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


def kernel_rows(rows: FloatArray) -> FloatArray:
    """Radial functions as the kernels take them: centre, sharpness, power, and power times logarithm of the length.

    Args:
        rows: Shape ``(n, 4)``.
    """
    return np.column_stack([rows[:, [CENTER, SHARPNESS, POWER]], rows[:, POWER] * np.log(rows[:, LENGTH])])


@numba.njit(cache=True)
def cutoff_function(r: Eight, r_cut: float) -> tuple[Eight, Eight]:
    """The switch at eight distances and its derivative in 1/Å; both zero from ``r_cut`` on."""
    u = smaller(r * (1.0 / r_cut), repeated(1.0))
    tail = 1.0 - u
    return 1.0 + u * u * u * (-10.0 + u * (15.0 - 6.0 * u)), (-30.0 / r_cut) * u * u * tail * tail


@numba.njit(cache=True)
def core_distance(r: Eight, start: float) -> tuple[Eight, Eight]:
    r"""The distances that radial functions see: r itself, and a constant deep inside the core.

    .. math:: \tilde r = r_0 - w\,(t - t^3 + t^4/2),\qquad t = \min(1, (r_0 - r)/w),\quad w = r_0/10

    with :math:`r_0` the start of the core, below every distance of the training data. Nothing trained
    reaches there: without this, inverse powers and steep Gaussians extrapolate to wells of any depth, which
    no core repulsion can fill. Twice continuously differentiable.

    Args:
        r: Eight distances in Å.
        start: Where the core begins, in Å; 0 for none.

    Returns:
        The distances seen, in Å, and their derivatives, no unit.
    """
    width = CORE_WIDTH * start
    t = smaller(larger((start - r) * (1.0 / max(width, 1e-300)), repeated(0.0)), repeated(1.0))
    return larger(r, repeated(start)) - width * (t - t * t * t + 0.5 * t * t * t * t), 1.0 - t * t * (3.0 - 2.0 * t)


@numba.njit(cache=True)
def radial_function(
    r: Eight, log: Eight, switch: Eight, switch_slope: Eight, functions: FloatArray, f: int
) -> tuple[Eight, Eight]:
    """One radial function at eight distances.

    Args:
        r: Distances in Å.
        switch_slope: Its derivative in 1/Å.

    Returns:
        Values (no unit) and derivatives in 1/Å.
    """
    offset, sharpness, power = r - functions[f, 0], functions[f, 1], functions[f, 2]
    bare = exponential(functions[f, 3] - power * log - sharpness * offset * offset)
    return bare * switch, bare * ((-2.0 * sharpness * offset - power / r) * switch + switch_slope)
