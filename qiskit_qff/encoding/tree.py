r"""The binary tree of rotations that prepares any real state on the first few basis states of a register.

The state is split qubit by qubit, from the most significant one down: level l turns qubit n-1-l by an angle that
depends on the l qubits above it, dividing the weight of each branch between its two halves,

.. math:: \varphi = 2\,\mathrm{atan2}(r_{right}, r_{left}),\qquad
          \mathrm d\varphi = 2\,(r_{left}\,\mathrm dr_{right} - r_{right}\,\mathrm dr_{left})
          / (r_{left}^2 + r_{right}^2),

with r the norm of a half (on the last level the signed amplitude). A branch of weight zero has the angle 0, which says
nothing about the state (see :func:`dead_amplitudes`). Branches outside the first ``n_amplitudes`` basis states carry no
weight and need no gate; a last branch of which only the left half is inside must have the angle 0
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

A compressed atomic environment becomes a vector of amplitudes that keeps its length.

.. math:: x = (1, y_1, \dots, y_d, 0, \dots, 0) \in R^{2^n}, \qquad |\hat x\rangle = x / \lVert x \rVert

The constant first amplitude keeps what normalising would lose; the norm is known classically and multiplied
back, so that :math:`E = \lVert x \rVert^2 \langle \hat x|M|\hat x\rangle = x^T M x`. All numbers are
dimensionless.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np

from qiskit_qff.array_types import BoolArray, FloatArray
from qiskit_qff.errors import ConfigError


def qubits_for(n_amplitudes: int) -> int:
    """Number of qubits whose register holds ``n_amplitudes`` amplitudes, at least 1."""
    if n_amplitudes < 2:
        raise ConfigError(
            f"A state needs at least 2 amplitudes (the constant and one feature); {n_amplitudes} given. "
            "Select at least one channel per species."
        )
    return (n_amplitudes - 1).bit_length()


def amplitude_vectors(features: FloatArray, *, n_qubits: int | None = None) -> FloatArray:
    """Vectors ``x = (1, y, 0...)`` of a batch of environments.

    Args:
        features: Compressed descriptors y, shape ``(batch, d)``, dimensionless.
        n_qubits: Size of the register; the smallest that fits by default.

    Returns:
        Amplitudes before normalisation, shape ``(batch, 2**n_qubits)``.
    """
    if features.ndim != 2:
        raise ConfigError(
            f"Features come as a batch of shape (batch, d); an array of shape {features.shape} was given."
        )
    batch, n_features = features.shape
    qubits = qubits_for(n_features + 1) if n_qubits is None else n_qubits
    if n_features + 1 > 2**qubits:
        raise ConfigError(
            f"{n_features} features and the constant need {qubits_for(n_features + 1)} qubits, not {qubits}. "
            "Select fewer channels or use more qubits."
        )
    vectors = np.zeros((batch, 2**qubits))
    vectors[:, 0] = 1.0
    vectors[:, 1 : n_features + 1] = features
    return vectors


def normalise(vectors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Unit vectors and norms of a batch of amplitude vectors.

    Args:
        vectors: Shape ``(batch, 2**n)``, none of them zero.

    Returns:
        The unit vectors, shape ``(batch, 2**n)``, and the norms, shape ``(batch,)``.
    """
    norms = np.linalg.norm(vectors, axis=1)
    bad = ~(np.isfinite(norms) & (norms > 0.0))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ConfigError(
            f"Amplitude vector {row} of {len(vectors)} has norm {norms[row]}; a state needs a finite vector "
            "that is not zero. Check the features of that atom for NaN."
        )
    return vectors / norms[:, None], norms


@dataclass(frozen=True)
class Rotation:
    """An RY gate of a multiplexor."""

    target: int
    """Qubit that is turned."""
    gate: int
    """Index of the rotation inside its multiplexor, in circuit order."""


@dataclass(frozen=True)
class Entangler:
    """A CZ gate of a multiplexor."""

    control: int
    """One of the two qubits."""
    target: int
    """The other one; CZ does not distinguish them."""


