"""``qff build`` from the command line: files with their history, one JSON line, and refusals."""

import json

import numpy as np
import pytest

from qiskit_qff.cli.main import run
from qiskit_qff.structures.reading import read_frames


def result(capsys, *arguments: object) -> dict:
    assert run(["build", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_from_a_crystal_to_labelled_candidates(tmp_path, capsys) -> None:
    crystal, loaded, copies = (tmp_path / name for name in ("mof5.extxyz", "loaded.extxyz", "copies.extxyz"))
    assert result(capsys, "example", "mof5", "--out", crystal)["n_atoms"] == [106]
    found = result(capsys, "insert", crystal, "--number", 2, "--number", 4, "--count", 2, "--kinds", 1, "--out", loaded)
    assert found["formulas"] == ["H24Li2C48O26Zn8"] * 2 + ["H24Li4C48O26Zn8"] * 2
    assert found["sites"][0]["multiplicity"] == 12
    assert "takes up 2 electrons" in found["charge_notes"][0]
    found = result(capsys, "strain", loaded, "--count", 2, "--max-strain", 0.01, "--seed", 3, "--out", copies)
    assert found["n_frames"] == 8
    found = result(capsys, "rattle", copies, "--count", 1, "--frame", 5, "--out", copies, "--force")
    assert found["n_frames"] == 1
    tags = read_frames(copies)[0].tags
    assert tags["build_history"] == "rattle < strain < insert < example"
    assert tags["build_source"] == "mof5 frame 0"
    assert tags["build_number"] == 4
    assert "Å" in tags["build_amplitude"]


def test_supercell_and_vacancies(tmp_path, capsys) -> None:
    cell, big, holes = (tmp_path / name for name in ("cell.extxyz", "big.extxyz", "holes.extxyz"))
    result(capsys, "example", "li6ps5cl", "--conventional", "--out", cell)
    assert result(capsys, "supercell", cell, "--repeat", "2 1 1", "--out", big)["n_atoms"] == [104]
    found = result(capsys, "supercell", cell, "--min-size", 19, "--out", big, "--force")
    assert found["matrix"] == [2, 2, 2]
    assert min(found["heights_ang"]) >= 19
    found = result(capsys, "vacancies", cell, "--remove", "Li=2", "--count", 3, "--out", holes)
    assert found["formulas"] == ["Li22P4S20Cl4"] * 3
    assert found["n_kinds_of_choices"] == 24 * 23 // 2  # no symmetry among the drawn lithium sites
    assert "-2" in found["charge_note"]
    frames = read_frames(holes)
    assert len({frame.tags["build_removed_atoms"] for frame in frames}) == 3
    assert not np.allclose(frames[0].positions, frames[1].positions)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["example", "mof6"], "mof5, uio66, li6ps5cl, lgps, li3ps4, li7p3s11"),
        (["supercell", "{cell}"], "exactly one of --repeat"),
        (["supercell", "{cell}", "--repeat", "2 2"], "3 or 9 integers"),
        (["strain", "{cell}", "--mode", "bulk"], "all, shear or volume"),
        (["rattle", "{cell}", "--amplitude", "-1"], "above 0"),
        (["insert", "{cell}", "--number", "1", "--ion", "Xx"], "no chemical element"),
        (["vacancies", "{cell}", "--remove", "Li=1.5"], "whole number"),
        (["vacancies", "{cell}", "--remove", "Li=1", "--frame", "3"], "1 frames"),
        (["vacancies", "nowhere.cif", "--remove", "Li=1"], "no such file"),
    ],
)
def test_refusals_are_one_line(tmp_path, capsys, arguments, words) -> None:
    cell = tmp_path / "cell.extxyz"
    assert run(["build", "example", "li6ps5cl", "--out", str(cell)]) == 0
    capsys.readouterr()
    command = [word.format(cell=cell) for word in arguments]
    assert run(["build", *command, "--out", str(tmp_path / "out.extxyz")]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.startswith("qff: error:")
    assert error.count("\n") == 1
    assert not (tmp_path / "out.extxyz").exists()


def test_files_are_not_overwritten_unasked(tmp_path, capsys) -> None:
    out = tmp_path / "cell.extxyz"
    out.write_text("mine")
    assert run(["build", "example", "mof5", "--out", str(out)]) == 2
    assert "--force" in capsys.readouterr().err
    assert out.read_text() == "mine"
