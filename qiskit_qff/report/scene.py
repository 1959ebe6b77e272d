"""A structure on the page: a still picture, which a viewer library on the same page turns into a view in 3D.

The library (3Dmol.js, see ``viewer/README.md``) travels inside the page, compressed, once for all structures. Nothing
is asked of a network. Without JavaScript or WebGL the still picture is what the reader sees, with a line that says so.
"""

import base64
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from matplotlib.figure import Figure

from qiskit_qff.report.svg import inline_svg

LIBRARY_VERSION = "2.5.5"
CREDIT = f"3D view: 3Dmol.js {LIBRARY_VERSION}, BSD-3-Clause, doi 10.1093/bioinformatics/btu829."
"""Line at the foot of a page that holds the viewer."""

_STILL = "This is a still picture: the turning view needs JavaScript."
_ACTIONS = {
    "left": "◀ turn left",
    "right": "turn right ▶",
    "up": "▲ turn up",
    "down": "▼ turn down",
    "closer": "+ closer",
    "farther": "− farther",
    "reset": "reset",
}


@dataclass(frozen=True, eq=False)
class Scene:
    """A structure to look at from all sides."""

    name: str
    """Short name."""
    caption: str
    """A sentence or two below it."""
    alt: str
    """What it shows, for readers who can't see it."""
    still: Figure
    """The picture without a viewer."""
    data: Mapping[str, Any]
    """What ``viewer/viewer.js`` draws: atoms, bonds, cell edges, forces and their scale."""


def scene_html(scene: Scene, key: str) -> str:
    """The figure of one structure.

    Args:
        scene: the structure.
        key: prefix of its ids.
    """
    controls = "".join(
        f'<button type="button" data-action="{action}">{escape(words)}</button>' for action, words in _ACTIONS.items()
    )
    elements = "".join(
        f'<li><span class="swatch" style="background:{look["color"]}"></span>{escape(symbol)}</li>'
        for symbol, look in scene.data["elements"].items()
    )
    data = json.dumps(scene.data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return (
        f'<figure class="scene"><div class="scene-stage">{inline_svg(scene.still, alt=scene.alt, key=key)}</div>'
        f'<ul class="scene-elements" aria-label="Elements">{elements}</ul>'
        f'<p class="scene-note" role="status">{_STILL}</p>'
        f'<div class="scene-controls" hidden>{_choices(scene)}'
        f'<div role="group" aria-label="View">{controls}</div></div>'
        f"<figcaption>{escape(scene.caption)}</figcaption>"
        f'<script type="application/json">{data}</script></figure>'
    )


def _choices(scene: Scene) -> str:
    """Which forces are drawn, and how long."""
    if not scene.data["forces"]:
        return ""
    boxes = "".join(
        f'<label><input type="checkbox"{" checked" if entry["shown"] else ""}>'
        f'<span class="swatch" style="background:{entry["color"]}"></span>{escape(entry["name"])}</label>'
        for entry in scene.data["forces"]
    )
    slider = '<label>length of arrows <input type="range" min="-2" max="2" step="0.25" value="0"></label>'
    return f"<fieldset><legend>Forces</legend>{boxes}{slider}</fieldset>"


@cache
def viewer_html() -> str:
    """What a page with structures ends with: the library, its licence, and the script that starts it."""
    folder = files("qiskit_qff.report").joinpath("viewer")
    library = gzip.compress(folder.joinpath("3Dmol-min.js").read_bytes(), mtime=0)
    licences = folder.joinpath("LICENSES.txt").read_text(encoding="utf-8")
    script = folder.joinpath("viewer.js").read_text(encoding="utf-8")
    return (
        f'<script type="text/plain" id="viewer-library">{base64.b64encode(library).decode("ascii")}</script>\n'
        f'<script type="text/plain" id="viewer-licences">\n{licences}</script>\n'
        f"<script>\n{script}</script>"
    )
