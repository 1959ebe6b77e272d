"""``qff validate`` as a user sees it: words, JSON, exit codes."""

import json
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


def test_bad_data_exits_with_two_and_names_every_place(bad_file, capsys):
    assert run(["validate", str(bad_file)]) == 2
    out, _ = capsys.readouterr()
    assert f"{bad_file}, frame 2, atom 7: the force" in out
    assert f"{bad_file}, frame 3: no energy found" in out
    assert "warning duplicate: 5" in out
    assert "... and 2 more; --all lists them." in out
    assert "not fit for training: 3 errors" in out.splitlines()[-1]
    assert run(["validate", str(bad_file), "--all", "--json"]) == 2
    out, err = capsys.readouterr()
    assert "--all lists them" not in err
    defects = json.loads(out)["defects"]
    assert {(entry["code"], entry["atom"]) for entry in defects if entry["severity"] == "error"} == {
        ("not-finite", 7),
        ("missing-energy", None),
    }


@pytest.mark.parametrize(
    ("energy", "force", "cause"), [(1.0, -1.0, "forces of the wrong sign"), (1 / 27.2114, 1.0, "energies in Hartree")]
)
def test_energies_that_contradict_the_forces_exit_with_two(tmp_path, capsys, energy, force, cause):
    path = tmp_path / "wrong.extxyz"
    frames = [replace(frame, energy=frame.energy * energy, forces=frame.forces * force) for frame in read_shipped()]
    write(path, [frame.to_atoms() for frame in frames], format="extxyz")
    assert run(["validate", str(path)]) == 2
    out, _ = capsys.readouterr()
    assert f"error energy-force-mismatch: 1\n  {path}: energies differ by" in out
    assert f"this looks like {cause}" in out
    assert out.splitlines()[-1].startswith("not fit for training: 1 error")


def test_labels_that_were_not_compared_are_said_to_be(tmp_path, capsys):
    path = tmp_path / "few.extxyz"
    write(path, [frame.to_atoms() for frame in read_shipped()[:5]], format="extxyz")
    assert run(["validate", str(path), "--json"]) == 0
    out, err = capsys.readouterr()
    assert f"energies of {path}, 5 frames: not checked: 5 frames are too few" in err
    (labels,) = json.loads(out)["labels"]
    assert labels["energy_factor"] is None


def test_frames_that_came_apart_are_told(capsys):
    assert run(["validate", "shipped", "--json"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    apart = result["lacking_bonds"]
    assert all(words.endswith(" of 32 O-Zn bonds") for words in apart.values())
    told = [line for line in result["advice"] if "--framework whole" in line]
    assert len(told) == 1
    assert told[0].startswith(f"{len(apart)} of {len(read_shipped())} frames lack bonds")
