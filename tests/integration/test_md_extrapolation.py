"""``qff md`` with a watch for extrapolation: what it tells, keeps and stops for, restarts included."""

import pytest
from ase.io import read, write

from qiskit_qff.cli.md import EXIT_EXTRAPOLATION
from qiskit_qff.structures.dataset import read_frames


@pytest.fixture(scope="module")
def workplace(trained, tmp_path_factory):
    directory = tmp_path_factory.mktemp("extrapolation")
    frame = read(trained / "data.extxyz", 0) * (2, 2, 2)
    write(directory / "start.extxyz", frame)
    squeezed = frame.copy()
    squeezed.set_cell(frame.cell * 0.9, scale_atoms=True)
    write(directory / "squeezed.extxyz", squeezed)
    return directory


@pytest.fixture
def md(trained, workplace, qff):
    def command(out, *options, structure="start", steps=60, code=0):
        arguments = ["md", trained / "run", workplace / f"{structure}.extxyz", "--steps", steps, "--out", out]
        arguments += ["--timestep", 2, "--interval", 20, "--checkpoint", 20, "--temperature", 50]
        return qff(*arguments, *options, code=code)

    return command


def test_warns_by_default_once_and_counts(md, tmp_path):
    result, errors = md(tmp_path / "known", "--grade-limit", "50")
    assert result["extrapolation"]["checks"] == 7  # steps 0, 10, ..., 60
    assert result["extrapolation"]["outside"] == 0
    assert "is outside the training data" not in errors
    result, errors = md(tmp_path / "unknown", "--grade-limit", "0.01")
    seen = result["extrapolation"]
    assert (seen["outside"], seen["first_step"]) == (7, 0)
    assert errors.count("outside the training data: extrapolation grade") == 1
    assert "step 0: atom" in errors
    assert not (tmp_path / "unknown" / "extrapolating.extxyz").exists()


def test_watching_does_not_change_the_run(md, tmp_path):
    md(tmp_path / "saving", "--on-extrapolation", "save", "--grade-limit", "0.01")
    md(tmp_path / "warning")
    for name in ("trajectory.extxyz", "log.csv"):
        assert (tmp_path / "saving" / name).read_bytes() == (tmp_path / "warning" / name).read_bytes()


def test_kept_frames_have_no_labels_and_survive_a_restart(md, tmp_path):
    options = ("--on-extrapolation", "save", "--grade-limit", "0.01")
    md(tmp_path / "whole", *options, steps=240)
    md(tmp_path / "parts", *options, steps=125)
    with (tmp_path / "parts" / "extrapolating.extxyz").open("a") as stream:  # what a kill left behind
        stream.write("32\nLattice=")
    result, _ = md(tmp_path / "parts", *options, steps=240)
    assert result["resumed_from_step"] == 125
    kept = [(tmp_path / name / "extrapolating.extxyz").read_bytes() for name in ("whole", "parts")]
    assert kept[0] == kept[1]
    frames = read_frames(tmp_path / "parts" / "extrapolating.extxyz")
    assert [frame.tags["step"] for frame in frames] == [0, 100, 200]  # one in ten graded
    assert result["extrapolation"]["saved"] == 3
    assert all(frame.energy is None and frame.forces is None for frame in frames)


def test_stop_ends_with_its_exit_code_and_can_be_taken_up(md, tmp_path):
    assert EXIT_EXTRAPOLATION == 3
    result, errors = md(tmp_path / "run", "--on-extrapolation", "stop", structure="squeezed", code=3)
    assert result["extrapolation"]["stopped"]
    assert result["steps"] == 0
    assert "higher --grade-limit" in errors
    result, _ = md(tmp_path / "run", "--grade-limit", "1e6", structure="squeezed", steps=1)
    assert (result["resumed_from_step"], result["steps"]) == (0, 1)
    assert (result["extrapolation"]["stopped"], result["extrapolation"]["outside"]) == (False, 1)
