"""What a verb says and where it writes: results on stdout, notes and progress on stderr, JSON at the end, directories.

Progress is one line on a terminal, drawn again and again and gone afterwards. Elsewhere (a log file, a batch job)
stderr gets a line every so often, so that quick work says nothing and long work does not look stuck.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from qiskit_qff.durable import SUFFIX, locked_directory, made_directory, sync_directory
from qiskit_qff.errors import ConfigError

SECONDS_BETWEEN_LINES = 30.0
"""Where stderr is no terminal: between one line of progress and the next, and before the first."""
SECONDS_BETWEEN_REDRAWS = 0.1
"""The same on a terminal."""
WIPE = "\x1b[K"
"""Erases a terminal's line from the cursor on."""


class Advance(Protocol):
    """Takes how far the work is."""

    def __call__(self, stage: str, done: float, total: float = 1.0, *, detail: str = "") -> None:
        """Note that so much of ``total`` is done; 1 where it is a fraction."""


class Output:
    """Where the words of one command go."""

    def __init__(self, *, as_json: bool = False) -> None:
        """Keep stdout for one JSON object, so that readable results go to stderr, or not."""
        self.as_json = as_json

    def say(self, text: str = "") -> None:
        """A line of the result."""
        stream = sys.stderr if self.as_json else sys.stdout
        print(f"{WIPE if stream.isatty() else ''}{text}", file=stream)

    def note(self, text: str) -> None:
        """A remark that is not part of the result; always on stderr."""
        print(f"{WIPE if sys.stderr.isatty() else ''}{text}", file=sys.stderr)

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A small table of the result; numbers are aligned to the right."""
        cells = [[_cell(value) for value in row] for row in rows]
        widths = [max(len(row[column]) for row in [list(header), *cells]) for column in range(len(header))]
        right = [all(row[k] is None or isinstance(row[k], (int, float)) for row in rows) for k in range(len(header))]
        self.say(title)
        for line in [list(header), ["-" * width for width in widths], *cells]:
            aligned = [
                text.rjust(width) if is_right else text.ljust(width)
                for text, width, is_right in zip(line, widths, right, strict=True)
            ]
            self.say("  " + "  ".join(aligned).rstrip())

    def finish(self, result: Mapping[str, Any]) -> None:
        """End with the result as one JSON object on stdout, when ``--json`` was given."""
        if self.as_json:
            sys.stdout.flush()
            print(json.dumps(_plain(result), allow_nan=False), flush=True)

    @contextmanager
    def progress(self, task: str, *, every: float = SECONDS_BETWEEN_LINES) -> Iterator[Advance]:
        """Show on stderr how far the work of a ``with`` block is."""
        is_terminal, said = sys.stderr.isatty(), time.monotonic()
        least, width = (
            (SECONDS_BETWEEN_REDRAWS, shutil.get_terminal_size().columns - 1) if is_terminal else (every, None)
        )

        def advance(stage: str, done: float, total: float = 1.0, *, detail: str = "") -> None:
            nonlocal said
            if (now := time.monotonic()) - said >= least:
                said = now
                named = f"{task}: {stage}" if stage and stage != task else task
                text = f"{named}: {_share(done, total)}{detail and ', '}{detail}"[:width]
                # The cursor goes back to the beginning, so that whatever comes next takes the place of this line.
                print(
                    f"{WIPE if is_terminal else ''}{text}",
                    file=sys.stderr,
                    end="\r" if is_terminal else "\n",
                    flush=True,
                )

        try:
            yield advance
        finally:
            if is_terminal:
                print(WIPE, file=sys.stderr, end="", flush=True)


def _share(done: float, total: float) -> str:
    """How much is done, in words."""
    counted = f" ({done:.0f} of {total:.0f})" if total > 1.0 else ""
    return f"{min(max(done / total, 0.0), 1.0) if total > 0.0 else 0.0:.0%}{counted}"


def _plain(value: Any) -> Any:
    """The value in JSON's own types: arrays as lists, paths as text, NaN and infinity as null."""
    from pydantic import TypeAdapter

    adapter: TypeAdapter[Any] = TypeAdapter(Any, config={"ser_json_inf_nan": "null"})
    return adapter.dump_python(value, mode="json", fallback=lambda array: array.tolist())


def json_text(value: Any) -> str:
    """The value as JSON for a file that people may open."""
    return json.dumps(_plain(value), indent=1) + "\n"


def _cell(value: object) -> str:
    """A table entry as text; numbers with four significant digits."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# Directories of results are complete or not there: files are written to a hidden directory first and moved in one go
# at the end. A killed command, a full disk or an error leaves the target as it was. The hidden directory is locked: a
# second process with the same target is refused, and what a killed one has left is taken over.


def check_output_directory(target: Path, *, owned: Collection[str], force: bool) -> None:
    """Refuse, before any work is done, a target that can't or shouldn't be written."""
    if target.exists() and not target.is_dir():
        raise ConfigError(f"--out {target}: is a file. Name a directory.")
    content = {path.name for path in target.iterdir()} if target.exists() else set()
    # Names of unfinished files, which a kill has left.
    begun = tuple(f"{dot}{own}." for own in ("results", *owned) for dot in (".", ""))
    strangers = sorted(n for n in content - set(owned) if not (n.endswith(SUFFIX) and n.startswith(begun)))
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
