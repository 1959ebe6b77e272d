"""``qff calibrate`` with jobs and the scripts of ``hardware/``: one run directory, resumed, imported, partly usable."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import qiskit_ibm_runtime
from qiskit_aer import AerSimulator
from qiskit_ibm_runtime.fake_provider import FakeTorino

from hardware import collect, submit
from hardware.presets import read_settings
from qiskit_qff.errors import BackendError, ConfigError
from qiskit_qff.evaluators.backends import find_device
from qiskit_qff.evaluators.cutout import cut_out
from qiskit_qff.evaluators.primitive import PrimitiveEvaluator
from qiskit_qff.model import calibration_run
from qiskit_qff.model.calibration_run import (
    JobFailedError,
    LocalServer,
    load_run,
    measured_operators,
    place_registers,
    plan_jobs,
)
from qiskit_qff.model.force_field import ForceField

SECRET = "planted-token-0123456789"


@pytest.fixture
def model(trained):
    return trained / "run" / "model.json"


@pytest.fixture
def small_jobs(monkeypatch):
    """A job for every circuit of registers side by side."""
    monkeypatch.setattr(calibration_run, "MOST_SETS", 4)


def assert_near_exact(field, *, scale=0.05):
    for register in field.registers.values():
        error = np.sqrt(np.mean((register.measured.matrix - register.circuit_matrix()) ** 2))
        assert 0 < error < scale * np.abs(register.weights).max()


@pytest.mark.usefixtures("small_jobs")
def test_a_run_is_sent_here_and_collected_elsewhere(model, tmp_path, capsys, qff):
    elsewhere, out = tmp_path / "elsewhere", tmp_path / "m.json"
    command = [str(model), "--out", str(tmp_path / "run"), "--backend", "fake_torino", "--preset", "quick"]
    assert submit.main([*command, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    for word in ("circuits", "shots", "two-qubit depth", "processor time", "no mitigation"):
        assert word in shown
    assert not (tmp_path / "run").exists()
    assert submit.main(command) == 0
    assert collect.main([str(tmp_path / "run"), "--no-wait"]) == 3
    assert "missing" in capsys.readouterr().out
    shutil.move(tmp_path / "run", elsewhere)
    assert "hardware.collect" in qff("calibrate", "--from", elsewhere, "--out", out, code=2)[1]
    assert collect.main([str(elsewhere)]) == 0
    run = load_run(elsewhere)
    registers = run.field.registers
    places = [qubit for _, place in run.plan.places for qubit in place.line.qubits]
    assert len(set(places)) == len(places) == sum(register.n_qubits for register in registers.values())
    # One circuit, and one PUB, a setting, whatever the number of registers.
    (n_qubits,) = {register.n_qubits for register in registers.values()}
    assert [len(row) for job in run.jobs for row in job.rows] == [len(registers)] * (n_qubits + 1)
    qff("calibrate", "--from", elsewhere, "--out", out)
    assert_near_exact(ForceField.load(out))


def test_jobs_stay_within_the_executions_that_a_server_takes(model):
    field = ForceField.load(model)
    tiles = place_registers(field, find_device("fake_torino", n_qubits=field.n_qubits))
    settings = read_settings("quick", "fake_torino")
    few, many = (plan_jobs(field, replace(settings, shots=shots), tiles) for shots in (1024, 5_000_000))
    assert len(many) > len(few)
    assert sum(job.circuits for job in many) == sum(job.circuits for job in few)
    with pytest.raises(ConfigError, match="shots"):
        plan_jobs(field, replace(settings, shots=100_000_000), tiles)


def test_provenance_of_a_fake_device(model, tmp_path, qff):
    out = tmp_path / "measured.json"
    options = ["--backend", "fake_torino", "--shots", 600, "--mitigation", "readout", "--dynamical-decoupling"]
    result, words = qff("calibrate", model, *options, "--out", out)
    for word in (f"{result['n_circuits']} circuits", "TREX", "dynamical decoupling", "processor time"):
        assert word in words
    assert result["n_shots"] == 600 * result["n_circuits"]
    assert result["missing"] == []
    assert [path.name for path in tmp_path.iterdir()] == ["measured.json"]
    field = ForceField.load(out)
    assert_near_exact(field, scale=0.1)
    torino = FakeTorino().target
    for register in field.registers.values():
        origin = register.measured.provenance
        assert (origin.backend, origin.mitigation, origin.dynamical_decoupling) == ("fake_torino", "readout", True)
        assert len(origin.qubits) == register.n_qubits
        assert origin.readout_errors == pytest.approx([torino["measure"][q,].error for q in origin.qubits])
        assert len(origin.two_qubit_errors) == register.n_qubits - 1
        assert origin.job_ids
    qff("calibrate", model, *options, "--out", tmp_path / "again.json")
    for key, register in ForceField.load(tmp_path / "again.json").registers.items():
        np.testing.assert_array_equal(register.measured.matrix, field.registers[key].measured.matrix)


def test_another_model_or_a_damaged_result_is_not_imported(model, tmp_path, qff):
    directory, out, refused = (tmp_path / name for name in ("run", "measured.json", "x.json"))
    assert submit.main([str(model), "--out", str(directory), "--backend", "aer", "--preset", "quick"]) == 0
    assert collect.main([str(directory)]) == 0
    told = qff("calibrate", model, "--from", directory, "--out", out)[0]["calibration"]
    assert all(told[symbol]["std_error_ev"] > 0 for symbol in ("Cu", "Au"))
    run, field = load_run(directory), ForceField.load(out)
    for key, operator in measured_operators(run).items():
        register = field.registers[key]
        np.testing.assert_array_equal(register.measured.matrix, operator.matrix)
        assert set(register.measured.provenance.job_ids) <= {run.state(job) for job in run.jobs}
    key, register = next(iter(ForceField.load(model).registers.items()))
    turned = replace(register, theta=register.theta + 0.1, balanced=False)
    ForceField.load(model).with_registers({key: turned}).save(tmp_path / "other.json")
    other = ["calibrate", tmp_path / "other.json", "--from", directory, "--out", refused]
    assert "other circuits" in qff(*other, code=2)[1]
    (directory / "results" / "job_0.npz").write_text("PK")
    assert "damaged" in qff("calibrate", model, "--from", directory, "--out", refused, code=2)[1]
    assert not refused.exists()


@pytest.mark.usefixtures("small_jobs")
def test_a_failed_job_leaves_the_rest_usable_and_is_sent_again(model, tmp_path, qff, monkeypatch):
    directory, out = tmp_path / "run", tmp_path / "measured.json"
    # Five qubits have room for one register at a time.
    command = ["calibrate", model, "--backend", "fake_manila", "--shots", 400, "--run", directory, "--out", out]
    simulate = LocalServer.result

    def failing(self, job_id, job, *, wait):
        if job.index == 0:
            raise JobFailedError("Job 1 ended as CANCELLED: by the owner")
        return simulate(self, job_id, job, wait=wait)

    monkeypatch.setattr(LocalServer, "result", failing)
    _, error = qff(*command, code=2)
    assert "CANCELLED" in error
    assert "--from" in error
    assert not out.exists()
    first = load_run(directory)
    assert [bool(first.state(job)) for job in first.jobs] == [False, *[True] * (len(first.jobs) - 1)]
    result, error = qff("calibrate", "--from", directory, "--out", tmp_path / "part.json")
    assert result["missing"] == ["Cu"]
    assert "not measured" in error
    part = ForceField.load(tmp_path / "part.json").registers
    assert part[29, 0].measured is None
    assert all(register.measured is not None for (number, _), register in part.items() if number == 79)
    monkeypatch.setattr(LocalServer, "result", simulate)
    assert "other settings" in qff(*command, "--mitigation", "readout", code=2)[1]
    assert "going on" in qff(*command)[1]
    assert_near_exact(ForceField.load(out), scale=0.2)


class RemoteJob:
    """What the service tells of a job that a simulator ran."""

    def __init__(self, identity, tags, job, rows):
        self.identity, self.tags, self.job, self.rows, self.lost = identity, tags, job, rows, ""

    def job_id(self):
        return self.identity

    def status(self):
        return self.lost or "DONE"

    def error_message(self):
        return f"internal: sent with Bearer {SECRET}"

    def wait_for_final_state(self):
        return None

    def result(self):
        return self.job.result()


class Service:
    """IBM Quantum with one device of three qubits; keeps jobs from one client to the next."""

    saved_accounts = staticmethod(dict)
    sent: list[RemoteJob] = []  # noqa: RUF012 (the service outlives its clients)

    def backends(self):
        backend = AerSimulator.from_backend(cut_out(FakeTorino(), 3))
        backend.name = "ibm_tiny"
        return [backend]

    def jobs(self, *, job_tags, limit):
        return [job for job in self.sent if set(job_tags) <= set(job.tags)][:limit]

    def job(self, identity):
        return next(job for job in self.sent if job.identity == identity)


@pytest.fixture
def service(monkeypatch):
    """The client's service, session and job submission end in a simulator."""
    Service.sent = []
    send = PrimitiveEvaluator.submit_joint

    def recorded(self, rows, *, shots):
        tags, job = list(self.estimator.options.environment.job_tags), send(self, rows, shots=shots)
        Service.sent.append(RemoteJob(f"remote-{len(Service.sent)}", tags, job, rows))
        return Service.sent[-1]

    monkeypatch.setattr(PrimitiveEvaluator, "submit_joint", recorded)
    monkeypatch.setattr(qiskit_ibm_runtime, "QiskitRuntimeService", Service)
    monkeypatch.setenv("QISKIT_IBM_TOKEN", SECRET)
    return Service


