"""``qff train`` on a platform without processor affinity."""

import os

from qiskit_qff.cli.main import run


def test_macos_has_no_processor_affinity(trained, tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    data = str(trained / "data.extxyz")
    assert run(["train", str(trained / "config.yaml"), "--out", str(tmp_path / "run")]) == 0
    assert run(["label", data, "--calculator", "emt", "--workers", "2", "--out", str(tmp_path / "labels.extxyz")]) == 0
