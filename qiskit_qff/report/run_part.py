"""What one directory contributes to a page."""

from collections.abc import Callable
from dataclasses import dataclass

from qiskit_qff.report.html import Section

Progress = Callable[[str, float], None]
"""Takes what is being done, in a few words, and the fraction done so far, 0 to 1."""


@dataclass(frozen=True, eq=False)
class RunPart:
    """The sections of one run."""

    kind: str
    """What kind of run it is, in a word or two, such as ``training``."""
    title: str
    """Heading of a page that holds nothing else."""
    sections: tuple[Section, ...]
    """Its parts, in order."""
    lead: tuple[str, ...] = ()
    """Opening paragraphs."""
    tiles: tuple[tuple[str, str], ...] = ()
    """Headline numbers."""
    footer: str = ""
    """Closing line, such as versions and seeds."""
    missing: tuple[str, ...] = ()
    """What can't be shown, and why; already among the opening paragraphs."""


def silent(_stage: str, _fraction: float) -> None:
    """Progress that nobody watches."""