@pytest.fixture
def command(model, tmp_path, service):  # noqa: ARG001 (the service takes the jobs)
    return ["calibrate", model, "--backend", "ibm_tiny", "--shots", 2000, "--out", tmp_path / "m.json"]


@pytest.mark.usefixtures("small_jobs")
def test_ibm_device_is_resumed_without_paying_twice(command, tmp_path, qff, monkeypatch, service):
    fetch = calibration_run.fetch

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(calibration_run, "fetch", killed)
    qff(*command, code=130)
    directory = tmp_path / "m.run"
    run = load_run(directory)
    # The ids were on disk before anything was waited for.
    assert [run.state(job) for job in run.jobs] == [job.identity for job in service.sent]
    # Registers are measured where the plan says.
    measured_on = [request.place.line.qubits for job in service.sent for row in job.rows for request in row]
    assert set(measured_on) == {place.line.qubits for _, place in run.plan.places}
    (directory / "journal.jsonl").write_text((directory / "journal.jsonl").read_text()[:-5])
    monkeypatch.setattr(calibration_run, "fetch", fetch)
    service.sent[0].lost = "ERROR"
    _, error = qff(*command, code=2)
    assert "ended as ERROR" in error
    assert SECRET not in error
    n_sent = len(service.sent)
    assert n_sent == len(run.jobs)
    result, _ = qff(*command)
    assert len(service.sent) == n_sent + 1
    assert result["run"] == str(directory)
    field = ForceField.load(tmp_path / "m.json")
    assert_near_exact(field)
    measured_by = {
        identity for register in field.registers.values() for identity in register.measured.provenance.job_ids
    }
    assert measured_by == {job.identity for job in service.sent[1:]}
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and SECRET in path.read_text(errors="ignore")]
    # Another machine: only the directory travels, and nobody is asked for what is there.
    shutil.move(directory, tmp_path / "elsewhere")
    assert collect.main([str(tmp_path / "elsewhere")]) == 0


