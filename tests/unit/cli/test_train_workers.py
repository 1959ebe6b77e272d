"""``qff train`` with helpers: the same model, and one line where they make no sense."""

import json
import os

import pytest

from qiskit_qff.cli.main import run


def test_processes_give_the_same_model(trained, tmp_path):
    assert run(["train", str(trained / "config.yaml"), "--out", str(tmp_path / "run"), "--processes", "2"]) == 0
    ours, theirs = (json.loads((path / "metrics.json").read_text()) for path in (tmp_path / "run", trained / "run"))
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-6)
    assert ours["n_trainable"] == theirs["n_trainable"]


def test_macos_has_no_processor_affinity(trained, tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    data = str(trained / "data.extxyz")
    assert run(["train", str(trained / "config.yaml"), "--out", str(tmp_path / "run")]) == 0
    assert run(["label", data, "--calculator", "emt", "--workers", "2", "--out", str(tmp_path / "labels.extxyz")]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--processes", "0"], "--processes"),
        (["--processes", "2", "--dask", "tcp://node:8786"], "give one of them"),
        (["--processes", "2", "--backend", "statevector"], "leave them or --backend out"),
    ],
)
def test_wrong_helpers_are_one_line(trained, tmp_path, capsys, options, message):
    assert run(["train", str(trained / "config.yaml"), "--out", str(tmp_path / "run"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
