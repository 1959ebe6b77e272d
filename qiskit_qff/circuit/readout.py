r"""What is measured at the end of a circuit: observables that are diagonal in the Z basis.

Two kinds: projectors on single basis states, :math:`|k\rangle\langle k|`, and products of Z on some of the
qubits (Z strings). Both are sums of Z strings, so that one measurement setting serves all of them.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from qiskit.quantum_info import SparsePauliOp

from qiskit_qff.array_types import FloatArray
from qiskit_qff.errors import ConfigError


def projector_diagonals(n_qubits: int, n_readouts: int) -> FloatArray:
    """Projectors on the basis states 0, 1, ..., shape ``(n_readouts, 2**n_qubits)``.

    Raises:
        ConfigError: If there are more readouts than basis states.
    """
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
    """The first ``n_readouts`` Z strings of :func:`z_supports`, shape ``(n_readouts, 2**n_qubits)``.

    Raises:
        ConfigError: If there are more readouts than Z strings.
    """
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
