"""``qff train``, ``evaluate`` and ``info`` on a small alloy: files, JSON keys, overrides, safe directories."""

import json
from pathlib import Path

import pytest
from ase.calculators.emt import EMT
from ase.io import read, write

from qiskit_qff.cli.main import run

METRIC_KEYS = {
    "n_frames",
    "n_atoms",
    "energy_mae_mev_per_atom",
    "energy_rmse_mev_per_atom",
    "force_mae_mev_per_ang",
    "force_rmse_mev_per_ang",
}
SHOT_KEYS = {"energy_std_mev_per_atom", "force_std_mev_per_ang", "n_circuits", "n_shots"}


def last_json(text: str) -> dict:
    return json.loads(text.strip().splitlines()[-1])


def test_train_writes_everything(trained) -> None:
    names = {path.name for path in (trained / "run").iterdir()}
    assert names == {"model.json", "metrics.json", "config.yaml", "record.json", "figures", "report.html"}
    metrics = json.loads((trained / "run" / "metrics.json").read_text())
    assert metrics["n_trainable"] <= 20
    assert metrics["n_trainable"] == metrics["ledger"]["n_trainable"]
    assert set(metrics["train"]) >= METRIC_KEYS
    assert set(metrics["test"]) >= METRIC_KEYS
    assert metrics["test"]["n_frames"] == 3
    assert sorted([*metrics["train_frames"], *metrics["test_frames"]]) == list(range(12))
    assert metrics["bound"] <= metrics["loss"] * (1 + 1e-9)
    assert len(list((trained / "run" / "figures").glob("*.png"))) >= 4
    assert "Parameter ledger" in (trained / "run" / "report.html").read_text()
    assert not list(trained.glob(".run*"))


def test_evaluate_prints_the_contract(trained, capsys) -> None:
    assert run(["evaluate", str(trained / "run"), str(trained / "data.extxyz"), "--json"]) == 0
    captured = capsys.readouterr()
    result = last_json(captured.out)
    assert set(result) >= METRIC_KEYS
    assert not SHOT_KEYS & set(result)
    assert result["n_frames"] == 12
    assert result["n_atoms"] == 96
    assert captured.out.count("\n") == 1
    assert "energy MAE" in captured.err
    assert 0 < result["stress_mae_mev_per_ang3"] <= result["stress_rmse_mev_per_ang3"]
    assert "meV/Å³" in captured.err


def test_strategies_agree_and_shots_add_keys(trained, tmp_path, capsys) -> None:
    write(tmp_path / "two.extxyz", read(trained / "data.extxyz", ":2"))
    arguments = ["evaluate", str(trained / "run" / "model.json"), str(tmp_path / "two.extxyz"), "--json"]
    assert run(arguments) == 0
    exact = last_json(capsys.readouterr().out)
    for strategy in ("environment", "density", "operator"):
        assert run([*arguments, "--backend", "statevector", "--strategy", strategy]) == 0
        measured = last_json(capsys.readouterr().out)
        for key in (*METRIC_KEYS, "stress_mae_mev_per_ang3", "stress_rmse_mev_per_ang3"):
            assert measured[key] == pytest.approx(exact[key], abs=1e-7)
        assert measured["n_circuits"] > 0
        assert run([*arguments, "--backend", "statevector", "--strategy", strategy, "--shots", "1000"]) == 0
        noisy = last_json(capsys.readouterr().out)
        assert noisy["energy_std_mev_per_atom"] > 0
        assert noisy["force_std_mev_per_ang"] > 0
    assert run([*arguments, "--backend", "exact", "--shots", "1000000", "--seed", "1"]) == 0
    sampled = last_json(capsys.readouterr().out)
    assert set(sampled) >= METRIC_KEYS | SHOT_KEYS
    assert sampled["n_shots"] > 0
    assert sampled["qpu_seconds"] > 0
    assert sampled["force_std_mev_per_ang"] > 0
    assert sampled["stress_std_mev_per_ang3"] > 0
    deviation = abs(sampled["energy_mae_mev_per_atom"] - exact["energy_mae_mev_per_atom"])
    assert deviation < 6 * sampled["energy_std_mev_per_atom"]


def test_shift_energy(trained, tmp_path, capsys) -> None:
    frames = read(trained / "data.extxyz", ":")
    for atoms in frames:
        atoms.calc.results["energy"] += 80.0
    write(tmp_path / "shifted.extxyz", frames)
    arguments = ["evaluate", str(trained / "run"), str(tmp_path / "shifted.extxyz"), "--json"]
    assert run(arguments) == 0
    plain = last_json(capsys.readouterr().out)
    assert run([*arguments, "--shift-energy"]) == 0
    shifted = last_json(capsys.readouterr().out)
    assert plain["energy_mae_mev_per_atom"] == pytest.approx(10_000, rel=0.01)
    assert shifted["energy_mae_mev_per_atom"] < 100
    assert shifted["energy_shifted"]


def test_info_prints_the_contract(trained, capsys) -> None:
    assert run(["info", str(trained / "run"), "--channels", "--circuit", "--json"]) == 0
    captured = capsys.readouterr()
    result = last_json(captured.out)
    assert {"n_trainable", "ledger", "species", "n_registers", "n_qubits"} <= set(result)
    assert {"two_qubit_depth", "two_qubit_gates", "r_cut"} <= set(result)
    assert result["species"] == ["Cu", "Au"]
    assert result["r_cut"] == 4.0
    assert 1 <= result["two_qubit_depth"] < 100
    assert "Ry(theta[" in captured.err
    assert "-body" in captured.err
    assert run(["info", str(trained / "run" / "model.json")]) == 0
    assert "trainable parameters" in capsys.readouterr().out


