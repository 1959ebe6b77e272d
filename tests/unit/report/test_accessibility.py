"""Pages can be read by everybody: contrast, words for every picture, order of headings, names of controls."""

import re
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pytest

from qiskit_qff.report.figures import INK, PALETTE
from qiskit_qff.report.html import Page, Section, Table, render
from qiskit_qff.report.structure_scene import ForceSet, structure_scene
from qiskit_qff.structures.frame import Frame

TEXT, GRAPHIC = 4.5, 3.0
"""Least contrast of text, and of the borders of controls (WCAG 2.2, 1.4.3 and 1.4.11)."""


class Reader(HTMLParser):
    """What somebody with a screen reader would meet."""

    def __init__(self) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.wordless: list[str] = []
        self.language = ""
        self.landmarks: list[str] = []
        self.nameless: list[str] = []
        self._inside: list[tuple[str, dict[str, str]]] = []
        self._text = ""

    def handle_starttag(self, tag, attrs) -> None:
        attributes = dict(attrs)
        if tag == "html":
            self.language = attributes.get("lang", "")
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        inside_svg = any(name == "svg" for name, _ in self._inside)
        if (tag == "svg" or (tag in {"img", "image"} and not inside_svg)) and not (
            attributes.get("alt") or (attributes.get("role") == "img" and attributes.get("aria-label"))
        ):
            self.wordless.append(str(attributes))
        if tag in {"main", "header", "footer", "nav"}:
            self.landmarks.append(tag)
        if tag == "input" and not any(name == "label" for name, _ in self._inside):
            self.nameless.append(str(attributes))
        if tag == "button":
            self._text = ""
        if tag not in {"meta", "br", "input"}:
            self._inside.append((tag, attributes))

    def handle_startendtag(self, tag, attrs) -> None:
        self.handle_starttag(tag, attrs)
        self._inside.pop()

    def handle_endtag(self, tag) -> None:
        assert self._inside.pop()[0] == tag
        if tag == "button" and not self._text.strip():
            self.nameless.append("a button")

    def handle_data(self, data) -> None:
        self._text += data


def frame() -> Frame:
    positions = [[0.0, 0.0, 0.0], [0.0, 0.0, 1.6], [2.5, 2.5, 2.5]]
    forces = [[0.5, 0.0, 0.0], [-0.5, 0.2, 0.0], [0.0, -0.2, 0.1]]
    return Frame([15, 16, 3], positions, 5.0 * np.eye(3), [True] * 3, energy=-3.0, forces=forces)


@pytest.fixture(scope="module")
def page() -> str:
    from qiskit_qff.report.figures import lines
    from qiskit_qff.report.html import Panel

    structure = frame()
    scene = structure_scene(structure, (ForceSet("ab initio", structure.forces),), caption="A structure.")
    curve = lines(np.arange(3.0), {"a": np.arange(3.0)}, x_label="x", y_label="y")
    sections = (
        Section(title="Errors", tables=(Table("By element", ("element", "error"), (("Li", 1.0),)),), scenes=(scene,)),
        Section(title="Errors", panels=(Panel("curve", "A curve.", "It rises.", curve),), drawings=(("U", "q: ─■─"),)),
    )
    return render(Page(title="Title", lead=("Lead.",), tiles=(("1", "one"),), sections=sections, footer="Foot."))


@pytest.fixture(scope="module")
def reader(page) -> Reader:
    found = Reader()
    found.feed(page)
    return found


def test_headings_are_in_order(reader) -> None:
    assert reader.headings.count(1) == 1
    assert reader.headings[0] == 1
    assert all(after <= before + 1 for before, after in zip(reader.headings, reader.headings[1:], strict=False))


def test_pictures_and_controls_have_words(reader) -> None:
    assert reader.wordless == []
    assert reader.nameless == []


def test_language_and_landmarks(reader) -> None:
    assert reader.language == "en"
    assert sorted(reader.landmarks) == ["footer", "header", "main", "nav"]


def test_sections_of_one_title_have_their_own_targets(page) -> None:
    assert 'href="#errors"' in page
    assert 'href="#errors-2"' in page
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def luminance(colour: str) -> float:
    """Relative luminance of a colour written as #rrggbb."""
    channels = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255.0
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_itself() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def schemes() -> dict[str, dict[str, str]]:
    """Colours of the light and the dark scheme by name."""
    text = files("qiskit_qff.report").joinpath("page.html").read_text(encoding="utf-8")
    light, dark = (dict(re.findall(r"--(\w+): (#\w{6})", part)) for part in re.findall(r":root \{(.*?)\}", text))
    assert set(light) == set(dark)
    return {"light": light, "dark": dark}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_of_both_schemes(scheme) -> None:
    colours = schemes()[scheme]
    for ground in ("ground", "panel"):
        for ink in ("ink", "soft", "accent"):
            assert contrast(colours[ink], colours[ground]) >= TEXT, f"{ink} on {ground}"
        assert contrast(colours["edge"], colours[ground]) >= GRAPHIC, f"edge on {ground}"


def test_figures_saved_on_white_can_be_read() -> None:
    assert contrast(INK, "#ffffff") >= TEXT


def test_lines_stand_out_of_both_grounds() -> None:
    """Colours of curves are told apart by legends too, so that half of the contrast of controls is enough."""
    for colours in schemes().values():
        for colour in PALETTE:
            assert contrast(colour, colours["panel"]) >= 1.9, colour
