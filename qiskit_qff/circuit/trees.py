r"""Trainable rotation trees: circuits whose first rows are any real vectors.

One tree: :math:`U = V^\dagger` where V prepares :math:`|u\rangle` from |0...0>. Measuring the probability of
|0...0> after U gives :math:`\langle x|u\rangle^2`, so the operator is :math:`M = w\, u u^T` with any unit
vector u over the first ``n_amplitudes`` basis states, from ``n_amplitudes - 1`` angles.

Two trees: :math:`V = T B`. T prepares u from |0...0>. B leaves |0...0> alone and turns |0...01> into a real
vector v' orthogonal to it: first a tree over the prefixes (all qubits but qubit 0) that acts only where qubit
0 is 1, then a rotation of qubit 0 that depends on the prefix. Then :math:`v = T v'` is orthogonal to u, and
:math:`M = w_1 u u^T + w_2 v v^T` from ``2 n_amplitudes - 3`` angles.

Some RY gates must depend on others, so that forbidden branches keep a fixed angle: their angle is a linear
expression of the free parameters. Each free parameter has a gate of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.encoding.multiplexor import (
    Entangler,
    Multiplexor,
    Rotation,
)
from qiskit_qff.encoding.tree import tree_layout


@dataclass(frozen=True)
class TiedMultiplexor:
    """A multiplexor some of whose patterns have a fixed angle."""

    multiplexor: Multiplexor
    """The gates."""
    fixed: Mapping[int, float]
    """Position in ``multiplexor.patterns`` and angle in radians of the patterns that do not vary."""

    @property
    def n_free(self) -> int:
        """Number of free parameters."""
        return len(self.multiplexor.masks) - len(self.fixed)

    def gate_map(self) -> tuple[FloatArray, FloatArray, list[int]]:
        """Gate angles as an affine function of the free ones.

        Returns:
            Matrix ``(n_gates, n_free)`` and constant ``(n_gates,)`` with gate angles = matrix @ free +
            constant, and the gates whose angle is a free parameter itself.
        """
        n_gates = len(self.multiplexor.masks)
        rows = sorted(self.fixed)
        constraints = self.multiplexor.walsh[rows]
        values = np.array([self.fixed[row] for row in rows])
        tied = _independent_columns(constraints)
        free = [gate for gate in range(n_gates) if gate not in tied]
        matrix = np.zeros((n_gates, len(free)))
        matrix[free] = np.eye(len(free))
        constant = np.zeros(n_gates)
        if tied:
            inverse = np.linalg.inv(constraints[:, tied])
            matrix[tied] = -inverse @ constraints[:, free]
            constant[tied] = inverse @ values
        return matrix, constant, free


@dataclass(frozen=True)
class TreeBlock:
    """Multiplexors in circuit order, with the free angles of all of them in one vector."""

    parts: tuple[TiedMultiplexor, ...]
    """In the order in which V applies them."""

    @property
    def n_free(self) -> int:
        """Number of free parameters of the block."""
        return sum(part.n_free for part in self.parts)

    def operations(self) -> list[Rotation | Entangler]:
        """Gates in circuit order; rotations carry their index among all gates of the block."""
        gates: list[Rotation | Entangler] = []
        offset = 0
        for part in self.parts:
            for operation in part.multiplexor.operations():
                shifted = isinstance(operation, Rotation)
                gates.append(Rotation(operation.target, operation.gate + offset) if shifted else operation)  # type: ignore[union-attr]
            offset += len(part.multiplexor.masks)
        return gates

    def gate_map(self) -> tuple[FloatArray, FloatArray, list[int]]:
        """Matrix ``(n_gates, n_free)``, constant ``(n_gates,)`` and free gates of the whole block."""
        maps = [part.gate_map() for part in self.parts]
        n_gates = sum(len(constant) for _, constant, _ in maps)
        matrix = np.zeros((n_gates, self.n_free))
        free: list[int] = []
        row = column = 0
        for block, constant, gates in maps:
            matrix[row : row + len(constant), column : column + block.shape[1]] = block
            free += [row + gate for gate in gates]
            row += len(constant)
            column += block.shape[1]
        return matrix, np.concatenate([constant for _, constant, _ in maps]), free


def vector_block(n_amplitudes: int) -> TreeBlock:
    """Tree T that prepares any real unit vector over the first ``n_amplitudes`` basis states from |0...0>."""
    layout = tree_layout(n_amplitudes)
    parts = []
    for level, multiplexor in enumerate(layout.levels):
        last = len(multiplexor.patterns) - 1
        parts.append(TiedMultiplexor(multiplexor, {last: 0.0} if level in layout.half_levels else {}))
    return TreeBlock(tuple(parts))


def _independent_columns(constraints: FloatArray) -> list[int]:
    """As many columns as there are rows, linearly independent, the later ones preferred."""
    chosen: list[int] = []
    for column in reversed(range(constraints.shape[1])):
        if len(chosen) == len(constraints):
            break
        trial = [*chosen, column]
        if np.linalg.matrix_rank(constraints[:, trial]) == len(trial):
            chosen = trial
    return sorted(chosen)
