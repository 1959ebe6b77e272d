"""Machine code for small circuits: gates applied to amplitudes, and gradients by sweeping through them.

All functions take gates in the form of :class:`qiskit_qff.circuit.gates.GateTable` and work on real or
complex arrays alike. *Selected rows* are the rows of U that the readouts look at; for a projector there is
only one, which makes the rank-one tree very cheap.
"""

# ruff: noqa: ANN001, ANN201 - numba infers the types; the callers in compiled.py are typed

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def apply_gate(columns, kind, first, second, matrix, transpose):  # type: ignore[no-untyped-def] # noqa: C901
    """Apply one gate (or its transpose) to the columns of an array, in place, shape ``(2**n, n_columns)``."""
    size, n_columns = columns.shape
    bit_a, bit_b = 1 << first, 1 << second
    if kind == 0:
        m00, m11 = matrix[0, 0], matrix[1, 1]
        m01, m10 = (matrix[1, 0], matrix[0, 1]) if transpose else (matrix[0, 1], matrix[1, 0])
        for low in range(size):
            if low & bit_a == 0:
                high = low | bit_a
                for column in range(n_columns):
                    a, b = columns[low, column], columns[high, column]
                    columns[low, column] = m00 * a + m01 * b
                    columns[high, column] = m10 * a + m11 * b
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
def selected_rows(kinds, qubits, matrices, rows):  # type: ignore[no-untyped-def]
    """Rows of U as columns: ``rows`` holds unit vectors and becomes ``U[selected].T``, in place."""
    for gate in range(len(kinds) - 1, -1, -1):
        apply_gate(rows, kinds[gate], qubits[gate, 0], qubits[gate, 1], matrices[gate], True)


@njit(cache=True)
def pullback(kinds, qubits, matrices, inverses, generators, rows, vectors, slots, result):  # type: ignore[no-untyped-def]
    """Derivatives ``2 Re sum_z U'[z] @ vectors[:, z]`` for every rotation, by one forward sweep.

    Args:
        kinds: Kind of each gate.
        qubits: Qubits of each gate.
        matrices: Gates at their angles.
        inverses: Their inverses.
        generators: Generators of the rotations.
        rows: ``U[selected].T``, shape ``(2**n, n_rows)``; overwritten.
        vectors: What each selected row is contracted with, shape ``(2**n, n_rows)``; overwritten.
        slots: Index of the rotation per gate, -1 for fixed gates.
        result: Shape ``(n_rotations,)``; written.
    """
    for gate in range(len(kinds)):
        kind, first, second = kinds[gate], qubits[gate, 0], qubits[gate, 1]
        apply_gate(vectors, kind, first, second, matrices[gate], False)
        apply_gate(rows, kind, first, second, inverses[gate], True)
        if slots[gate] >= 0:
            turned = vectors.copy()
            apply_gate(turned, kind, first, second, generators[gate], False)
            total = 0.0
            for row in range(rows.shape[0]):
                for column in range(rows.shape[1]):
                    total += (rows[row, column] * turned[row, column]).real
            result[slots[gate]] = 2.0 * total


@njit(cache=True)
def row_derivatives(kinds, qubits, matrices, inverses, generators, rows, forward, slots, result):  # type: ignore[no-untyped-def]
    """Derivatives of the selected rows of U with respect to every rotation angle.

    Args:
        kinds: Kind of each gate.
        qubits: Qubits of each gate.
        matrices: Gates at their angles.
        inverses: Their inverses.
        generators: Generators of the rotations.
        rows: ``U[selected].T``; overwritten.
        forward: The identity, shape ``(2**n, 2**n)``; overwritten with the gates so far.
        slots: Index of the rotation per gate, -1 for fixed gates.
        result: Shape ``(n_rotations, n_rows, 2**n)``; written.
    """
    for gate in range(len(kinds)):
        kind, first, second = kinds[gate], qubits[gate, 0], qubits[gate, 1]
        apply_gate(forward, kind, first, second, matrices[gate], False)
        apply_gate(rows, kind, first, second, inverses[gate], True)
        if slots[gate] >= 0:
            turned = rows.copy()
            apply_gate(turned, kind, first, second, generators[gate], True)
            result[slots[gate]] = np.dot(np.ascontiguousarray(turned.T), forward)


@njit(cache=True)
def prepare_states(kinds, qubits, matrices, states):  # type: ignore[no-untyped-def]
    """Run a circuit on |0...0> once per set of angles: ``states`` holds zeros, ``(batch, 2**n, 1)``; written."""
    for item in range(len(states)):
        states[item, 0, 0] = 1.0
        for gate in range(len(kinds)):
            apply_gate(states[item], kinds[gate], qubits[gate, 0], qubits[gate, 1], matrices[item, gate], False)
