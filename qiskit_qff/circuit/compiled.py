r"""The exact energy matrices of a circuit and their derivatives, from the circuit's own gates.

For real amplitudes x the expectation value of readout k is a quadratic form,

.. math:: \langle x|U^\dagger\, \mathrm{diag}(r_k)\, U|x\rangle = x^T M_k x, \qquad
          M_k = \mathrm{Re} \sum_z r_k[z]\, U_z^\dagger U_z,

with :math:`U_z` the rows of U. The gates are read once from the program's :class:`~qiskit.QuantumCircuit`, so these
are the matrices of the circuit that a device runs: each becomes a 2x2 matrix on one qubit, a diagonal on two, or a
CNOT, and each rotation knows its angle as an affine function of the circuit's parameters, :math:`\alpha = A\theta + b`.
Derivatives follow from the parameter-shift rule, which is exact. Only rows that some readout looks at are computed: one
for a projector.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.circuit import CircuitInstruction, Parameter, ParameterExpression, ParameterVector

from qiskit_qff.array_types import ComplexArray, FloatArray, IntArray
from qiskit_qff.circuit.ansatz import CircuitProgram, MeasurementTask
from qiskit_qff.errors import ConfigError

AnyArray = NDArray[np.inexact[Any]]

SINGLE, DIAGONAL, CNOT = 0, 1, 2
"""Kinds of gates: 2x2 matrix on one qubit, diagonal on two qubits, controlled NOT."""

_GENERATORS: dict[str, ComplexArray] = {
    "rx": -0.5j * np.array([[0, 1], [1, 0]], dtype=complex),
    "ry": -0.5j * np.array([[0, -1j], [1j, 0]], dtype=complex),
    "rz": -0.5j * np.diag([1.0 + 0j, -1.0]),
    "rzz": -0.5j * np.array([[1, -1], [-1, 1]], dtype=complex),
}
_FIXED: dict[str, ComplexArray] = {
    "x": np.array([[0, 1], [1, 0]], dtype=complex),
    "h": np.array([[1, 1], [1, -1]], dtype=complex) / np.sqrt(2.0),
    "cz": np.array([[1, 1], [1, -1]], dtype=complex),
    "cx": np.zeros((2, 2), dtype=complex),
}
_KINDS = {"rzz": DIAGONAL, "cz": DIAGONAL, "cx": CNOT}
_REAL_GATES = frozenset({"ry", "x", "h", "cz", "cx"})


@dataclass(frozen=True, eq=False)
class GateTable:
    """Gates of a circuit in order, and the map from its parameters to rotation angles."""

    n_qubits: int
    """Number of qubits."""
    kinds: IntArray
    """SINGLE, DIAGONAL or CNOT, shape ``(n_gates,)``."""
    qubits: IntArray
    """Qubits of each gate (control first), shape ``(n_gates, 2)``; the second is repeated for one-qubit
    gates."""
    matrices: ComplexArray
    """Gates without angle, shape ``(n_gates, 2, 2)``: a matrix, or ``[q1, q0]`` entries of a diagonal."""
    generators: ComplexArray
    """-i P / 2 of each rotation in the same form, shape ``(n_gates, 2, 2)``; zero where there is no angle."""
    rotations: IntArray
    """Gates that have an angle, shape ``(n_rotations,)``."""
    angle_matrix: FloatArray
    """A in ``angles = A @ theta + b``, shape ``(n_rotations, n_angles)``."""
    angle_offset: FloatArray
    """b in radians, shape ``(n_rotations,)``."""
    is_real: bool
    """Whether all gates are real matrices, so that U is."""

    def rotation_angles(self, theta: FloatArray) -> FloatArray:
        """Angles of the rotations in radians, ``(..., n_rotations)``, from parameters ``(..., n_angles)``."""
        return np.asarray(theta @ self.angle_matrix.T + self.angle_offset)

    def run(self, angles: FloatArray, states: IntArray, *, transposed: bool = False) -> AnyArray:
        """Columns of U, or of its transpose, for basis states, real where U is.

        Args:
            angles: Of the rotations in radians, shape ``(batch, n_rotations)``.
            states: Which columns, shape ``(n_columns,)``.

        Returns:
            Shape ``(batch, 2**n, n_columns)``.
        """
        matrices = self._at(angles)
        kinds, qubits = self.kinds, self.qubits
        if transposed:
            matrices = np.where((kinds == SINGLE)[:, None, None], matrices.swapaxes(-1, -2), matrices)[:, ::-1]
            kinds, qubits = kinds[::-1].copy(), qubits[::-1].copy()
        gates: AnyArray = np.ascontiguousarray(matrices.real if self.is_real else matrices)
        columns = np.zeros((len(angles), 2**self.n_qubits, len(states)), dtype=gates.dtype)
        columns[:, states, np.arange(len(states))] = 1.0
        _run_gates(kinds, qubits, gates, columns)
        return columns

    def _at(self, angles: FloatArray) -> ComplexArray:
        """Matrices or diagonals of all gates, ``(batch, n_gates, 2, 2)``."""
        matrices = np.repeat(self.matrices[None], len(angles), axis=0)
        half = 0.5 * angles[..., None, None]
        generators = self.generators[self.rotations]
        # exp(-i P a/2) = cos(a/2) 1 + 2 sin(a/2) (-i P / 2), because P squared is 1.
        identity = np.where(self.kinds[self.rotations, None, None] == DIAGONAL, np.ones((2, 2)), np.eye(2))
        matrices[:, self.rotations] = np.cos(half) * identity + 2.0 * np.sin(half) * generators
        return matrices


def gate_table(circuit: QuantumCircuit) -> GateTable:
    """Read the gates of a circuit."""
    entries = [entry for entry in circuit.data if entry.operation.name != "barrier"]
    parameters = {parameter: column for column, parameter in enumerate(circuit.parameters)}
    n_gates = len(entries)
    matrices, generators = np.zeros((2, n_gates, 2, 2), dtype=complex)
    rows: list[FloatArray] = []
    offsets: list[float] = []
    rotations = []
    for index, entry in enumerate(entries):
        name = entry.operation.name
        if name in _GENERATORS:
            row, offset = _linear_angle(entry, parameters)
            rows.append(row)
            offsets.append(offset)
            rotations.append(index)
            generators[index] = _GENERATORS[name]
        elif name in _FIXED:
            matrices[index] = _FIXED[name]
        else:
            known = ", ".join(sorted({*_GENERATORS, *_FIXED}))
            raise ConfigError(f"The compiled circuit knows {known} and barrier; it was given '{name}' (gate {index}).")
    names = [entry.operation.name for entry in entries]
    positions = [[circuit.find_bit(qubit).index for qubit in entry.qubits] for entry in entries]
    return GateTable(
        n_qubits=int(circuit.num_qubits),
        kinds=np.array([_KINDS.get(name, SINGLE) for name in names], dtype=np.int64),
        qubits=np.array([(pair[0], pair[-1]) for pair in positions], dtype=np.int64).reshape(-1, 2),
        matrices=matrices,
        generators=generators,
        rotations=np.array(rotations, dtype=np.int64),
        angle_matrix=np.array(rows).reshape(len(rows), len(parameters)),
        angle_offset=np.array(offsets),
        is_real=set(names) <= _REAL_GATES,
    )


def untied_circuit(circuit: QuantumCircuit, *, name: str) -> QuantumCircuit:
    """The same circuit with one parameter of its own for every rotation, constants included.

    Args:
        name: Name of the new parameter vector; element ``r`` is the angle of rotation ``r`` in circuit order.
    """
    rotations = [entry for entry in circuit.data if entry.operation.name in _GENERATORS]
    angles = iter(ParameterVector(name, len(rotations)))
    untied = circuit.copy_empty_like()
    for entry in circuit.data:
        operation = entry.operation
        if operation.name in _GENERATORS:
            operation = operation.to_mutable()
            operation.params = [next(angles)]
        untied.append(operation, entry.qubits)
    return untied


def _linear_angle(entry: CircuitInstruction, parameters: dict[Parameter, int]) -> tuple[FloatArray, float]:
    """Coefficients ``(n_angles,)`` and constant of a rotation's angle."""
    row = np.zeros(len(parameters))
    angle = entry.operation.params[0]
    if not isinstance(angle, ParameterExpression):
        return row, float(angle)
    for parameter in angle.parameters:
        slope = angle.gradient(parameter)
        if isinstance(slope, ParameterExpression) and slope.parameters:
            raise ConfigError(f"Angles must be linear in the circuit's parameters; '{angle}' is not.")
        row[parameters[parameter]] = float(np.real(complex(slope)))
    constant = angle.bind(dict.fromkeys(angle.parameters, 0.0))
    return row, float(constant)


