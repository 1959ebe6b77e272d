"""What the strategies return: numbers with standard errors, gradients, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass

from qiskit_qff.array_types import FloatArray
from qiskit_qff.evaluators.protocol import Cost


@dataclass(frozen=True, eq=False)
class Measured:
    """Values with independent standard errors."""

    values: FloatArray
    """Any shape; energies in eV."""
    std_errors: FloatArray
    """Standard errors in the same units, the same shape; zero where values are exact."""
    cost: Cost
    """What was spent."""


@dataclass(frozen=True, eq=False)
class MeasuredGradients:
    """Energies of environments and their derivatives with respect to the amplitudes."""

    energies: FloatArray
    """``x^T M x`` in eV, shape ``(batch,)``."""
    gradients: FloatArray
    """dE/dx in eV, shape ``(batch, 2**n)``."""
    energy_variances: FloatArray
    """Variances of the energies in eV², shape ``(batch,)``."""
    covariances: FloatArray
    """Covariances of the gradient of each environment in eV², shape ``(batch, 2**n, 2**n)``."""
    cost: Cost
    """What was spent."""


@dataclass(frozen=True, eq=False)
class ThetaGradient:
    """Derivatives of ``Tr(M W)`` with respect to the trainable parameters of M."""

    theta: FloatArray
    """Per radian, shape ``(n_angles,)``."""
    weights: FloatArray
    """Per unit of readout weight, shape ``(n_readouts,)``."""
    theta_std_errors: FloatArray
    """Standard errors, shape ``(n_angles,)``."""
    weight_std_errors: FloatArray
    """Standard errors, shape ``(n_readouts,)``."""
    cost: Cost
    """What was spent."""
