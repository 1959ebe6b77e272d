"""The HTML page: self-contained, escaped, and readable by everybody."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.text import Text

from qiskit_qff.model.metrics import Comparison, measure
from qiskit_qff.report.figures import INK, lines
from qiskit_qff.report.page import Panel, Part, Section, render
from qiskit_qff.report.training import errors_section

pytestmark = pytest.mark.usefixtures("drawn_figures")
VOID = {"meta", "br", "path", "use", "input"}
SMALLEST = 11.0
"""Pixels of any text."""


class Reader(HTMLParser):
    """What somebody with a screen reader would meet, and what a browser would look up."""

    def __init__(self) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.wordless: list[str] = []
        self.language = ""
        self.landmarks: list[str] = []
        self.ids: list[str] = []
        self.outside: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        attributes = dict(attrs)
        self.tags.append(tag)
        if tag == "html":
            self.language = attributes.get("lang", "")
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        named = attributes.get("alt") or (attributes.get("role") == "img" and attributes.get("aria-label"))
        if (tag == "svg" or (tag in {"img", "image"} and "svg" not in self.open)) and not named:
            self.wordless.append(str(attributes))
        if tag in {"main", "header", "footer", "nav"}:
            self.landmarks.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in {"src", "href", "xlink:href"} and not value.startswith(("#", "data:")):
                self.outside.append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def comparison(n_frames: int, n_atoms: int) -> Comparison:
    rng = np.random.default_rng(1)
    energies, forces = rng.normal(-5, 0.01, n_frames), rng.normal(0, 1, (n_frames * n_atoms, 3))
    return Comparison(
        n_frames=n_frames,
        n_atoms=n_frames * n_atoms,
        energies=energies,
        predicted_energies=energies + rng.normal(0, 0.002, n_frames),
        forces=forces,
        predicted_forces=forces + rng.normal(0, 0.1, forces.shape),
        species=rng.choice([3, 8, 30], len(forces)),
        stresses=rng.normal(0, 0.01, (n_frames, 6)),
        predicted_stresses=rng.normal(0, 0.01, (n_frames, 6)),
    )


@pytest.fixture(scope="module")
def part() -> Part:
    sets = {"train": comparison(20, 30), "test": comparison(5, 30)}
    losses = lines(None, {"start 1": np.array([5.0, 0.02])}, x_label="iteration", y_label="loss", log=True)
    return Part(
        kind="training",
        title="A <model> & its errors",
        lead=("a < b",),
        verdict=("a referee", "a newcomer"),
        tiles=(("95 of 99", "parameters"),),
        sections=(
            errors_section(sets, {name: measure(one) for name, one in sets.items()}),
            Section(
                "Errors",
                "facts.html",
                {"title": "Numbers", "facts": [("x", 12.3456), ("q: ─<■>─", None)]},
                (Panel("loss", 'losses "drawn"', losses),),
            ),
        ),
    )


@pytest.fixture(scope="module")
def page(part) -> str:
    return render({"run": [part]})


@pytest.fixture(scope="module")
def reader(page) -> Reader:
    found = Reader()
    found.feed(page)
    return found


def test_page_is_well_formed_and_asks_no_network(page, reader) -> None:
    assert reader.open == []
    assert reader.outside == []
    assert "script" not in reader.tags
    assert len(reader.ids) == len(set(reader.ids))
    references = set(re.findall(r'href="#([^"]+)"', page)) | set(re.findall(r"url\(#([^)]+)\)", page))
    assert references <= set(reader.ids)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert len(page) < 1_500_000


def test_text_is_escaped_and_figures_have_words(page) -> None:
    assert "A &lt;model&gt; &amp; its errors" in page
    assert "a &lt; b" in page
    assert "q: ─&lt;■&gt;─" in page
    assert 'aria-label="losses &quot;drawn&quot;"' in page
    assert "12.35" in page
    assert INK not in "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert re.search(r"<b>Good for</b> a referee\..*<b>Not for</b> a newcomer\.", page, flags=re.DOTALL)


def test_the_page_is_for_everybody(reader) -> None:
    assert reader.headings.count(1) == 1
    assert reader.headings[0] == 1
    assert all(after <= before + 1 for before, after in zip(reader.headings, reader.headings[1:], strict=False))
    assert reader.wordless == []
    assert reader.language == "en"
    assert sorted(reader.landmarks) == ["footer", "header", "main", "nav"]


def test_no_text_is_too_small_to_read(part, page) -> None:
    """No figure is shown smaller than it was drawn, so points are pixels at least."""
    panels = [panel for section in part.sections for panel in section.panels]
    for panel in panels:
        panel.figure.canvas.draw()
        texts = [text for text in panel.figure.findobj(Text) if text.get_text()]
        assert min(text.get_fontsize() for text in texts) >= SMALLEST, panel.name
        assert not [text for text in texts if "^" in text.get_text()]  # exponents are smaller
        width = 72 * panel.figure.get_figwidth()
        assert f"min-width:{width:.0f}px" in page
