"""``qff report``: any run as one page, alone or with others, also when its data are gone."""

import json
import re
import shutil
from pathlib import Path

import pytest
from ase.io import read, write

from qiskit_qff.cli.main import run

LEARN = """
start: {start}
label: {{calculator: emt}}
md: {{temperatures_k: [300], time_ps: 0.1, timestep_fs: 2.0, interval: 10}}
stop: {{rounds: 1}}
train:
  descriptor: {{r_cut: 4.0, n_narrow: 4, n_broad: 2, powers: [2, 6], n_radial: 2, l_max: 1}}
  compression: {{search_rounds: 0}}
  circuit: {{n_qubits: 3}}
  optimizer: {{restarts: 1, max_iterations: 20}}
  max_parameters: 20
"""
OPTIONS = ["--temperature", "100", "--steps", "30", "--interval", "1", "--ensemble", "nve"]


def command(*words: object) -> None:
    assert run([str(word) for word in words]) == 0


def reported(capsys, *words: object) -> tuple[dict, str]:
    """What the command says, and the page."""
    capsys.readouterr()
    command("report", *words, "--json")
    said = json.loads(capsys.readouterr().out)
    return said, Path(said["report"]).read_text(encoding="utf-8")


def titles(page: str) -> list[str]:
    return re.findall(r"<h2>([^<]+)</h2>", page)


