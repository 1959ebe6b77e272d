r"""The exact energy matrices of a circuit, and their derivatives, at the speed of compiled code.

For real amplitudes x the expectation value of readout k is a quadratic form,

.. math:: \langle x|U^\dagger\, \mathrm{diag}(r_k)\, U|x\rangle = x^T M_k x, \qquad
          M_k = \mathrm{Re} \sum_z r_k[z]\, U_z^\dagger U_z,

with :math:`U_z` the rows of U. The gates are read from the program's own :class:`~qiskit.QuantumCircuit`, so
these are the matrices of the circuit that a device runs. Only rows that some readout looks at are computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qiskit_qff.array_types import ComplexArray, FloatArray, IntArray
from qiskit_qff.circuit.gates import DIAGONAL, GateTable, gate_table
from qiskit_qff.circuit.kernels import pullback, row_derivatives, selected_rows
from qiskit_qff.circuit.program import CircuitProgram
from qiskit_qff.errors import ConfigError

AnyArray = NDArray[np.inexact[Any]]


@dataclass(frozen=True, eq=False)
class CompiledProgram:
    """A program's gates as arrays, and the rows of U that its readouts need."""

    gates: GateTable
    """Gates read from the circuit."""
    states: IntArray
    """Basis states z on which some readout is not zero, shape ``(n_rows,)``."""
    readouts: FloatArray
    """Readout diagonals on these states, shape ``(n_readouts, n_rows)``."""
    slots: IntArray
    """Index of the rotation per gate, -1 for gates without angle, shape ``(n_gates,)``."""


@lru_cache(maxsize=256)
def compile_program(program: CircuitProgram) -> CompiledProgram:
    """Read a program's circuit once; later calls return the same object.

    Raises:
        ConfigError: If the circuit holds an instruction that is not known here.
    """
    gates = gate_table(program.circuit)
    states = np.flatnonzero(np.any(program.readouts != 0.0, axis=0))
    slots = np.full(len(gates.kinds), -1, dtype=np.int64)
    slots[gates.rotations] = np.arange(len(gates.rotations))
    return CompiledProgram(gates, states, np.ascontiguousarray(program.readouts[:, states]), slots)


def circuit_matrix(program: CircuitProgram, theta: FloatArray) -> AnyArray:
    """U(θ), shape ``(2**n, 2**n)``, real where all gates are.

    Raises:
        ConfigError: If ``theta`` has a wrong shape.
    """
    compiled = compile_program(program)
    matrices, _ = _bound(compiled, theta)
    return _rows(compiled, matrices, np.arange(2**program.n_qubits)).T


def readout_matrices(program: CircuitProgram, theta: FloatArray) -> FloatArray:
    """M_k of every readout.

    Args:
        program: The circuit and its readouts.
        theta: Angles in radians, shape ``(n_angles,)``.

    Returns:
        Symmetric matrices, dimensionless, shape ``(n_readouts, 2**n, 2**n)``.

    Raises:
        ConfigError: If ``theta`` has a wrong shape.
    """
    compiled = compile_program(program)
    matrices, _ = _bound(compiled, theta)
    rows = _rows(compiled, matrices, compiled.states)
    return _quadratic_forms(compiled.readouts, rows)


def operator_matrix(program: CircuitProgram, theta: FloatArray, weights: FloatArray) -> FloatArray:
    """M = sum_k w_k M_k in eV, shape ``(2**n, 2**n)``.

    Raises:
        ConfigError: If ``theta`` or ``weights`` has a wrong shape.
    """
    compiled = compile_program(program)
    diagonal = program.weighted_diagonal(weights)[compiled.states]
    matrices, _ = _bound(compiled, theta)
    rows = _rows(compiled, matrices, compiled.states)
    return np.asarray(_quadratic_forms(diagonal[None], rows)[0])


def readout_jacobian(program: CircuitProgram, theta: FloatArray) -> FloatArray:
    """Derivatives of M_k with respect to every angle.

    Args:
        program: The circuit and its readouts.
        theta: Angles in radians, shape ``(n_angles,)``.

    Returns:
        Per radian, shape ``(n_angles, n_readouts, 2**n, 2**n)``.

    Raises:
        ConfigError: If ``theta`` has a wrong shape.
    """
    compiled = compile_program(program)
    matrices, inverses = _bound(compiled, theta)
    rows = _rows(compiled, matrices, compiled.states)
    size, n_rows = rows.shape
    gates = compiled.gates
    derivatives = np.empty((len(gates.rotations), n_rows, size), dtype=rows.dtype)
    generators = _cast(gates, gates.generators)
    forward = np.eye(size, dtype=rows.dtype)
    row_derivatives(
        gates.kinds,
        gates.qubits,
        matrices,
        inverses,
        generators,
        rows.copy(),
        forward,
        compiled.slots,
        derivatives,
    )
    angles: AnyArray = derivatives
    if _is_tied(gates):
        angles = np.asarray(np.tensordot(gates.angle_matrix.T, derivatives, axes=1), dtype=rows.dtype)
    return _quadratic_form_derivatives(compiled.readouts, rows, angles)


