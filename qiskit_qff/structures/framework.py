"""Frames whose framework is another than that of most: bonds that are missing where other frames have them.

Ab initio sets of a porous framework or of molecular ions can hold frames in which something came apart. They are no
defects, but another chemistry: few such frames are hard to learn from, so errors over all frames may be mostly theirs,
and within walls around the training data (:mod:`qiskit_qff.model.uncertainty`) a model is free to go there.

Bonds are counted per pair of elements, mobile ions aside, among frames of equal composition but for these ions. Pairs
of elements that come as close as :data:`BOND` times the sum of their covalent radii have bonds, and these may be
stretched to :data:`STRETCHED` times it; neighbouring metal atoms are none. A count that most frames share is the
framework's; a frame with fewer lacks bonds. Where no count is shared by most, as in a melt, nothing is said.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from ase.data import chemical_symbols, covalent_radii

from qiskit_qff.array_types import BoolArray, IntArray
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.neighbors import NeighborList, neighbor_list

BOND = 1.2
"""Elements have bonds if atoms of theirs come closer than this multiple of the sum of their covalent radii."""
STRETCHED = 1.5
"""A bond that is longer is broken; beyond what heat does at 900 K, and below second neighbours."""
NONMETALS = (1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 32, 33, 34, 35, 52, 53)
"""Elements of which a bond has at least one; metal atoms of a node are near each other without."""
SHARED = 0.6
"""Fraction of the frames that have to agree on a count."""
MOBILE = (3, 11, 19)
"""Ions that hop by nature: Li, Na, K."""

Pair = tuple[int, int]


def bonded(numbers: IntArray, near: NeighborList, *, within: float = BOND) -> BoolArray:
    """Which pairs of a neighbour list are bonds, by the rule of this module.

    Two atoms are bonded if they are closer than a multiple of the sum of their covalent radii, neither is a mobile ion,
    and at least one is a nonmetal.

    Args:
        numbers: Atomic numbers, shape ``(n_atoms,)``.

    Returns:
        Shape ``(n_pairs,)``.
    """
    one, other = near.centers, near.neighbor
    radii, rigid, light = covalent_radii[numbers], ~np.isin(numbers, MOBILE), np.isin(numbers, NONMETALS)
    found: BoolArray = near.distances < within * (radii[one] + radii[other])
    return found & rigid[one] & rigid[other] & (light[one] | light[other])


def missing_bonds(frames: Sequence[Frame]) -> dict[int, str]:
    """Which frames lack bonds that most others of their composition have, and which bonds.

    Returns:
        By index, for example ``29 of 32 O-Zn bonds``.
    """
    groups: dict[bytes, list[int]] = {}
    for index, frame in enumerate(frames):
        rigid = np.sort(frame.numbers[~np.isin(frame.numbers, MOBILE)])
        groups.setdefault(rigid.tobytes(), []).append(index)
    found: dict[int, str] = {}
    for members in groups.values():
        counts = {index: _count_bonds(frames[index]) for index in members}
        usual = _usual(list(counts.values()))
        for index, own in counts.items():
            lacking = [
                f"{own[a, b]} of {count} {chemical_symbols[a]}-{chemical_symbols[b]} bonds"
                for (a, b), count in usual.items()
                if own[a, b] < count
            ]
            if lacking:
                found[index] = ", ".join(lacking)
    return dict(sorted(found.items()))


def whole_frames(frames: Sequence[Frame]) -> list[Frame]:
    """The frames that lack no bonds."""
    broken = missing_bonds(frames)
    return [frame for index, frame in enumerate(frames) if index not in broken]


def _usual(counts: Sequence[Counter[Pair]]) -> dict[Pair, int]:
    """The counts that most frames share, of pairs that have any; of a single frame none, for there is no other."""
    if len(counts) < 2:
        return {}
    usual = {}
    for pair in sorted({pair for own in counts for pair in own}):
        count, times = Counter(own[pair] for own in counts).most_common(1)[0]
        if count > 0 and times >= SHARED * len(counts):
            usual[pair] = count
    return usual


def _count_bonds(frame: Frame) -> Counter[Pair]:
    """Number of bonds, stretched ones included, of the pairs of elements that have an unstretched one."""
    near, pairs = _contacts(frame, STRETCHED)
    bonding = {(a, b) for a, b in pairs[bonded(frame.numbers, near)].tolist()}
    counts = Counter((a, b) for a, b in pairs[bonded(frame.numbers, near, within=STRETCHED)].tolist())
    return Counter({pair: n // 2 for pair, n in counts.items() if pair in bonding})  # a full list has a bond twice


def _contacts(frame: Frame, reach: float) -> tuple[NeighborList, IntArray]:
    """Neighbours within the largest sum of covalent radii times ``reach``, and the elements of each pair, sorted."""
    numbers = frame.numbers
    near = neighbor_list(frame.positions, frame.cell, frame.pbc, 2.0 * reach * float(covalent_radii[numbers].max()))
    return near, np.sort(np.column_stack([numbers[near.centers], numbers[near.neighbor]]), axis=1)
