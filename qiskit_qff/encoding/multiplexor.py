r"""One rotation whose angle depends on other qubits: the brick of which state-preparation trees are built.

A uniformly controlled RY turns a target qubit by an angle :math:`\varphi_p` chosen by the pattern p of its
controls. It is a sequence of plain RY gates with CZ gates between them. A CZ flips the sign of every rotation
that follows it when its control is 1, so the gate with *mask* k acts with the sign :math:`(-1)^{p \cdot k}`
(bitwise product, summed):

.. math:: \varphi_p = \pm \sum_k (-1)^{p \cdot k} \omega_k

Consecutive masks differ in as few bits as possible (a Gray code where all masks are used), one CZ per
differing bit. Only as many gates are used as there are patterns that can occur: for the patterns 0..m-1 the
masks 0..m-1 suffice, because the leading principal minors of the Sylvester-Hadamard matrix are not zero.

A target that enters in |0> is not touched by a CZ, so the CZs before the first rotation can be left out;
those after the last one only flip the sign of the pattern's angle, which the sign in front takes into
account. Such a multiplexor is ``open``. A target in another state needs a ``closed`` one, whose mask path
starts at 0 and returns to 0.

References:
    Möttönen, Vartiainen, Bergholm, Salomaa, "Transformation of quantum states using uniformly controlled
    rotations", Quantum Inf. Comput. 5, 467 (2005), https://doi.org/10.48550/arXiv.quant-ph/0407010
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from qiskit_qff.array_types import FloatArray


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
    closed: bool
    """Whether the target may enter in any state; otherwise it must enter in |0>."""

    @cached_property
    def walsh(self) -> FloatArray:
        """Signs with which gate angles add up to pattern angles, shape ``(n_patterns, n_gates)``."""
        overlap = np.bitwise_count(np.asarray(self.patterns)[:, None] & np.asarray(self.masks)[None, :])
        signs = np.where(overlap % 2 == 1, -1.0, 1.0)
        return signs if self.closed else signs * signs[:, -1:]

    @cached_property
    def inverse_walsh(self) -> FloatArray:
        """Inverse of :attr:`walsh`: pattern angles to gate angles, shape ``(n_gates, n_patterns)``."""
        return np.asarray(np.linalg.inv(self.walsh))

    def operations(self) -> list[Rotation | Entangler]:
        """The gates in circuit order."""
        gates: list[Rotation | Entangler] = []
        previous = 0 if self.closed else self.masks[0]
        for gate, mask in enumerate(self.masks):
            gates += self._entanglers(previous ^ mask)
            gates.append(Rotation(self.target, gate))
            previous = mask
        return gates + (self._entanglers(previous) if self.closed else [])

    def _entanglers(self, bits: int) -> list[Rotation | Entangler]:
        """CZ gates between the target and the controls in ``bits``."""
        return [Entangler(qubit, self.target) for i, qubit in enumerate(self.controls) if bits >> i & 1]


def open_multiplexor(
    *, target: int, controls: tuple[int, ...], patterns: tuple[int, ...], masks: tuple[int, ...]
) -> Multiplexor:
    """Multiplexor for a target that enters in |0>; ``masks`` are reordered to need few CZ gates."""
    return Multiplexor(target, controls, patterns, _short_path(masks, closed=False), closed=False)


def closed_multiplexor(
    *, target: int, controls: tuple[int, ...], patterns: tuple[int, ...], masks: tuple[int, ...]
) -> Multiplexor:
    """Multiplexor for a target in any state; ``masks`` are reordered to need few CZ gates."""
    return Multiplexor(target, controls, patterns, _short_path(masks, closed=True), closed=True)


_SEARCH_STEPS = 20_000
"""Limit of the search for a path of single-bit steps; the greedy path serves beyond it."""


@lru_cache(maxsize=512)
def _short_path(masks: tuple[int, ...], *, closed: bool) -> tuple[int, ...]:
    """Order of the masks in which neighbours differ in few bits; a closed one starts at 0 and ends near it.

    Args:
        masks: Distinct masks, with 0 among them.
        closed: Whether the steps from 0 to the first and from the last to 0 count.
    """
    candidates = [_greedy_path(masks, 0)]
    starts = (0,) if closed else masks
    for start in starts:
        candidates.append(_greedy_path(masks, start))
        single = _single_bit_path(masks, start, closed=closed)
        if single is not None:
            candidates.append(single)
            break
    return min(candidates, key=lambda path: _path_length(path, closed=closed))


def _path_length(path: tuple[int, ...], *, closed: bool) -> int:
    """Number of CZ gates that a path of masks needs."""
    steps = zip(path, path[1:] + ((0,) if closed else ()), strict=False)
    return sum((a ^ b).bit_count() for a, b in steps) + (path[0].bit_count() if closed else 0)


def _greedy_path(masks: tuple[int, ...], start: int) -> tuple[int, ...]:
    """Path that always goes to the nearest mask left, the smallest among equals."""
    left = set(masks) - {start}
    path = [start]
    while left:
        here = path[-1]
        path.append(min(left, key=lambda mask: ((mask ^ here).bit_count(), mask)))
        left.remove(path[-1])
    return tuple(path)


def _single_bit_path(masks: tuple[int, ...], start: int, *, closed: bool) -> tuple[int, ...] | None:
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
            return not closed or path[-1].bit_count() <= 1
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
