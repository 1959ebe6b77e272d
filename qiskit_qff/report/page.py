"""One self-contained HTML page of sections, readable in light and dark, on a phone, and without a network.

A section names a template of ``templates/``, which holds its words and tables, and brings the data that the template
shows; figures become inline SVG whose ink follows the reader's colour scheme. The page holds no script.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from qiskit_qff.durable import write_atomically
from qiskit_qff.report.figures import INK, as_svg
from qiskit_qff.report.record import environment

_ENLARGED = 1.5
"""Figures are shown at most so many times larger than drawn, so that their text does not outgrow the page's."""


@dataclass(frozen=True, eq=False)
class Panel:
    """A figure with its caption."""

    name: str  # for a file of its own
    caption: str  # also read out to those who can't see the figure
    figure: Figure


@dataclass(frozen=True, eq=False)
class Section:
    """A part of the page under one heading."""

    title: str
    template: str  # file in ``templates/`` with its words and tables
    data: Mapping[str, Any] = field(default_factory=dict)  # what the template shows, by the names that it uses
    panels: tuple[Panel, ...] = ()  # below the words


@dataclass(frozen=True, eq=False)
class Part:
    """What one run contributes to a page."""

    kind: str  # what kind of run it is, in a word or two, such as ``training``
    title: str  # heading of a page that holds nothing else
    sections: tuple[Section, ...]
    lead: tuple[str, ...] = ()  # opening paragraphs
    verdict: tuple[str, str] | None = None  # what the model is good for, and what not; None where nobody can tell
    tiles: tuple[tuple[str, str], ...] = ()  # headline numbers: value with unit, and what it is


def render(runs: Mapping[str, Sequence[Part]]) -> str:
    """The page of one or several runs as HTML text."""
    parts = [(name if len(runs) > 1 else "", part) for name, several in runs.items() for part in several]
    sections = [(f"{name}: {section.title}" if name else section.title, section) for name, part in parts
                for section in part.sections]  # fmt: skip
    heading = parts[0][1].title + (f", and {len(runs) - 1} more" if len(runs) > 1 else "")
    drawn = "Page drawn with " + ", ".join(f"{name} {version}" for name, version in environment().items()) + "."
    return _templates().get_template("page.html").render(
        title=heading,
        parts=parts,
        sections=list(zip(numbered([_anchor(words) for words, _ in sections]), sections, strict=True)),
        footer=drawn,
    )  # fmt: skip


def write_page(runs: Mapping[str, Sequence[Part]], path: Path) -> None:
    """Write the page to a file, which appears whole or not at all."""
    write_atomically(path, render(runs))


def numbered(names: Sequence[str]) -> list[str]:
    """The names, with ``-2``, ``-3`` ... after those that came before."""
    found: list[str] = []
    for name in names:
        tries = (name, *(f"{name}-{number}" for number in range(2, len(names) + 2)))
        found.append(next(one for one in tries if one not in found))
    return found


def inline_svg(panel: Panel, key: str) -> Markup:
    """A figure as inline SVG, never smaller than it was drawn, so that its text stays legible: a phone scrolls it."""
    svg = as_svg(panel.figure).replace(INK, "currentColor")
    for before in (' id="', 'href="#', "url(#"):
        svg = svg.replace(before, f"{before}{key}-")
    width, height = (72.0 * inches for inches in panel.figure.get_size_inches())
    return Markup(  # noqa: S704 - matplotlib's own SVG, and words that are escaped
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width:g} {height:g}" style="min-width:{width:.0f}px;max-width:{_ENLARGED * width:.0f}px" '
        f'role="img" aria-label="{escape(panel.caption)}">{svg[svg.index(">") + 1 :]}'
    )


def _templates() -> Environment:
    """Templates that escape what they show and refuse names that they were not given."""
    loader = PackageLoader("qiskit_qff.report")
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    found.filters |= {"cell": _cell, "svg": inline_svg}
    return found


def _cell(value: str | float | None) -> str:
    """A table entry as text: floats with four digits, nothing and NaN as a dash."""
    if value is None or (isinstance(value, float) and value != value):  # noqa: PLR0124 - NaN
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _anchor(title: str) -> str:
    """A link target for a title."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
