r"""The basis and the size of the features: what decides how many shots a model needs.

A linear map of the features, y -> A y, changes neither the channels nor what a tree circuit can fit, but it changes
the readout: the model's coefficients become :math:`A^{-T}\beta`, and the readout weights, and with them the noise of
measured energies and forces, grow with them. Two label-free choices keep them small.

*Decorrelation.* With G the second moments of the features' sums over frames and of their derivatives with respect to
positions, in units of the loss, noise scales with :math:`|A^{-T}\beta|^2\,\mathrm{tr}(A G A^T)`. If all directions
contributed alike to the forces, :math:`A = G^{-1/2}` would be best; if the coefficients of standardised channels were
alike, :math:`G^{-1/4}`. The exponent 3/8 lies between and was best on the Li-MOF set (84 meV/Å of force noise, against
108 and 88; one draw each). The symmetric root keeps every feature close to its channel.

*Size.* The state is (1, y), normalised. A readout :math:`w(u\cdot x)^2` holds the linear term
:math:`2 w u_0 u_a y_a` beside the square :math:`w (u_a y_a)^2`; with features of order one a nearly linear model needs
:math:`u_0 \gg u_a` and a huge w, with small features :math:`u_0 \approx |u|/\sqrt 2` and the smallest w will do. How
small, decides how strong the square of a :mod:`balanced readout <qiskit_qff.training.balance>` is: a norm of 0.1
cost 6 % of the loss on seven frames of UiO-66, one of 0.03 nothing, at the same noise of measured linear terms.

On lips83 (200 training frames, 99 parameters, 4096 shots a state, strategy ``operator``) standardised features of
order one gave a force noise of 5034 meV/Å, these give 20 to 130, at the same error without noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qiskit_qff.array_types import FloatArray

_EXPONENT = 0.375
"""Power of G that is divided out; 1/2 would be whitening."""
_FLOOR = 1e-10
"""Directions whose second moment falls below this fraction of the largest are not stretched any further."""


@dataclass(frozen=True)
class FeatureBasis:
    """How features are combined and sized after compression."""

    decorrelate: bool = True
    """Whether to take most of the correlations out of their second moments."""
    norm: float | None = 0.03
    """Root-mean-square norm of y over the training atoms; None leaves the size as it is."""

    def apply(self, matrix: FloatArray, gram: FloatArray, covariance: FloatArray) -> FloatArray:
        """The map in this basis.

        Args:
            matrix: T, shape ``(d, K)``.
            gram: Second moments of the K channels in the units of the loss, shape ``(K, K)``.
            covariance: Covariance of the channels over the training atoms, shape ``(K, K)``.

        Returns:
            Shape ``(d, K)``.
        """
        rotated = decorrelated(matrix, gram) if self.decorrelate else matrix
        return rotated if self.norm is None else sized(rotated, covariance, self.norm)


def decorrelated(matrix: FloatArray, gram: FloatArray) -> FloatArray:
    """A map whose features have second moments closer to the identity, the fourth root of those of T.

    Args:
        matrix: T, shape ``(d, K)``, features of comparable size.
        gram: Second moments of the K channels in the units of the loss, shape ``(K, K)``.

    Returns:
        ``(T G T^T)^(-3/8) T``, shape ``(d, K)``.
    """
    values, vectors = np.linalg.eigh(matrix @ gram @ matrix.T)
    kept = np.maximum(values, _FLOOR * max(float(values[-1]), 1e-300))
    root: FloatArray = (vectors * kept**-_EXPONENT) @ vectors.T
    return np.asarray(root @ matrix)


def sized(matrix: FloatArray, covariance: FloatArray, norm: float) -> FloatArray:
    """A map scaled so that the features of an atom have a given root-mean-square norm.

    Args:
        matrix: T, shape ``(d, K)``.
        covariance: Covariance of the channels over the training atoms, shape ``(K, K)``.
        norm: Norm of y, where the constant amplitude is 1.

    Returns:
        Shape ``(d, K)``; unchanged where nothing varies.
    """
    present = float(np.sqrt(max(np.einsum("dk,kl,dl->", matrix, covariance, matrix, optimize=True), 0.0)))
    return matrix * (norm / present) if present > 0.0 else matrix
