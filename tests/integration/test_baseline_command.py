"""``qff baseline``: the split of ``qff train``, a table, JSON, and the quantum model beside."""

import importlib.util
import json

import pytest


def test_beside_a_trained_model(trained, tmp_path, qff) -> None:
    out = tmp_path / "out"
    result, errors = qff("baseline", trained / "run" / "config.yaml", "--against", trained / "run", "--out", out)
    assert json.loads((out / "baselines.json").read_text()) == result
    recorded = json.loads((trained / "run" / "metrics.json").read_text())
    assert result["test_frames"] == recorded["test_frames"]
    models = result["models"]
    key = "force_mae_mev_per_ang"
    assert models["quantum"]["test"][key] == pytest.approx(recorded["test"][key])
    for name, entry in models.items():
        assert entry["n_trainable"] <= 20
        assert ("quantum_over_this" in entry) == (name != "quantum")
    ratio = models["linear"]["quantum_over_this"]["force_mae"]
    assert ratio == pytest.approx(models["quantum"]["test"][key] / models["linear"]["test"][key])
    if importlib.util.find_spec("lammps"):
        assert models["snap"]["n_trainable"] > 4
    else:
        assert "lammps" in result["skipped"]["snap"].lower()
    assert "quantum/this" in errors
