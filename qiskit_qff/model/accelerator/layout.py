"""Neighbour lists as blocks of equal shape: padded centres of one species, padded neighbours of each.

A compiled function serves one shape, so shapes are rounded up to few: centres, which cost time, to powers of two and
those and a half, neighbours to multiples of eight, atoms and structures, which only cost memory, to powers of four. A
batch of another size then mostly finds its function compiled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
Places = NDArray[np.int32]

LEAST = 16
"""Smallest number of centres in a block."""
MOST = 2**15
"""Largest; it bounds the device's memory, a larger structure is several blocks."""
NEIGHBORS = 8
"""Neighbours come in multiples of this."""


class Pairs(Protocol):
    """A neighbour list: :class:`~qiskit_qff.structures.neighbors.NeighborList`, or ``PairList`` without vectors."""

    @property
    def first(self) -> IntArray:
        """Where each centre's pairs begin."""

    @property
    def neighbor(self) -> IntArray:
        """Index of each neighbour."""

    @property
    def shifts(self) -> Places:
        """Cell vectors added to each neighbour."""


@dataclass(frozen=True)
class Block:
    """Centres of one species and their neighbours, all padded to one shape."""

    species: int
    """Species index of the centres."""
    n_centers: int
    """How many of the B places are taken."""
    centers: Places
    """Atom at each place, 0 where there is none, shape ``(B,)``."""
    frames: Places
    """Structure that each belongs to, shape ``(B,)``."""
    neighbors: Places
    """Atom at each neighbour's place, shape ``(B, K)``."""
    shifts: Places
    """Cell vectors added to it, shape ``(B, K, 3)``."""
    kinds: Places
    """Its species index, -1 where there is none, shape ``(B, K)``."""


def rounded_up(n: int) -> int:
    """The next power of two, or half as much again as one: no more than half is padding.

    Args:
        n: A number of centres.
    """
    power = 1 << max(0, n - 1).bit_length()
    smaller = 3 * power // 4
    return max(LEAST, smaller if n <= smaller else power)


def power_of_four(n: int) -> int:
    """The next power of four, at least sixteen.

    Args:
        n: A number of atoms or structures.
    """
    bits = max(4, max(0, n - 1).bit_length())
    return 1 << (bits + bits % 2)


def make_blocks(kinds: IntArray, frames: IntArray, pairs: Pairs) -> list[Block]:
    """Blocks of a structure, or of several that are one list.

    Args:
        kinds: Species index of every atom, shape ``(n,)``.
        frames: Structure of every atom, shape ``(n,)``.
        pairs: Full list of the first atoms, or of all.
    """
    counts = np.diff(pairs.first)
    blocks = []
    for s in np.unique(kinds[: len(counts)]):
        own = np.flatnonzero(kinds[: len(counts)] == s)
        width = -(-max(1, int(counts[own].max())) // NEIGHBORS) * NEIGHBORS
        n_blocks = -(-len(own) // MOST)
        size = rounded_up(-(-len(own) // n_blocks))
        blocks += [
            _block(int(s), own[at : at + size], size, width, kinds, frames, pairs) for at in range(0, len(own), size)
        ]
    return blocks


def _block(s: int, own: IntArray, size: int, width: int, kinds: IntArray, frames: IntArray, pairs: Pairs) -> Block:
    """Pad some centres of one species."""
    centers = np.zeros(size, dtype=np.int64)
    centers[: len(own)] = own
    counts = np.zeros(size, dtype=np.int64)
    counts[: len(own)] = np.diff(pairs.first)[own]
    taken = np.arange(width) < counts[:, None]
    index = (pairs.first[centers][:, None] + np.arange(width))[taken]
    neighbors = np.repeat(centers[:, None], width, axis=1)
    neighbors[taken] = pairs.neighbor[index]
    shifts, seen = np.zeros((size, width, 3), dtype=np.int32), np.full((size, width), -1, dtype=np.int32)
    shifts[taken] = pairs.shifts[index]
    seen[taken] = kinds[pairs.neighbor[index]]
    return Block(
        species=s,
        n_centers=len(own),
        centers=centers.astype(np.int32),
        frames=frames[centers].astype(np.int32),
        neighbors=neighbors.astype(np.int32),
        shifts=shifts,
        kinds=seen,
    )
