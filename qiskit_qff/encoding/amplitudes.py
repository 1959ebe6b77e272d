r"""A compressed atomic environment becomes a vector of amplitudes that keeps its length.

.. math:: x = (1, y_1, \dots, y_d, 0, \dots, 0) \in R^{2^n}, \qquad |\hat x\rangle = x / \lVert x \rVert

The constant first amplitude keeps what normalising would lose; the norm is known classically and multiplied
back, so that :math:`E = \lVert x \rVert^2 \langle \hat x|M|\hat x\rangle = x^T M x`. All numbers are
dimensionless.
"""

from __future__ import annotations

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.errors import ConfigError


def qubits_for(n_amplitudes: int) -> int:
    """Number of qubits whose register holds ``n_amplitudes`` amplitudes, at least 1."""
    if n_amplitudes < 2:
        raise ConfigError(
            f"A state needs at least 2 amplitudes (the constant and one feature); {n_amplitudes} given. "
            "Select at least one channel per species."
        )
    return (n_amplitudes - 1).bit_length()


def amplitude_vectors(features: FloatArray, *, n_qubits: int | None = None) -> FloatArray:
    """Vectors ``x = (1, y, 0...)`` of a batch of environments.

    Args:
        features: Compressed descriptors y, shape ``(batch, d)``, dimensionless.
        n_qubits: Size of the register; the smallest that fits by default.

    Returns:
        Amplitudes before normalisation, shape ``(batch, 2**n_qubits)``.
    """
    if features.ndim != 2:
        raise ConfigError(
            f"Features come as a batch of shape (batch, d); an array of shape {features.shape} was given."
        )
    batch, n_features = features.shape
    qubits = qubits_for(n_features + 1) if n_qubits is None else n_qubits
    if n_features + 1 > 2**qubits:
        raise ConfigError(
            f"{n_features} features and the constant need {qubits_for(n_features + 1)} qubits, not {qubits}. "
            "Select fewer channels or use more qubits."
        )
    vectors = np.zeros((batch, 2**qubits))
    vectors[:, 0] = 1.0
    vectors[:, 1 : n_features + 1] = features
    return vectors


def normalise(vectors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Unit vectors and norms of a batch of amplitude vectors.

    Args:
        vectors: Shape ``(batch, 2**n)``, none of them zero.

    Returns:
        The unit vectors, shape ``(batch, 2**n)``, and the norms, shape ``(batch,)``.
    """
    norms = np.linalg.norm(vectors, axis=1)
    bad = ~(np.isfinite(norms) & (norms > 0.0))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ConfigError(
            f"Amplitude vector {row} of {len(vectors)} has norm {norms[row]}; a state needs a finite vector "
            "that is not zero. Check the features of that atom for NaN."
        )
    return vectors / norms[:, None], norms
