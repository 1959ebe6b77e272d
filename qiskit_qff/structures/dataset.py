"""Data sets: reading frames with their labels, dividing them for training and testing, finding frames that came apart.

*Reading.* ASE reads the files. Energies are taken as the file gives them: for VASP that is the energy extrapolated to
zero smearing. Only frames of extended XYZ are cut out of the stream here and given to ASE one by one: ASE's reader
seeks every frame in the file, which unpacks a compressed file anew each time (800 frames of 83 atoms: 75 s instead of 1
s), and ends silently at an empty line. Shipped data sets are read by name: ``qiskit_qff/data/README.md`` tells how they
were made.

*Dividing.* Independent frames: any random choice. A trajectory in time order: a block at its end, because a frame's
neighbours in time nearly repeat it. Several runs or conditions: a random choice in equal shares from each. Copies of
one geometry (rattled, or neighbours in time) count as one unit and stay on one side.

*Frames that came apart.* Ab initio sets of a porous framework or of molecular ions can hold frames in which something
broke: another chemistry, hard to learn from few of them. Bonds are counted per pair of elements, mobile ions aside,
among frames of equal composition but for these ions. Pairs of elements that come as close as :data:`BOND` times the sum
of their covalent radii have bonds, and these may be stretched to :data:`STRETCHED` times it. A count that most frames
share is the framework's; a frame with fewer lacks bonds. Where no count is shared by most, as in a melt, nothing is
said.
"""

import bz2
import gzip
import io
import lzma
import os
import re
import sqlite3
import zlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from qiskit_qff.array_types import BoolArray, IntArray
from qiskit_qff.errors import ConfigError, DataError
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.neighbors import NeighborList, neighbor_list

if TYPE_CHECKING:
    from ase import Atoms

DEFAULT: Final = "limof5"
"""The set that ``shipped`` stands for."""
NAMES: Final = ("limof5", "li2tp", "li6ps5cl", "limof5_nodes", "li6ps5cl_volumes")
"""Names of the sets; each is a file of extended XYZ, compressed."""


def is_shipped(source: str | Path) -> bool:
    """Whether a data source is the name of a shipped set, and no path; a file of that name is ``./NAME``."""
    return str(source) == "shipped" or str(source) in NAMES


def shipped_path(name: str = DEFAULT) -> Path:
    """Where a data set lies.

    Args:
        name: One of :data:`NAMES`, or ``shipped``.
    """
    if not is_shipped(name):
        raise ConfigError(f"shipped data: there is no set {name!r}. Known names: {', '.join(NAMES)}.")
    return Path(str(files("qiskit_qff") / "data" / f"{DEFAULT if name == 'shipped' else name}.extxyz.xz"))


def read_shipped(name: str = DEFAULT) -> list[Frame]:
    """The frames of a data set: PBE-D3 energies in eV, forces in eV/Å; tags such as ``replica`` and ``temperature_K``.

    Args:
        name: One of :data:`NAMES`.

    Raises:
        ConfigError: if there is no set of this name.
        DataError: if the file of the installation is damaged or missing.
    """
    return read_frames(shipped_path(name))


Source: TypeAlias = "str | os.PathLike[str] | Frame | Atoms"

_COMPRESSED: dict[str, Callable[..., IO[str]]] = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}
_DAMAGE = (
    ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, RuntimeError, SyntaxError,
    OSError, EOFError, MemoryError, lzma.LZMAError, zlib.error, sqlite3.Error,
)  # fmt: skip
"""What ASE's readers raise for a damaged file."""


def read_frames(source: "Source | Iterable[Source]", *, strict: bool = True) -> list[Frame]:
    """All frames of a file or shipped set, of several, or of ASE objects, in their order.

    Args:
        source: a path, the name of a shipped set, a ``Frame``, ``ase.Atoms``, or several.
        strict: refuse numbers that are not finite and periodic cells without volume.

    Raises:
        DataError: if a file is absent, empty or damaged; names file, frame, atom and remedy.
    """
    return list(iter_frames(source, strict=strict))


def iter_frames(source: "Source | Iterable[Source]", *, strict: bool = True) -> Iterator[Frame]:
    """The same as :func:`read_frames`, one frame after the other, so that no more than one is held in memory."""
    # NOTE: Atoms are an iterable themselves, of atoms.
    one = isinstance(source, (str, os.PathLike, Frame)) or _is_atoms(source)
    items: Iterable[Any] = source if isinstance(source, Iterable) and not one else [source]
    for position, item in enumerate(items):
        empty = True
        for frame in _frames_of(item, position):
            if strict:
                for atom, problem in number_problems(frame):
                    place = frame.where if atom is None else f"{frame.where}, atom {atom}"
                    raise DataError(f"{place}: {problem} 'qff validate' lists all such places.")
            empty = False
            yield frame
        if empty:
            raise DataError(f"{item}: the file holds no frame. Check that it was written to the end.")


