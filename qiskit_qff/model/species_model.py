"""What a model knows of one species: compression, circuit, parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from qiskit_qff.circuit.ansatz import AnsatzSpec, build_program
from qiskit_qff.circuit.compiled import operator_matrix
from qiskit_qff.circuit.program import BoundProgram
from qiskit_qff.compression.linear_map import LinearMap
from qiskit_qff.errors import ConfigError
from qiskit_qff.model.calibrated_operator import CalibratedOperator
from qiskit_qff.model.domain import TrainingDomain
from qiskit_qff.model.spread import ParameterSpread

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
    measured: CalibratedOperator | None = None
    """M as a device measured it, used instead of the circuit's own; None where the model is not calibrated."""
    domain: TrainingDomain | None = None
    """Where its atoms were in training; None in files from before extrapolation grades."""
    spread: ParameterSpread | None = None
    """What the data leave open of the parameters; None where it was not drawn."""
    chosen_weights: bool = False
    """Whether the readout weights are powers of two that were chosen, as channels are, and not fitted."""
    balanced: bool = False
    """Whether the readout is balanced: half of the readout vector's square is its constant amplitude's."""

    def __post_init__(self) -> None:
        """Check that the parts fit each other.

        Raises:
            ConfigError: If a number of angles, weights or features is wrong.
        """
        self._check_parameters()
        if self.compression.n_features + 1 > self.ansatz.n_amplitudes:
            raise ConfigError(
                f"species {self.number}: {self.compression.n_features} features and the constant do not fit into "
                f"{self.ansatz.n_amplitudes} amplitudes."
            )
        if self.domain is not None and len(self.domain.moments) != self.compression.n_features:
            raise ConfigError(
                f"species {self.number}: a training domain of {self.compression.n_features} features is expected, "
                f"found {len(self.domain.moments)}."
            )
        if self.spread is not None and (self.spread.theta.shape[1], self.spread.weights.shape[1]) != (
            self.ansatz.n_angles,
            self.ansatz.n_readouts,
        ):
            raise ConfigError(f"species {self.number}: the committee has other numbers of angles or weights.")
        if self.chosen_weights and (np.frexp(np.abs(self.weights))[0] != 0.5).any():
            raise ConfigError(f"species {self.number}: weights {self.weights.tolist()} eV are not all powers of two.")
        if self.balanced and abs(self.origin() - 0.5 * float(self.weights.sum())) > 1e-6 * abs(
            float(self.weights.sum())
        ):
            raise ConfigError(f"species {self.number}: the readout is said to be balanced and is not.")
        if self.measured is not None:
            self.measured.operator(self.bound_program())

    def _check_parameters(self) -> None:
        """Check element, energy, angles and weights.

        Raises:
            ConfigError: If their number is wrong or one is not finite.
        """
        if not (1 <= self.number < len(chemical_symbols) and np.isfinite(self.reference_energy)):
            raise ConfigError(
                f"species {self.number}, {self.reference_energy} eV: no atomic number, or no finite energy."
            )
        for name, array, expected in (
            ("angles", self.theta, self.ansatz.n_angles),
            ("weights", self.weights, self.ansatz.n_readouts),
        ):
            if array.shape != (expected,):
                raise ConfigError(f"species {self.number}: {expected} {name} are expected, found shape {array.shape}.")
            if not np.isfinite(array).all():
                raise ConfigError(f"species {self.number}: some of the {name} are not finite numbers.")

    def bound_program(self) -> BoundProgram:
        """The circuit with its parameters."""
        return BoundProgram(build_program(self.ansatz), self.theta, self.weights)

    def operator_matrix(self) -> FloatArray:
        """M, measured where the model is calibrated, else from the circuit, shape ``(2^n, 2^n)``, in eV.

        A measured M keeps the circuit's M_00: the mean environment has its trained energy, and what is measured is the
        difference to it.
        """
        if self.measured is None:
            return operator_matrix(build_program(self.ansatz), self.theta, self.weights)
        matrix = self.measured.matrix.copy()
        matrix[0, 0] = self.origin()
        return matrix

    @property
    def label_free(self) -> int:
        """Numbers computed without labels: means, scales, projections, levels of products, and the training domain."""
        numbers = self.compression.mean.size + int(np.count_nonzero(self.compression.matrix))
        numbers += self.compression.channels.offsets.size + self.compression.channels.widths.size
        return numbers if self.domain is None else numbers + self.domain.n_numbers

    @property
    def format_version(self) -> int:
        """Oldest format version of model files that can hold it."""
        if len(self.compression.channels.products):
            return 5
        if self.balanced or self.compression.channels.angular is not None:
            return 4
        return 1 if self.measured is None else 2

    def origin(self) -> float:
        """M_00 of the circuit in eV."""
        return float(operator_matrix(build_program(self.ansatz), self.theta, self.weights)[0, 0])

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists for a model file."""
        content = {
            "number": self.number,
            "compression": self.compression.to_dict(),
            "ansatz": asdict(self.ansatz),
            "theta": self.theta.tolist(),
            "weights": self.weights.tolist(),
            "reference_energy": self.reference_energy,
        }
        if self.domain is not None:
            content["domain"] = self.domain.to_dict()
        if self.spread is not None:
            content["spread"] = self.spread.to_dict()
        if self.chosen_weights:
            content["chosen_weights"] = True
        if self.balanced:
            content["balanced"] = True
        return content if self.measured is None else {**content, "measured": self.measured.to_dict()}

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
            measured=CalibratedOperator.from_dict(data["measured"]) if "measured" in data else None,
            domain=TrainingDomain.from_dict(data["domain"]) if "domain" in data else None,
            spread=ParameterSpread.from_dict(data["spread"]) if "spread" in data else None,
            chosen_weights=bool(data.get("chosen_weights", False)),
            balanced=bool(data.get("balanced", False)),
        )
