"""Reading structures with their labels, from files of any common format and from ASE and pymatgen objects.

ASE reads the files: extended XYZ (``.xyz``, ``.extxyz``, also compressed as ``.xz``, ``.gz``, ``.bz2``), VASP
(``vasprun*.xml``, all ionic steps), its own ``.traj`` and ``.db``, and every other format that it recognises. Energies
are taken as the file gives them: for VASP that is the energy extrapolated to zero smearing, as ASE reports it.

Only frames of extended XYZ are cut out of the stream here and given to ASE one by one: ASE's reader seeks every frame
in the file, which unpacks a compressed file anew each time (800 frames of 83 atoms: 75 s instead of 1 s), and its
errors name neither frame nor line.

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
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from qiskit_qff.errors import ConfigError, DataError
from qiskit_qff.structures.frame import Frame

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core.structure import Molecule, Structure

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


def read_source(source: str | Path | Sequence[str | Path], *, strict: bool = True) -> list[Frame]:
    """The frames of a shipped set or a file, or of several one after the other; see :func:`read_frames`."""
    sources = [source] if isinstance(source, (str, Path)) else source
    return read_frames([shipped_path(str(one)) if is_shipped(one) else Path(one) for one in sources], strict=strict)


Source: TypeAlias = "str | os.PathLike[str] | Frame | Atoms | Structure | Molecule"

_COMPRESSED: dict[str, Callable[..., IO[str]]] = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}


def read_frames(source: "Source | Iterable[Source]", *, strict: bool = True) -> list[Frame]:
    """All frames of a file, of several files, or of ASE and pymatgen objects, in their order.

    Args:
        source: a path, a ``Frame``, ``ase.Atoms``, pymatgen ``Structure`` or ``Molecule``, or several.
        strict: refuse numbers that are not finite and periodic cells without volume. Validation switches
            this off, to list every such place instead of the first.

    Raises:
        DataError: if a file is absent, empty or damaged; names file, frame, atom and remedy.
    """
    return list(iter_frames(source, strict=strict))


def iter_frames(source: "Source | Iterable[Source]", *, strict: bool = True) -> Iterator[Frame]:
    """The same as :func:`read_frames`, one frame after the other, so that no more than one is held in memory."""
    # NOTE: Atoms and Structure are iterables themselves, of atoms and of sites.
    one = isinstance(source, (str, os.PathLike, Frame)) or _is_atoms(source) or _is_pymatgen(source)
    items: Iterable[Any] = source if isinstance(source, Iterable) and not one else [source]
    for position, item in enumerate(items):
        empty = True
        for frame in _frames_of(item, position):
            if strict:
                check_numbers(frame)
            empty = False
            yield frame
        if empty:
            raise DataError(f"{item}: the file holds no frame. Check that it was written to the end.")


def check_numbers(frame: Frame) -> None:
    """Refuse a frame that holds something that is no number, or a periodic cell without volume."""
    for name, values in (("position", frame.positions), ("force", frame.forces)):
        if values is not None and not np.isfinite(values).all():
            atom = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
            raise DataError(
                f"{frame.where}, atom {atom}: {name} {values[atom].tolist()} is not finite. "
                "Correct it or remove the frame; 'qff validate' lists all such places."
            )
    for name, value in (("cell", frame.cell), ("energy", frame.energy), ("stress", frame.stress)):
        if value is not None and not np.isfinite(value).all():
            raise DataError(
                f"{frame.where}: the {name} is not finite. "
                "Correct it or remove the frame; 'qff validate' lists all such places."
            )
    if not has_volume(frame):
        raise DataError(
            f"{frame.where}: the periodic cell vectors enclose no volume. "
            "Correct the cell, or switch off the periods that are none."
        )


def has_volume(frame: Frame) -> bool:
    """Whether the periodic cell vectors are linearly independent; true without periods."""
    spanned = frame.cell[frame.pbc]
    lengths = np.linalg.norm(spanned, axis=1)
    return not len(spanned) or bool(np.linalg.det(spanned @ spanned.T) > 1e-12 * np.prod(lengths**2))


def _is_atoms(item: Any) -> bool:
    """Whether this is an ASE Atoms object, told without importing ASE."""
    return hasattr(item, "get_chemical_symbols")


def _is_pymatgen(item: Any) -> bool:
    """Whether this is a pymatgen Structure or Molecule, told without importing pymatgen."""
    return hasattr(item, "sites") and hasattr(item, "cart_coords")


def _frames_of(item: Any, position: int) -> Iterator[Frame]:
    """Frames of one source."""
    if isinstance(item, (str, os.PathLike)):
        path = Path(item)
        for index, atoms in enumerate(_structures_of(path)):
            if not len(atoms):
                raise DataError(f"{path}, frame {index}: no atoms. Remove the frame.")
            yield Frame.from_atoms(atoms, source=str(path), index=index)
    elif isinstance(item, Frame):
        yield item
    elif _is_atoms(item):
        yield Frame.from_atoms(item, index=position)
    elif _is_pymatgen(item):
        yield Frame.from_pymatgen(item, index=position)
    else:
        raise DataError(
            f"item {position}: {type(item).__name__} is no structure. "
            "Pass paths, Frame, ase.Atoms, or pymatgen Structure or Molecule objects."
        )


def _structures_of(path: Path) -> Iterator["Atoms"]:
    """Structures of a file."""
    from ase.io.formats import UnknownFileTypeError

    try:
        with path.open("rb") as handle:
            if not handle.read(1):
                raise DataError(f"{path}: the file is empty. Check that it was written to the end.")
    except OSError as error:
        raise _unreadable(path, error) from None
    index = 0
    try:
        for atoms in _extxyz(path) if _is_extxyz(path) else _other_format(path):
            yield atoms
            index += 1
    except DataError:
        raise
    except UnknownFileTypeError:
        raise DataError(
            f"{path}: unknown format. Use extended XYZ (.xyz, .extxyz), vasprun.xml, .traj, .db, or a format "
            "that ASE reads, with its usual file name."
        ) from None
    except Exception as error:  # noqa: BLE001 - ASE raises whatever its code meets in a damaged file
        raise DataError(
            f"{path}, frame {index}: can't be read, the file is damaged, cut short or of another format "
            f"({_what(error)}). Write or copy it again."
        ) from None


def _other_format(path: Path) -> Iterator["Atoms"]:
    """Structures of a file that is no extended XYZ; key-value pairs of a database become tags."""
    name = _plain_name(path)
    if name.endswith(".db"):
        from ase.db import connect

        for row in connect(str(path), type="db", use_lock_file=False).select():
            atoms = row.toatoms()
            atoms.info.update(row.key_value_pairs)
            yield atoms
        return
    from ase.io import iread

    known = {".xml": "vasp-xml", ".traj": "traj"}.get(Path(name).suffix)
    yield from iread(str(path), ":", format=known, do_not_split_by_at_sign=True)


def _extxyz(path: Path) -> Iterator["Atoms"]:
    """Structures of a file of extended XYZ, as it streams in."""
    from ase.io.extxyz import read_xyz

    lines, line, index = _text_lines(path), 0, 0
    for head in lines:
        line += 1
        if not head.strip():
            continue
        where = f"{path}, frame {index}"
        n_atoms = _atom_count(head, f"{where}, line {line}")
        block = list(islice(lines, n_atoms + 1))
        if len(block) <= n_atoms:
            raise DataError(
                f"{where}: {n_atoms} atoms announced in line {line}, but the file ends after "
                f"{max(0, len(block) - 1)} of them. The file is cut short: copy it again, or remove this last frame."
            )
        if re.search(r"Properties=\S*:\d{5,}", block[0]):  # ASE would first make room for so many columns
            raise DataError(f"{where}, line {line + 1}: Properties announces over 9999 columns. Correct their number.")
        try:
            (atoms,) = read_xyz(io.StringIO("".join([head, *block])), slice(None))
        except Exception as error:  # noqa: BLE001 - ASE raises whatever its code meets in a damaged frame
            raise DataError(
                f"{where}, lines {line} to {line + n_atoms + 1}: can't be read ({_what(error)}). Correct the atom "
                "lines, or Lattice, pbc and Properties in the second line (Properties=species:S:1:pos:R:3:forces:R:3)."
            ) from None
        yield atoms
        line += n_atoms + 1
        index += 1


def _atom_count(head: str, where: str) -> int:
    """The number of atoms that a frame begins with."""
    word = head.strip()
    if word.isdecimal() and int(word[:16]) > 0 and len(word) < 16:
        return int(word)
    raise DataError(
        f"{where}: expected the number of atoms, found {word[:60]!r}. Either this is no extended XYZ "
        "file, or the frame before has more or fewer atom lines than it announces."
    )


def _plain_name(path: Path) -> str:
    """The file's name in lower case, without the suffix of a compression."""
    name = path.name.lower()
    for suffix in _COMPRESSED:
        name = name.removesuffix(suffix)
    return name


