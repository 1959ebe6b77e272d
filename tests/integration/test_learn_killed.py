"""``kill -9`` in the middle of labelling, dynamics and training: the run goes on and ends as if nothing had been."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write

from qiskit_qff.structures.reading import read_frames

CONFIG = {
    "start": "start.extxyz",
    "label": {"options": {"delay": 0.15}},
    "md": {"time_ps": 12.0, "timestep_fs": 2.0, "interval": 10},
    "select": {"per_round": 5, "held_out": 2, "grade_limit": 2.2, "break_at": 50.0},
    "stop": {"rounds": 2},
    "train": {
        "descriptor": {"r_cut": 4.0, "n_narrow": 4, "n_broad": 2, "powers": [2, 6], "n_radial": 2, "l_max": 1},
        "compression": {"search_rounds": 0},
        "optimizer": {"restarts": 1, "max_iterations": 20},
        "max_parameters": 20,
    },
}
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
}


@pytest.fixture
def command(tmp_path):
    rng, frames = np.random.default_rng(0), []
    for _ in range(5):
        atoms = bulk("Cu", cubic=True) * (2, 1, 1)
        atoms.symbols[[1, 4, 6]] = "Au"
        atoms.set_cell(atoms.cell * 1.05, scale_atoms=True)
        atoms.positions += rng.normal(0.0, 0.06, (8, 3))
        frames.append(atoms)
    write(tmp_path / "start.extxyz", frames)
    (tmp_path / "learn.yaml").write_text(json.dumps(CONFIG))
    calculator = "contracts.labelling.slow_emt:SlowEmt"
    return [
        sys.executable,
        "-m",
        "qiskit_qff",
        "learn",
        str(tmp_path / "learn.yaml"),
        "--calculator",
        calculator,
        "--out",
    ]


def kill_when(command, out, condition):
    """Start the run, kill -9 it as soon as the condition holds, and make sure that this was in time."""
    process = subprocess.Popen([*command, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT)
    deadline = time.monotonic() + 120
    while process.poll() is None and not condition() and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == -signal.SIGKILL, errors


def count(path, word):
    return path.read_bytes().count(word) if path.exists() else 0


def entries(out):
    """The journal without times."""
    lines = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    for line in lines:
        line["result"].pop("label_seconds", None)
    return lines


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_runs_go_on_and_end_alike(command, tmp_path):
    out, whole = tmp_path / "parts", tmp_path / "whole"
    labels, journal = out / "labels.extxyz", out / "journal.jsonl"
    log = out / "rounds" / "000" / "md" / "300K-1" / "log.csv"
    kill_when(command, out, lambda: count(labels, b"label_id") >= 2)
    finished = count(labels, b"label_id")
    assert 2 <= finished < 5  # killed while labelling the start
    kill_when(command, out, lambda: count(log, b"\n") > 110)
    assert count(journal, b'"step": "model') == 1
    assert count(journal, b'"step": "dynamics') == 0  # killed in the dynamics of round 0
    assert (log.parent / "checkpoint.npz").exists()
    walls = [frame.tags["label_wall_s"] for frame in read_frames(labels)]
    kill_when(command, out, lambda: count(labels, b"learn_round=0") >= 2)
    assert count(journal, b'"step": "choice') == 1
    assert count(journal, b'"step": "round') == 0  # killed while labelling
    kill_when(command, out, (out / "rounds" / "001").exists)  # killed while training, or soon after
    subprocess.run([*command, str(out)], check=True, env=ENVIRONMENT)
    subprocess.run([*command, str(whole)], check=True, env=ENVIRONMENT)
    assert entries(out) == entries(whole)
    mine, theirs = (read_frames(place / "labels.extxyz") for place in (out, whole))
    assert [frame.tags["label_wall_s"] for frame in mine][: len(walls)] == walls  # no label was made twice
    assert [frame.energy for frame in mine] == [frame.energy for frame in theirs]
    for name in ("model.json", "rounds/000/chosen.extxyz", "rounds/001/md/300K-1/trajectory.extxyz"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
