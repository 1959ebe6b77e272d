"""``qff calibrate`` and the verbs that use what it wrote; ``qff cost``."""

import json

from qiskit_qff.cli.main import run


def last_json(text: str) -> dict:
    return json.loads(text.strip().splitlines()[-1])


def test_calibrated_model_runs_everywhere(trained, tmp_path, capsys) -> None:
    model, out = str(trained / "run"), tmp_path / "measured.json"
    assert run(["info", model, "--json"]) == 0
    assert last_json(capsys.readouterr().out)["calibration"] is None
    options = ["--backend", "exact", "--shots", "10000000", "--seed", "3", "--out", str(out)]
    assert run(["calibrate", model, *options, "--json"]) == 0
    result = last_json(capsys.readouterr().out)
    assert result["n_circuits"] > 0
    assert result["n_shots"] == 10_000_000 * result["n_circuits"]
    assert result["calibration"]["Cu"]["std_error_ev"] > 0
    assert "token" not in out.read_text()
    assert run(["info", str(out), "--json"]) == 0
    captured = capsys.readouterr()
    assert last_json(captured.out)["calibration"]["Au"]["backend"] == "exact"
    assert "measured on a backend" in captured.err
    data = str(trained / "data.extxyz")
    assert run(["evaluate", str(out), data, "--json"]) == 0
    errors = last_json(capsys.readouterr().out)
    assert errors["force_std_mev_per_ang"] > 0
    options = ["--steps", "20", "--temperature", "50", "--ensemble", "nve", "--json"]
    md = ["md", str(out), data, "--out", str(tmp_path / "md"), *options]
    assert run(md) == 0
    captured = capsys.readouterr()
    result = last_json(captured.out)
    assert result["steps"] == 20
    assert result["calibration"]["Cu"]["shots"] == 10_000_000
    assert result["force_std_mev_per_ang"] > 0
    (note,) = [line for line in captured.err.splitlines() if line.startswith("calibrated model")]
    for word in ("Cu, Au", "exact", "10000000 shots", "mitigation none", "meV/Å"):
        assert word in note
    assert run(["md", model, data, "--out", str(tmp_path / "exact"), *options]) == 0
    captured = capsys.readouterr()
    assert "calibration" not in last_json(captured.out)
    assert "calibrated model" not in captured.err


def test_cost_lists_every_strategy(trained, capsys) -> None:
    model = str(trained / "run")
    assert run(["cost", model, "--backend", "aer", "--atoms", "Cu5Au3", "--frames", "9", "--json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert result["atoms"] == {"29": 5, "79": 3}
    assert {(entry["strategy"], entry["quantity"]) for entry in result["costs"]} == {
        (strategy, quantity)
        for strategy in ("environment", "density", "operator")
        for quantity in ("once", "energy", "forces", "gradient")
    }
    assert "two-qubit depth" in captured.err
