"""``qff report``: any run as one page for everybody, alone or with others, also when its data are gone."""

import json
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from ase.io import read, write

from qiskit_qff.cli.main import run

pytestmark = pytest.mark.usefixtures("drawn_figures")
LEARN = """
start: {start}
label: {{calculator: emt}}
md: {{temperatures_k: [300], time_ps: 0.1, timestep_fs: 2.0, interval: 10}}
stop: {{rounds: 1}}
train:
  descriptor: {{r_cut: 4.0, n_radial: 2, l_max: 1}}
  circuit: {{n_qubits: 3}}
  max_parameters: 20
"""
OPTIONS = ["--temperature", "100", "--steps", "30", "--interval", "1", "--ensemble", "nve"]


def command(*words: object) -> None:
    assert run([str(word) for word in words]) == 0


class Browser(HTMLParser):
    """What a browser would look up, and somebody with a screen reader would meet."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs) -> None:
        self.seen.append((tag, dict(attrs)))
        self.open += [tag] * (tag not in {"meta", "br", "path", "use", "input"})

    def handle_startendtag(self, tag, attrs) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag) -> None:
        if tag in self.open:
            assert self.open.pop() == tag

    def all(self, name: str) -> list[str]:
        """Values of an attribute."""
        return [attributes[name] for _, attributes in self.seen if name in attributes]


def check(page: str) -> None:
    """Well-formed, without a network or a script, and readable without eyes."""
    found = Browser(page)
    tags, ids = [tag for tag, _ in found.seen], found.all("id")
    assert found.open == []
    assert len(ids) == len(set(ids))
    links = [link for name in ("href", "xlink:href", "src") for link in found.all(name) if not link.startswith("data:")]
    links += re.findall(r"url\((#[^)]+)", page)
    assert set(links) <= {f"#{name}" for name in ids}  # nothing outside the page
    assert "script" not in tags
    assert "default-src 'none'" in page
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert (levels[0], levels.count(1)) == (1, 1)
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(attributes.get("aria-label") for tag, attributes in found.seen if tag == "svg")
    assert found.all("lang") == ["en"]
    assert {"header", "main", "footer", "nav"} <= set(tags)


@pytest.fixture
def reported(qff):
    """What the command says, and the page."""

    def call(*words: object) -> tuple[dict, str]:
        said, _ = qff("report", *words)
        page = Path(said["report"]).read_text(encoding="utf-8")
        check(page)
        return said, page

    return call


def titles(page: str) -> list[str]:
    return re.findall(r"<h2>([^<]+)</h2>", page)


@pytest.fixture
def copy(trained, tmp_path) -> Path:
    """The training run where its data are not."""
    return Path(shutil.copytree(trained / "run", tmp_path / "run"))


@pytest.fixture(scope="module")
def others(trained, tmp_path_factory) -> Path:
    """Directories of the other verbs."""
    place = tmp_path_factory.mktemp("others")
    model, data = trained / "run", trained / "data.extxyz"
    write(place / "one.extxyz", read(data, "0"))
    command("md", model, place / "one.extxyz", *OPTIONS, "--out", place / "md")
    command("analyse", place / "md" / "trajectory.extxyz", "--element", "Cu", "--out", place / "analysed")
    command("evaluate", model, data, "--backend", "aer", "--shots", 256, "--out", place / "evaluated")
    (place / "learn.yaml").write_text(LEARN.format(start=data))
    command("learn", place / "learn.yaml", "--out", place / "learnt")
    return place


def test_training_run_without_its_data(copy, trained, reported) -> None:
    (copy / "config.yaml").write_text((copy / "config.yaml").read_text().replace("data.extxyz", "gone.extxyz"))
    said, page = reported(copy)
    assert said["bytes"] == (copy / "report.html").stat().st_size < 1_500_000
    assert said["runs"][0]["kind"] == "training"
    assert titles(page) == said["runs"][0]["sections"]
    for title in ("Errors", "Training", "Uncertainty", "Parameter ledger", "Circuits"):
        assert title in titles(page)
    for words in ("<b>Good for</b>", "<b>Not for</b>", "two-body", "gone.extxyz", "numpy", "n_qubits: 3"):
        assert words in page
    assert str(trained) not in page  # nothing of this machine's directories
    metrics = json.loads((copy / "metrics.json").read_text())
    assert f"{metrics['test']['force_mae_mev_per_ang']:.4g}" in page


def test_each_kind_of_directory(others, reported) -> None:
    kinds = {
        "md": ("molecular dynamics", ("Molecular dynamics",)),
        "analysed": ("analysis", ("Structure and transport",)),
        "evaluated": ("evaluation", ("Errors",)),
        "learnt": ("active learning", ("By round",)),
    }
    for name, (kind, sections) in kinds.items():
        said, page = reported(others / name, "--out", others / f"{name}.html")
        assert said["runs"][0]["kind"] == kind
        assert set(sections) <= set(titles(page)) == {title for part in said["runs"] for title in part["sections"]}
        assert str(others) not in page


def test_several_directories_on_one_page(copy, others, reported) -> None:
    md = others / "md"
    said, page = reported(copy, md, others / "analysed")
    assert Path(said["report"]) == copy / "report.html"
    assert ", and 2 more</h1>" in page
    assert titles(page)[0] == "run: Errors"
    assert titles(page)[-1] == "analysed: Structure and transport"
    assert "md: Molecular dynamics" in titles(page)
