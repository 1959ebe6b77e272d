"""Writing a directory of results so that it is either complete or not there.

All files are first written to a hidden directory beside the target and moved in one go at the end: a killed
command, a full disk or an error leaves the target as it was. A target that holds files of other origin is
refused unless forced, and even then only files of the same names are replaced. The hidden directory is locked: a
second process with the same target is refused, and what a killed one has left is taken over.
"""

import contextlib
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from qiskit_qff.durable import SUFFIX, busy, made_directory, sync_directory, sync_file, take_directory
from qiskit_qff.errors import ConfigError


def check_output_directory(target: Path, *, owned: Collection[str], force: bool) -> None:
    """Refuse, before any work is done, a target that can't or shouldn't be written.

    Args:
        target: directory to be written; need not exist.
        owned: names of files that this command writes itself and may replace.
        force: accept files of other origin in it; they are left alone.

    Raises:
        ConfigError: if the target is a file, holds other files, or can't be written to.
    """
    if target.exists() and not target.is_dir():
        raise ConfigError(f"--out {target}: is a file. Name a directory.")
    content = {path.name for path in target.iterdir()} if target.exists() else set()
    strangers = sorted(name for name in content - set(owned) if not _is_leftover(name, owned))
    if strangers and not force:
        raise ConfigError(
            f"--out {target}: holds other files ({strangers[0]!r}{', ...' if len(strangers) > 1 else ''}). "
            "Choose another directory, or add --force to write beside them."
        )
    for place in {
        target if target.exists() else _existing_ancestor(target),
        _existing_ancestor(_staging_place(target)),
    }:
        if not os.access(place, os.W_OK | os.X_OK):
            raise ConfigError(f"--out {target}: no permission to write in {place}. Choose another directory.")


def check_frames_file(out: Path) -> None:
    """Refuse, before any work is done, a file of frames that could not be read again by its name.

    Args:
        out: extended XYZ to be written.

    Raises:
        ConfigError: if it is a directory, or has another ending.
    """
    if out.is_dir() or out.suffix not in {".xyz", ".extxyz"}:
        raise ConfigError(f"--out {out}: name a file that ends in .extxyz.")


def _is_leftover(name: str, owned: Collection[str]) -> bool:
    """Whether the file is an unfinished one of these names, that a kill has left."""
    return name.endswith(SUFFIX) and any(name.startswith((f".{own}.", f"{own}.")) for own in ("results", *owned))


@contextmanager
def staged_directory(target: Path) -> Iterator[Path]:
    """A directory to write into; its content appears in ``target`` when the block ends without an error.

    Raises:
        ConfigError: if another process is writing to this target.
        OSError: from the operating system, with the target left as it was.
    """
    with made_directory(target.absolute().parent):
        staging = _staging_place(target)
        lock = take_directory(staging)
        if lock is None:
            raise busy(target)
        try:
            _empty(staging)
            _remove_stale(target, staging)
            yield staging
            _sync_tree(staging)
            _move_into(staging, target)
        finally:
            _remove_own(staging, lock)
            os.close(lock)


def _staging_place(target: Path) -> Path:
    """Where to stage: beside a target that can be renamed into place as a whole, else inside."""
    beside, inside = _staging_places(target)
    return inside if target.exists() and (any(target.iterdir()) or target.is_mount()) else beside


def _staging_places(target: Path) -> tuple[Path, Path]:
    """Beside the target and inside it."""
    return target.absolute().with_name(f".{target.absolute().name}{SUFFIX}"), target / f".results{SUFFIX}"


def _remove_stale(target: Path, staging: Path) -> None:
    """Remove what a killed process staged in the other place."""
    for place in _staging_places(target):
        if place != staging and place.exists() and (lock := take_directory(place)) is not None:
            _remove_own(place, lock)
            os.close(lock)


def _remove_own(staging: Path, lock: int) -> None:
    """Remove the staging directory, unless it has moved into place and this one is another process's."""
    with contextlib.suppress(OSError):
        if os.path.samestat(os.fstat(lock), staging.stat()):
            shutil.rmtree(staging, ignore_errors=True)


def _empty(directory: Path) -> None:
    """Remove what a killed process has left."""
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _move_into(staging: Path, target: Path) -> None:
    """Put the staged files in their place: one rename for a new target, one per file otherwise."""
    staging.chmod(0o755)
    if not target.exists() or not any(target.iterdir()):
        staging.replace(target)
        sync_directory(target.absolute().parent)
        return
    places = {target}
    for source in sorted(path for path in staging.rglob("*") if path.is_file()):
        place = target / source.relative_to(staging)
        place.parent.mkdir(parents=True, exist_ok=True)
        source.replace(place)
        places.add(place.parent)
    for directory in places:
        sync_directory(directory)


def _sync_tree(directory: Path) -> None:
    """Make sure that all files and their names have reached the disk."""
    for path in [*directory.rglob("*"), directory]:
        if path.is_file():
            sync_file(path)
        elif path.is_dir():
            sync_directory(path)


def _existing_ancestor(path: Path) -> Path:
    """The nearest directory above that exists."""
    return next(parent for parent in path.absolute().parents if parent.exists())