def test_retraining_replaces_its_own_files_only(trained, tmp_path, capsys) -> None:
    config, out = str(trained / "config.yaml"), tmp_path / "run"
    assert run(["train", config, "--out", str(out)]) == 0
    assert run(["train", config, "--out", str(out), "--split", "none"]) == 0
    assert "test" not in json.loads((out / "metrics.json").read_text())
    (out / "notes.txt").write_text("mine")
    capsys.readouterr()
    assert run(["train", config, "--out", str(out)]) == 2
    assert "notes.txt" in capsys.readouterr().err
    assert run(["train", config, "--out", str(out), "--force"]) == 0
    assert (out / "notes.txt").read_text() == "mine"


def test_the_model_of_other_data_is_kept(trained, tmp_path, capsys) -> None:
    config, out = str(trained / "config.yaml"), tmp_path / "run"
    assert run(["train", config, "--out", str(out)]) == 0
    before = (out / "model.json").read_bytes()
    write(tmp_path / "other.extxyz", read(trained / "data.extxyz", ":9"))
    capsys.readouterr()
    assert run(["train", str(tmp_path / "other.extxyz"), "--out", str(out), "--restarts", "1"]) == 2
    message = capsys.readouterr().err
    assert "a model of Cu Au, trained on" in message
    assert "data.extxyz" in message
    assert (out / "model.json").read_bytes() == before
    assert run(["train", str(tmp_path / "other.extxyz"), "--out", str(out), "--restarts", "1", "--force"]) == 0
    assert (out / "model.json").read_bytes() != before


def test_errors_on_frames_that_were_trained_on_are_told_apart(trained, tmp_path, capsys) -> None:
    model, data = str(trained / "run"), str(trained / "data.extxyz")
    held_out = json.loads((trained / "run" / "metrics.json").read_text())["test"]
    assert run(["evaluate", model, data, "--out", str(tmp_path / "errors"), "--json"]) == 0
    captured = capsys.readouterr()
    mixed = last_json(captured.out)
    assert (mixed["n_frames"], mixed["n_frames_seen_in_training"]) == (12, 9)
    assert "trained on 9 of these 12 frames" in captured.err
    assert mixed["unseen"]["n_frames"] == 3
    assert run(["evaluate", model, data, "--held-out", "--json"]) == 0
    alone = last_json(capsys.readouterr().out)
    assert (alone["n_frames"], alone["n_frames_seen_in_training"]) == (3, 0)
    for key in METRIC_KEYS:
        assert alone[key] == pytest.approx(mixed["unseen"][key], rel=1e-12)
        assert alone[key] == pytest.approx(held_out[key], rel=1e-9)
    # The headline of the report is about frames that the model has not seen.
    assert run(["report", str(tmp_path / "errors"), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert f"{alone['force_mae_mev_per_ang']:.0f} meV/Å" in page
    assert "force MAE, not in training" in page
    frames = [atoms for k, atoms in enumerate(read(data, ":")) if k in metrics_of(trained)["train_frames"]]
    write(tmp_path / "seen.extxyz", frames)
    assert run(["evaluate", model, str(tmp_path / "seen.extxyz"), "--held-out"]) == 2
    assert "trained on all 9 frames" in capsys.readouterr().err


def test_a_large_gap_between_the_errors_is_remarked_on(trained, tmp_path, capsys) -> None:
    """Held-out cells that are squeezed far beyond those of training."""
    frames = read(trained / "data.extxyz", ":9")
    for atoms in frames[-2:]:
        atoms.calc = EMT()
        atoms.set_cell(0.9 * atoms.cell, scale_atoms=True)
        atoms.get_forces()
    write(tmp_path / "data.extxyz", frames)
    arguments = ["train", str(tmp_path / "data.extxyz"), "--split", "block", "--restarts", "1"]
    assert run([*arguments, "--out", str(tmp_path / "run")]) == 0
    assert "times that of training frames" in capsys.readouterr().err


def metrics_of(trained) -> dict:
    return json.loads((trained / "run" / "metrics.json").read_text())


def test_failed_training_leaves_nothing(trained, tmp_path, monkeypatch) -> None:
    from qiskit_qff.report import directory

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(directory, "write_page", full)
    assert run(["train", str(trained / "config.yaml"), "--out", str(tmp_path / "a" / "b")]) == 2
    assert list(Path(tmp_path).iterdir()) == []


def test_dynamical_decoupling_reaches_the_device(trained, tmp_path, capsys) -> None:
    write(tmp_path / "one.extxyz", read(trained / "data.extxyz", ":1"))
    arguments = ["evaluate", str(trained / "run"), str(tmp_path / "one.extxyz"), "--backend", "fake_torino"]
    found = []
    for extra in ([], ["--dynamical-decoupling"], ["--dynamical-decoupling"]):
        assert run([*arguments, "--shots", "200", "--json", *extra]) == 0
        found.append(last_json(capsys.readouterr().out))
    assert [result["dynamical_decoupling"] for result in found] == [False, True, True]
    # The same seed: other circuits ran with decoupling, and the same ones twice.
    forces = [result["force_mae_mev_per_ang"] for result in found]
    assert forces[0] != forces[1] == forces[2]