@dataclass(frozen=True)
class Multiplexor:
    """A uniformly controlled RY, restricted to the control patterns that can occur."""

    target: int
    """Qubit that is turned."""
    controls: tuple[int, ...]
    """Control qubits; bit ``i`` of a pattern or mask belongs to ``controls[i]``."""
    patterns: tuple[int, ...]
    """Control patterns p whose angle is defined; all others are of no consequence."""
    masks: tuple[int, ...]
    """Mask k of each RY gate, in circuit order; as many as there are patterns."""

    @cached_property
    def walsh(self) -> FloatArray:
        """Signs with which gate angles add up to pattern angles, shape ``(n_patterns, n_gates)``."""
        overlap = np.bitwise_count(np.asarray(self.patterns)[:, None] & np.asarray(self.masks)[None, :])
        signs = np.where(overlap % 2 == 1, -1.0, 1.0)
        return signs * signs[:, -1:]

    @cached_property
    def inverse_walsh(self) -> FloatArray:
        """Inverse of :attr:`walsh`: pattern angles to gate angles, shape ``(n_gates, n_patterns)``."""
        return np.asarray(np.linalg.inv(self.walsh))

    def operations(self) -> list[Rotation | Entangler]:
        """The gates in circuit order."""
        gates: list[Rotation | Entangler] = []
        previous = self.masks[0]
        for gate, mask in enumerate(self.masks):
            gates += self._entanglers(previous ^ mask)
            gates.append(Rotation(self.target, gate))
            previous = mask
        return gates

    def _entanglers(self, bits: int) -> list[Rotation | Entangler]:
        """CZ gates between the target and the controls in ``bits``."""
        return [Entangler(qubit, self.target) for i, qubit in enumerate(self.controls) if bits >> i & 1]


