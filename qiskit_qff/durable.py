"""Files and directories that a kill, a full disk or a second process cannot spoil; every layer may use this.

A file is written beside its place, forced to disk and renamed, and the rename is forced to disk too: at any moment
there is the old file or the new one. Locks are the kernel's (``flock``) and end with the process that holds them, so a
killed process leaves nothing to clean up.

Readers expect damaged files, and execute nothing in them. Those of JSON and arrays raise ``ValueError`` with the reason
whatever the file holds, and the caller says what to do about it; a YAML file is the user's own.
"""

import contextlib
import errno
import fcntl
import json
import math
import os
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from glob import escape
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from qiskit_qff.errors import ConfigError, DataError

MEGABYTE = 1024 * 1024
_NO_ARCHIVE = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, LookupError, ArithmeticError,
    TypeError, AttributeError, MemoryError, tokenize.TokenError,
)  # fmt: skip
"""What ``zipfile`` and ``np.load`` raise for damaged archives, besides ``ValueError``; MemoryError where a header
claims more than there can be."""


def read_json(path: Path, *, max_bytes: int = 256 * MEGABYTE) -> Any:
    """The content of a JSON file that is not too large; NaN, infinity and endless numbers are refused."""
    if path.stat().st_size > max_bytes:
        raise ValueError(f"larger than {max_bytes} bytes")
    return parse_json(path.read_bytes())


def parse_json(content: bytes | str) -> Any:
    """The same for content that was read already."""
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        return json.loads(text, parse_constant=_not_finite, parse_float=_finite)
    except RecursionError:
        raise ValueError("lists are nested too deeply") from None


