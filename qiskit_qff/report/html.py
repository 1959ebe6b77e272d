"""One self-contained HTML page of text, tables and figures, readable in light and dark and without a network.

A page is a title, a few headline numbers and sections; this module knows how they look, not what they mean.
Figures become inline SVG whose ink follows the reader's colour scheme; each carries a text that says what it
shows to those who can't see it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from matplotlib.figure import Figure

from qiskit_qff.durable import write_atomically
from qiskit_qff.report.scene import CREDIT, Scene, scene_html, viewer_html
from qiskit_qff.report.svg import inline_svg

Cell = str | int | float | None
# Figures wider than this in inches get a row of their own, so that their text stays as large as that of others.
_WIDE = 5.7


@dataclass(frozen=True)
class Table:
    """Rows of text and numbers under a header."""

    title: str
    """Heading above the table."""
    header: tuple[str, ...]
    """Column names."""
    rows: tuple[tuple[Cell, ...], ...]
    """Entries; None is shown as a dash, a float with four digits."""


@dataclass(frozen=True, eq=False)
class Panel:
    """A figure with its caption."""

    name: str
    """Short name, for a file of its own."""
    caption: str
    """One sentence below the figure."""
    alt: str
    """What the figure shows, for readers who can't see it."""
    figure: Figure
    """The drawing."""


@dataclass(frozen=True, eq=False)
class Section:
    """A part of the page under one heading."""

    title: str
    """Heading, also the entry in the list of contents."""
    text: tuple[str, ...] = ()
    """Paragraphs."""
    tables: tuple[Table, ...] = ()
    """Tables, after the text."""
    panels: tuple[Panel, ...] = ()
    """Figures, after the tables."""
    scenes: tuple[Scene, ...] = ()
    """Structures to turn, after the figures."""
    drawings: tuple[tuple[str, str], ...] = ()
    """Heading and monospaced text, such as a circuit drawn in characters; last."""


@dataclass(frozen=True, eq=False)
class Page:
    """All of a report."""

    title: str
    """Heading of the page."""
    lead: tuple[str, ...]
    """Opening paragraphs."""
    tiles: tuple[tuple[str, str], ...]
    """Headline numbers: value with unit, and what it is."""
    sections: tuple[Section, ...]
    """The parts, in order."""
    footer: str
    """Closing line, such as versions and seeds."""


def write_page(page: Page, path: Path) -> None:
    """Write the page to a file; the file appears whole or not at all.

    Raises:
        OSError: if it can't be written.
    """
    write_atomically(path, render(page))


def render(page: Page) -> str:
    """The page as HTML text."""
    template = Template(files("qiskit_qff.report").joinpath("page.html").read_text(encoding="utf-8"))
    anchors = _anchors(page.sections)
    has_scenes = any(section.scenes for section in page.sections)
    tiles = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for value, name in page.tiles
    )
    contents = "".join(
        f'<li><a href="#{anchor}">{escape(section.title)}</a></li>'
        for anchor, section in zip(anchors, page.sections, strict=True)
    )
    return template.substitute(
        title=escape(page.title),
        lead=_paragraphs(page.lead),
        tiles=f'<div class="tiles">{tiles}</div>' if tiles else "",
        contents=contents,
        sections="\n".join(map(_section, page.sections, anchors)),
        footer=_paragraphs((page.footer, CREDIT) if has_scenes else (page.footer,)),
        viewer=viewer_html() if has_scenes else "",
    )


def _section(section: Section, anchor: str) -> str:
    """One section as HTML."""
    panels = "".join(_panel(panel, f"{anchor}-{number}") for number, panel in enumerate(section.panels))
    figures = f'<div class="figures">{panels}</div>' if panels else ""
    scenes = "".join(scene_html(scene, f"{anchor}-scene{number}") for number, scene in enumerate(section.scenes))
    drawings = "".join(
        f'<h3>{escape(title)}</h3><pre tabindex="0" aria-label="{escape(title)}">{escape(text)}</pre>'
        for title, text in section.drawings
    )
    return (
        f'<section id="{anchor}"><h2>{escape(section.title)}</h2>'
        f"{_paragraphs(section.text)}"
        f"{''.join(_table(table) for table in section.tables)}"
        f"{figures}{scenes}{drawings}</section>"
    )


def _table(table: Table) -> str:
    """One table as HTML, numbers to the right, wide ones scrolling in their own frame."""
    is_number = [
        bool(table.rows) and all(not isinstance(row[column], str) for row in table.rows)
        for column in range(len(table.header))
    ]
    kinds = [' class="number"' if numeric else "" for numeric in is_number]
    head = "".join(f'<th scope="col"{kind}>{escape(name)}</th>' for kind, name in zip(kinds, table.header, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{k}>{escape(_text(v))}</td>" for k, v in zip(kinds, row, strict=True)) + "</tr>"
        for row in table.rows
    )
    title = escape(table.title)
    return (
        f'<h3>{title}</h3><div class="scroll" tabindex="0" role="group" aria-label="{title}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _panel(panel: Panel, key: str) -> str:
    """One figure with its caption."""
    svg = inline_svg(panel.figure, alt=panel.alt, key=key)
    kind = ' class="wide"' if panel.figure.get_figwidth() > _WIDE else ""
    return f"<figure{kind}>{svg}<figcaption>{escape(panel.caption)}</figcaption></figure>"


def _paragraphs(texts: Sequence[str]) -> str:
    """Paragraphs as HTML."""
    return "".join(f"<p>{escape(text)}</p>" for text in texts)


def _text(value: Cell) -> str:
    """A table entry as text."""
    if value is None or (isinstance(value, float) and value != value):  # noqa: PLR0124 - NaN
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _anchors(sections: Sequence[Section]) -> list[str]:
    """A link target for each section; sections of the same title get different ones."""
    names: list[str] = []
    for section in sections:
        plain = name = re.sub(r"[^a-z0-9]+", "-", section.title.lower()).strip("-") or "section"
        number = 1
        while name in names:
            number += 1
            name = f"{plain}-{number}"
        names.append(name)
    return names
