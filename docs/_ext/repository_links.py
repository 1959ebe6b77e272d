"""Pages of the repository that the site includes as they are: their links lead to the site's own pages.

A README links to files beside it. Where the site shows such a file, the link goes to that page; where it does not, the
path remains as text, because a built site has no repository around it.
"""

import os
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
PAGES = {
    "README.md": "index",
    "CHANGELOG.md": "changelog",
    "CONTRIBUTING.md": "contributing",
    "docs/design_notes.md": "design_notes",
    "benchmarks/RESULTS.md": "results",
    "qiskit_qff/data/README.md": "reference/shipped_data",
}
"""Files that the site shows, and on which page."""
_PICTURE = re.compile(r"<picture>.*?</picture>", re.DOTALL)
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")
_NOTEBOOK = re.compile(r"\]\([./]*notebooks/(\w+)\.ipynb\)")


def redirect(text: str, source: Path) -> str:
    """The text with links to other files of the repository turned into links within the site.

    Args:
        text: Markdown.
        source: File it comes from.
    """

    def replace(match: re.Match[str]) -> str:
        words, target = match[1], match[2]
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        path, _, anchor = target.partition("#")
        place = (source.parent / path).resolve()
        if place.is_relative_to(ROOT / "docs"):
            return f"[{words}](/{place.relative_to(ROOT / 'docs')}{'#' + anchor if anchor else ''})"
        name = str(place.relative_to(ROOT))
        return f"[{words}](/{PAGES[name]}.md)" if name in PAGES else f"{words} (`{name}`)"

    return _LINK.sub(replace, _PICTURE.sub(lambda match: _images(match, source), text))


def _images(match: re.Match[str], source: Path) -> str:
    """A picture in two colours as two images, of which the theme shows the one that fits."""
    alt = re.search(r'alt="([^"]*)"', match[0])
    images = {"dark": re.search(r'srcset="([^"]*)"', match[0]), "light": re.search(r'src="([^"]*)"', match[0])}
    assert alt is not None
    lines = [":::{container} picture"]
    for theme, found in images.items():
        if found:
            place = os.path.relpath(source.parent / found[1], ROOT / "docs")
            lines.append(f"```{{image}} /{place}\n:class: only-{theme}\n:alt: {alt[1]}\n```\n")
    return "\n".join([*lines, ":::"])


def on_include(_app: Sphinx, relative_path: Path, _docname: str, source: list[str]) -> None:
    """Rewrite what is about to be included."""
    path = (ROOT / "docs" / relative_path).resolve()
    if path.suffix == ".md" and not path.is_relative_to(ROOT / "docs"):
        source[0] = redirect(source[0], path)


def on_read(_app: Sphinx, docname: str, source: list[str]) -> None:
    """Pictures in two colours as above; links to a notebook lead to its page."""
    path = ROOT / "docs" / f"{docname}.md"
    text = _PICTURE.sub(lambda match: _images(match, path), source[0])
    source[0] = _NOTEBOOK.sub(r"](/notebooks/\1.md)", text)


def setup(app: Sphinx) -> dict[str, Any]:
    """Listen to pages and inclusions."""
    app.connect("include-read", on_include)
    app.connect("source-read", on_read)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
