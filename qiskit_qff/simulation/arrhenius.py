r"""Activation energy from diffusivities at several temperatures.

.. math:: \ln D = \ln D_0 - \frac{E_a}{k_B T}

fitted by least squares, each temperature weighted with the inverse square of the error of :math:`\ln D`, to first order
:math:`\sigma_D / D`. Where the points scatter about the line by more than their error bars (reduced chi square above
one), errors are widened by its root, as the Particle Data Group does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import units

from qiskit_qff.array_types import FloatArray
from qiskit_qff.errors import DataError


@dataclass(frozen=True, eq=False)
class Arrhenius:
    """A straight line through ln D against 1/T."""

    activation_ev: float
    """Activation energy in eV."""
    activation_error_ev: float
    """Its standard error in eV."""
    prefactor_cm2_per_s: float
    """Diffusivity at infinite temperature in cm²/s."""
    chi_square: float
    """Reduced chi square; NaN for two temperatures."""
    temperatures_k: FloatArray
    """Temperatures in K, shape ``(n_points,)``."""
    diffusivities: FloatArray
    """Diffusivities in cm²/s, shape ``(n_points,)``."""
    errors: FloatArray
    """Their standard errors in cm²/s, shape ``(n_points,)``."""
    covariance: FloatArray
    """Of -Ea/kB in K and ln D0, shape ``(2, 2)``, widened where points scatter."""

    def diffusivity(self, temperature_k: float) -> tuple[float, float]:
        """Diffusivity in cm²/s at another temperature in K, and the standard error of its logarithm."""
        at = np.array([1.0 / temperature_k, 1.0])
        logarithm = np.log(self.prefactor_cm2_per_s) - self.activation_ev / (units.kB * temperature_k)
        return float(np.exp(logarithm)), float(np.sqrt(at @ self.covariance @ at))


def fit_arrhenius(
    temperatures_k: Sequence[float], diffusivities: Sequence[float], errors: Sequence[float]
) -> Arrhenius:
    """Fit a straight line to the logarithms of diffusivities.

    Args:
        temperatures_k: in K, at least two different ones.
        diffusivities: in cm²/s, positive.
        errors: their standard errors, positive.

    Raises:
        DataError: if there are fewer than two temperatures, or a diffusivity or an error is not positive.
    """
    temperatures, values, deviations = (
        np.asarray(x, dtype=np.float64) for x in (temperatures_k, diffusivities, errors)
    )
    if len(np.unique(temperatures)) < 2:
        raise DataError("an activation energy needs diffusivities at two temperatures at least.")
    bad = np.flatnonzero(~((temperatures > 0.0) & (values > 0.0) & (deviations > 0.0)))
    if len(bad):
        at = int(bad[0])
        raise DataError(
            f"D = ({values[at]:.2g} ± {deviations[at]:.2g}) cm²/s at {temperatures[at]:g} K has no logarithm with an "
            "error; run longer, or leave this temperature out."
        )
    inverse, logarithms, weights = 1.0 / temperatures, np.log(values), values / deviations
    # A fit about the weighted mean of 1/T is well conditioned; its two errors are independent.
    centre = float(np.average(inverse, weights=weights**2))
    line, covariance = np.polyfit(inverse - centre, logarithms, 1, w=weights, cov="unscaled")
    freedom = len(values) - 2
    residuals = weights * (logarithms - np.polyval(line, inverse - centre))
    chi_square = float((residuals**2).sum() / freedom) if freedom else float("nan")
    shift = np.array([[1.0, 0.0], [-centre, 1.0]])  # from (slope, value at the centre) to (slope, value at 1/T = 0)
    slope, at_infinity = shift @ line
    covariance = shift @ covariance @ shift.T * max(1.0, chi_square if freedom else 1.0)
    return Arrhenius(
        activation_ev=float(-slope * units.kB),
        activation_error_ev=float(np.sqrt(covariance[0, 0]) * units.kB),
        prefactor_cm2_per_s=float(np.exp(at_infinity)),
        chi_square=chi_square,
        temperatures_k=temperatures,
        diffusivities=values,
        errors=deviations,
        covariance=covariance,
    )
