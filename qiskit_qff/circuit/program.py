r"""A circuit program: the circuit that a device runs, together with what is measured at its end.

The energy operator of a register is :math:`M = U^\dagger(\theta)\, O\, U(\theta)` with a readout that is
diagonal in the Z basis, :math:`O = \sum_k w_k\, \mathrm{diag}(r_k)`: everything is measured in one setting.
The circuit is the single source of truth; matrices are derived from it in :mod:`qiskit_qff.circuit.compiled`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from qiskit import QuantumCircuit
from qiskit.quantum_info import SparsePauliOp

from qiskit_qff.array_types import FloatArray
from qiskit_qff.circuit.readout import diagonal_observable
from qiskit_qff.errors import ConfigError


@dataclass(frozen=True, eq=False)
class CircuitProgram:
    """A parametrised circuit U(θ) without measurements and its Z-diagonal readouts."""

    circuit: QuantumCircuit
    """U, with the parameters ``theta[0]``, ``theta[1]``, ...; no measurement."""
    readouts: FloatArray
    """Diagonals r_k of the readout observables, shape ``(n_readouts, 2**n_qubits)``."""
    n_amplitudes: int
    """Number of basis states on which input states live: the first ones, d + 1 of them."""

    def __post_init__(self) -> None:
        """Check that the parts fit.

        Raises:
            ConfigError: If the readouts or the number of amplitudes do not fit the circuit.
        """
        size = 2**self.circuit.num_qubits
        if self.readouts.ndim != 2 or self.readouts.shape[1] != size or len(self.readouts) == 0:
            raise ConfigError(
                f"Readouts of a {self.circuit.num_qubits}-qubit circuit have shape (n_readouts, {size}); "
                f"{self.readouts.shape} was given."
            )
        if not 2 <= self.n_amplitudes <= size:
            raise ConfigError(f"n_amplitudes lies between 2 and {size} here; {self.n_amplitudes} was given.")
        if self.circuit.num_clbits:
            raise ConfigError(
                "The circuit of a program has no classical bits; measurements are added by the evaluator."
            )

    @property
    def n_qubits(self) -> int:
        """Number of qubits."""
        return int(self.circuit.num_qubits)

    @property
    def n_angles(self) -> int:
        """Number of circuit angles θ."""
        return int(self.circuit.num_parameters)

    @property
    def n_readouts(self) -> int:
        """Number of readout observables, and of their weights."""
        return len(self.readouts)

    def observables(self) -> list[SparsePauliOp]:
        """One observable per readout, as sums of Z strings on all qubits of the circuit."""
        return [diagonal_observable(diagonal) for diagonal in self.readouts]

    def weighted_diagonal(self, weights: FloatArray) -> FloatArray:
        """Diagonal of ``O = sum_k w_k diag(r_k)`` in units of the weights (eV), shape ``(2**n_qubits,)``.

        Raises:
            ConfigError: If there is not one weight per readout.
        """
        if weights.shape != (self.n_readouts,):
            raise ConfigError(f"{self.n_readouts} readout weights are expected; shape {weights.shape} was given.")
        return np.asarray(weights @ self.readouts)


@dataclass(frozen=True, eq=False)
class BoundProgram:
    """A program with values for its trainable parameters: the energy operator M of one species."""

    program: CircuitProgram
    """Circuit and readouts."""
    theta: FloatArray
    """Circuit angles in radians, shape ``(n_angles,)``."""
    weights: FloatArray
    """Readout weights in eV, shape ``(n_readouts,)``."""

    def __post_init__(self) -> None:
        """Check that the parameters fit the program.

        Raises:
            ConfigError: If there is not one value per angle and per readout.
        """
        for label, values, expected in (
            ("angles", self.theta, self.program.n_angles),
            ("readout weights", self.weights, self.program.n_readouts),
        ):
            if values.shape != (expected,):
                raise ConfigError(f"{expected} {label} are expected; an array of shape {values.shape} was given.")
