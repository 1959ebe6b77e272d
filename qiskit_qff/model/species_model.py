"""What a model knows of one species: compression, circuit, parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qiskit_qff.circuit.ansatz import AnsatzSpec
from qiskit_qff.compression.linear_map import LinearMap
from qiskit_qff.errors import ConfigError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class SpeciesModel:
    """What the model knows of one species."""

    number: int
    """Atomic number."""
    compression: LinearMap
    """From channels to features y."""
    ansatz: AnsatzSpec
    """Circuit family, readout and size."""
    theta: FloatArray
    """Circuit angles in radians, shape ``(n_angles,)``."""
    weights: FloatArray
    """Readout weights in eV, shape ``(n_readouts,)``."""
    reference_energy: float
    """Energy added to every atom, in eV."""

    def __post_init__(self) -> None:
        """Check that the parts fit each other.

        Raises:
            ConfigError: If a number of angles, weights or features is wrong.
        """
        for name, array, expected in (
            ("angles", self.theta, self.ansatz.n_angles),
            ("weights", self.weights, self.ansatz.n_readouts),
        ):
            if array.shape != (expected,) or not np.isfinite(array).all():
                raise ConfigError(
                    f"species {self.number}: {expected} finite {name} are expected, found shape {array.shape}."
                )
        if self.compression.n_features + 1 > self.ansatz.n_amplitudes:
            raise ConfigError(
                f"species {self.number}: {self.compression.n_features} features and the constant do not fit into "
                f"{self.ansatz.n_amplitudes} amplitudes."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists for a model file."""
        return {
            "number": self.number,
            "compression": self.compression.to_dict(),
            "ansatz": asdict(self.ansatz),
            "theta": self.theta.tolist(),
            "weights": self.weights.tolist(),
            "reference_energy": self.reference_energy,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SpeciesModel:
        """Read back what :meth:`to_dict` wrote.

        Args:
            data: The dictionary.
        """
        return cls(
            number=int(data["number"]),
            compression=LinearMap.from_dict(data["compression"]),
            ansatz=AnsatzSpec(**data["ansatz"]),
            theta=np.asarray(data["theta"], dtype=np.float64),
            weights=np.asarray(data["weights"], dtype=np.float64),
            reference_energy=float(data["reference_energy"]),
        )
