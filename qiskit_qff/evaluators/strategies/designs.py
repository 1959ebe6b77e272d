r"""Which states to prepare in order to know any real symmetric matrix M completely.

The basis states and the pair states :math:`(|j\rangle + |k\rangle)/\sqrt 2` for all j < k: as many as M has entries,
``D (D + 1) / 2``. At most n - 1 entangling gates prepare each of them. Readouts of rank one need far less; see
:mod:`~qiskit_qff.evaluators.strategies.vector`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.evaluators.tasks import pair_angles


@dataclass(frozen=True, eq=False)
class OperatorDesign:
    """States whose expectation values determine a symmetric matrix, grouped by preparation circuit."""

    groups: tuple[tuple[int, FloatArray], ...]
    """Difference mask of a preparation circuit, and its angles ``beta``, shape ``(n_states_of_group,
    n_qubits)``."""
    states: FloatArray
    """All states in the order of the groups, shape ``(n_states, n_amplitudes)``."""
    solution: FloatArray
    """Least-squares map from expectation values to the entries below, shape ``(n_entries, n_states)``."""
    rows: IntArray
    """Row of each entry of the upper triangle, shape ``(n_entries,)``."""
    columns: IntArray
    """Column of each entry, shape ``(n_entries,)``."""

    @property
    def n_states(self) -> int:
        """Number of states to prepare."""
        return len(self.states)


@lru_cache(maxsize=32)
def operator_design(n_amplitudes: int, n_qubits: int, *, signed: bool = False) -> OperatorDesign:
    """Design for matrices on the first ``n_amplitudes`` basis states."""
    signs = (1.0, -1.0) if signed else (1.0,)
    members: dict[int, list[tuple[int, int, float]]] = {0: [(j, 0, 1.0) for j in range(n_amplitudes)]}
    for j in range(n_amplitudes):
        for k in range(j + 1, n_amplitudes):
            mask = j ^ k
            first = j if not j & mask & -mask else k
            # One qubit in superposition needs no CNOT: those states share the circuit of the basis states.
            group = 0 if mask.bit_count() == 1 else mask
            members.setdefault(group, []).extend((first, mask, sign) for sign in signs)
    groups = tuple(
        (group, np.array([pair_angles(n_qubits, first, mask, sign) for first, mask, sign in entries]))
        for group, entries in members.items()
    )
    states = np.array([_state(n_amplitudes, *entry) for entries in members.values() for entry in entries])
    rows, columns = np.triu_indices(n_amplitudes)
    products = states[:, rows] * states[:, columns] * np.where(rows == columns, 1.0, 2.0)
    solution = np.linalg.solve(products.T @ products, products.T) if signed else np.linalg.inv(products)
    return OperatorDesign(groups, states, np.asarray(solution), rows, columns)


def _state(n_amplitudes: int, first: int, mask: int, sign: float) -> FloatArray:
    """Amplitudes of a basis or pair state, up to its sign."""
    state = np.zeros(n_amplitudes)
    state[first] = 1.0
    if mask:
        state[first ^ mask] = sign
        state /= np.sqrt(2.0)
    return state