@pytest.mark.usefixtures("small_jobs")
@pytest.mark.parametrize("crash_at", [0, 1])
def test_a_crash_between_sending_and_noting_pays_nothing_twice(command, tmp_path, qff, monkeypatch, service, crash_at):
    enter = calibration_run.Run.enter

    def crashing(self, job, state):
        if state and job.index == crash_at:
            raise KeyboardInterrupt
        enter(self, job, state)

    monkeypatch.setattr(calibration_run.Run, "enter", crashing)
    qff(*command, code=130)
    assert len(service.sent) == crash_at + 1
    monkeypatch.setattr(calibration_run.Run, "enter", enter)
    qff(*command)
    run = load_run(tmp_path / "m.run")
    assert [run.state(job) for job in run.jobs] == [job.identity for job in service.sent]


def test_a_paid_result_that_cannot_be_read_is_kept_as_it_came(command, tmp_path, qff, monkeypatch, service):
    def unreadable(*_, **__):
        raise BackendError("values are not finite.")

    monkeypatch.setattr(calibration_run, "read_row", unreadable)
    _, error = qff(*command, code=2)
    assert "values are not finite. The job is done and paid: its raw results are kept in" in error
    directory, n_sent = tmp_path / "m.run", len(service.sent)
    assert {path.name for path in (directory / "results").iterdir()} == {f"job_{k}.raw.npz" for k in range(n_sent)}
    assert "evs" in " ".join(np.load(directory / "results" / "job_0.raw.npz").files)


def test_a_run_of_another_format_names_both(model, tmp_path, qff):
    directory = tmp_path / "run"
    assert submit.main([str(model), "--out", str(directory), "--backend", "aer", "--preset", "quick"]) == 0
    plan = directory / "run.json"
    plan.write_text(plan.read_text().replace('"format": 5', '"format": 4'))
    message = qff("calibrate", model, "--from", directory, "--out", tmp_path / "x.json", code=2)[1]
    assert "is a run of format 4; this version reads format 5" in message


def test_tokens_do_not_come_through(command, tmp_path, capsys, qff, monkeypatch, service):
    def unreachable(_, identity):
        raise ConnectionError(f"GET /jobs/{identity} with {SECRET}")

    monkeypatch.setattr(service, "job", unreachable)
    _, error = qff(*command, code=2)
    assert "could not be read" in error
    assert SECRET not in error
    # Being out of reach is no failure: the jobs are still known, and nothing is sent again.
    run = load_run(tmp_path / "m.run")
    assert all(run.state(job) for job in run.jobs)
    assert collect.main([str(tmp_path / "m.run")]) == 3
    shown = capsys.readouterr()
    assert SECRET not in shown.out + shown.err
