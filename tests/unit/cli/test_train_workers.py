"""``qff train`` on threads, whatever the platform has."""

import os
import subprocess
import sys

from ase import Atoms
from ase.calculators.emt import EMT
from ase.io import read, write

from qiskit_qff.cli.main import run


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
    small = read(trained / "data.extxyz", index=":4")
    write(tmp_path / "data.extxyz", [labelled(atoms * (4, 4, 4)) for atoms in small])
    (tmp_path / "config.yaml").write_text((trained / "config.yaml").read_text())
    script = "from qiskit_qff import load_config, train; train(config=load_config('config.yaml'))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"NUMBA_THREADING_LAYER": "workqueue", "NUMBA_NUM_THREADS": "3", "OMP_NUM_THREADS": "2"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
