"""The lines of a text file, compressed or not, with errors that name the file and the remedy."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from qiskit_qff.errors import DataError

COMPRESSED: dict[str, Callable[..., IO[str]]] = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}


def text_lines(path: Path) -> Iterator[str]:
    """Lines of a file, decompressed on the fly by its suffix ``.xz``, ``.gz`` or ``.bz2``.

    Raises:
        DataError: if the file is absent, unreadable, damaged, cut short, or no text.
    """
    opener: Callable[..., IO[str]] = COMPRESSED.get(path.suffix.lower(), open)
    try:
        with opener(path, mode="rt", encoding="utf-8") as handle:
            yield from handle
    except EOFError:
        raise DataError(
            f"{path}: the compressed data ends before its end mark: the file is truncated. "
            "Copy or download it again, or recover what is left with 'xz -dc' or 'gzip -dc'."
        ) from None
    except (lzma.LZMAError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path}: not a valid {path.suffix} file ({error}). "
            "Copy it again, or give it the suffix that its content has."
        ) from None
    except UnicodeDecodeError:
        raise DataError(
            f"{path}: this is no text file. Give it the suffix of its format (.traj, .db, .xz, .gz ...)."
        ) from None
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> DataError:
    """The error for a file that the system won't open."""
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path}: no such file. Check the path; relative paths start at {Path.cwd()}.")
    if isinstance(error, IsADirectoryError) or path.is_dir():
        return DataError(f"{path}: this is a folder. Name the structure file in it.")
    if isinstance(error, PermissionError):
        return DataError(f"{path}: no permission to read it. Change its mode or owner.")
    return DataError(f"{path}: can't be read ({error.strerror or error}). Copy the file again.")
