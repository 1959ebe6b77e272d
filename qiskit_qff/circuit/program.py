r"""A circuit program: the circuit that a device runs, together with what is measured at its end.

The energy operator of a register is :math:`M = U^\dagger(\theta)\, O\, U(\theta)` with a readout that is
diagonal in the Z basis, :math:`O = \sum_k w_k\, \mathrm{diag}(r_k)`: everything is measured in one setting. Readouts
are projectors on single basis states, :math:`|k\rangle\langle k|`, or products of Z on some of the qubits (Z strings).
The circuit is the single source of truth; matrices are derived from it in :mod:`qiskit_qff.circuit.compiled`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from qiskit import QuantumCircuit
from qiskit.quantum_info import SparsePauliOp

from qiskit_qff.array_types import FloatArray
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
        """Check that the parts fit."""
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
        """Diagonal of ``O = sum_k w_k diag(r_k)`` in units of the weights (eV), shape ``(2**n_qubits,)``."""
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
        """Check that the parameters fit the program."""
        for label, values, expected in (
            ("angles", self.theta, self.program.n_angles),
            ("readout weights", self.weights, self.program.n_readouts),
        ):
            if values.shape != (expected,):
                raise ConfigError(f"{expected} {label} are expected; an array of shape {values.shape} was given.")


def projector_diagonals(n_qubits: int, n_readouts: int) -> FloatArray:
    """Projectors on the basis states 0, 1, ..., shape ``(n_readouts, 2**n_qubits)``."""
    size = 2**n_qubits
    if not 1 <= n_readouts <= size:
        raise ConfigError(f"{n_qubits} qubits have 1 to {size} projectors; {n_readouts} were asked for.")
    return np.eye(n_readouts, size)


def z_supports(n_qubits: int) -> list[tuple[int, ...]]:
    """Qubits of every Z string, in the order in which readouts take them.

    Identity first; then single Z by qubit; then pairs by distance, nearest neighbours first; then triples and
    larger sets by their extent along the line.
    """
    supports: list[tuple[int, ...]] = [()]
    for size in range(1, n_qubits + 1):
        supports += sorted(combinations(range(n_qubits), size), key=lambda qubits: (qubits[-1] - qubits[0], qubits))
    return supports


def z_diagonals(n_qubits: int, n_readouts: int) -> FloatArray:
    """The first ``n_readouts`` Z strings of :func:`z_supports`, shape ``(n_readouts, 2**n_qubits)``."""
    supports = z_supports(n_qubits)
    if not 1 <= n_readouts <= len(supports):
        raise ConfigError(f"{n_qubits} qubits have 1 to {len(supports)} Z strings; {n_readouts} were asked for.")
    states = np.arange(2**n_qubits)
    masks = np.array([sum(1 << qubit for qubit in support) for support in supports[:n_readouts]])
    return np.where(np.bitwise_count(states[None, :] & masks[:, None]) % 2 == 1, -1.0, 1.0)


def diagonal_observable(diagonal: FloatArray) -> SparsePauliOp:
    """Sum of Z strings with the given diagonal.

    Args:
        diagonal: Shape ``(2**n_qubits,)``, little-endian.
    """
    size = len(diagonal)
    n_qubits = size.bit_length() - 1
    states = np.arange(size)
    signs = np.where(np.bitwise_count(states[None, :] & states[:, None]) % 2 == 1, -1.0, 1.0)
    coefficients = signs @ diagonal / size
    kept = np.flatnonzero(np.abs(coefficients) > 1e-14 * max(1.0, float(np.abs(diagonal).max())))
    terms = [("Z" * int(mask).bit_count(), _qubits_of(int(mask), n_qubits), coefficients[mask]) for mask in kept]
    return SparsePauliOp.from_sparse_list(terms or [("", [], 0.0)], num_qubits=n_qubits)


def _qubits_of(mask: int, n_qubits: int) -> list[int]:
    """Qubits whose bit is set."""
    return [qubit for qubit in range(n_qubits) if mask >> qubit & 1]