def refused(capsys, *words: object) -> str:
    capsys.readouterr()
    assert run(["report", *map(str, words)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


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
    command("baseline", trained / "config.yaml", "--models", "linear_same_channels", "--out", place / "classical")
    (place / "calibrated").mkdir()
    command("calibrate", model, "--backend", "aer", "--shots", 256, "--out", place / "calibrated" / "aer.json")
    command("label", place / "one.extxyz", "--calculator", "emt", "--out", place / "labelled" / "labels.extxyz")
    (place / "learn.yaml").write_text(LEARN.format(start=data))
    command("learn", place / "learn.yaml", "--out", place / "learnt")
    return place


def test_training_run_without_its_data(copy, trained, capsys) -> None:
    (copy / "config.yaml").write_text((copy / "config.yaml").read_text().replace("data.extxyz", "gone.extxyz"))
    said, page = reported(capsys, copy)
    assert said["missing"] == []
    assert said["bytes"] == (copy / "report.html").stat().st_size < 1_500_000
    assert said["runs"][0]["kind"] == "training"
    assert titles(page) == said["runs"][0]["sections"]
    for title in ("Errors", "Forces on a structure", "Training", "Uncertainty", "Parameter ledger", "Circuits"):
        assert title in titles(page)
    for words in (
        "<b>Good for</b>",
        "<b>Not for</b>",
        "two-body",
        "gone.extxyz",
        "numpy",
        "seed of every random choice",
        "n_qubits: 3",
    ):
        assert words in page
    assert str(trained) not in page  # nothing of this machine's directories
    assert page.count("<h1>") == 1
    metrics = json.loads((copy / "metrics.json").read_text())
    assert f"{metrics['test']['force_mae_mev_per_ang']:.4g}" in page


def test_the_same_page_as_train_wrote(copy, trained, capsys) -> None:
    _, page = reported(capsys, copy, "--out", copy / "again.html")
    before = (trained / "run" / "report.html").read_text(encoding="utf-8")
    assert titles(page) == titles(before)
    alts = re.findall(r'aria-label="([^"]+)"', page)
    assert alts == re.findall(r'aria-label="([^"]+)"', before)
    tables = re.findall(r"<table>.*?</table>", page)
    assert tables == re.findall(r"<table>.*?</table>", before)


def test_a_run_that_kept_no_record(copy, capsys) -> None:
    (copy / "record.json").unlink()
    said, page = reported(capsys, copy)
    assert said["missing"] == ["run: No parity plots, structure and curves: the run kept no record.json. Train again."]
    assert "No parity plots" in page
    assert "Parameter ledger" in titles(page)
    assert "Forces on a structure" not in titles(page)


def test_each_kind_of_directory(others, capsys) -> None:
    kinds = {
        "md": ("molecular dynamics", ("Molecular dynamics",)),
        "analysed": ("analysis", ("Structure and transport",)),
        "evaluated": ("evaluation", ("Errors", "Noise and shots", "Forces on a structure")),
        "classical": ("baselines", ("Baselines",)),
        "calibrated": ("calibration", ("Calibration: aer.json",)),
        "labelled": ("labels", ("Labels",)),
        "learnt": ("active learning", ("By round", "Dynamics")),
    }
    for name, (kind, sections) in kinds.items():
        said, page = reported(capsys, others / name, "--out", others / f"{name}.html")
        assert said["runs"][0]["kind"] == kind
        assert set(sections) <= set(titles(page)) == {title for part in said["runs"] for title in part["sections"]}
        assert said["missing"] == []
        assert str(others) not in page


def test_several_directories_on_one_page(copy, others, capsys) -> None:
    md = others / "md"
    said, page = reported(capsys, copy, md, others / "labelled", "--title", "All of it")
    assert Path(said["report"]) == copy / "report.html"
    assert "<h1>All of it</h1>" in page
    assert titles(page)[0] == "run: Errors"
    assert titles(page)[-1] == "labelled: Labels"
    assert "md: Molecular dynamics" in titles(page)
    for words in ("Forces ab initio and by the model.", "The first structure of the trajectory", "Frame 0 with its"):
        assert words in page
    ids = re.findall(r'<section id="([^"]+)"', page)
    assert len(ids) == len(set(ids)) == len(titles(page))


def test_dynamics_whose_trajectory_is_gone(others, tmp_path, capsys) -> None:
    place = Path(shutil.copytree(others / "md", tmp_path / "md"))
    (place / "trajectory.extxyz").unlink()
    said, page = reported(capsys, place)
    assert "the trajectory is gone" in said["missing"][0]
    assert "Temperature, energies" in page
    shutil.copytree(others / "analysed", place / "analysis")
    said, page = reported(capsys, place)
    assert titles(page) == ["Molecular dynamics", "Structure and transport"]


def test_dynamics_goes_on_beside_its_report(others, trained, tmp_path) -> None:
    place = Path(shutil.copytree(others / "md", tmp_path / "md"))
    command("report", place)
    longer = [word if word != "30" else "31" for word in OPTIONS]
    command("md", trained / "run", others / "one.extxyz", *longer, "--out", place)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("record.json", "{"), "record.json"),
        (("record.json", '{"format": "else"}'), "not a record"),
        (("record.json", '{"format": "qiskit_qff record", "version": 99}'), "upgrade"),
        (("record.json", '{"format": "qiskit_qff record", "version": 1, "sets": 3}'), "record.json: damaged"),
        (("metrics.json", "[]"), "metrics.json"),
        (("config.yaml", "a: [1"), "config.yaml"),
    ],
)
def test_damaged_files_are_one_line(copy, capsys, change, words) -> None:
    name, content = change
    (copy / name).write_text(content)
    before = sorted(path.name for path in copy.iterdir())
    assert words in refused(capsys, copy, "--out", copy / "page.html")
    assert sorted(path.name for path in copy.iterdir()) == before


def test_places_that_hold_nothing(tmp_path, capsys) -> None:
    assert "no such directory" in refused(capsys, tmp_path / "absent")
    assert "holds nothing" in refused(capsys, tmp_path)


def test_files_of_other_origin_are_kept(copy, tmp_path, capsys) -> None:
    (tmp_path / "mine.html").write_text("<p>mine</p>")
    assert "--force" in refused(capsys, copy, "--out", tmp_path / "mine.html")
    assert "is a directory" in refused(capsys, copy, "--out", tmp_path)
    assert (tmp_path / "mine.html").read_text() == "<p>mine</p>"
    reported(capsys, copy, "--out", tmp_path / "mine.html", "--force")
    reported(capsys, copy, "--out", tmp_path / "mine.html")  # now it is ours
