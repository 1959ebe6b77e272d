"""The HTML page: self-contained, escaped, with a text for every figure."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from qiskit_qff.model.metrics import Comparison
from qiskit_qff.report import figures
from qiskit_qff.report.html import Page, Panel, Section, Table, render, write_page

VOID = {"meta", "br", "path", "use", "input"}


class Checker(HTMLParser):
    """Follows the nesting of tags and collects ids and references."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in {"src", "href", "xlink:href"} and not value.startswith(("#", "data:")):
                self.outside.append(value)

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
    )


@pytest.fixture(scope="module")
def page() -> Page:
    sets = {"train": comparison(20, 30), "test": comparison(5, 30)}
    return Page(
        title="A <model> & its errors",
        lead=("Opening.",),
        tiles=(("95 of 99", "parameters"),),
        sections=(
            Section(
                title="Errors",
                text=("a < b",),
                tables=(Table("By element", ("element", "error"), (("Li", 12.3456), ("Zn", float("nan")))),),
                panels=(
                    Panel("name", "Energies", 'parity "plot"', figures.parity_energy(sets)),
                    Panel("name", "Forces", "parity plot", figures.parity_forces(sets["test"])),
                    Panel("name", "Histogram", "histogram", figures.force_error_histogram(sets["test"])),
                ),
            ),
            Section(title="Circuit", drawings=(("U", "q: ─<■>─"),)),
        ),
        footer="versions",
    )


def test_page_is_well_formed_and_self_contained(page) -> None:
    text = render(page)
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert checker.outside == []
    assert len(checker.ids) == len(set(checker.ids))
    references = set(re.findall(r'href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text))
    assert references <= set(checker.ids)


def test_text_is_escaped_and_figures_have_words(page) -> None:
    text = render(page)
    assert "A &lt;model&gt; &amp; its errors" in text
    assert "a &lt; b" in text
    assert text.count('role="img" aria-label="') == 3
    assert 'aria-label="parity &quot;plot&quot;"' in text
    assert "12.35" in text
    assert figures.INK not in "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    assert "$" not in re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL)


def test_page_appears_whole(tmp_path, page) -> None:
    write_page(page, tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").stat().st_size < 1_000_000


def test_figures_leave_the_callers_style_alone(tmp_path) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    figure = figures.training_curve({"restart 0": [3.0, 2.0, 1.0]}, bound=0.5)
    figures.save(figure, tmp_path / "curve.png")
    figures.save(figures.selection_curve({"Li": [1.0, 0.5]}), tmp_path / "selection.png")
    figures.save(figures.energy_error_histogram({"test": comparison(5, 3)}), tmp_path / "histogram.png")
    assert dict(mpl.rcParams) == before
    assert all(path.stat().st_size > 5000 for path in tmp_path.iterdir())
