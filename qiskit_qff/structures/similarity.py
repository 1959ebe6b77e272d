"""Which frames nearly repeat each other: duplicates, near copies, successive steps of a trajectory.

Frames are compared atom by atom in the order given, in fractional coordinates times one cell where all three
directions are periodic (so a strained copy is near its origin), else in Cartesian ones.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qiskit_qff.structures.frame import Frame

Floats = NDArray[np.float64]

_BLOCK = 256


@dataclass(frozen=True)
class FramePair:
    """Two frames of the same atoms that resemble each other."""

    first: int
    """Index of the earlier frame."""
    second: int
    """Index of the later frame."""
    distance: float
    """Root mean square distance of atoms from their counterparts, in Å."""


def same_atoms(frames: Sequence[Frame]) -> list[list[int]]:
    """Indices of frames that hold the same atoms in the same order, with the same periodicity."""
    groups: dict[bytes, list[int]] = {}
    for index, frame in enumerate(frames):
        groups.setdefault(frame.numbers.tobytes() + frame.pbc.tobytes(), []).append(index)
    return list(groups.values())


def comparable_points(frames: Sequence[Frame], members: Sequence[int]) -> Floats:
    """Positions of all members for comparison, shape ``(n_members, 3 n_atoms)``, in Å."""
    reference = frames[members[0]].cell
    rows = []
    for index in members:
        frame = frames[index]
        points = frame.positions
        if frame.pbc.all():
            points = np.linalg.solve(frame.cell.T, points.T).T @ reference
        rows.append(points.ravel())
    points = np.array(rows)
    centered: Floats = points - points.mean(axis=0)
    return centered


def distance_rows(points: Floats) -> Iterator[tuple[int, Floats]]:
    """Root mean square distances block by block: the first row's index and a block, shape ``(rows, n)``, in Å.

    PERF: as one matrix product per block, n² distances of n frames take n² · 3 n_atoms multiplications.
    """
    squares = (points**2).sum(axis=1)
    n_atoms = points.shape[1] // 3
    for start in range(0, len(points), _BLOCK):
        rows = points[start : start + _BLOCK]
        product = squares[start : start + _BLOCK, None] + squares[None, :] - 2.0 * rows @ points.T
        yield start, np.sqrt(np.maximum(product, 0.0) / n_atoms)


def similar_pairs(frames: Sequence[Frame], *, tolerance: float, limit: int = 2000) -> list[FramePair]:
    """For each frame its nearest other one, if that is within the tolerance; the nearest pairs first.

    Args:
        frames: the data set; positions and cells must be finite.
        tolerance: in Å.
        limit: of larger groups of same atoms only so many frames are looked at: whole stretches of
            successive ones.
    """
    found: dict[tuple[int, int], float] = {}
    for group in same_atoms(frames):
        members = _stretches(group, limit)
        if len(members) < 2:
            continue
        points = comparable_points(frames, members)
        for start, block in distance_rows(points):
            rows = np.arange(len(block))
            block[rows, start + rows] = np.inf
            for row, column in zip(rows, block.argmin(axis=1), strict=True):
                if block[row, column] < tolerance:
                    key = (min(start + row, column), max(start + row, column))
                    found[members[key[0]], members[key[1]]] = float(block[row, column])
    pairs = [FramePair(first=i, second=j, distance=distance) for (i, j), distance in found.items()]
    return sorted(pairs, key=lambda pair: (pair.distance, pair.first))


def is_time_ordered(frames: Sequence[Frame]) -> bool:
    """Whether successive frames are less than half as far apart as frames typically are, as in a trajectory.

    The typical distance is that between each frame and the one half a data set on; atoms that cross a cell
    face do not disturb it, because the median over the atoms is compared.
    """
    n_frames = len(frames)
    if n_frames < 6:
        return False
    picked = np.unique(np.linspace(0, n_frames - 2, 200).astype(int))
    near = np.array([_median_move(frames[i], frames[i + 1]) for i in picked])
    far = np.array([_median_move(frames[i], frames[(i + n_frames // 2) % n_frames]) for i in picked])
    if np.isnan(near).all() or np.isnan(far).all():
        return False
    return bool(np.nanmedian(near) < 0.5 * np.nanmedian(far))


def _median_move(one: Frame, other: Frame) -> float:
    """Median distance of atoms from their counterparts in Å; NaN if the frames hold different atoms."""
    if not np.array_equal(one.numbers, other.numbers):
        return float("nan")
    return float(np.median(np.linalg.norm(one.positions - other.positions, axis=1)))


def _stretches(group: list[int], limit: int) -> list[int]:
    """At most ``limit`` members: ten stretches of successive ones, evenly spread."""
    if len(group) <= limit:
        return group
    length = limit // 10
    starts = np.linspace(0, len(group) - length, 10).astype(int)
    return [group[k] for k in np.unique(np.concatenate([np.arange(s, s + length) for s in starts]))]
