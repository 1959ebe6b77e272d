"""What a verb says: results on stdout, notes and progress on stderr, and the JSON object at the end."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qiskit_qff.cli.progress import Advance, progress_on_stderr


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
        right = [
            all(isinstance(row[column], (int, float)) or row[column] is None for row in rows)
            for column in range(len(header))
        ]
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

    def progress(self, task: str) -> AbstractContextManager[Advance]:
        """Show on stderr how far the work of a ``with`` block is."""
        return progress_on_stderr(task)


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
