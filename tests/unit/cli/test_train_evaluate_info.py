"""``qff train``, ``evaluate`` and ``info`` on a small alloy: files, JSON keys, overrides, safe directories."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from ase.io import read, write

from qiskit_qff.cli.main import run
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.report import page

FORCE_MAE = "force_mae_mev_per_ang"
METRIC_KEYS = {
    "n_frames", "n_atoms", "energy_mae_mev_per_atom", "energy_rmse_mev_per_atom", FORCE_MAE, "force_rmse_mev_per_ang",
}  # fmt: skip
STRESS_KEYS = {"stress_mae_mev_per_ang3", "stress_rmse_mev_per_ang3"}
SHOT_KEYS = {"energy_std_mev_per_atom", "force_std_mev_per_ang", "n_circuits", "n_shots"}


@pytest.fixture(scope="module")
def metrics(trained) -> dict:
    return json.loads((trained / "run" / "metrics.json").read_text())


def test_train_writes_everything(trained, metrics) -> None:
    names = {path.name for path in (trained / "run").iterdir()}
    assert names == {"model.json", "metrics.json", "config.yaml", "record.json", "report.html"}
    assert metrics["n_trainable"] == metrics["ledger"]["n_trainable"] <= 20
    assert set(metrics["train"]) & set(metrics["test"]) >= METRIC_KEYS
    assert metrics["test"]["n_frames"] == 3
    assert sorted([*metrics["train_frames"], *metrics["test_frames"]]) == list(range(12))
    assert metrics["bound"] <= metrics["loss"] * (1 + 1e-9)
    assert "Parameter ledger" in (trained / "run" / "report.html").read_text()
    assert not list(trained.glob(".run*"))


def test_a_statevector_agrees_and_shots_add_keys(trained, tmp_path, qff) -> None:
    write(tmp_path / "two.extxyz", read(trained / "data.extxyz", ":2"))
    arguments = ["evaluate", trained / "run" / "model.json", tmp_path / "two.extxyz"]
    exact, _ = qff(*arguments)
    assert set(exact) >= METRIC_KEYS | STRESS_KEYS
    assert not SHOT_KEYS & set(exact)
    measured, _ = qff(*arguments, "--backend", "statevector")
    for key in METRIC_KEYS | STRESS_KEYS:
        assert measured[key] == pytest.approx(exact[key], abs=1e-7)
    sampled, _ = qff(*arguments, "--backend", "exact", "--shots", 1000000, "--seed", 1)
    assert min(sampled[key] for key in (*SHOT_KEYS, "qpu_seconds", "stress_std_mev_per_ang3")) > 0
    deviation = abs(sampled["energy_mae_mev_per_atom"] - exact["energy_mae_mev_per_atom"])
    assert deviation < 6 * sampled["energy_std_mev_per_atom"]


def test_info_tells_the_model(trained, tmp_path, capsys, qff) -> None:
    result, errors = qff("info", trained / "run", "--channels", "--circuit")
    assert {"n_trainable", "ledger", "n_registers", "n_qubits", "two_qubit_gates"} <= set(result)
    assert (result["species"], result["r_cut"]) == (["Cu", "Au"], 4.0)
    assert 1 <= result["two_qubit_depth"] < 100
    assert "Ry(theta[" in errors
    assert "-body" in errors
    assert result["uncertainty"]["factor"] > 0.0
    assert "held-out frames" in errors
    assert run(["info", str(trained / "run" / "model.json")]) == 0
    assert "trainable parameters" in capsys.readouterr().out
    replace(ForceField.load(trained / "run" / "model.json"), posterior=None).save(tmp_path / "model.json")
    assert qff("info", tmp_path / "model.json")[0]["uncertainty"] is None
    qff("evaluate", tmp_path / "model.json", trained / "data.extxyz", "--uncertainty", code=2)


def test_evaluate_compares_uncertainties_with_errors(trained, metrics, qff):
    arguments = ["evaluate", trained / "run", trained / "data.extxyz"]
    plain, _ = qff(*arguments)
    assert "uncertainty" not in plain
    result, words = qff(*arguments, "--uncertainty")
    found = result["uncertainty"]
    assert found["calibrated"]
    assert len(found["forces"]) == len(found["nominal"])
    # Calibrated on held-out frames, and most of these are training frames: errors are no larger than expected.
    assert result["force_rmse_mev_per_ang"] < 1.5 * found["force_std_mev_per_ang"]
    assert set(found["frames_outside"]).isdisjoint(metrics["train_frames"])
    assert "68 % intervals" in words
    assert {key: result[key] for key in plain} == plain
    for options in (("--backend", "statevector"), ("--shots", "100")):  # it is of the model, not of a backend
        assert "--backend and --shots" in qff(*arguments, "--uncertainty", *options, code=2)[1]


def test_retraining_replaces_its_own_files_of_the_same_data_only(trained, tmp_path, qff) -> None:
    config, out, other = trained / "config.yaml", tmp_path / "run", tmp_path / "other.extxyz"
    qff("train", config, "--out", out, "--split", "none")
    qff("train", config, "--out", out)
    assert "test" in json.loads((out / "metrics.json").read_text())
    before = (out / "model.json").read_bytes()
    write(other, read(trained / "data.extxyz", ":9"))
    _, message = qff("train", other, "--out", out, code=2)
    assert "a model trained on" in message
    assert "data.extxyz" in message
    (out / "notes.txt").write_text("mine")
    assert "notes.txt" in qff("train", config, "--out", out, code=2)[1]
    assert (out / "model.json").read_bytes() == before
    qff("train", other, "--out", out, "--force", "--max-parameters", 20, "--r-cut", 4)
    assert (out / "model.json").read_bytes() != before
    assert (out / "notes.txt").read_text() == "mine"


def test_errors_on_frames_that_were_trained_on_are_told_apart(trained, metrics, tmp_path, qff) -> None:
    model, data = trained / "run", trained / "data.extxyz"
    mixed, words = qff("evaluate", model, data)
    assert (mixed["n_frames"], mixed["n_frames_seen_in_training"]) == (12, 9)
    assert "trained on 9 of these 12 frames" in words
    alone, _ = qff("evaluate", model, data, "--held-out")
    assert (alone["n_frames"], alone["n_frames_seen_in_training"]) == (3, 0)
    for key in METRIC_KEYS:
        assert alone[key] == pytest.approx(metrics["test"][key], rel=1e-9)
    frames = read(data, ":")
    write(tmp_path / "seen.extxyz", [frames[k] for k in metrics["train_frames"]])
    assert "trained on all 9 frames" in qff("evaluate", model, tmp_path / "seen.extxyz", "--held-out", code=2)[1]


def test_failed_training_leaves_nothing(trained, tmp_path, monkeypatch, qff) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(page, "write_page", full)
    qff("train", trained / "config.yaml", "--out", tmp_path / "a" / "b", code=2)
    assert list(Path(tmp_path).iterdir()) == []
