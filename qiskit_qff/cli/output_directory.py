"""Writing a directory of results so that it is either complete or not there.

All files are first written to a hidden directory and moved in one go at the end: a killed command, a full disk or an
error leaves the target as it was. A target that holds files of other origin is refused unless forced, and even then
only files of the same names are replaced. The hidden directory is locked: a second process with the same target is
refused, and what a killed one has left is taken over.
"""

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from qiskit_qff.durable import SUFFIX, locked_directory, made_directory, sync_directory
from qiskit_qff.errors import ConfigError


def check_output_directory(target: Path, *, owned: Collection[str], force: bool) -> None:
    """Refuse, before any work is done, a target that can't or shouldn't be written."""
    if target.exists() and not target.is_dir():
        raise ConfigError(f"--out {target}: is a file. Name a directory.")
    content = {path.name for path in target.iterdir()} if target.exists() else set()
    strangers = sorted(name for name in content - set(owned) if not _is_leftover(name, owned))
    if strangers and not force:
        raise ConfigError(
            f"--out {target}: holds other files ({strangers[0]!r}{', ...' if len(strangers) > 1 else ''}). "
            "Choose another directory, or add --force to write beside them."
        )
    place = next(path for path in (target.absolute(), *target.absolute().parents) if path.exists())
    if not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(f"--out {target}: no permission to write in {place}. Choose another directory.")


def check_frames_file(out: Path) -> None:
    """Refuse, before any work is done, a file of frames that could not be read again by its name."""
    if out.is_dir() or out.suffix not in {".xyz", ".extxyz"}:
        raise ConfigError(f"--out {out}: name a file that ends in .extxyz.")


def _is_leftover(name: str, owned: Collection[str]) -> bool:
    """Whether the file is an unfinished one of these names, that a kill has left."""
    return name.endswith(SUFFIX) and any(name.startswith((f".{own}.", f"{own}.")) for own in ("results", *owned))


@contextmanager
def staged_directory(target: Path) -> Iterator[Path]:
    """A directory to write into; its content appears in ``target`` when the block ends without an error.

    A new target appears whole, by one rename; in one that exists, file by file.
    """
    exists = target.exists()
    staging = target / f".results{SUFFIX}" if exists else target.absolute().with_name(f".{target.name}{SUFFIX}")
    with made_directory(target.absolute().parent), locked_directory(staging, named=target):
        try:
            for path in staging.iterdir():  # of a killed process
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            yield staging
            for path in [*staging.rglob("*"), staging]:
                if path.is_dir():
                    sync_directory(path)
                else:
                    with path.open("rb") as stream:
                        os.fsync(stream.fileno())
            if exists:
                _move_into(staging, target)
            else:
                staging.chmod(0o755)
                staging.replace(target)
                sync_directory(target.absolute().parent)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise


def _move_into(staging: Path, target: Path) -> None:
    """Put the staged files in their place, and remove the staging directory."""
    places = {target}
    for source in sorted(path for path in staging.rglob("*") if path.is_file()):
        place = target / source.relative_to(staging)
        place.parent.mkdir(parents=True, exist_ok=True)
        source.replace(place)
        places.add(place.parent)
    shutil.rmtree(staging)
    for directory in places:
        sync_directory(directory)