def number_problems(frame: Frame) -> Iterator[tuple[int | None, str]]:
    """Numbers that are not finite, and periodic cells without volume: the atom, if one is meant, and what is wrong."""
    for name, values in (("position", frame.positions), ("force", frame.forces)):
        if values is not None:
            for atom in np.flatnonzero(~np.isfinite(values).all(axis=1)):
                found = f"the {name} {values[atom].tolist()} is not finite."
                yield int(atom), f"{found} Correct it or remove the frame."
    for name, value in (("cell", frame.cell), ("energy", frame.energy), ("stress", frame.stress)):
        if value is not None and not np.isfinite(value).all():
            yield None, f"the {name} is not finite. Correct it or remove the frame."
    spanned = frame.cell[frame.pbc]
    size = np.prod(np.linalg.norm(spanned, axis=1))
    if len(spanned) and np.isfinite(spanned).all() and not np.linalg.det(spanned @ spanned.T) > 1e-12 * size**2:
        found = f"the periodic cell vectors {spanned.tolist()} enclose no volume."
        yield None, f"{found} Correct the cell, or switch off the periods that are none."


def _is_atoms(item: Any) -> bool:
    """Whether this is an ASE Atoms object, told without importing ASE."""
    return hasattr(item, "get_chemical_symbols")


def _frames_of(item: Any, position: int) -> Iterator[Frame]:
    """Frames of one source."""
    if isinstance(item, (str, os.PathLike)):
        path = shipped_path(str(item)) if is_shipped(str(item)) else Path(item)
        for index, atoms in enumerate(_structures_of(path)):
            if not len(atoms):
                raise DataError(f"{path}, frame {index}: no atoms. Remove the frame.")
            yield Frame.from_atoms(atoms, source=str(path), index=index)
    elif isinstance(item, Frame):
        yield item
    elif _is_atoms(item):
        yield Frame.from_atoms(item, index=position)
    else:
        raise DataError(
            f"item {position}: {type(item).__name__} is no structure. "
            "Pass paths, Frame or ase.Atoms; pymatgen's AseAtomsAdaptor.get_atoms converts its structures."
        )


def _structures_of(path: Path) -> Iterator["Atoms"]:
    """Structures of a file."""
    from ase.io import ParseError, iread
    from ase.io.formats import UnknownFileTypeError

    try:
        with path.open("rb") as handle:
            if not handle.read(1):
                raise DataError(f"{path}: the file is empty. Check that it was written to the end.")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file. Check the path; relative paths start at {Path.cwd()}.") from None
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror or error}). Name a structure file.") from None
    name, opener = path.name.lower(), _COMPRESSED.get(path.suffix.lower(), open)
    plain = name.removesuffix(path.suffix.lower()) if path.suffix.lower() in _COMPRESSED else name
    known = {".xml": "vasp-xml", ".traj": "traj"}.get(Path(plain).suffix)
    index = 0
    try:
        is_extxyz = plain.endswith((".xyz", ".extxyz", ".exyz"))
        other = iread(str(path), ":", format=known, do_not_split_by_at_sign=True)
        for atoms in _extxyz(path, opener) if is_extxyz else other:
            yield atoms
            index += 1
    except UnknownFileTypeError:
        raise DataError(
            f"{path}: unknown format. Use extended XYZ (.xyz, .extxyz), vasprun.xml, .traj, .db, or a format "
            "that ASE reads, with its usual file name."
        ) from None
    except (*_DAMAGE, ParseError) as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise DataError(
            f"{path}, frame {index}: can't be read, the file is damaged, cut short or of another format "
            f"({what}). Write or copy it again."
        ) from None


def _extxyz(path: Path, opener: Callable[..., IO[str]]) -> Iterator["Atoms"]:
    """Structures of a file of extended XYZ, as it streams in."""
    from ase.io.extxyz import read_xyz

    with opener(path, mode="rt", encoding="utf-8") as lines:
        for head in lines:
            if head.strip():
                count = int(head)
                block = [head, *islice(lines, count + 1)]
                if len(block) < count + 2:
                    raise EOFError(f"{count} atoms announced, but the file ends after {max(0, len(block) - 2)}")
                # NOTE: ASE's reader makes an entry for each announced column, even if there are a billion.
                longest = max((int(size) for size in _COLUMNS.findall(block[1])), default=0)
                if count and longest > len(block[2].split()):
                    raise ValueError(f"a property of {longest} columns announced, but the lines of atoms are shorter")
                yield from read_xyz(io.StringIO("".join(block)), slice(None))


_COLUMNS = re.compile(r":[RISL]:(\d+)")
"""Column counts in the Properties of extended XYZ."""
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