@dataclass(frozen=True)
class TreeLayout:
    """Gates of the rotation tree over the first ``n_amplitudes`` basis states."""

    n_amplitudes: int
    """Number of basis states that the tree can reach."""
    levels: tuple[Multiplexor, ...]
    """One multiplexor per level, root first; level l turns qubit ``n_qubits - 1 - l``."""

    @property
    def n_qubits(self) -> int:
        """Number of qubits."""
        return len(self.levels)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Index of each level's first gate angle; one more entry holds the number of all gates."""
        sums = [0]
        for level in self.levels:
            sums.append(sums[-1] + len(level.masks))
        return tuple(sums)

    @property
    def n_gates(self) -> int:
        """Number of RY gates: ``n_amplitudes - 1`` and one more per half level."""
        return self.offsets[-1]

    @cached_property
    def half_levels(self) -> tuple[int, ...]:
        """Levels whose last branch has only its left half inside, so that its angle must be 0."""
        widths = [2 ** (self.n_qubits - level - 1) for level in range(self.n_qubits)]
        return tuple(level for level, width in enumerate(widths) if -(-self.n_amplitudes // width) % 2 == 1)

    def operations(self) -> list[Rotation | Entangler]:
        """The gates in circuit order; rotations carry their index among all gate angles."""
        gates: list[Rotation | Entangler] = []
        for offset, level in zip(self.offsets, self.levels, strict=False):
            for operation in level.operations():
                if isinstance(operation, Rotation):
                    gates.append(Rotation(operation.target, operation.gate + offset))
                else:
                    gates.append(operation)
        return gates


@lru_cache(maxsize=128)
def tree_layout(n_amplitudes: int) -> TreeLayout:
    """The tree over the first ``n_amplitudes`` basis states of the smallest register that holds them."""
    n_qubits = qubits_for(n_amplitudes)
    levels = []
    for level in range(n_qubits):
        n_branches = -(-n_amplitudes // 2 ** (n_qubits - level))
        branches = tuple(range(n_branches))
        target = n_qubits - 1 - level
        # Bit i of a branch index is qubit target + 1 + i: branches are numbered by the qubits above the
        # target.
        controls = tuple(range(target + 1, n_qubits))
        levels.append(Multiplexor(target, controls, branches, _short_path(branches)))
    return TreeLayout(n_amplitudes, tuple(levels))


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
    for level, multiplexor in enumerate(layout.levels):
        n_branches = len(multiplexor.patterns)
        left, right = radii[level + 1][:, 0::2], radii[level + 1][:, 1::2]
        branch_angles = 2.0 * np.arctan2(right, left)[:, :n_branches]
        angles[:, layout.offsets[level] : layout.offsets[level + 1]] = branch_angles @ multiplexor.inverse_walsh.T
    return angles


def loader_amplitudes(layout: TreeLayout, angles: FloatArray) -> FloatArray:
    """State that the tree prepares from gate angles: the inverse of :func:`loader_angles` on unit vectors.

    Args:
        angles: Radians, shape ``(batch, n_gates)``; the angle of a half branch may differ from 0 here.

    Returns:
        Unit vectors, shape ``(batch, 2**n_qubits)``.
    """
    weights = np.ones((len(angles), 1))
    for level, multiplexor in enumerate(layout.levels):
        n_branches = len(multiplexor.patterns)
        gate_angles = angles[:, layout.offsets[level] : layout.offsets[level + 1]]
        halves = 0.5 * gate_angles @ multiplexor.walsh.T
        split = np.zeros((len(angles), weights.shape[1], 2))
        split[:, :n_branches, 0] = weights[:, :n_branches] * np.cos(halves)
        split[:, :n_branches, 1] = weights[:, :n_branches] * np.sin(halves)
        weights = split.reshape(len(angles), -1)
    return weights


def loader_jacobian(layout: TreeLayout, amplitudes: FloatArray) -> FloatArray:
    """Derivative of the gate angles with respect to the amplitudes.

    Args:
        amplitudes: Shape ``(batch, 2**n_qubits)``, of any norm.

    Returns:
        Radians per unit of amplitude, shape ``(batch, n_gates, 2**n_qubits)``; zero beyond ``n_amplitudes``,
        and in branches of weight zero.
    """
    _check(layout, amplitudes)
    radii = _radii(layout, amplitudes)
    batch, size = amplitudes.shape
    jacobian = np.zeros((batch, layout.n_gates, size))
    for level, multiplexor in enumerate(layout.levels):
        n_branches = len(multiplexor.patterns)
        width = size >> level
        left, right = radii[level + 1][:, 0::2], radii[level + 1][:, 1::2]
        weight = left**2 + right**2
        rate = np.divide(2.0, weight, out=np.zeros_like(weight), where=weight > 0.0)
        # d r / d x_j = x_j / r for a norm, 1 for a signed amplitude; x_j stays in the numerator.
        slopes = np.repeat(np.stack([-right * rate, left * rate], axis=-1).reshape(batch, -1), width // 2, axis=1)
        slopes *= _radius_slopes(amplitudes, np.repeat(radii[level + 1], width // 2, axis=1), leaf=width == 2)
        branch = np.arange(size) // width
        inside = branch < n_branches
        inverse = np.zeros((len(multiplexor.masks), size))
        inverse[:, inside] = multiplexor.inverse_walsh[:, branch[inside]]
        jacobian[:, layout.offsets[level] : layout.offsets[level + 1]] = inverse[None] * slopes[:, None, :]
    jacobian[:, :, layout.n_amplitudes :] = 0.0
    return jacobian


def dead_amplitudes(layout: TreeLayout, amplitudes: FloatArray) -> BoolArray:
    """Amplitudes in branches of weight zero: the angles do not respond to them, though the energy may.

    Args:
        amplitudes: Shape ``(batch, 2**n_qubits)``.

    Returns:
        True where a derivative has to be found another way, shape ``(batch, 2**n_qubits)``; False beyond
        ``n_amplitudes``, where the amplitude is fixed to zero.
    """
    pairs = amplitudes.reshape(len(amplitudes), -1, 2)
    dead = np.repeat((pairs == 0.0).all(axis=2), 2, axis=1)
    dead[:, layout.n_amplitudes :] = False
    return np.asarray(dead)


def _radii(layout: TreeLayout, amplitudes: FloatArray) -> list[FloatArray]:
    """Weights of the branches per level, root first; the last entry holds the signed amplitudes."""
    radii = [amplitudes]
    for _ in range(layout.n_qubits):
        radii.append(np.hypot(radii[-1][:, 0::2], radii[-1][:, 1::2]))
    return radii[::-1]


def _radius_slopes(amplitudes: FloatArray, radii: FloatArray, *, leaf: bool) -> FloatArray:
    """Derivative of each half's weight with respect to the amplitudes in it, shape ``(batch, 2**n)``."""
    if leaf:
        return np.ones_like(amplitudes)
    return np.divide(amplitudes, radii, out=np.zeros_like(amplitudes), where=radii > 0.0)


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


_SEARCH_STEPS = 20_000
"""Limit of the search for a path of single-bit steps; the greedy path serves beyond it."""


@lru_cache(maxsize=512)
def _short_path(masks: tuple[int, ...]) -> tuple[int, ...]:
    """Order of distinct masks, 0 among them, in which neighbours differ in few bits."""
    candidates = [_greedy_path(masks, 0)]
    for start in masks:
        candidates.append(_greedy_path(masks, start))
        single = _single_bit_path(masks, start)
        if single is not None:
            candidates.append(single)
            break
    return min(candidates, key=lambda path: sum((a ^ b).bit_count() for a, b in pairwise(path)))


def _greedy_path(masks: tuple[int, ...], start: int) -> tuple[int, ...]:
    """Path that always goes to the nearest mask left, the smallest among equals."""
    left = set(masks) - {start}
    path = [start]
    while left:
        here = path[-1]
        path.append(min(left, key=lambda mask: ((mask ^ here).bit_count(), mask)))
        left.remove(path[-1])
    return tuple(path)


def _single_bit_path(masks: tuple[int, ...], start: int) -> tuple[int, ...] | None:
    """Path of single-bit steps through all masks by depth-first search, or None if none was found."""
    bits = [1 << b for b in range(max(masks).bit_length())]
    left = set(masks) - {start}
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
        nearby = sorted(
            (mask for bit in bits if (mask := path[-1] ^ bit) in left), key=lambda mask: (degree(mask), mask)
        )
        for mask in nearby:
            left.remove(mask)
            path.append(mask)
            if search():
                return True
            left.add(path.pop())
        return False

    return tuple(path) if search() else None
