"""Files that ASE understands: VASP, trajectories, databases and some eighty other formats."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qiskit_qff.errors import DataError
from qiskit_qff.structures.frame import Frame


def ase_frames(path: Path, *, format_name: str | None) -> Iterator[Frame]:
    """Frames of a file through ``ase.io``.

    Args:
        path: the file, possibly compressed.
        format_name: ASE's name of the format; None lets ASE find out.

    Raises:
        DataError: if ASE doesn't know the format or stumbles over the content.
    """
    from ase.io import iread
    from ase.io.formats import UnknownFileTypeError

    index = 0
    # NOTE: of a VASP run that was killed ASE reads the complete steps; validation passes the tag on as a
    #     warning.
    tags = {"cut_short": True} if format_name == "vasp-xml" and _is_cut_short(path) else {}
    try:
        for atoms in iread(str(path), ":", format=format_name, do_not_split_by_at_sign=True):
            atoms.info.update(tags)
            yield _frame(atoms, path, index)
            index += 1
    except DataError:
        raise
    except UnknownFileTypeError:
        raise DataError(
            f"{path}: unknown format. Use extended XYZ (.xyz, .extxyz), vasprun.xml, .traj, .db, or a format "
            "that ASE reads, with its usual file name."
        ) from None
    except Exception as error:  # noqa: BLE001 - ASE raises whatever its code meets in a damaged file
        raise _damaged(path, index, error) from None


def database_frames(path: Path) -> Iterator[Frame]:
    """Frames of an ASE database, in the order of their row ids; key-value pairs become tags.

    Raises:
        DataError: if the file is no ASE database.
    """
    from ase.db import connect

    index = 0
    try:
        for row in connect(str(path), type="db", use_lock_file=False).select():
            atoms = row.toatoms()
            atoms.info.update(row.key_value_pairs)
            yield _frame(atoms, path, index)
            index += 1
    except DataError:
        raise
    except Exception as error:  # noqa: BLE001 - ASE raises whatever its code meets in a damaged file
        raise _damaged(path, index, error) from None


def _frame(atoms: Any, path: Path, index: int) -> Frame:
    """The frame of one Atoms object.

    Raises:
        DataError: if it holds no atoms.
    """
    if not len(atoms):
        raise DataError(f"{path}, frame {index}: no atoms. Remove the frame.")
    return Frame.from_atoms(atoms, source=str(path), index=index)


def _is_cut_short(path: Path) -> bool:
    """Whether an uncompressed VASP file lacks its closing tag; compressed ones fail on their end mark."""
    if path.suffix.lower() != ".xml":
        return False
    with path.open("rb") as handle:
        handle.seek(-min(path.stat().st_size, 1000), 2)
        return b"</modeling>" not in handle.read()


def _damaged(path: Path, index: int, error: Exception) -> DataError:
    """The error for content that ASE's reader can't follow."""
    return DataError(
        f"{path}, frame {index}: can't be read, the file is damaged, cut short or of another format "
        f"({type(error).__name__}: {str(error).strip()[:200]}). Write or copy it again."
    )
