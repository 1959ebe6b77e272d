r"""The switch that lets a neighbour fade out smoothly at the cutoff radius.

.. math:: f_c(u) = 1 - 10u^3 + 15u^4 - 6u^5,\qquad u = r / r_\mathrm{cut}

Value, first and second derivative vanish at :math:`u = 1`, so energies are twice continuously
differentiable when an atom crosses the cutoff; forces and vibrational frequencies have no jump there.
"""

import numba


@numba.njit(cache=True, inline="always")
def cutoff_function(r: float, r_cut: float) -> tuple[float, float]:
    """Value and derivative of the switch.

    Args:
        r: Distance in Å.
        r_cut: Cutoff radius in Å.

    Returns:
        :math:`f_c` (no unit) and :math:`df_c/dr` in 1/Å; both zero from ``r_cut`` on.
    """
    if r >= r_cut:
        return 0.0, 0.0
    u = r / r_cut
    tail = 1.0 - u
    value = 1.0 + u * u * u * (-10.0 + u * (15.0 - 6.0 * u))
    slope = -30.0 * u * u * tail * tail / r_cut
    return value, slope
