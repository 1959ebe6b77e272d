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
(:attr:`TreeLayout.half_levels`).

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

from dataclasses import dataclass
from functools import cached_property, lru_cache
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


@dataclass(frozen=True)
class Multiplexor:
    """RY on a qubit, controlled by all qubits above it, for the control patterns 0, 1, ... that can occur.

    Bit i of a pattern or mask is qubit ``target + 1 + i``.
    """

    target: int
    """Qubit that is turned."""
    masks: tuple[int, ...]
    """Mask k of each RY gate, in circuit order; as many as there are patterns."""

    @cached_property
    def walsh(self) -> FloatArray:
        """Signs with which gate angles add up to pattern angles, shape ``(n_patterns, n_gates)``."""
        overlap = np.bitwise_count(np.arange(len(self.masks))[:, None] & np.asarray(self.masks)[None, :])
        signs = np.where(overlap % 2 == 1, -1.0, 1.0)
        return signs * signs[:, -1:]

    @cached_property
    def inverse_walsh(self) -> FloatArray:
        """Inverse of :attr:`walsh`: pattern angles to gate angles, shape ``(n_gates, n_patterns)``."""
        return np.asarray(np.linalg.inv(self.walsh))


@dataclass(frozen=True)
class TreeLayout:
    """Gates of the rotation tree over the first ``n_amplitudes`` basis states."""

    n_amplitudes: int
    """Number of basis states that the tree can reach."""
    levels: tuple[Multiplexor, ...]
    """Root first; level l turns qubit ``n_qubits - 1 - l``."""

    @property
    def n_qubits(self) -> int:
        """Number of qubits."""
        return len(self.levels)

    @property
    def n_gates(self) -> int:
        """Number of RY gates: ``n_amplitudes - 1`` and one more per half level."""
        return int(self.places[-1].stop)

    @cached_property
    def places(self) -> tuple[slice, ...]:
        """Where each level's angles are among all."""
        stops = np.cumsum([0, *(len(level.masks) for level in self.levels)]).tolist()
        return tuple(slice(start, stop) for start, stop in pairwise(stops))

    @cached_property
    def half_levels(self) -> tuple[int, ...]:
        """Levels whose last branch has only its left half inside, so that its angle must be 0."""
        widths = [2 ** (self.n_qubits - level - 1) for level in range(self.n_qubits)]
        return tuple(level for level, width in enumerate(widths) if -(-self.n_amplitudes // width) % 2 == 1)


@lru_cache(maxsize=128)
def tree_layout(n_amplitudes: int) -> TreeLayout:
    """The tree over the first ``n_amplitudes`` basis states of the smallest register that holds them."""
    n_qubits = qubits_for(n_amplitudes)
    branches = [-(-n_amplitudes // 2 ** (n_qubits - level)) for level in range(n_qubits)]
    return TreeLayout(
        n_amplitudes,
        tuple(Multiplexor(n_qubits - 1 - level, _short_path(count)) for level, count in enumerate(branches)),
    )


def loader_circuit(n_amplitudes: int, *, name: str = "phi") -> QuantumCircuit:
    """Circuit that prepares ``sum_j x_j |j>`` over the first ``n_amplitudes`` basis states from |0...0>.

    Every RY gate has a parameter of its own, so the circuit is transpiled once for all states, and every derivative
    follows from the two-term parameter shift. Parameter ``name[g]`` is the g-th of :func:`loader_angles`.
    """
    layout = tree_layout(n_amplitudes)
    angles = iter(ParameterVector(name, layout.n_gates))
    circuit = QuantumCircuit(layout.n_qubits, name="loader")
    for level in layout.levels:
        previous = level.masks[0]
        for mask in level.masks:
            for bit in range((previous ^ mask).bit_length()):
                if (previous ^ mask) >> bit & 1:
                    circuit.cz(level.target + 1 + bit, level.target)
            circuit.ry(next(angles), level.target)
            previous = mask
    return circuit


def loader_angles(layout: TreeLayout, amplitudes: FloatArray) -> FloatArray:
    """Gate angles that prepare the normalised amplitudes, signs included.

    Args:
        amplitudes: Shape ``(batch, 2**n_qubits)``, of any norm, zero beyond ``n_amplitudes``.

    Returns:
        Angles in radians, shape ``(batch, n_gates)``.
    """
    _check(layout, amplitudes)
    radii = _radii(layout, amplitudes)
    angles = np.empty((len(amplitudes), layout.n_gates))
    for level, (place, multiplexor) in enumerate(zip(layout.places, layout.levels, strict=True)):
        left, right = radii[level + 1][:, 0::2], radii[level + 1][:, 1::2]
        branch_angles = 2.0 * np.arctan2(right, left)[:, : len(multiplexor.masks)]
        angles[:, place] = branch_angles @ multiplexor.inverse_walsh.T
    return angles


def _radii(layout: TreeLayout, amplitudes: FloatArray) -> list[FloatArray]:
    """Weights of the branches per level, root first; the last entry holds the signed amplitudes."""
    radii = [amplitudes]
    for _ in range(layout.n_qubits):
        radii.append(np.hypot(radii[-1][:, 0::2], radii[-1][:, 1::2]))
    return radii[::-1]


def _check(layout: TreeLayout, amplitudes: FloatArray) -> None:
    """Refuse amplitudes that the tree cannot prepare."""
    expected = 2**layout.n_qubits
    if amplitudes.ndim != 2 or amplitudes.shape[1] != expected:
        raise ConfigError(
            f"Amplitudes for {layout.n_qubits} qubits have shape (batch, {expected}); {amplitudes.shape} was given."
        )
    if np.any(amplitudes[:, layout.n_amplitudes :]):
        raise ConfigError(
            f"The tree reaches the first {layout.n_amplitudes} of {expected} amplitudes, but a later one is "
            "not zero. Build the tree with more amplitudes."
        )


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
