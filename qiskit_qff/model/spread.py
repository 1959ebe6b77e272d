r"""What the data leave open of a model's parameters, as random deviations, and the factor that calibrates them.

Near its minimum the loss is :math:`L(p + \delta) = L + \delta^T H \delta` with the Gauss-Newton matrix
:math:`H = J^T G J`, because M enters energies and forces linearly. N frames with errors of the size that L says leave
deviations of covariance :math:`\frac{L}{N} H^{-1}` open (Laplace's approximation). A few draws from it make a committee
that costs no further training.

Why not refits: with 100 frames of lips83 and 18 of Li-MOF-5, three restarts of the optimiser all end in one minimum, so
their spread needs a factor above 8000 to match errors; six refits to bootstrap samples of the frames need 8.2 and 5.9,
with rank correlations of 0.38 and 0.66 between spread and error of atoms; sixteen of these draws need 1.2 and 0.4, with
0.47 and 0.64 (``benchmarks/accuracy/uncertainty.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.errors import ConfigError


@dataclass(frozen=True, eq=False)
class ModelSpread:
    """Deviations of one species' M, one row a member of the committee."""

    triangles: FloatArray
    """Of the upper triangles of all registers' M without M_00, end to end, shape ``(K, T)``, in eV."""
    references: FloatArray
    """Of the energy of the mean environment in eV, shape ``(K,)``."""

    def __post_init__(self) -> None:
        """Check shapes.

        Raises:
            ConfigError: If the members differ in number or a number is not finite.
        """
        count = len(self.references)
        if self.triangles.ndim != 2 or len(self.triangles) != count or count < 2:
            raise ConfigError(
                f"committee: {len(self.triangles)} and {count} members; at least two are expected, the same number "
                "of both."
            )
        if not (np.isfinite(self.triangles).all() and np.isfinite(self.references).all()):
            raise ConfigError("committee: a number is not finite.")

    @property
    def n_numbers(self) -> int:
        """Numbers that it holds; no energy or force depends on them."""
        return self.triangles.size + self.references.size

    def to_dict(self) -> dict[str, Any]:
        """Plain lists for a model file."""
        return {"triangles": self.triangles.tolist(), "references": self.references.tolist()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelSpread:
        """Read back what :meth:`to_dict` wrote.

        Args:
            data: The dictionary.
        """
        references = np.asarray(data["references"], dtype=np.float64)
        triangles = np.asarray(data["triangles"], dtype=np.float64).reshape(len(references), -1)
        return cls(triangles, references)


@dataclass(frozen=True)
class UncertaintyCalibration:
    """What the spread of the committee is multiplied by."""

    factor: float
    """Root mean square of error over spread on force components; no unit."""
    n_frames: int
    """Held-out frames that it was fitted to."""

    def __post_init__(self) -> None:
        """Check the factor.

        Raises:
            ConfigError: If it is not positive.
        """
        if not (np.isfinite(self.factor) and self.factor > 0.0):
            raise ConfigError(f"committee: a factor of {self.factor}; a positive number is expected.")
