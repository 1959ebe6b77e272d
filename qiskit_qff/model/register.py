"""A register: a small circuit with its parameters, and the features of a species that it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.circuit.ansatz import AnsatzSpec, build_program
from qiskit_qff.circuit.compiled import operator_matrix
from qiskit_qff.circuit.program import BoundProgram
from qiskit_qff.errors import ConfigError
from qiskit_qff.model.calibrated_operator import CalibratedOperator

RegisterKey = tuple[int, int]
"""Atomic number, and place of the register among those of its species."""


@dataclass(frozen=True, eq=False)
class Register:
    """A circuit on n qubits that adds x^T M x with x = (1, y) to the energy of an atom."""

    n_features: int
    """Features y that it holds, at most 2^n - 1; further amplitudes stay zero."""
    ansatz: AnsatzSpec
    """Circuit family, readout and size."""
    theta: FloatArray
    """Circuit angles in radians, shape ``(n_angles,)``."""
    weights: FloatArray
    """Readout weights in eV, shape ``(n_readouts,)``."""
    balanced: bool = False
    """Whether angles and weight follow from one linear term per feature; see :mod:`qiskit_qff.training.balance`."""
    measured: CalibratedOperator | None = None
    """M as a device measured it, used instead of the circuit's own; None where the model is not calibrated."""

    def __post_init__(self) -> None:
        """Check that the parts fit each other."""
        if not 1 <= self.n_features < self.ansatz.n_amplitudes:
            raise ConfigError(
                f"a register of {self.ansatz.n_amplitudes} amplitudes holds 1 to {self.ansatz.n_amplitudes - 1} "
                f"features; {self.n_features} were given."
            )
        for name, array, expected in (
            ("angles", self.theta, self.ansatz.n_angles),
            ("weights", self.weights, self.ansatz.n_readouts),
        ):
            if array.shape != (expected,):
                raise ConfigError(f"a register has {expected} {name}; found shape {array.shape}.")
            if not np.isfinite(array).all():
                raise ConfigError(f"some {name} of a register are not finite numbers.")
        total = float(self.weights.sum())
        if self.balanced and abs(self.origin() - 0.5 * total) > 1e-6 * abs(total):
            raise ConfigError("the readout of a register is said to be balanced and is not.")
        if self.measured is not None:
            self.measured.operator(self.bound_program())

    @property
    def n_qubits(self) -> int:
        """Number of qubits."""
        return self.ansatz.n_qubits

    @property
    def n_trainable(self) -> int:
        """Independent fitted numbers: one per feature of a balanced register, else all angles and weights."""
        return self.n_features if self.balanced else self.ansatz.n_angles + self.ansatz.n_readouts

    def bound_program(self) -> BoundProgram:
        """The circuit with its parameters."""
        return BoundProgram(build_program(self.ansatz), self.theta, self.weights)

    def circuit_matrix(self) -> FloatArray:
        """M of the circuit, shape ``(2**n, 2**n)``, in eV."""
        return operator_matrix(build_program(self.ansatz), self.theta, self.weights)

    def operator_matrix(self) -> FloatArray:
        """M, measured where the register is calibrated, else of the circuit, shape ``(2**n, 2**n)``, in eV.

        A measured M keeps the circuit's M_00: the mean environment has its trained energy, and what is measured is the
        difference to it.
        """
        if self.measured is None:
            return self.circuit_matrix()
        matrix = self.measured.matrix.copy()
        matrix[0, 0] = self.origin()
        return matrix

    def origin(self) -> float:
        """M_00 of the circuit in eV."""
        return float(self.circuit_matrix()[0, 0])

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists for a model file."""
        content: dict[str, Any] = {
            "n_features": self.n_features,
            "ansatz": asdict(self.ansatz),
            "theta": self.theta.tolist(),
            "weights": self.weights.tolist(),
            "balanced": self.balanced,
        }
        return content if self.measured is None else {**content, "measured": self.measured.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Register:
        """Read back what :meth:`to_dict` wrote."""
        return cls(
            n_features=int(data["n_features"]),
            ansatz=AnsatzSpec(**data["ansatz"]),
            theta=np.asarray(data["theta"], dtype=np.float64),
            weights=np.asarray(data["weights"], dtype=np.float64),
            balanced=bool(data["balanced"]),
            measured=CalibratedOperator.from_dict(data["measured"]) if "measured" in data else None,
        )
