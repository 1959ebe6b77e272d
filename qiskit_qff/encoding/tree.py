r"""The amplitudes of a compressed atomic environment, and the binary tree of rotations that prepares them.

.. math:: x = (1, y_1, \dots, y_d, 0, \dots, 0) \in R^{2^n}, \qquad |\hat x\rangle = x / \lVert x \rVert

The constant first amplitude keeps what normalising would lose; the norm is known classically and multiplied
back, so that :math:`E = \lVert x \rVert^2 \langle \hat x|M|\hat x\rangle = x^T M x`. All numbers are
dimensionless.

The state is split qubit by qubit, from the most significant one down: level l turns qubit n-1-l by an angle that
depends on the l qubits above it, dividing the weight of each branch between its two halves,

.. math:: \varphi = 2\,\mathrm{atan2}(r_{right}, r_{left}),

with r the norm of a half (on the last level the signed amplitude). A branch of weight zero has the angle 0. Branches
outside the first ``n_amplitudes`` basis states carry no weight and need no gate; a last branch of which only the left
half is inside must have the angle 0
(:func:`tied_gates`).

Each level is a multiplexor: RY gates with CZ gates between them. A CZ flips the sign of every rotation that follows it
when its control is 1, so the gate with *mask* k acts with the sign :math:`(-1)^{p \cdot k}` for the pattern p of the
controls (bitwise product, summed):

.. math:: \varphi_p = \pm \sum_k (-1)^{p \cdot k} \omega_k

Consecutive masks differ in as few bits as possible (a Gray code where all masks are used), one CZ per differing bit.
The masks 0..m-1 suffice for the patterns 0..m-1, because the leading principal minors of the Sylvester-Hadamard matrix
are not zero. The target enters in |0>, which a CZ does not touch, so the CZs before the first rotation are left out;
those after the last one only flip the sign of the pattern's angle, which the sign in front takes into account.

References:
    Möttönen, Vartiainen, Bergholm, Salomaa, "Transformation of quantum states using uniformly controlled rotations",
    Quantum Inf. Comput. 5, 467 (2005), https://doi.org/10.48550/arXiv.quant-ph/0407010
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector

from qiskit_qff.array_types import FloatArray
from qiskit_qff.errors import ConfigError

_SEARCH_STEPS = 20_000
"""Limit of the search for a path of single-bit steps; the greedy path serves beyond it."""


def qubits_for(n_amplitudes: int) -> int:
    """Number of qubits whose register holds ``n_amplitudes`` amplitudes, at least 1."""
    if n_amplitudes < 2:
        raise ConfigError(
            f"A state needs at least 2 amplitudes (the constant and one feature); {n_amplitudes} given. "
            "Select at least one channel per species."
        )
    return (n_amplitudes - 1).bit_length()


def amplitude_vectors(features: FloatArray, *, n_qubits: int) -> FloatArray:
    """Vectors ``x = (1, y, 0...)``, shape ``(batch, 2**n_qubits)``, for features y ``(batch, d)``."""
    vectors = np.zeros((len(features), 2**n_qubits))
    vectors[:, 0] = 1.0
    vectors[:, 1 : features.shape[1] + 1] = features
    return vectors


@lru_cache(maxsize=128)
def tree_masks(n_amplitudes: int) -> tuple[tuple[int, ...], ...]:
    """Masks of all RY gates in circuit order, level by level, root first; level l turns qubit n - 1 - l.

    Bit i of a mask is the i-th qubit above the one that is turned. A level has as many gates as branches inside.
    """
    n_qubits = qubits_for(n_amplitudes)
    return tuple(_short_path(-(-n_amplitudes // 2 ** (n_qubits - level))) for level in range(n_qubits))


@lru_cache(maxsize=128)
def _walsh(masks: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
    """Signs with which a level's gate angles add up to branch angles, ``(n_branches, n_gates)``, and their inverse."""
    overlap = np.bitwise_count(np.arange(len(masks))[:, None] & np.asarray(masks)[None, :])
    signs = np.where(overlap % 2 == 1, -1.0, 1.0)
    signs *= signs[:, -1:]
    return signs, np.asarray(np.linalg.inv(signs))


