"""``--dry-run``: says what the command would do, checks what it would check, and leaves no trace."""

import pytest


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
