"""What a verb says: results on stdout, notes and progress on stderr, and the JSON object at the end.

Progress is a bar on a terminal, gone afterwards. Elsewhere (a log file, a batch job) stderr gets a line every so often,
so that quick work says nothing and long work does not look stuck.
"""

import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

SECONDS_BETWEEN_LINES = 30.0
"""Where stderr is no terminal: between one line of progress and the next, and before the first."""


class Advance(Protocol):
    """Takes how far the work is."""

    def __call__(self, stage: str, done: float, total: float = 1.0, *, detail: str = "") -> None:
        """Note that so much of ``total`` is done; 1 where it is a fraction."""


@dataclass(frozen=True)
class Output:
    """Where the words of one command go."""

    as_json: bool = False
    """Whether stdout is kept for one JSON object, so that readable results go to stderr."""

    def say(self, text: str = "") -> None:
        """A line of the result."""
        print(text, file=sys.stderr if self.as_json else sys.stdout)

    def note(self, text: str) -> None:
        """A remark that is not part of the result; always on stderr."""
        print(text, file=sys.stderr)

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
            print(json.dumps(plain(result), allow_nan=False), flush=True)

    @contextmanager
    def progress(self, task: str, *, every: float = SECONDS_BETWEEN_LINES) -> Iterator[Advance]:
        """Show on stderr how far the work of a ``with`` block is."""
        if sys.stderr.isatty():
            with _bar(task) as advance:
                yield advance
            return
        said = time.monotonic()

        def advance_in_lines(stage: str, done: float, total: float = 1.0, *, detail: str = "") -> None:
            nonlocal said
            if (now := time.monotonic()) - said >= every:
                said = now
                print(f"{_named(task, stage)}: {_share(done, total)}{detail and ', '}{detail}", file=sys.stderr)

        yield advance_in_lines


@contextmanager
def _bar(task: str) -> Iterator[Advance]:
    """A line that is redrawn in place; time left is that of the stage at hand."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    # While a bar is drawn rich takes what is printed and puts it above the bar, on stderr. What belongs to stdout may
    # go that way only if both are the same terminal.
    shared = sys.stdout.isatty()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[words]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=shared) as bar:
        row = bar.add_task(task, total=None, words="")
        state = bar.tasks[0]

        def advance(stage: str, done: float, total: float = 1.0, *, detail: str = "") -> None:
            name, words = _named(task, stage), f"{_share(done, total)}{detail and ', '}{detail}"
            if state.description != name or state.total != total or done < state.completed:
                # A new clock, so that a run that goes on is not taken for a fast one.
                bar.reset(row, total=total, completed=int(done), description=name)
            bar.update(row, completed=done, words=words)

        yield advance


def _named(task: str, stage: str) -> str:
    """Task and stage."""
    return f"{task}: {stage}" if stage and stage != task else task


def _share(done: float, total: float) -> str:
    """How much is done, in words."""
    counted = f" ({done:.0f} of {total:.0f})" if total > 1.0 else ""
    return f"{min(max(done / total, 0.0), 1.0) if total > 0.0 else 0.0:.0%}{counted}"


def plain(value: Any) -> Any:
    """The value in JSON's own types: arrays as lists, paths as text, NaN and infinity as null."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _cell(value: object) -> str:
    """A table entry as text; numbers with four significant digits."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
