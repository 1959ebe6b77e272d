"""How far long work is: stage, share done, rate, time left and memory, on stderr and never on stdout.

On a terminal one line is redrawn in place and gone afterwards. Elsewhere (a log file, a batch job) stderr gets a line
every so often, so that quick work says nothing and long work does not look stuck. Rate and time left are of the stage
at hand, counted from where it began, so that a resumed run is not taken for a fast one.
"""

import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Task

SECONDS_BETWEEN_LINES = 30.0
"""Where stderr is no terminal: between one line and the next, and before the first."""

_STATEMENT = Path("/proc/self/statm")
_MIB = 2**20


class Advance(Protocol):
    """Takes how far the work is."""

    def __call__(self, stage: str, done: float, total: float = 1.0, *, detail: str = "") -> None:
        """Note progress.

        Args:
            stage: what is being done, in a few words; empty for the task as a whole.
            done: how much of it is done.
            total: how much there is in all; 1 where ``done`` is a fraction, which has no rate.
            detail: something to see meanwhile, such as a temperature.
        """


@dataclass
class Pace:
    """How fast the stage at hand goes, from its first report to its last."""

    task: str
    """Name of the whole work."""
    now: Callable[[], float] = time.monotonic
    """Clock in s."""
    stage: str = ""
    """Stage at hand."""
    done: float = 0.0
    """Done of it."""
    total: float = 0.0
    """Of so much; 0 before the first report."""
    detail: str = ""
    """Something to see meanwhile."""
    _begun: float = field(default=0.0, repr=False)
    _done_then: float = field(default=0.0, repr=False)
    _latest: float = field(default=0.0, repr=False)

    def note(self, stage: str, done: float, total: float, detail: str) -> None:
        """Take a report; a new stage, or one that begins again, starts a new clock."""
        self._latest = self.now()
        if not self.total or stage != self.stage or total != self.total or done < self.done:
            self._begun, self._done_then = self._latest, done
        self.stage, self.done, self.total, self.detail = stage, done, total, detail

    @property
    def fraction(self) -> float:
        """Share of the stage that is done, 0 to 1."""
        return min(max(self.done / self.total, 0.0), 1.0) if self.total > 0.0 else 0.0

    @property
    def rate(self) -> float | None:
        """Done per second; None before a second report."""
        elapsed, grown = self._latest - self._begun, self.done - self._done_then
        return grown / elapsed if elapsed > 0.0 and grown > 0.0 else None

    @property
    def seconds_left(self) -> float | None:
        """Until the stage ends at this rate; None while there is none."""
        if self.rate is None:
            return None
        return max((self.total - self.done) / self.rate - (self.now() - self._latest), 0.0)

    @property
    def name(self) -> str:
        """Task and stage."""
        return f"{self.task}: {self.stage}" if self.stage and self.stage != self.task else self.task

    def words(self) -> str:
        """Share, rate, time left, memory."""
        parts = []
        if self.total > 0.0:
            counted = f" ({self.done:.0f} of {self.total:.0f})" if self.total > 1.0 else ""
            parts.append(f"{self.fraction:.0%}{counted}")
        if self.rate is not None and self.total > 1.0:
            parts.append(f"{self.rate:.3g}/s" if self.rate >= 1.0 else f"{1.0 / self.rate:.3g} s each")
        if self.seconds_left is not None:
            parts.append(f"{duration(self.seconds_left)} left")
        parts.append(f"{resident_bytes() / _MIB:.0f} MiB")
        return ", ".join(part for part in (*parts, self.detail) if part)


def duration(seconds: float) -> str:
    """A time in the two largest units that say something."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def resident_bytes() -> int:
    """Memory that this process holds now; where the system does not tell, the most it has held."""
    try:
        return int(_STATEMENT.read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else 1024 * most


@contextmanager
def progress_on_stderr(task: str, *, every: float = SECONDS_BETWEEN_LINES) -> Iterator[Advance]:
    """Show how far the work of a block is.

    Args:
        task: what is done, in a few words.
        every: seconds between lines where stderr is no terminal.
    """
    pace = Pace(task)
    if sys.stderr.isatty():
        with _bar(pace) as advance:
            yield advance
        return
    said = pace.now()

    def advance_in_lines(stage: str, done: float, total: float = 1.0, *, detail: str = "") -> None:
        nonlocal said
        pace.note(stage, done, total, detail)
        if (now := pace.now()) - said >= every:
            said = now
            print(f"{pace.name}: {pace.words()}", file=sys.stderr, flush=True)

    yield advance_in_lines


@contextmanager
def _bar(pace: Pace) -> Iterator[Advance]:
    """A line that is redrawn in place."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
    from rich.text import Text

    class Words(ProgressColumn):
        """Rate, time left and memory at the moment of drawing."""

        max_refresh = 0.5

        def render(self, _task: "Task") -> Text:
            return Text(pace.words(), no_wrap=True, overflow="ellipsis")

    # While a bar is drawn rich takes what is printed and puts it above the bar, on stderr. What belongs to stdout may
    # go that way only if both are the same terminal.
    shared = sys.stdout.isatty()
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24 if console.width >= 100 else 8), Words())
    with Progress(*columns, console=console, transient=True, redirect_stdout=shared) as bar:
        identity = bar.add_task(pace.task, total=None)

        def advance(stage: str, done: float, total: float = 1.0, *, detail: str = "") -> None:
            pace.note(stage, done, total, detail)
            bar.update(identity, description=pace.name, total=1.0, completed=pace.fraction)

        yield advance
