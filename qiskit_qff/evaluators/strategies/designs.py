r"""Which states to prepare in order to know a real symmetric matrix M completely.

*pairs*: the basis states and :math:`(|j\rangle + |k\rangle)/\sqrt 2` for all j < k: as many as M has entries,
``D (D + 1) / 2``. *signed_pairs* adds :math:`(|j\rangle - |k\rangle)/\sqrt 2`: twice as many states, and less
noise for the same number of shots in all. Both need at most n - 1 entangling gates to prepare a state.

*settings*: for M = w u u^T of a rank-one readout, one state in n + 1 measurement settings instead; see
:mod:`~qiskit_qff.evaluators.strategies.vector`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.errors import ConfigError
from qiskit_qff.evaluators.tasks import pair_angles

DesignName = Literal["pairs", "signed_pairs", "settings"]


@dataclass(frozen=True, eq=False)
class OperatorDesign:
    """States whose expectation values determine a symmetric matrix, grouped by preparation circuit."""

    n_amplitudes: int
    """D, the size of the matrix."""
    groups: tuple[tuple[int, FloatArray], ...]
    """Difference mask of a preparation circuit, and its angles ``beta``, shape ``(n_states_of_group,
    n_qubits)``."""
    states: FloatArray
    """All states in the order of the groups, shape ``(n_states, n_amplitudes)``."""
    solution: FloatArray
    """Least-squares map from expectation values to the entries below, shape ``(n_entries, n_states)``."""
    rows: IntArray
    """Row of each entry that the states determine (upper triangle), shape ``(n_entries,)``."""
    columns: IntArray
    """Column of each entry, shape ``(n_entries,)``."""

    @property
    def n_states(self) -> int:
        """Number of states to prepare."""
        return len(self.states)


@lru_cache(maxsize=32)
def operator_design(n_amplitudes: int, n_qubits: int, name: DesignName = "pairs") -> OperatorDesign:
    """Design for matrices on the first ``n_amplitudes`` basis states.

    Raises:
        ConfigError: If the design is unknown.
    """
    if name not in {"pairs", "signed_pairs"}:
        raise ConfigError(
            f"There are no pair states for design '{name}'; known designs: {', '.join(get_args(DesignName))}."
        )
    signs = (1.0,) if name == "pairs" else (1.0, -1.0)
    members: dict[int, list[tuple[int, int, float]]] = {0: [(j, 0, 1.0) for j in range(n_amplitudes)]}
    for j in range(n_amplitudes):
        for k in range(j + 1, n_amplitudes):
            mask = j ^ k
            first = j if not j & mask & -mask else k
            # One qubit in superposition needs no CNOT: those states share the circuit of the basis states.
            group = 0 if mask.bit_count() == 1 else mask
            members.setdefault(group, []).extend((first, mask, sign) for sign in signs)
    groups = []
    states = []
    for group, entries in members.items():
        groups.append((group, np.array([pair_angles(n_qubits, first, mask, sign) for first, mask, sign in entries])))
        states += [_state(n_amplitudes, first, mask, sign) for first, mask, sign in entries]
    matrix = np.array(states)
    rows, columns = np.triu_indices(n_amplitudes)
    products = matrix[:, rows] * matrix[:, columns] * np.where(rows == columns, 1.0, 2.0)
    solution = _solve(products)
    return OperatorDesign(n_amplitudes, tuple(groups), matrix, solution, rows, columns)


def _solve(products: FloatArray) -> FloatArray:
    """Least-squares inverse."""
    if products.shape[0] == products.shape[1]:
        return np.asarray(np.linalg.inv(products))
    return np.asarray(np.linalg.solve(products.T @ products, products.T))


def _state(n_amplitudes: int, first: int, mask: int, sign: float) -> FloatArray:
    """Amplitudes of a basis or pair state, up to its sign."""
    state = np.zeros(n_amplitudes)
    state[first] = 1.0
    if mask:
        state[first ^ mask] = sign
        state /= np.sqrt(2.0)
    return state
