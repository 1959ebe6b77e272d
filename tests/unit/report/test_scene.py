"""Structures on the page: the library inside, nothing from a network, data that fit the picture."""

import base64
import gzip
import hashlib
import json
import re
from importlib.resources import files

import numpy as np
import pytest

from qiskit_qff.report.html import Page, Section, render
from qiskit_qff.report.scene import LIBRARY_VERSION, scene_html, viewer_html
from qiskit_qff.report.structure_scene import MOST_ATOMS, ForceSet, bonded_pairs, cell_edges, structure_scene
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.shipped import read_shipped

VIEWER = files("qiskit_qff.report").joinpath("viewer")


@pytest.fixture(scope="module")
def shipped() -> Frame:
    return read_shipped()[0]


def scene_of(frame: Frame):
    error = ForceSet("error", 0.1 * frame.forces, magnified=5.0, shown=False)
    return structure_scene(frame, (ForceSet("ab initio", frame.forces), error), caption="A <structure>.")


def data_of(html: str) -> dict:
    (text,) = re.findall(r'<script type="application/json">(.*?)</script>', html, flags=re.DOTALL)
    return json.loads(text)


def test_library_is_the_published_one_with_its_licence() -> None:
    readme = VIEWER.joinpath("README.md").read_text(encoding="utf-8")
    library = VIEWER.joinpath("3Dmol-min.js").read_bytes()
    assert f"| 3Dmol-min.js | {hashlib.sha256(library).hexdigest()} |" in readme
    assert f"3dmol@{LIBRARY_VERSION}" in readme
    licences = VIEWER.joinpath("LICENSES.txt").read_text(encoding="utf-8")
    for words in ("University of Pittsburgh", "three.js", "jQuery", "pako", "upng-js", "iobuffer", "netcdfjs"):
        assert words in licences


def test_library_travels_compressed_and_whole() -> None:
    html = viewer_html()
    (packed,) = re.findall(r'id="viewer-library">([^<]*)<', html)
    assert gzip.decompress(base64.b64decode(packed)) == VIEWER.joinpath("3Dmol-min.js").read_bytes()
    assert "University of Pittsburgh" in html
    assert len(html) < 260_000
    assert viewer_html() == html


def test_a_page_without_structures_carries_no_script() -> None:
    text = render(Page(title="x", lead=(), tiles=(), sections=(Section(title="y"),), footer="z"))
    assert "<script" not in text
    assert len(text) < 10_000


def test_a_page_with_structures_asks_no_network(shipped) -> None:
    section = Section(title="Structures", scenes=(scene_of(shipped), scene_of(shipped)))
    text = render(Page(title="x", lead=(), tiles=(), sections=(section,), footer="z"))
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert text.count('id="viewer-library"') == 1
    assert not re.search(r'(src|href)="(?!#|data:)', text)
    assert len(text) < 600_000


def test_data_fit_the_structure(shipped) -> None:
    html = scene_html(scene_of(shipped), "key")
    data = data_of(html)
    assert data["symbols"] == shipped.symbols
    np.testing.assert_allclose(data["positions"], shipped.positions, atol=6e-4)
    np.testing.assert_allclose(data["forces"][0]["values"], shipped.forces, atol=6e-4)
    assert set(data["elements"]) == set(shipped.symbols)
    sizes = data["scale"] * np.linalg.norm(shipped.forces, axis=1)
    assert np.quantile(sizes, 0.9) == pytest.approx(2.2, rel=0.01)  # magnified forces don't count
    assert html.count('type="checkbox"') == 2
    assert html.count("checked") == 1
    assert "A &lt;structure&gt;." in html
    assert f"Structure of {shipped.n_atoms} atoms" in html


def test_bonds_of_the_framework_only(shipped) -> None:
    pairs = bonded_pairs(shipped)
    symbols = np.array(shipped.symbols)
    kinds = {"-".join(sorted(symbols[pair])) for pair in pairs}
    assert {"C-C", "C-H", "C-O", "O-Zn"} <= kinds
    assert not any("Li" in kind for kind in kinds)
    assert len({tuple(sorted(pair)) for pair in pairs.tolist()}) == len(pairs)


def test_cell_edges(shipped) -> None:
    edges = cell_edges(shipped)
    assert edges.shape == (12, 2, 3)
    lengths = sorted(np.linalg.norm(edges[:, 1] - edges[:, 0], axis=1))
    np.testing.assert_allclose(lengths, sorted(np.repeat(np.linalg.norm(shipped.cell, axis=1), 4)))
    molecule = Frame([1, 1], [[0, 0, 0], [0, 0, 0.74]], np.zeros((3, 3)), [False] * 3)
    assert len(cell_edges(molecule)) == 0


def test_odd_structures() -> None:
    one = Frame([3], [[0.0, 0.0, 0.0]], np.zeros((3, 3)), [False] * 3, forces=[[0.0, 0.0, 0.0]])
    scene = structure_scene(one, (ForceSet("ab initio", one.forces),), caption="An atom at rest.")
    data = data_of(scene_html(scene, "one"))
    assert data["bonds"] == []
    assert data["edges"] == []
    assert data["scale"] == 1.0
    bare = scene_html(structure_scene(one, caption="No forces."), "bare")
    assert "fieldset" not in bare
    largest = np.random.default_rng(0).uniform(0.0, 30.0, (MOST_ATOMS, 3))
    crowd = Frame([3] * MOST_ATOMS, largest, 30.0 * np.eye(3), [True] * 3, forces=largest / 30.0)
    assert len(scene_html(structure_scene(crowd, (ForceSet("ab initio", crowd.forces),), caption="."), "k")) < 1_000_000
    many = Frame([3] * (MOST_ATOMS + 1), np.zeros((MOST_ATOMS + 1, 3)), np.zeros((3, 3)), [False] * 3)
    assert structure_scene(many, caption="Too many.") is None