def read_yaml(path: str | Path, *, where: str = "") -> Any:
    """What a user's YAML file holds; an empty mapping for an empty one."""
    import yaml

    class UniqueKeys(yaml.SafeLoader):
        """PyYAML takes the last of equal keys without a word."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
            keys = [str(key.value) for key, _ in node.value]
            if twice := sorted({key for key in keys if keys.count(key) > 1}):
                raise ValueError(f"the key '{twice[0]}' is given twice, below line {node.start_mark.line + 1}")
            return super().construct_mapping(node, deep)

    try:
        data = yaml.load(Path(path).read_bytes().decode("utf-8"), Loader=UniqueKeys)  # noqa: S506 - a safe loader
    except OSError as error:
        raise ConfigError(f"{where or path}: {error.strerror or error}; give the path of a YAML file.") from error
    except (yaml.YAMLError, ValueError, RecursionError, TypeError, AttributeError, LookupError) as error:
        raise ConfigError(f"{where or path}: is not valid YAML: {' '.join(str(error).split())[:300]}") from error
    return {} if data is None else data


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an ``.npz`` file."""
    content = BytesIO(path.read_bytes())
    try:
        with np.load(content, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except _NO_ARCHIVE as error:
        raise ValueError(f"no whole archive of arrays ({type(error).__name__}: {error})") from error


def _not_finite(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a finite number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        _not_finite(text)
    return number


SUFFIX = ".partial"
"""Ends the name of everything that is not complete yet."""

_NO_LOCKS = {errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""What ``flock`` fails with where a file system has no locks; EBADF, on NFS, where what is open is a directory."""


def write_atomically(path: Path, content: str | bytes, *, replace: bool = True) -> None:
    """Write a file so that it appears whole or not at all."""
    with atomic_file(path, replace=replace) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic_file(path: Path, *, replace: bool = True) -> Iterator[IO[bytes]]:
    """A stream whose content becomes the file when the block ends without an error."""
    for leftover in path.parent.glob(f".{escape(path.name)}.*{SUFFIX}"):  # of a process that was killed
        with contextlib.suppress(OSError), leftover.open("rb") as stream:
            if try_lock(stream.fileno(), leftover):
                leftover.unlink()
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=SUFFIX, dir=path.parent)
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            try_lock(handle, partial)  # tells other processes that this is no leftover
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


def sync_directory(directory: Path) -> None:
    """Force to disk the names of new, renamed and removed files of a directory."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked_directory(directory: Path, *, option: str = "--out", named: Path | None = None) -> Iterator[None]:
    """Keep a directory for this process; made when missing, and after an error removed again if it is empty."""
    with made_directory(directory):
        handle = os.open(directory, os.O_RDONLY)
        try:
            # Whoever had it before may have renamed it between the two lines above.
            same = directory.exists() and os.path.samestat(os.fstat(handle), directory.stat())
            if not (same and try_lock(handle, directory)):
                raise ConfigError(
                    f"{option} {named or directory}: another qff process is writing there. Wait for it, or name "
                    "another directory."
                )
            yield
        finally:
            os.close(handle)


@contextmanager
def made_directory(directory: Path) -> Iterator[None]:
    """Make a directory and those above it; after an error those that are empty are removed again."""
    missing = [place for place in (directory, *directory.parents) if not place.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for place in missing:
            with contextlib.suppress(OSError):  # not empty: something is to be kept, or is another process's
                place.rmdir()
        raise


def try_lock(handle: int, path: Path) -> bool:
    """Lock an open file or directory; where the file system has no locks, every process gets one.

    Returns:
        False if another process holds the lock.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise OSError(error.errno, f"cannot be locked: {error.strerror}", str(path)) from error
    return True


class GrowingFile:
    """A file that grows by whole records, each forced to disk before the next; locked while it is open.

    A kill or a full disk tears at most the last record, which is cut off when the file is opened again.
    """

    def __init__(self, path: Path, intact: Callable[[bytes], int]) -> None:
        """Open or make it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        with contextlib.ExitStack() as stack:
            self._stream = stack.enter_context(path.open("a+b"))
            if not try_lock(self._stream.fileno(), path):
                raise ConfigError(f"{path}: another process is writing to it. Wait for it, or name another --out.")
            self._stream.seek(0)
            self.size = intact(self._stream.read())
            self._stream.truncate(self.size)
            sync_directory(path.parent)
            stack.pop_all()

    def append(self, record: bytes) -> None:
        """Add a record."""
        try:
            self._stream.write(record)
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError:
            self._stream.truncate(self.size)
            raise
        self.size += len(record)

    def close(self) -> None:
        """Close the file, which ends the lock; an empty one is removed."""
        if not self.size:
            self.path.unlink(missing_ok=True)
        self._stream.close()


def read_journal(path: Path) -> dict[str, Any]:
    """The last result of every step in a journal, empty where there is none; a line without its end was never there."""
    content = path.read_bytes() if path.exists() else b""
    entries = {}
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            entry = parse_json(line)
            entries[entry["step"]] = entry["result"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}, line {number}: is no entry of a journal ({error}); restore it from a copy, or begin anew."
            ) from None
    return entries


class Journal:
    """The steps of a long run that are done, with their results: one JSON object per line.

    A step is entered after the files that it wrote. What is in the journal is there; anything else is done again.
    """

    def __init__(self, path: Path) -> None:
        """Open or make it."""
        self._file = GrowingFile(path, lambda content: content.rfind(b"\n") + 1)
        try:
            self._entries = read_journal(path)
        except BaseException:
            self._file.close()
            raise

    def get(self, step: str) -> Any:
        """The result of a step; None if it was not done."""
        return self._entries.get(step)

    def once(self, step: str, do: Callable[[], Any]) -> Any:
        """The result of a step: from the journal, or done now and entered."""
        if step not in self._entries:
            self.enter(step, do())
        return self._entries[step]

    def enter(self, step: str, result: Any) -> None:
        """Note the result of a step, which replaces an earlier one; on disk when this returns."""
        line = json.dumps({"step": step, "result": result}, allow_nan=False)
        self._file.append(line.encode() + b"\n")
        self._entries[step] = json.loads(line)["result"]

    def close(self) -> None:
        """Close the file, which ends the lock."""
        self._file.close()
