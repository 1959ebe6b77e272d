"""Reading structures with their labels, from files of any common format and from ASE and pymatgen objects.

The format is told from the file's name: extended XYZ (``.xyz``, ``.extxyz``, also ``.xz``, ``.gz``,
``.bz2``), VASP (``vasprun*.xml``, all ionic steps), ASE's ``.traj`` and ``.db``, pymatgen's ``.json``;
everything else is left to ASE's own detection. Energies are taken as the file gives them: for VASP that is
the energy extrapolated to zero smearing, as ASE reports it.
"""

import json
import os
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from qiskit_qff.errors import DataError
from qiskit_qff.structures.extxyz import parse_extxyz
from qiskit_qff.structures.foreign import ase_frames, database_frames
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.textfile import COMPRESSED, text_lines, unreadable

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core.structure import Molecule, Structure

Source: TypeAlias = "str | os.PathLike[str] | Frame | Atoms | Structure | Molecule"


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
    """The same as :func:`read_frames`, one frame after the other, so that no more than one is held in memory.

    Raises:
        DataError: if a file is absent, empty or damaged; names file, frame, atom and remedy.
    """
    for position, item in enumerate(_items(source)):
        empty = True
        for frame in _frames_of(item, position):
            if strict:
                check_numbers(frame)
            empty = False
            yield frame
        if empty:
            raise DataError(f"{item}: the file holds no frame. Check that it was written to the end.")


def count_frames(path: Path) -> int:
    """Number of frames of a file; of extended XYZ only the lines that announce atoms are looked at.

    Raises:
        DataError: if the file is absent, empty or damaged.
    """
    if not _is_extxyz(path):
        return sum(1 for _ in iter_frames(path, strict=False))
    lines, count = text_lines(path), 0
    for head in lines:
        word = head.strip(" \t\r\n")
        if word.isdecimal() and len(word) < 16:  # sys.maxsize has 19 digits
            deque(islice(lines, int(word) + 1), maxlen=0)
            count += 1
    return count


def check_numbers(frame: Frame) -> None:
    """Refuse a frame that holds something that is no number, or a periodic cell without volume.

    Raises:
        DataError: names file, frame and atom.
    """
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


def _items(source: Any) -> Iterable[Any]:
    """The single sources in what the caller passed."""
    # NOTE: Atoms and Structure are iterables themselves, of atoms and of sites.
    is_one = isinstance(source, (str, os.PathLike, Frame)) or _is_atoms(source) or _is_pymatgen(source)
    return source if isinstance(source, Iterable) and not is_one else [source]


def _is_atoms(item: Any) -> bool:
    """Whether this is an ASE Atoms object, told without importing ASE."""
    return hasattr(item, "get_chemical_symbols")


def _is_pymatgen(item: Any) -> bool:
    """Whether this is a pymatgen Structure or Molecule, told without importing pymatgen."""
    return hasattr(item, "sites") and hasattr(item, "cart_coords")


def _frames_of(item: Any, position: int) -> Iterator[Frame]:
    """Frames of one source.

    Raises:
        DataError: if it is nothing that holds structures.
    """
    if isinstance(item, (str, os.PathLike)):
        yield from _frames_of_file(Path(item))
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


def _frames_of_file(path: Path) -> Iterator[Frame]:
    """Frames of one file, by the format that its name tells.

    Raises:
        DataError: if it is absent, empty or can't be understood.
    """
    try:
        with path.open("rb") as handle:
            if not handle.read(1):
                raise DataError(f"{path}: the file is empty. Check that it was written to the end.")
    except OSError as error:
        raise unreadable(path, error) from None
    name = _plain_name(path)
    if _is_extxyz(path):
        yield from parse_extxyz(text_lines(path), str(path))
    elif name.endswith(".xml"):
        yield from ase_frames(path, format_name="vasp-xml")
    elif name.endswith(".db"):
        yield from database_frames(path)
    elif name.endswith(".json") and (structures := _pymatgen_json(path)):
        yield from (Frame.from_pymatgen(s, source=str(path), index=k) for k, s in enumerate(structures))
    else:
        yield from ase_frames(path, format_name="traj" if name.endswith(".traj") else None)


def _plain_name(path: Path) -> str:
    """The file's name in lower case, without the suffix of a compression."""
    name = path.name.lower()
    for suffix in COMPRESSED:
        name = name.removesuffix(suffix)
    return name


def _is_extxyz(path: Path) -> bool:
    """Whether the name is one of extended XYZ."""
    return _plain_name(path).endswith((".xyz", ".extxyz", ".exyz"))


def _pymatgen_json(path: Path) -> list[Any]:
    """Structures of a JSON file that pymatgen wrote: one, or a list of them; empty for other JSON.

    NOTE: only these two classes are built, by name; a general decoder would import whatever the file asks
    for.

    Raises:
        DataError: if the file is damaged.
    """
    from pymatgen.core.structure import Molecule, Structure

    classes: dict[str, Any] = {"Structure": Structure, "Molecule": Molecule}
    try:
        content = json.loads("".join(text_lines(path)))
        entries = content if isinstance(content, list) else [content]
        if not all(isinstance(entry, dict) and entry.get("@class") in classes for entry in entries):
            return []
        return [classes[entry["@class"]].from_dict(entry) for entry in entries]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: no valid pymatgen JSON ({error}). Write it again with to_json().") from None