@njit(cache=True)
def _apply_gate(columns, kind, first, second, matrix):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202, C901
    """Apply one gate to the columns of an array, in place, shape ``(2**n, n_columns)``."""
    size, n_columns = columns.shape
    bit_a, bit_b = 1 << first, 1 << second
    if kind == 0:
        for low in range(size):
            if low & bit_a == 0:
                high = low | bit_a
                for column in range(n_columns):
                    a, b = columns[low, column], columns[high, column]
                    columns[low, column] = matrix[0, 0] * a + matrix[0, 1] * b
                    columns[high, column] = matrix[1, 0] * a + matrix[1, 1] * b
    elif kind == 1:
        for row in range(size):
            phase = matrix[1 if row & bit_b else 0, 1 if row & bit_a else 0]
            if phase != 1.0:
                for column in range(n_columns):
                    columns[row, column] *= phase
    else:
        for low in range(size):
            if low & bit_a and low & bit_b == 0:
                high = low | bit_b
                for column in range(n_columns):
                    columns[low, column], columns[high, column] = columns[high, column], columns[low, column]


@njit(cache=True)
def _run_gates(kinds, qubits, matrices, columns):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Apply all gates, in place; matrices ``(batch, n_gates, 2, 2)``, columns ``(batch, 2**n, n_columns)``."""
    for item in range(len(columns)):
        for gate in range(len(kinds)):
            _apply_gate(columns[item], kinds[gate], qubits[gate, 0], qubits[gate, 1], matrices[item, gate])


@lru_cache(maxsize=1024)
def gates_of(task: MeasurementTask) -> GateTable:
    """Gates of a task, a program for example, read once."""
    return gate_table(task.circuit)


def circuit_matrix(program: CircuitProgram, theta: FloatArray) -> AnyArray:
    """U(θ), shape ``(2**n, 2**n)``, real where all gates are."""
    return np.asarray(gates_of(program).run(_angles(program, theta), np.arange(2**program.n_qubits))[0])


def readout_matrices(program: CircuitProgram, theta: FloatArray) -> FloatArray:
    """M_k of every readout.

    Args:
        theta: Angles in radians, shape ``(n_angles,)``.

    Returns:
        Symmetric matrices, dimensionless, shape ``(n_readouts, 2**n, 2**n)``.
    """
    return np.asarray(_quadratic_forms(program, program.readouts, _angles(program, theta))[0])


def operator_matrix(program: CircuitProgram, theta: FloatArray, weights: FloatArray) -> FloatArray:
    """M = sum_k w_k M_k in eV, shape ``(2**n, 2**n)``."""
    return np.asarray(_quadratic_forms(program, (weights @ program.readouts)[None], _angles(program, theta))[0, 0])


def readout_jacobian(program: CircuitProgram, theta: FloatArray) -> FloatArray:
    """Derivatives of M_k with respect to every angle.

    Args:
        theta: Angles in radians, shape ``(n_angles,)``.

    Returns:
        Per radian, shape ``(n_angles, n_readouts, 2**n, 2**n)``.
    """
    angles = _angles(program, theta)
    shifts = 0.5 * np.pi * np.eye(angles.shape[1])
    ahead, behind = (_quadratic_forms(program, program.readouts, angles + sign * shifts) for sign in (1.0, -1.0))
    return np.asarray(np.tensordot(gates_of(program).angle_matrix.T, 0.5 * (ahead - behind), axes=1))


def _angles(program: CircuitProgram, theta: FloatArray) -> FloatArray:
    """Angles of the rotations, shape ``(1, n_rotations)``."""
    if theta.shape != (program.n_angles,):
        raise ConfigError(f"{program.n_angles} angles are expected; an array of shape {theta.shape} was given.")
    return gates_of(program).rotation_angles(theta)[None]


def _quadratic_forms(program: CircuitProgram, readouts: FloatArray, angles: FloatArray) -> FloatArray:
    """``Re sum_z r_k[z] U_z^dagger U_z``, shape ``(batch, n_readouts, 2**n, 2**n)``."""
    states = np.flatnonzero(readouts.any(axis=0))
    rows = gates_of(program).run(angles, states, transposed=True)[:, None]
    weighted = rows.conj() * readouts[:, None, states]
    return np.ascontiguousarray((weighted @ rows.swapaxes(-1, -2)).real)
