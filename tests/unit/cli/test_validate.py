"""``qff validate`` as a user sees it: words, JSON, exit codes."""

from dataclasses import replace

import numpy as np
import pytest
from ase.io import write

from qiskit_qff.cli.main import run
from qiskit_qff.structures.dataset import read_shipped


@pytest.fixture
def bad_file(tmp_path):
    frames = read_shipped()[:6]
    forces = frames[2].forces
    forces[7, 1] = np.nan
    frames[2] = replace(frames[2], forces=forces)
    frames[3] = replace(frames[3], energy=None)
    path = tmp_path / "bad.extxyz"
    write(path, [frame.to_atoms() for frame in [*frames, *frames[3:], *frames[4:]]], format="extxyz")
    return path


def test_good_data_exits_with_zero(capsys):
    assert run(["validate", "shipped"]) == 0
    out, _ = capsys.readouterr()
    n, four = len(read_shipped()), sum(frame.n_atoms == 110 for frame in read_shipped())
    assert f"H24Li4C48O26Zn8      {four}" in out
    assert f"energy in {n} of {n}, forces in {n} of {n}, stress in 0 of {n}" in out
    assert "the tag 'replica' divides the frames into groups" in out
    assert out.splitlines()[-1] == "fit for training: 0 errors, 0 warnings"


def test_bad_data_exits_with_two_and_names_every_place(bad_file, capsys, qff):
    assert run(["validate", str(bad_file)]) == 2
    out, _ = capsys.readouterr()
    assert f"{bad_file}, frame 2, atom 7: the force" in out
    assert f"{bad_file}, frame 3: no energy found" in out
    assert "warning duplicate: 5" in out
    assert "... and 2 more; --all lists them." in out
    assert "not fit for training: 3 errors" in out.splitlines()[-1]
    result, err = qff("validate", bad_file, "--all", code=2)
    assert "--all lists them" not in err
    assert {(entry["code"], entry["atom"]) for entry in result["defects"] if entry["severity"] == "error"} == {
        ("not-finite", 7),
        ("missing-energy", None),
    }


def test_energies_that_contradict_the_forces_exit_with_two(tmp_path, capsys):
    path = tmp_path / "wrong.extxyz"
    write(path, [replace(frame, forces=-frame.forces).to_atoms() for frame in read_shipped()], format="extxyz")
    assert run(["validate", str(path)]) == 2
    out, _ = capsys.readouterr()
    assert f"error energy-force-mismatch: 1\n  {path}: energies change by -" in out
    assert out.splitlines()[-1].startswith("not fit for training: 1 error")