def tied_gates(n_amplitudes: int) -> list[tuple[int, FloatArray]]:
    """Gates whose angle is a sum of those before it in their level: their places, and the factors in these sums.

    They are the last ones of levels whose last branch has only its left half inside, so that its angle is 0.
    """
    found, stop, masks = [], 0, tree_masks(n_amplitudes)
    for level, own in enumerate(masks):
        stop += len(own)
        if -(-n_amplitudes // 2 ** (len(masks) - level - 1)) % 2 == 1:
            signs = _walsh(own)[0][-1]
            found.append((stop - 1, -signs[:-1] / signs[-1]))
    return found


def loader_circuit(n_amplitudes: int, *, name: str = "phi") -> QuantumCircuit:
    """Circuit that prepares ``sum_j x_j |j>`` over the first ``n_amplitudes`` basis states from |0...0>.

    Every RY gate has a parameter of its own, so the circuit is transpiled once for all states.
    Parameter ``name[g]`` is the g-th of :func:`loader_angles`.
    """
    masks = tree_masks(n_amplitudes)
    angles = iter(ParameterVector(name, sum(map(len, masks))))
    circuit = QuantumCircuit(len(masks), name="loader")
    for target, own in zip(range(len(masks) - 1, -1, -1), masks, strict=True):
        previous = own[0]
        for mask in own:
            for bit in range((previous ^ mask).bit_length()):
                if (previous ^ mask) >> bit & 1:
                    circuit.cz(target + 1 + bit, target)
            circuit.ry(next(angles), target)
            previous = mask
    return circuit


def loader_angles(n_amplitudes: int, amplitudes: FloatArray) -> FloatArray:
    """Gate angles of :func:`loader_circuit` that prepare the normalised amplitudes, signs included.

    Args:
        amplitudes: Shape ``(batch, 2**n_qubits)``, of any norm, zero beyond ``n_amplitudes``.

    Returns:
        Angles in radians, shape ``(batch, n_gates)``.
    """
    masks = tree_masks(n_amplitudes)
    if amplitudes.shape[1:] != (2 ** len(masks),) or np.any(amplitudes[:, n_amplitudes:]):
        raise ConfigError(
            f"A tree over {n_amplitudes} amplitudes takes vectors of {2 ** len(masks)} that are zero beyond the first "
            f"{n_amplitudes}; shape {amplitudes.shape} was given."
        )
    weights, levels = amplitudes, []
    for own in reversed(masks):
        left, right = weights[:, 0::2], weights[:, 1::2]
        levels.append(2.0 * np.arctan2(right, left)[:, : len(own)] @ _walsh(own)[1].T)
        weights = np.hypot(left, right)
    return np.hstack(levels[::-1])


@lru_cache(maxsize=512)
def _short_path(count: int) -> tuple[int, ...]:
    """Order of the masks 0 to ``count - 1`` in which neighbours differ in few bits.

    NOTE: model files hold angles in this order, so it must never change.
    """
    candidates = [_greedy_path(count, 0)]
    for start in range(count):
        candidates.append(_greedy_path(count, start))
        single = _single_bit_path(count, start)
        if single is not None:
            candidates.append(single)
            break
    return min(candidates, key=lambda path: sum((a ^ b).bit_count() for a, b in pairwise(path)))


def _greedy_path(count: int, start: int) -> tuple[int, ...]:
    """Path that always goes to the nearest mask left, the smallest among equals."""
    left = set(range(count)) - {start}
    path = [start]
    while left:
        path.append(min(left, key=lambda mask: ((mask ^ path[-1]).bit_count(), mask)))
        left.remove(path[-1])
    return tuple(path)


def _single_bit_path(count: int, start: int) -> tuple[int, ...] | None:
    """Path of single-bit steps through all masks by depth-first search, or None if none was found."""
    bits = [1 << b for b in range((count - 1).bit_length())]
    left = set(range(count)) - {start}
    path = [start]
    steps = 0

    def degree(mask: int) -> int:
        return sum((mask ^ bit) in left for bit in bits)

    def search() -> bool:
        nonlocal steps
        steps += 1
        if not left:
            return True
        if steps > _SEARCH_STEPS:
            return False
        nearby = (mask for bit in bits if (mask := path[-1] ^ bit) in left)
        for mask in sorted(nearby, key=lambda mask: (degree(mask), mask)):
            left.remove(mask)
            path.append(mask)
            if search():
                return True
            left.add(path.pop())
        return False

    return tuple(path) if search() else None
