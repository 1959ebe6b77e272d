"""Writing a directory of results so that it is either complete or not there.

All files are first written to a hidden directory beside the target and moved in one go at the end: a killed
command, a full disk or an error leaves the target as it was. A target that holds files of other origin is
refused unless forced, and even then only files of the same names are replaced.
"""

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

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
    strangers = sorted({path.name for path in target.iterdir()} - set(owned)) if target.exists() else []
    if strangers and not force:
        raise ConfigError(
            f"--out {target}: holds other files ({strangers[0]!r}{', ...' if len(strangers) > 1 else ''}). "
            "Choose another directory, or add --force to write beside them."
        )
    existing = target if target.exists() else _existing_ancestor(target)
    for place in {existing, _existing_ancestor(target)}:
        if not os.access(place, os.W_OK | os.X_OK):
            raise ConfigError(f"--out {target}: no permission to write in {place}. Choose another directory.")


@contextmanager
def staged_directory(target: Path) -> Iterator[Path]:
    """A directory to write into; its content appears in ``target`` when the block ends without an error.

    Raises:
        OSError: from the operating system, with the target left as it was.
    """
    made = _make_parents(target)
    try:
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
        try:
            yield staging
            _sync_tree(staging)
            _move_into(staging, target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except BaseException:
        for directory in reversed(made):
            directory.rmdir()
        raise


def _make_parents(target: Path) -> list[Path]:
    """Make the missing directories above the target; gives those made, outermost first."""
    missing = [parent for parent in target.absolute().parents if not parent.exists()][::-1]
    for parent in missing:
        parent.mkdir()
    return missing


def _move_into(staging: Path, target: Path) -> None:
    """Put the staged files in their place: one rename for a new target, one per file otherwise."""
    staging.chmod(0o755)  # mkdtemp makes it private
    if not target.exists() or not any(target.iterdir()):
        staging.replace(target)
        return
    for source in sorted(path for path in staging.rglob("*") if path.is_file()):
        place = target / source.relative_to(staging)
        place.parent.mkdir(parents=True, exist_ok=True)
        source.replace(place)


def _sync_tree(directory: Path) -> None:
    """Make sure that the content of all files has reached the disk."""
    for path in directory.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())


def _existing_ancestor(path: Path) -> Path:
    """The nearest directory above that exists."""
    return next(parent for parent in path.absolute().parents if parent.exists())
