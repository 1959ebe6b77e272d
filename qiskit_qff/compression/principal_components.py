"""Principal components of the pool: compression that looks at no label."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import eigh

from qiskit_qff.array_types import FloatArray
from qiskit_qff.compression.compressor import PoolStatistics, SizeLimits
from qiskit_qff.compression.feature_basis import FeatureBasis
from qiskit_qff.compression.linear_map import LinearMap


@dataclass(frozen=True)
class PrincipalComponents:
    """Compressor that keeps the directions of largest variance of the standardised channels, whitened."""

    basis: FeatureBasis = field(default_factory=FeatureBasis)
    """What becomes of the principal components."""

    def fit(self, statistics: PoolStatistics, limits: SizeLimits) -> dict[int, LinearMap]:
        """Diagonalise the correlation matrix of each species.

        Args:
            statistics: Sums over the training data.
            limits: Numbers of features allowed; shared equally among the species.

        Returns:
            A dense linear map per species.
        """
        species = statistics.tables.species.tolist()
        size = min(limits.per_species, limits.total // len(species))
        starts = statistics.tables.channel_start
        maps = {}
        for s, number in enumerate(species):
            own = slice(int(starts[s]), int(starts[s + 1]))
            covariance = statistics.covariance[number]
            axes = principal_axes(covariance, size)
            maps[number] = LinearMap(
                channels=statistics.sets[number],
                mean=statistics.mean[own],
                matrix=self.basis.apply(axes, statistics.equations.gram[own, own], covariance),
            )
        return maps


def principal_axes(covariance: FloatArray, size: int) -> FloatArray:
    """Whitening projection on the leading eigenvectors of the correlation matrix.

    Args:
        covariance: Shape ``(K, K)``.
        size: Number of components; fewer are kept where the rank is lower.

    Returns:
        T, shape ``(d, K)``, such that T (D - mean) has unit covariance.
    """
    deviation = np.sqrt(np.diagonal(covariance))
    scale = np.where(deviation > 0.0, 1.0 / np.where(deviation > 0.0, deviation, 1.0), 0.0)
    correlation = covariance * np.outer(scale, scale)
    count = len(scale)
    values, vectors = eigh(correlation, subset_by_index=[max(0, count - size), count - 1])
    kept = values > 1e-10 * values[-1]
    axes: FloatArray = (vectors[:, kept] / np.sqrt(values[kept]) * scale[:, None]).T[::-1]
    return np.ascontiguousarray(axes)
