"""``qff train`` with helpers: the same model, and one line where they make no sense."""

import json
import os
import subprocess
import sys

import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.io import read, write

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


def labelled(atoms: Atoms) -> Atoms:
    """The atoms with energy and forces of effective medium theory."""
    atoms.calc = EMT()
    atoms.get_forces()
    return atoms


def test_large_structures_on_threads_with_the_portable_threading_layer(trained, tmp_path):
    """Numba has no other where OpenMP and TBB are missing, and it aborts when threads share parallel kernels."""
    small = read(trained / "data.extxyz", index=":8")
    write(tmp_path / "data.extxyz", [labelled(atoms * (4, 4, 4)) for atoms in small])
    (tmp_path / "config.yaml").write_text((trained / "config.yaml").read_text())
    done = subprocess.run(
        [sys.executable, "-m", "qiskit_qff", "train", "config.yaml", "--out", "run"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"NUMBA_THREADING_LAYER": "workqueue", "NUMBA_NUM_THREADS": "3", "OMP_NUM_THREADS": "2"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


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
