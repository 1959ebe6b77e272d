"""Figures as SVG inside an HTML page: ink in the reader's colour, ids that don't clash, words for who can't see."""

import re
from html import escape

from matplotlib.figure import Figure

from qiskit_qff.report.figures import INK, as_svg


def inline_svg(figure: Figure, *, alt: str, key: str) -> str:
    """One figure as inline SVG.

    Args:
        figure: the drawing.
        alt: what it shows, in words.
        key: prefix of its ids, because several figures share a page.
    """
    svg = as_svg(figure).replace(INK, "currentColor")
    for before in (' id="', 'href="#', "url(#"):
        svg = svg.replace(before, f"{before}{key}-")
    content = svg[svg.index(">") + 1 :]
    view = re.search(r'viewBox="[^"]*"', svg)
    size = view[0] if view else ""
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'{size} role="img" aria-label="{escape(alt)}">{content}'
    )
