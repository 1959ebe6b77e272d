"""``--dry-run``: says what the command would do, checks what it would check, and leaves no trace."""

import pytest

from qiskit_qff.cli.main import run
from qiskit_qff.structures.dataset import missing_bonds, read_shipped


@pytest.fixture
def quiet(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return [trained / "run", trained / "data.extxyz"]


@pytest.mark.parametrize("backend", ["statevector", "fake_manila"])
def test_calibration_counts_the_circuits_that_it_takes(quiet, tmp_path, qff, backend) -> None:
    command = ["calibrate", quiet[0], "--backend", backend, "--shots", 64, "--out", "measured.json"]
    told, _ = qff(*command, "--dry-run")
    assert list(tmp_path.iterdir()) == []
    taken, _ = qff(*command)
    assert (told["n_circuits"], told["n_shots"]) == (taken["n_circuits"], taken["n_shots"])
    assert told["qpu_seconds"] > 0.0


def test_frames_that_came_apart_are_left_out_on_request(tmp_path, capsys):
    arguments = ["train", "shipped", "--framework", "whole", "--dry-run", "--out", str(tmp_path / "run")]
    assert run(arguments) == 0
    out, err = capsys.readouterr()
    assert (
        f"left out for broken frameworks: {len(missing_bonds(read_shipped()))} of {len(read_shipped())} frames" in err
    )
    assert "framework: whole" in out
    assert not (tmp_path / "run").exists()
    assert run([*arguments, "--framework", "broken"]) == 2