def _is_extxyz(path: Path) -> bool:
    """Whether the name is one of extended XYZ."""
    return _plain_name(path).endswith((".xyz", ".extxyz", ".exyz"))


def _text_lines(path: Path) -> Iterator[str]:
    """Lines of a file, decompressed on the fly by its suffix ``.xz``, ``.gz`` or ``.bz2``."""
    opener: Callable[..., IO[str]] = _COMPRESSED.get(path.suffix.lower(), open)
    try:
        with opener(path, mode="rt", encoding="utf-8") as handle:
            yield from handle
    except EOFError:
        raise DataError(f"{path}: the file is truncated. Copy or download it again.") from None
    except (lzma.LZMAError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: not a valid {path.suffix} file ({error}). Copy it again.") from None
    except UnicodeDecodeError:
        raise DataError(
            f"{path}: this is no text file. Give it the suffix of its format (.traj, .db, .xz, .gz ...)."
        ) from None
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> DataError:
    """The error for a file that the system won't open."""
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path}: no such file. Check the path; relative paths start at {Path.cwd()}.")
    if isinstance(error, IsADirectoryError):
        return DataError(f"{path}: this is a folder. Name the structure file in it.")
    return DataError(f"{path}: can't be read ({error.strerror or error}).")


def _what(error: Exception) -> str:
    """What ASE's reader met, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
