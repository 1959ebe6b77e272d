"""``qff train --backend``: a run killed between steps and resumed, its files, and what it refuses."""

import json
from contextlib import contextmanager

import numpy as np
import pytest
import yaml

from qiskit_qff.cli.main import run
from qiskit_qff.evaluators.backends import Device, Settings, build_evaluator
from qiskit_qff.evaluators.exact import ExactEvaluator
from qiskit_qff.training.measured import run as measured_run

CONFIG = """
data: {path: data.extxyz, test_fraction: 0.25}
descriptor: {r_cut: 4.0, n_radial: 2, l_max: 1}
circuit: {n_qubits: 2}
estimator: {backend: exact, shots: 200, optimizer: adam, steps: 40}
max_parameters: 14
"""


@pytest.fixture
def config(trained, tmp_path):
    path = tmp_path / "backend.yaml"
    path.write_text(CONFIG.replace("data.extxyz", str(trained / "data.extxyz")))
    return path


def test_interrupted_run_says_how_to_go_on(config, tmp_path, capsys, monkeypatch):
    calls = iter(range(20))

    def evaluate(self, requests, *, shots=None):
        if next(calls) == 9:
            raise KeyboardInterrupt
        return measured(self, requests, shots=shots)

    measured = ExactEvaluator.evaluate
    monkeypatch.setattr(ExactEvaluator, "evaluate", evaluate)
    out = tmp_path / "run"
    assert run(["train", str(config), "--out", str(out)]) == 130
    assert f"qff train {out / 'config.yaml'} --out {out} --resume" in capsys.readouterr().err
    monkeypatch.undo()
    assert {path.name for path in out.iterdir()} == {"config.yaml", "jobs"}
    assert run(["train", str(out / "config.yaml"), "--out", str(out), "--resume"]) == 0


def test_files_and_numbers_of_a_run(config, tmp_path, capsys):
    out = tmp_path / "run"
    config.write_text(config.read_text().replace("steps: 40", "steps: 2, learning_rate: 0.05"))
    arguments = ["train", str(config), "--out", str(out), "--optimizer", "adam"]
    assert run([*arguments, "--backend", "aer", "--shots", "32"]) == 0
    assert "one step: " in capsys.readouterr().out
    names = {path.name for path in out.iterdir()}
    assert names == {"model.json", "metrics.json", "config.yaml", "jobs", "report.html", "record.json"}
    assert "Training on aer" in (out / "report.html").read_text()
    estimator = json.loads((out / "metrics.json").read_text())["estimator"]
    kept = yaml.safe_load((out / "config.yaml").read_text())["estimator"]
    assert kept == {key: estimator[key] for key in kept}
    assert kept["optimizer"] == "adam"
    assert len(estimator["losses"]) == len(estimator["exact_losses"]) == estimator["steps_done"] + 1 == 3
    assert estimator["n_circuits"] > 0
    assert len(list((out / "jobs").glob("job_*.npz"))) > 3


def test_dry_run_says_the_cost_and_measures_nothing(config, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(["train", str(config), "--out", str(out), "--dry-run"]) == 0
    said = capsys.readouterr().out
    # The programmed angles and two shifts of each of a register's three angles, in three settings.
    assert "one step: 21 circuits, 4,200 shots" in said
    assert not out.exists()


def test_all_jobs_of_a_device_share_one_session(config, tmp_path, monkeypatch):
    opened, used = [], []

    @contextmanager
    def session(*_):
        opened.append("session")
        yield "the session"

    def built(settings, sizes, *, mode=None, rng, **_):
        used.append((settings.backend, len(sizes), mode))
        return ExactEvaluator(rng, shots=settings.shots)

    monkeypatch.setattr(measured_run, "find_device", lambda _: Device(None, service="account"))
    monkeypatch.setattr(measured_run, "opened", session)
    monkeypatch.setattr(measured_run, "build_evaluator", built)
    monkeypatch.setattr(measured_run, "check_backend", lambda _: None)
    arguments = ["--backend", "ibm_test", "--mode", "session", "--shots", "16", "--steps", "1"]
    assert run(["train", str(config), "--out", str(tmp_path / "out"), *arguments]) == 0
    assert opened == ["session"]
    assert [(name, mode) for name, _, mode in used] == [("ibm_test", "the session")]


def test_a_simulator_measures_with_the_mitigation_that_was_asked_for():
    for preset in ("none", "readout"):
        built = build_evaluator(Settings("aer", 100, preset), [2], rng=np.random.default_rng(0))
        assert bool(built.estimator.options.resilience.measure_mitigation) == (preset == "readout")
