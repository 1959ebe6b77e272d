"""What compression leaves of a pool: some channels, centred, and a linear map to d features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.descriptors.channels import ChannelSet
from qiskit_qff.errors import ConfigError


@dataclass(frozen=True)
class LinearMap:
    """Compression of one species: y = T (D - mean)."""

    channels: ChannelSet
    """The channels D that must be computed."""
    mean: FloatArray
    """Mean of each channel over the training atoms, shape ``(K,)``."""
    matrix: FloatArray
    """T, shape ``(d, K)``: selected channels in their :mod:`basis <qiskit_qff.compression.selection>`, principal
    axes for PCA."""

    def __post_init__(self) -> None:
        """Check the shapes."""
        count = self.channels.n_channels
        if self.mean.shape != (count,) or self.matrix.ndim != 2 or self.matrix.shape[1] != count:
            raise ConfigError(
                f"compression of {count} channels has a mean of shape {self.mean.shape} and a matrix of shape "
                f"{self.matrix.shape}; ({count},) and (d, {count}) are expected."
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.matrix).all()):
            raise ConfigError("compression holds a number that is not finite.")

    @property
    def n_features(self) -> int:
        """Compressed size d."""
        return len(self.matrix)

    def apply(self, values: FloatArray) -> FloatArray:
        """Features y, shape ``(batch, d)``, of channel values D, shape ``(batch, K)``."""
        compressed: FloatArray = (values - self.mean) @ self.matrix.T
        return compressed

    def fold(self, form: FloatArray) -> FloatArray:
        """The form B with ``(1, D - mean) B (1, D - mean) = x M x``, where M is a form in x = (1, y)."""
        outer = np.zeros((self.n_features + 1, self.channels.n_channels + 1))
        outer[0, 0] = 1.0
        outer[1:, 1:] = self.matrix
        folded: FloatArray = outer.T @ form @ outer
        return 0.5 * (folded + folded.T)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists for a model file; a diagonal T is written as its diagonal."""
        diagonal = np.diagonal(self.matrix)
        compact = len(diagonal) > 0 and np.array_equal(self.matrix, np.diag(diagonal))
        return {
            "channels": self.channels.to_dict(),
            "mean": self.mean.tolist(),
            "scale" if compact else "matrix": diagonal.tolist() if compact else self.matrix.tolist(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LinearMap:
        """Read back what :meth:`to_dict` wrote."""
        matrix = np.diag(data["scale"]) if "scale" in data else np.asarray(data["matrix"], dtype=np.float64)
        return cls(
            channels=ChannelSet.from_dict(data["channels"]),
            mean=np.asarray(data["mean"], dtype=np.float64),
            matrix=matrix.astype(np.float64),
        )
