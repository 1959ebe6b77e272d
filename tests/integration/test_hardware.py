"""The whole calibration flow on a fake device: plan, submit, crash, resume, collect elsewhere."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from hardware import collect, submit
from hardware.presets import read_settings
from qiskit_qff.errors import ConfigError
from qiskit_qff.evaluators.backends import find_device
from qiskit_qff.evaluators.primitive import JobLimits
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.remote import run_directory
from qiskit_qff.model.remote.run_directory import (
    Run,
    load_result,
    load_run,
    measured_operators,
    plan_jobs,
    snapshot_of,
    snapshot_tiles,
)
from qiskit_qff.model.remote.servers import JobFailedError, LocalServer

ROOT = Path(__file__).parents[2]


@pytest.fixture
def model(trained):
    return trained / "run" / "model.json"


@pytest.fixture(autouse=True)
def _small_jobs(monkeypatch):
    """Jobs of two settings each."""
    monkeypatch.setattr(run_directory, "JobLimits", partial(JobLimits, parameter_sets=2))


@pytest.fixture
def arguments(model, tmp_path):
    quick = ["--backend", "aer", "--preset", "quick", "--shots", "400"]
    return [str(model), "--out", str(tmp_path / "run"), *quick]


def paid(run):
    server = LocalServer(run)
    return [server.paid(job) for job in run.jobs]


def test_dry_run_tells_the_cost_and_sends_nothing(arguments, tmp_path, capsys):
    assert submit.main([*arguments, "--backend", "fake_torino", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    for word in ("circuits", "shots", "two-qubit depth", "processor time", "no mitigation"):
        assert word in shown
    assert not (tmp_path / "run").exists()


def test_flow_ends_in_operators_near_the_exact_ones(arguments, tmp_path, capsys):
    assert submit.main([*arguments, "--backend", "fake_torino"]) == 0
    assert collect.main([str(tmp_path / "run"), "--no-wait"]) == 3
    assert "missing" in capsys.readouterr().out
    # Another machine: only the directory travels.
    shutil.move(tmp_path / "run", tmp_path / "elsewhere")
    assert collect.main([str(tmp_path / "elsewhere")]) == 0
    run = load_run(tmp_path / "elsewhere")
    assert paid(run) == [1] * len(run.jobs)
    places = [qubit for tile in run.tiles().values() for qubit in tile.line.qubits]
    assert len(set(places)) == len(places) == sum(register.n_qubits for register in run.field().registers.values())
    operators, registers = measured_operators(run), run.field().registers
    # One circuit, and one PUB, a setting, whatever the number of registers.
    (n_qubits,) = {register.n_qubits for register in registers.values()}
    assert [len(row) for job in run.jobs for row in job.rows] == [len(registers)] * (n_qubits + 1)
    assert list(operators) == list(registers)
    for key, operator in operators.items():
        error = operator.matrix - registers[key].circuit_matrix()
        assert np.sqrt(np.mean(error**2)) < 0.03 * np.abs(registers[key].weights).max()


@pytest.mark.parametrize("crash_at", [0, 1])
def test_crash_between_sending_and_noting_pays_nothing_twice(arguments, tmp_path, monkeypatch, crash_at):
    original = Run.record

    def crashing(self, event):
        if event["event"] == "submitted" and event["job"] == crash_at:
            raise KeyboardInterrupt
        original(self, event)

    monkeypatch.setattr(Run, "record", crashing)
    with pytest.raises(KeyboardInterrupt):
        submit.main(arguments)
    monkeypatch.setattr(Run, "record", original)
    run = load_run(tmp_path / "run")
    assert len(run.submitted()) == crash_at
    assert submit.main(["--out", str(tmp_path / "run")]) == 0
    assert paid(run) == [1] * len(run.jobs)
    assert set(run.submitted()) == {job.index for job in run.jobs}


def test_killed_collection_goes_on(arguments, tmp_path):
    assert submit.main(arguments) == 0
    command = [sys.executable, "-m", "hardware.collect", str(tmp_path / "run")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if "job 1/" in line:
                os.kill(process.pid, signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    run = load_run(tmp_path / "run")
    before = load_result(run.result_path(run.jobs[0]))
    assert collect.main([str(tmp_path / "run")]) == 0
    np.testing.assert_array_equal(load_result(run.result_path(run.jobs[0]))[0].evs, before[0].evs)
    assert paid(run) == [1] * len(run.jobs)


def test_a_failed_job_leaves_the_others_usable(arguments, tmp_path, monkeypatch, capsys):
    # Five qubits have room for one register at a time.
    assert submit.main([*arguments, "--backend", "fake_manila"]) == 0
    original = LocalServer.result

    def failing(self, job_id, job, *, wait):
        if job.index == 0:
            raise JobFailedError("Job local-0 ended as CANCELLED: ")
        return original(self, job_id, job, wait=wait)

    monkeypatch.setattr(LocalServer, "result", failing)
    assert collect.main([str(tmp_path / "run")]) == 3
    assert "CANCELLED" in capsys.readouterr().out
    run = load_run(tmp_path / "run")
    assert 0 < len(measured_operators(run)) < len(run.field().registers)


def test_jobs_stay_within_the_executions_that_a_server_takes(model, monkeypatch):
    monkeypatch.undo()
    field = ForceField.load(model)
    tiles = snapshot_tiles(snapshot_of(find_device("fake_torino", n_qubits=field.n_qubits), field))
    few, many = (
        plan_jobs(field, replace(read_settings("quick", "fake_torino"), shots=shots), tiles)
        for shots in (1024, 5_000_000)
    )
    assert len(many) > len(few)
    assert sum(job.circuits for job in many) == sum(job.circuits for job in few)
    with pytest.raises(ConfigError, match="shots"):
        plan_jobs(field, replace(read_settings("quick", "fake_torino"), shots=100_000_000), tiles)
