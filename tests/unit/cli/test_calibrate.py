"""``qff calibrate`` and the verbs that use what it wrote; ``qff cost``."""

import pytest


def test_calibrated_model_runs_everywhere(trained, tmp_path, qff) -> None:
    model, data, out = trained / "run", trained / "data.extxyz", tmp_path / "measured.json"
    assert qff("info", model)[0]["calibration"] is None
    options = ["--backend", "exact", "--shots", 10_000_000, "--seed", 3, "--out", out]
    result, _ = qff("calibrate", model, *options)
    assert result["n_shots"] == 10_000_000 * result["n_circuits"] > 0
    assert result["calibration"]["Cu"]["std_error_ev"] > 0
    assert "token" not in out.read_text()
    result, words = qff("info", out)
    assert result["calibration"]["Au"]["backend"] == "exact"
    assert "measured on a backend" in words
    assert qff("evaluate", out, data)[0]["force_std_mev_per_ang"] > 0
    options = ["--steps", 20, "--temperature", 50, "--ensemble", "nve"]
    result, words = qff("md", out, data, "--out", tmp_path / "md", *options)
    assert result["steps"] == 20
    assert result["calibration"]["Cu"]["shots"] == 10_000_000
    (note,) = [line for line in words.splitlines() if line.startswith("calibrated model")]
    for word in ("Cu, Au", "exact", "10000000 shots", "mitigation none"):
        assert word in note
    result, words = qff("md", model, data, "--out", tmp_path / "exact", *options)
    assert "calibration" not in result
    assert "calibrated model" not in words


def test_cost_of_a_calibration_and_of_a_gradient(trained, qff) -> None:
    result, words = qff("cost", trained / "run", "--backend", "aer")
    assert result["gradient"]["circuits"] > result["n_circuits"] > 0
    assert "two-qubit depth" in words
    amplified, _ = qff("cost", trained / "run", "--backend", "aer", "--mitigation", "zne")
    assert amplified["qpu_seconds"] > result["qpu_seconds"] > 0.0


@pytest.mark.parametrize("backend", ["statevector", "fake_manila"])
def test_a_dry_run_counts_the_circuits_that_it_takes_and_leaves_no_trace(trained, tmp_path, qff, backend) -> None:
    command = ["calibrate", trained / "run", "--backend", backend, "--shots", 64, "--out", tmp_path / "measured.json"]
    told, _ = qff(*command, "--dry-run")
    assert list(tmp_path.iterdir()) == []
    taken, _ = qff(*command)
    assert (told["n_circuits"], told["n_shots"]) == (taken["n_circuits"], taken["n_shots"])
    assert told["qpu_seconds"] > 0.0
