r"""The training domain of one species: how far an environment lies outside of what training has seen.

The extrapolation grade of an atom with features y is its Mahalanobis length,

.. math:: \gamma = \sqrt{y^T C^{-1} y / d},\qquad C = \langle y y^T\rangle_\text{training atoms},

so its root mean square over the training atoms is one. Up to the factor, :math:`\gamma^2` is the leverage of the
atom in a fit that is linear in its features: the variance that unit noise on the labels gives to the prediction,
and what a D-optimal design of experiments maximises. ACE and moment tensor potentials use the largest coefficient of
y in an active set of d extreme environments (MaxVol) instead; leverage needs no search for such a set, adds up over
parts of the data, and does not change when the features are mixed linearly. Where :math:`\gamma` passes the largest
one of the training atoms, :attr:`TrainingDomain.largest`, the model extrapolates.

No label enters, and M does not either. What the channels do not see, the grade does not see.

References:
    E. V. Podryabinkin and A. V. Shapeev, Comput. Mater. Sci. 140, 171 (2017), doi:10.1016/j.commatsci.2017.08.031.
    Y. Lysogorskiy et al., Phys. Rev. Materials 7, 043801 (2023), doi:10.1103/PhysRevMaterials.7.043801.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.errors import ConfigError

FLOOR = 1e-4
"""Smallest eigenvalue of C, in units of its features' mean squares, that is believed: training sets with fewer atoms
of a species than features have none in some directions, and a grade there would be pure chance."""


@dataclass(frozen=True, eq=False)
class TrainingDomain:
    """Second moments of the features of one species over the training atoms."""

    count: int
    """Number of training atoms."""
    moments: FloatArray
    """C, shape ``(d, d)``."""
    largest: float
    """Largest grade of a training atom."""
    reach: FloatArray | None = None
    """Least and largest v of the training atoms along each of :attr:`directions`, shape ``(2, d)``; None in files
    from before these were kept."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ConfigError: If C is not square or a number is not finite or not positive.
        """
        if self.moments.ndim != 2 or self.moments.shape[0] != self.moments.shape[1]:
            raise ConfigError(f"training domain: moments of shape {self.moments.shape}; a square matrix is expected.")
        if (
            self.count < 1
            or not np.isfinite(self.moments).all()
            or not (np.isfinite(self.largest) and self.largest > 0)
        ):
            raise ConfigError(
                f"training domain: {self.count} atoms, largest grade {self.largest}; positive, finite numbers are "
                "expected."
            )
        if self.reach is not None and not (
            self.reach.shape == (2, len(self.moments)) and (self.reach[0] <= self.reach[1]).all()
        ):
            raise ConfigError(
                f"training domain: a reach of shape {self.reach.shape}; least and largest value of "
                f"{len(self.moments)} directions are expected."
            )

    @property
    def n_numbers(self) -> int:
        """Label-free numbers that it holds."""
        size = len(self.moments)
        return 2 + size * (size + 1) // 2 + (0 if self.reach is None else self.reach.size)

    @cached_property
    def whitening(self) -> FloatArray:
        """W, shape ``(d, d)``: the grade is the length of ``W y``."""
        return whitening_of(self.moments)

    @property
    def directions(self) -> FloatArray:
        """V, shape ``(d, d)``: v = V y are uncorrelated over the training atoms, of variance about one."""
        return directions_of(self.moments)

    def grades(self, features: FloatArray) -> FloatArray:
        """Extrapolation grades.

        Args:
            features: y, shape ``(n, d)``.

        Returns:
            Shape ``(n,)``, no unit.
        """
        lengths: FloatArray = np.linalg.norm(features @ self.whitening.T, axis=1)
        return lengths

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists for a model file; of C the lower triangle, row by row."""
        triangle = self.moments[np.tril_indices(len(self.moments))]
        content: dict[str, Any] = {"count": self.count, "moments": triangle.tolist(), "largest": self.largest}
        return content if self.reach is None else content | {"reach": self.reach.tolist()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TrainingDomain:
        """Read back what :meth:`to_dict` wrote.

        Args:
            data: The dictionary.

        Raises:
            ConfigError: If the moments are no triangle.
        """
        triangle = np.asarray(data["moments"], dtype=np.float64)
        size = int((np.sqrt(8 * len(triangle) + 1) - 1) / 2)
        if size * (size + 1) // 2 != len(triangle):
            raise ConfigError(f"training domain: {len(triangle)} moments are no lower triangle.")
        moments = np.zeros((size, size))
        moments[np.tril_indices(size)] = triangle
        reach = np.asarray(data["reach"], dtype=np.float64) if "reach" in data else None
        return cls(int(data["count"]), moments + np.tril(moments, -1).T, float(data["largest"]), reach)


def whitening_of(moments: FloatArray) -> FloatArray:
    """W with ``|W y|^2 = y^T C^-1 y / d``, directions without data held at :data:`FLOOR`.

    Args:
        moments: C, shape ``(d, d)``.

    Returns:
        Shape ``(d, d)``; its root mean square length over the data is one.
    """
    scale = np.sqrt(np.diagonal(moments))
    inverse = np.where(scale > 0.0, 1.0 / np.where(scale > 0.0, scale, 1.0), 1.0)
    values, vectors = np.linalg.eigh(moments * np.outer(inverse, inverse))
    held = np.maximum(values, FLOOR)
    # Directions that were held contribute less than one each, so the sum, not d, makes the mean square one.
    total = max(float(np.sum(np.maximum(values, 0.0) / held)), FLOOR)
    whitening: FloatArray = (vectors / np.sqrt(held * total)).T * inverse
    return whitening


def directions_of(moments: FloatArray) -> FloatArray:
    """V with uncorrelated v = V y of variance one, or less in directions held at :data:`FLOOR`.

    Args:
        moments: C, shape ``(d, d)``.

    Returns:
        Shape ``(d, d)``.
    """
    whitening = whitening_of(moments)
    variances = np.einsum("ki,ij,kj->k", whitening, moments, whitening)
    directions: FloatArray = whitening / np.sqrt(max(float(variances.max()), np.finfo(float).tiny))
    return directions
