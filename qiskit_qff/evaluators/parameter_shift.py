r"""Exact derivatives from two more circuits per angle: the parameter-shift rule.

For a gate :math:`e^{-i\alpha P/2}` with :math:`P^2 = 1`, and any observable,

.. math:: \frac{\partial f}{\partial\alpha} = \tfrac12\left[f(\alpha + \tfrac\pi2) - f(\alpha - \tfrac\pi2)\right].

It needs no small step, so it works with shots and with the angle resolution of a device.

References:
    Schuld, Bergholm, Gogolin, Izaac, Killoran, "Evaluating analytic gradients on quantum hardware",
    Phys. Rev. A 99, 032331 (2019), https://doi.org/10.1103/PhysRevA.99.032331
"""

from __future__ import annotations

import numpy as np

from qiskit_qff.array_types import FloatArray


def shifted_parameters(parameters: FloatArray, columns: range) -> FloatArray:
    """Copies of the parameter sets with one angle shifted by +π/2 and by -π/2.

    Args:
        parameters: Radians, shape ``(batch, n_parameters)``.

    Returns:
        Shape ``(batch * len(columns) * 2, n_parameters)``: all shifts of the first set, then of the second,
        ...; + before -.
    """
    batch, n_parameters = parameters.shape
    shifted = np.repeat(parameters, 2 * len(columns), axis=0).reshape(batch, len(columns), 2, n_parameters)
    for position, column in enumerate(columns):
        shifted[:, position, 0, column] += np.pi / 2
        shifted[:, position, 1, column] -= np.pi / 2
    return shifted.reshape(-1, n_parameters)


def shift_derivatives(values: FloatArray, *, n_columns: int) -> FloatArray:
    """Derivatives from the values at shifted parameters.

    Args:
        values: Values in the order of :func:`shifted_parameters`, shape ``(batch * n_columns * 2, ...)``.

    Returns:
        Per radian, shape ``(batch, n_columns, ...)``.
    """
    pairs = values.reshape(-1, n_columns, 2, *values.shape[1:])
    return np.asarray(0.5 * (pairs[:, :, 0] - pairs[:, :, 1]))


def shift_variances(variances: FloatArray, *, n_columns: int) -> FloatArray:
    """Variances of :func:`shift_derivatives` from those of the values, in the same order and shapes."""
    pairs = variances.reshape(-1, n_columns, 2, *variances.shape[1:])
    return np.asarray(0.25 * (pairs[:, :, 0] + pairs[:, :, 1]))