def readout_pullback(program: CircuitProgram, theta: FloatArray, cotangents: FloatArray) -> FloatArray:
    """Gradient of ``sum_k Tr(W_k M_k)`` with respect to the angles, without the Jacobian.

    Costs about as much as the matrices themselves, so it is the way to differentiate a loss whose derivative
    with respect to M_k is known.

    Args:
        program: The circuit and its readouts.
        theta: Angles in radians, shape ``(n_angles,)``.
        cotangents: W_k, shape ``(n_readouts, 2**n, 2**n)``; only their symmetric part counts.

    Returns:
        Per radian, shape ``(n_angles,)``.

    Raises:
        ConfigError: If an argument has a wrong shape.
    """
    size = 2**program.n_qubits
    if cotangents.shape != (program.n_readouts, size, size):
        raise ConfigError(
            f"Cotangents of shape {(program.n_readouts, size, size)} are expected; got {cotangents.shape}."
        )
    compiled = compile_program(program)
    matrices, inverses = _bound(compiled, theta)
    rows = _rows(compiled, matrices, compiled.states)
    symmetric = 0.5 * (cotangents + cotangents.transpose(0, 2, 1))
    # Column z is (sum_k r_k[z] W_k) U_z^dagger.
    vectors = (symmetric @ (rows.conj()[None] * compiled.readouts[:, None, :])).sum(axis=0)
    gates = compiled.gates
    result = np.zeros(len(gates.rotations))
    generators = _cast(gates, gates.generators)
    vectors = np.ascontiguousarray(vectors)
    pullback(gates.kinds, gates.qubits, matrices, inverses, generators, rows, vectors, compiled.slots, result)
    return np.asarray(result @ gates.angle_matrix)


def _bound(compiled: CompiledProgram, theta: FloatArray) -> tuple[AnyArray, AnyArray]:
    """Gates at their angles and their inverses, shape ``(n_gates, 2, 2)`` each."""
    gates = compiled.gates
    if theta.shape != (gates.angle_matrix.shape[1],):
        raise ConfigError(
            f"{gates.angle_matrix.shape[1]} angles are expected; an array of shape {theta.shape} was given."
        )
    matrices = gates.bound_matrices(theta)
    conjugate = matrices.conj()
    diagonal = (gates.kinds == DIAGONAL)[:, None, None]
    inverses = np.where(diagonal, conjugate, conjugate.transpose(0, 2, 1))
    return _cast(gates, matrices), _cast(gates, inverses)


def _cast(gates: GateTable, matrices: ComplexArray) -> AnyArray:
    """Real arrays for real circuits, complex ones otherwise."""
    return np.ascontiguousarray(matrices.real) if gates.is_real else np.ascontiguousarray(matrices)


def _is_tied(gates: GateTable) -> bool:
    """Whether rotation angles differ from the parameters by more than a constant."""
    return gates.angle_matrix.shape[0] != gates.angle_matrix.shape[1] or not np.array_equal(
        gates.angle_matrix, np.eye(len(gates.angle_matrix))
    )


def _rows(compiled: CompiledProgram, matrices: AnyArray, states: IntArray) -> AnyArray:
    """Rows of U as columns, shape ``(2**n, n_rows)``."""
    rows = np.zeros((2**compiled.gates.n_qubits, len(states)), dtype=matrices.dtype)
    rows[states, np.arange(len(states))] = 1.0
    selected_rows(compiled.gates.kinds, compiled.gates.qubits, matrices, rows)
    return rows


def _quadratic_forms(readouts: FloatArray, rows: AnyArray) -> FloatArray:
    """``Re sum_z r_k[z] U_z^dagger U_z``, shape ``(n_readouts, 2**n, 2**n)``."""
    weighted = rows.conj()[None] * readouts[:, None, :]
    return np.ascontiguousarray((weighted @ rows.T).real)


def _quadratic_form_derivatives(readouts: FloatArray, rows: AnyArray, derivatives: AnyArray) -> FloatArray:
    """Derivatives of :func:`_quadratic_forms`, shape ``(n_angles, n_readouts, 2**n, 2**n)``."""
    weighted = rows.conj()[None] * readouts[:, None, :]
    half = (weighted[None] @ derivatives[:, None]).real
    return np.asarray(half + half.transpose(0, 1, 3, 2))
