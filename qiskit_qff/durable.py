"""Files and directories that a kill, a full disk or a second process can't spoil; every layer may use this.

A file is written beside its place, forced to disk and renamed, and the rename is forced to disk too: at any moment
there is the old file or the new one. Locks are the kernel's (``flock``): one held by a process that was killed is free,
so nothing stale is ever left to clean up by hand.
"""

import contextlib
import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from qiskit_qff.errors import ConfigError

SUFFIX = ".partial"
"""Ends the name of everything that is not complete yet."""

_NO_LOCKS = {errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""What ``flock`` fails with where a file system has no locks; EBADF, on NFS, where what is open is a directory."""


def write_atomically(path: Path, content: str | bytes, *, replace: bool = True) -> None:
    """Write a file so that it appears whole or not at all, and stays.

    Args:
        path: Where to; its directory must exist.
        content: All of it; text as UTF-8.
        replace: Whether a file that is there already is replaced.

    Raises:
        FileExistsError: If there is one and it is not to be replaced.
        OSError: From the operating system, with the old file left as it was.
    """
    with atomic_file(path, replace=replace) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic_file(path: Path, *, replace: bool = True) -> Iterator[IO[bytes]]:
    """A stream whose content becomes the file when the block ends without an error.

    Args:
        path: Where to; its directory must exist.
        replace: Whether a file that is there already is replaced.

    Raises:
        FileExistsError: If there is one and it is not to be replaced.
        OSError: From the operating system, with the old file left as it was.
    """
    prefix = f".{path.name}."
    remove_leftovers(path.parent, prefix)
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=SUFFIX, dir=path.parent)
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            try_lock(handle, partial)  # says to others that this is no leftover
            yield stream
            stream.flush()
            os.fchmod(handle, 0o644)
            os.fsync(handle)
            if replace:
                partial.replace(path)
            else:
                os.link(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    sync_directory(path.parent)


def sync_file(path: Path) -> None:
    """Force the content of a file to disk.

    Args:
        path: The file.
    """
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def sync_directory(directory: Path) -> None:
    """Force the names of new, renamed and removed files to disk.

    Args:
        directory: Where they are.
    """
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_leftovers(directory: Path, prefix: str) -> None:
    """Remove partial files of processes that were killed; those that are being written are locked, and stay.

    Args:
        directory: Where they are.
        prefix: How their names begin.
    """
    for leftover in directory.glob(f"{_escaped(prefix)}*{SUFFIX}"):
        with contextlib.suppress(OSError):
            handle = os.open(leftover, os.O_RDONLY)
            try:
                if try_lock(handle, leftover) and leftover.is_file():
                    leftover.unlink()
            finally:
                os.close(handle)


@contextmanager
def locked_directory(directory: Path, *, option: str = "--out") -> Iterator[None]:
    """Keep a directory for this process; made when missing.

    The lock is on the directory itself, not a file in it, and ends with the process, however that ends.

    Args:
        directory: To write into.
        option: What the directory was given by, for the message.

    Raises:
        ConfigError: If another process holds it.
    """
    with made_directory(directory):
        handle = os.open(directory, os.O_RDONLY)
        try:
            if not try_lock(handle, directory):
                raise busy(directory, option=option)
            yield
        finally:
            os.close(handle)


@contextmanager
def made_directory(directory: Path) -> Iterator[None]:
    """Make a directory and those above it; after an error those that are empty are removed again.

    Args:
        directory: The directory.
    """
    missing = [place for place in (directory, *directory.parents) if not place.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for place in missing:
            with contextlib.suppress(OSError):  # not empty: something is to be kept, or is another process's
                place.rmdir()
        raise


def take_directory(directory: Path) -> int | None:
    """Make a directory for this process alone, or take over the one that a killed process has left.

    Args:
        directory: The directory.

    Returns:
        A file descriptor that holds the lock until it is closed; None if another process has the directory.
    """
    while True:
        directory.mkdir(exist_ok=True)
        try:
            handle = os.open(directory, os.O_RDONLY)
        except FileNotFoundError:
            continue  # its owner has just moved it in place
        try:
            free = try_lock(handle, directory)
        except OSError:
            os.close(handle)
            raise
        if not free:
            os.close(handle)
            return None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), directory.stat()):
                return handle
        os.close(handle)


def busy(directory: Path, *, option: str = "--out") -> ConfigError:
    """The error for a directory that another process writes into.

    Args:
        directory: The directory.
        option: What it was given by.
    """
    return ConfigError(
        f"{option} {directory}: another qff process is writing there. Wait for it, or name another directory."
    )


def try_lock(handle: int, path: Path) -> bool:
    """Lock an open file or directory; where the file system has no locks, every process gets one.

    Args:
        handle: Its descriptor; the lock lasts until it is closed.
        path: Its name, for the error.

    Returns:
        False if another process holds the lock.

    Raises:
        OSError: If locking fails for another reason, such as a failing disk.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise OSError(error.errno, f"cannot be locked: {error.strerror}", str(path)) from error
    return True


def _escaped(text: str) -> str:
    """The text as a pattern that matches only itself."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)
