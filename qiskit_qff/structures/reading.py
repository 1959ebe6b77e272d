"""Reading structures with their labels, from files of any common format and from ASE objects.

ASE reads the files: extended XYZ (``.xyz``, ``.extxyz``, also compressed as ``.xz``, ``.gz``, ``.bz2``), VASP
(``vasprun*.xml``, all ionic steps), its own ``.traj`` and ``.db``, and every other format that it recognises. Energies
are taken as the file gives them: for VASP that is the energy extrapolated to zero smearing, as ASE reports it.

Only frames of extended XYZ are cut out of the stream here and given to ASE one by one: ASE's reader seeks every frame
in the file, which unpacks a compressed file anew each time (800 frames of 83 atoms: 75 s instead of 1 s), and ends
silently at an empty line.

Shipped data sets, labelled by density functional theory, are read by name. ``limof5``, lithium in the framework MOF-5,
is what ``shipped`` means wherever data are asked for; ``li6ps5cl``, the solid electrolyte, goes by its own name. So
does ``limof5_nodes``: structures of that framework, most of whose Zn4O nodes came apart; and ``li6ps5cl_volumes``: four
structures of the electrolyte at three volumes. Their card, ``qiskit_qff/data/README.md``, tells how they were made,
what their labels are worth and how to split them.
"""

import bz2
import gzip
import io
import lzma
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from qiskit_qff.errors import ConfigError, DataError
from qiskit_qff.structures.frame import Frame

if TYPE_CHECKING:
    from ase import Atoms

DEFAULT: Final = "limof5"
"""The set that ``shipped`` stands for."""
NAMES: Final = ("limof5", "li6ps5cl", "limof5_nodes", "li6ps5cl_volumes")
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
                yield from read_xyz(io.StringIO("".join(block)), slice(None))
