"""Dividing a data set into frames to train on and frames held out for testing.

Which rule is honest depends on the data. Independent frames: any random choice. A trajectory in time order:
a block at its end, because a frame's neighbours in time nearly repeat it. Several runs or conditions: a
random choice in equal shares from each. Copies of one geometry (rattled, or neighbours in time) count as
one unit and stay on one side. Indices are always returned in ascending order.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from qiskit_qff.array_types import IntArray
from qiskit_qff.errors import ConfigError, DataError
from qiskit_qff.structures.frame import Frame

GROUP_TAGS = ("replica", "config_type", "source")
"""Tags by which the field's data sets tell runs or kinds of structures apart, the finest first."""


@dataclass(frozen=True, eq=False)
class Split:
    """Frames to train on and to test with; every frame is in one of them."""

    train: IntArray
    """Indices of the training frames, ascending."""
    test: IntArray
    """Indices of the frames held out, ascending."""


def random_split(n_frames: int, fraction: float, rng: np.random.Generator) -> Split:
    """Hold out a random fraction.

    Args:
        fraction: share to hold out, between 0 and 1; at least one frame stays on either side.
    """
    return _split_at(n_frames, rng.permutation(n_frames)[: _held_out(n_frames, fraction)])


def block_split(n_frames: int, fraction: float) -> Split:
    """Hold out the last fraction of frames in time order."""
    start = n_frames - _held_out(n_frames, fraction)
    return Split(train=np.arange(start), test=np.arange(start, n_frames))


def balanced_split(
    groups: Sequence[Hashable],
    fraction: float,
    rng: np.random.Generator,
    *,
    units: Sequence[Hashable] | None = None,
) -> Split:
    """Hold out a fraction in equal shares from each group, for example from each replica.

    Every group keeps at least one frame to train on.

    Args:
        units: frames of a group with the same unit are never parted; the share is then met as nearly as
            they allow.
    """
    n_frames = len(groups)
    if units is not None and len(units) != n_frames:
        raise ConfigError(f"{len(units)} units given for {n_frames} frames; give one per frame.")
    own = list(range(n_frames)) if units is None else list(units)
    members: dict[Hashable, dict[Hashable, list[int]]] = {}
    for index, (group, unit) in enumerate(zip(groups, own, strict=True)):
        members.setdefault(group, {}).setdefault(unit, []).append(index)
    sizes = [sum(len(unit) for unit in by_unit.values()) for by_unit in members.values()]
    shares = _shares(sizes, _held_out(n_frames, fraction), rng)
    test = [
        index
        for by_unit, share in zip(members.values(), shares, strict=True)
        for index in _pick_units(list(by_unit.values()), share, rng)
    ]
    if not test:
        raise ConfigError(
            f"no frame can be held out: the groups are too small for a fraction of {fraction}. "
            "Raise the fraction or split at random."
        )
    return _split_at(n_frames, np.array(test, dtype=np.int64))


def tag_groups(frames: Sequence[Frame], tag: str) -> list[Hashable]:
    """The value of a tag for each frame, for :func:`balanced_split`."""
    for frame in frames:
        if tag not in frame.tags:
            known = ", ".join(sorted(frame.tags)) or "none"
            raise DataError(f"{frame.where}: has no tag {tag!r} (its tags: {known}). Choose one that all have.")
    return [frame.tags[tag] for frame in frames]


def group_tag(frames: Sequence[Frame]) -> str | None:
    """The first of :data:`GROUP_TAGS` that divides the frames into groups of at least four on average, if any does."""
    for tag in GROUP_TAGS:
        count = len({frame.tags.get(tag) for frame in frames})
        if all(tag in frame.tags for frame in frames) and 1 < count <= len(frames) // 4:
            return tag
    return None


def near_copies(frames: Sequence[Frame], *, tolerance: float = 0.12) -> list[int]:
    """A unit number per frame such that nearly equal geometries share one, for :func:`balanced_split`.

    Two frames are nearly equal if they hold the same atoms in the same order and the root mean square
    distance of atoms from their counterparts is below the tolerance; chains of such pairs form one unit.

    Args:
        tolerance: in Å; the default joins copies rattled by up to about 0.05 Å per axis and direction.
    """
    units, groups = np.zeros(len(frames), dtype=np.int64), dict[bytes, list[int]]()
    for index, frame in enumerate(frames):
        groups.setdefault(frame.numbers.tobytes() + frame.pbc.tobytes(), []).append(index)
    for members in groups.values():
        points = np.array([frames[index].positions.ravel() for index in members])
        reach = tolerance * np.sqrt(points.shape[1] / 3)
        near = cKDTree(points - points.mean(axis=0)).query_pairs(reach, output_type="ndarray")
        pairs = coo_array((np.ones(len(near)), near.T), shape=(len(members), len(members)))
        units[members] = units.max() + 1 + connected_components(pairs, directed=False)[1]
    return [int(unit) for unit in units]


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


def _held_out(n_frames: int, fraction: float) -> int:
    """How many frames a fraction is, leaving at least one on either side."""
    if not 0.0 < fraction < 1.0:
        raise ConfigError(f"held-out fraction {fraction} must lie between 0 and 1, for example 0.2.")
    if n_frames < 2:
        raise ConfigError(f"{n_frames} frames can't be split into training and test; give at least 2.")
    return min(max(round(fraction * n_frames), 1), n_frames - 1)


def _split_at(n_frames: int, test: IntArray) -> Split:
    """The split with these test frames and all others to train on."""
    is_test = np.zeros(n_frames, dtype=np.bool_)
    is_test[test] = True
    return Split(train=np.flatnonzero(~is_test), test=np.flatnonzero(is_test))


def _shares(sizes: list[int], total: int, rng: np.random.Generator) -> list[int]:
    """Whole shares in proportion to the sizes; what is left over falls by lot: small groups get their turn.

    Systematic rounding: the exact shares laid end to end, each group gets the whole numbers that fall into
    its stretch after a shift by a random part of one. One frame of each group stays behind.
    """
    divisible = np.array([size if size > 1 else 0 for size in sizes])
    ends = np.floor(np.cumsum(divisible) * total / max(divisible.sum(), 1) + rng.random() - 1e-9)
    shares = np.diff(ends, prepend=0.0)
    return [min(int(share), size - 1) for share, size in zip(shares, sizes, strict=True)]


def _pick_units(units: list[list[int]], share: int, rng: np.random.Generator) -> list[int]:
    """Frames of randomly drawn units, as near to the share as whole units come; one stays behind."""
    picked: list[int] = []
    for place in rng.permutation(len(units))[:-1]:
        unit = units[int(place)]
        if abs(len(picked) + len(unit) - share) < abs(len(picked) - share):
            picked += unit
    return picked
