"""``qff evaluate --uncertainty`` and what ``qff info`` says of it."""

import json
from dataclasses import replace

import pytest

from qiskit_qff.cli.main import run
from qiskit_qff.model.force_field import ForceField


def call(arguments, capsys):
    code = run([str(word) for word in arguments])
    output, errors = capsys.readouterr()
    return code, json.loads(output.splitlines()[-1]) if output else None, errors


def test_evaluate_compares_uncertainties_with_errors(trained, capsys):
    arguments = ["evaluate", trained / "run", trained / "data.extxyz", "--json"]
    code, plain, _ = call(arguments, capsys)
    assert code == 0
    assert "uncertainty" not in plain
    code, result, words = call([*arguments, "--uncertainty"], capsys)
    assert code == 0
    found = result["uncertainty"]
    assert found["calibrated"]
    assert len(found["forces"]) == len(found["nominal"])
    # Calibrated on held-out frames, and most of these are training frames: errors are no larger than expected.
    assert result["force_rmse_mev_per_ang"] < 1.5 * found["force_std_mev_per_ang"]
    assert set(found["frames_outside"]).isdisjoint(
        json.loads((trained / "run" / "metrics.json").read_text())["train_frames"]
    )
    assert "errors within intervals" in words
    assert {key: result[key] for key in plain} == plain


@pytest.mark.parametrize("options", [("--backend", "statevector"), ("--shots", "100")])
def test_it_is_of_the_model_not_of_a_backend(trained, capsys, options):
    code, _, words = call(["evaluate", trained / "run", trained / "data.extxyz", "--uncertainty", *options], capsys)
    assert code == 2
    assert "--backend and --shots" in words


def test_info_tells_limits_and_factor(trained, tmp_path, capsys):
    code, result, words = call(["info", trained / "run", "--json"], capsys)
    assert code == 0
    assert set(result["uncertainty"]["training_atoms"]) == {"Cu", "Au"}
    assert result["uncertainty"]["grade_limit"] == 1.2
    assert result["uncertainty"]["factor"] > 0.0
    assert "held-out frames" in words
    field = ForceField.load(trained / "run" / "model.json")
    replace(field, posterior=None).save(tmp_path / "model.json")
    code, result, _ = call(["info", tmp_path / "model.json", "--json"], capsys)
    assert (code, result["uncertainty"]) == (0, None)
    assert call(["evaluate", tmp_path / "model.json", trained / "data.extxyz", "--uncertainty"], capsys)[0] == 2
