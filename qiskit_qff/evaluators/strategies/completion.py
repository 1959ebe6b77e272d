r"""From the first column of M to all of it, where the readout has one vector: :math:`M = w\,uu^T`.

Noise that depolarises turns M into :math:`sM + o1`; readout errors and decay towards :math:`|0\rangle` shift o as well.
Both drop out, because more is measured than is unknown. With :math:`u = (\sqrt t, \sqrt{1 - t}\,\hat v)`, D amplitudes
and the weight known,

.. math:: M_{00}/w = st + o/w,\qquad |M_{0\cdot}|/w = s\sqrt{t(1-t)} =: a,\qquad \mathrm{Tr}\,M/w = s + Do/w ,

so that with :math:`b = (M_{00} - \mathrm{Tr}\,M/D)/w` and :math:`q = 1/D` the overlap t solves
:math:`(a^2 + b^2)t^2 - (2qa^2 + b^2)t + a^2q^2 = 0`, and :math:`\hat v` is the direction of the column. At t = 1/2,
where training with few shots ends up, the linear terms :math:`2w\sqrt{t(1-t)}` do not depend on errors of t.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qiskit_qff.errors import BackendError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Completion:
    """A matrix of one readout vector, with its dependence on what was measured."""

    matrix: FloatArray
    """M in eV, shape ``(D, D)``."""
    contrast: float
    """s: what the noise has left of the differences between states; 1 without noise."""
    by_column: FloatArray
    """Derivatives of M with respect to the first column as measured, shape ``(D, D, D)``."""
    by_trace: FloatArray
    """Derivative of M with respect to the trace as measured, shape ``(D, D)``."""


def complete(column: FloatArray, trace: float, weight: float) -> Completion:
    """The matrix of one readout vector.

    Args:
        column: First column of M as measured, in eV, shape ``(D,)``.
        trace: Its trace as measured, in eV.
        weight: The one eigenvalue of M that is not zero, in eV.

    Raises:
        BackendError: If the column vanishes: there was nothing but noise.
    """
    size = len(column)
    rest = column[1:] / weight
    a, b, q = float(np.linalg.norm(rest)), float(column[0] - trace / size) / weight, 1.0 / size
    if a == 0.0:
        raise BackendError(
            "The measured first column of an energy matrix is zero; measure with more shots or with design 'pairs'."
        )
    # Both roots straddle q, and b, which vanishes at t = q, is a factor of their distance: no difference is formed.
    root = float(np.sqrt(b * b + 4.0 * a * a * q * (1.0 - q)))
    t = float(np.clip((2.0 * q * a * a + b * b + b * root) / (2.0 * (a * a + b * b)), 1e-9, 1.0 - 1e-9))
    along = rest / a
    vector = np.concatenate([[np.sqrt(t)], np.sqrt(1.0 - t) * along])
    matrix = weight * np.outer(vector, vector)

    t_by_b, t_by_a = 2.0 * t * (1.0 - t) / root, -2.0 * t * (1.0 - t) * b / (a * root)
    turn = np.concatenate([[0.5 / np.sqrt(t)], -0.5 / np.sqrt(1.0 - t) * along])
    vector_by = np.zeros((size + 1, size))
    vector_by[0] = t_by_b * turn
    vector_by[size] = -q * t_by_b * turn
    vector_by[1:size, 1:] = np.sqrt(1.0 - t) * (np.eye(size - 1) - np.outer(along, along)) / a
    vector_by[1:size] += t_by_a * np.outer(along, turn)
    half = vector_by[:, :, None] * vector[None, None, :]
    response = half + half.transpose(0, 2, 1)
    return Completion(matrix, a / float(np.sqrt(t * (1.0 - t))), response[:size], response[size])
