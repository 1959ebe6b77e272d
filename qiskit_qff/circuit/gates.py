r"""The gates of a circuit as plain arrays, read from the circuit itself.

Walks ``QuantumCircuit.data`` once. Each gate becomes a 2x2 matrix on one qubit, a diagonal on two, or a CNOT;
each rotation knows its angle as an affine function of the circuit's parameters, :math:`\alpha = A\theta + b`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import CircuitInstruction, Parameter, ParameterExpression, ParameterVector

from qiskit_qff.array_types import ComplexArray, FloatArray, IntArray
from qiskit_qff.errors import ConfigError

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

    def bound_matrices(self, theta: FloatArray) -> ComplexArray:
        """Matrices or diagonals of all gates, ``(..., n_gates, 2, 2)``, at parameters ``(..., n_angles)``."""
        matrices = np.broadcast_to(self.matrices, (*theta.shape[:-1], *self.matrices.shape)).copy()
        half = 0.5 * self.rotation_angles(theta)[..., None, None]
        generators = self.generators[self.rotations]
        # exp(-i P a/2) = cos(a/2) 1 + 2 sin(a/2) (-i P / 2), because P squared is 1.
        identity = np.where(self.kinds[self.rotations, None, None] == DIAGONAL, np.ones((2, 2)), np.eye(2))
        matrices[..., self.rotations, :, :] = np.cos(half) * identity + 2.0 * np.sin(half) * generators
        return matrices


def gate_table(circuit: QuantumCircuit) -> GateTable:
    """Read the gates of a circuit.

    Args:
        circuit: Made of ry, rx, rz, rzz, cx, cz, x, h and barriers; angles are numbers or linear in the
            parameters.

    Raises:
        ConfigError: If the circuit holds another instruction, or an angle that is not linear.
    """
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
        circuit: Its rotation angles may share parameters.
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
    """Coefficients ``(n_angles,)`` and constant of a rotation's angle.

    Raises:
        ConfigError: If the angle is not linear in the parameters.
    """
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
