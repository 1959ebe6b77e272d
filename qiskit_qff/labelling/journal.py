"""A file of extended XYZ that grows frame by frame and survives a kill at any moment.

A frame is written in one piece and forced to disk before the next one begins. What a kill or a full disk leaves behind
is at most one incomplete frame at the end, which the next opening cuts off.
"""

import fcntl
import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from qiskit_qff.durable import sync_directory
from qiskit_qff.errors import ConfigError, DataError
from qiskit_qff.structures.extxyz import parse_header

if TYPE_CHECKING:
    from ase import Atoms


MOST_DIGITS = 12
"""No number of atoms is longer."""


@dataclass(frozen=True)
class Entry:
    """A complete frame in the file."""

    start: int
    """Where it begins, in bytes."""
    end: int
    """Where it ends, in bytes."""
    header: dict[str, Any]
    """Its key-value pairs."""


class Journal:
    """The file, open for appending."""

    def __init__(self, path: Path) -> None:
        """Open or make the file; an incomplete last frame is cut off.

        Raises:
            DataError: if the file is no extended XYZ.
            ConfigError: if another process is writing to it.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        sync_directory(path.parent)
        self._stream = path.open("r+b")
        _lock(self._stream, path)
        try:
            self.entries = list(_entries(path))
        except DataError:
            self._stream.close()
            raise
        end = self.entries[-1].end if self.entries else 0
        self.n_cut = path.stat().st_size - end
        """Bytes of an incomplete frame that were cut off."""
        self._stream.truncate(end)
        self._stream.seek(end)

    def append(self, atoms: "Atoms") -> None:
        """Write one frame and force it to disk.

        Raises:
            OSError: if the disk is full or gone; the file then ends with the frame before.
        """
        start = self._stream.tell()
        text = as_text(atoms)
        try:
            self._stream.write(text.encode())
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError:
            self._stream.truncate(start)
            raise
        self.entries.append(Entry(start, self._stream.tell(), parse_header(text.split("\n", 2)[1])))

    def rewrite(self, order: Sequence[int]) -> None:
        """Keep these entries in this order; the file is the old or the new one at any moment.

        Raises:
            OSError: from the operating system, with the file left as it was.
        """
        if list(order) == list(range(len(self.entries))):
            return
        partial = self.path.with_name(f".{self.path.name}.partial")
        with self.path.open("rb") as old, partial.open("wb") as new:
            for index in order:
                entry = self.entries[index]
                old.seek(entry.start)
                new.write(old.read(entry.end - entry.start))
            new.flush()
            os.fsync(new.fileno())
        self._stream.close()
        partial.replace(self.path)
        sync_directory(self.path.parent)
        self.entries = list(_entries(self.path))
        self._stream = self.path.open("r+b")
        _lock(self._stream, self.path)
        self._stream.seek(0, os.SEEK_END)

    def close(self) -> None:
        """Close the file; an empty one is removed."""
        self._stream.close()
        if not self.entries:
            self.path.unlink(missing_ok=True)


def _lock(stream: BinaryIO, path: Path) -> None:
    """Make sure that no other process appends; the lock ends with the process, however that ends.

    Raises:
        ConfigError: if another one does.
    """
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        raise ConfigError(f"{path}: another process is writing to it. Wait for it, or name another --out.") from None


def as_text(atoms: "Atoms") -> str:
    """One frame as extended XYZ."""
    from ase.io.extxyz import write_xyz

    stream = io.StringIO()
    write_xyz(stream, [atoms])
    return stream.getvalue()


def _entries(path: Path) -> Iterator[Entry]:
    """The complete frames of a file, in order.

    Raises:
        DataError: if a frame does not begin with its number of atoms.
    """
    with path.open("rb") as stream:
        readline: Callable[[], bytes] = stream.readline
        while True:
            start = stream.tell()
            head = readline()
            if not head.endswith(b"\n"):
                return
            if not head.strip().isdigit() or len(head) > MOST_DIGITS:
                raise DataError(
                    f"{path}: expected a number of atoms, found {head[:40]!r}: this is no file of extended XYZ, "
                    "so nothing is appended to it. Name another --out."
                )
            lines = list(islice(iter(readline, b""), int(head) + 1))
            if len(lines) < int(head) + 1 or not lines[-1].endswith(b"\n"):
                return
            yield Entry(start, stream.tell(), parse_header(lines[0].decode("utf-8", errors="replace")))
