"""``qff calibrate`` with jobs: one run directory, resumed, never paid twice."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import qiskit_ibm_runtime
from qiskit.quantum_info import QubitSparsePauliList
from qiskit_aer import AerSimulator
from qiskit_ibm_runtime import Batch
from qiskit_ibm_runtime.executor_estimator import Estimator
from qiskit_ibm_runtime.fake_provider import FakeTorino
from qiskit_ibm_runtime.noise_learner_v3 import NoiseLearnerV3
from qiskit_ibm_runtime.results.noise_learner_v3 import NoiseLearnerV3Result, NoiseLearnerV3Results

from qiskit_qff.errors import BackendError
from qiskit_qff.evaluators import jobs, primitive, protocol
from qiskit_qff.evaluators.jobs import JobStore
from qiskit_qff.evaluators.tiling import CutOutBackend, place
from qiskit_qff.model.force_field import ForceField

SECRET = "planted-token-0123456789"


@pytest.fixture
def model(trained):
    return trained / "run" / "model.json"


def assert_near_exact(field, *, scale=0.05):
    for register in field.registers.values():
        error = np.sqrt(np.mean((register.measured.matrix - register.circuit_matrix()) ** 2))
        assert 0 < error < scale * np.abs(register.weights).max()


def test_provenance_of_a_fake_device(model, tmp_path, qff):
    out = tmp_path / "measured.json"
    options = ["--backend", "fake_torino", "--shots", 600, "--mitigation", "readout", "--dynamical-decoupling"]
    result, words = qff("calibrate", model, *options, "--out", out)
    for word in (f"{result['n_circuits']} circuits", "TREX", "dynamical decoupling", "processor time"):
        assert word in words
    assert result["n_shots"] == 600 * result["n_circuits"]
    assert [path.name for path in tmp_path.iterdir()] == ["measured.json"]
    field = ForceField.load(out)
    assert_near_exact(field, scale=0.1)
    torino, used = FakeTorino().target, []
    for register in field.registers.values():
        origin = register.measured.provenance
        assert (origin.backend, origin.mitigation, origin.dynamical_decoupling) == ("fake_torino", "readout", True)
        assert len(origin.qubits) == register.n_qubits
        assert origin.readout_errors == pytest.approx([torino["measure"][q,].error for q in origin.qubits])
        assert len(origin.two_qubit_errors) == register.n_qubits - 1
        used += origin.qubits
    assert len(set(used)) == len(used)


def test_a_run_is_resumed_and_belongs_to_one_model_and_its_settings(model, tmp_path, qff):
    directory = tmp_path / "run"
    command = ["calibrate", model, "--backend", "aer", "--shots", 400, "--run", directory, "--out"]
    qff(*command, tmp_path / "one.json")
    qff(*command, tmp_path / "two.json")
    assert (tmp_path / "one.json").read_text() == (tmp_path / "two.json").read_text()
    assert_near_exact(ForceField.load(tmp_path / "one.json"), scale=0.2)
    refused = tmp_path / "x.json"
    assert "was begun with mitigation" in qff(*command, refused, "--mitigation", "readout", code=2)[1]
    key, register = next(iter(ForceField.load(model).registers.items()))
    turned = replace(register, theta=register.theta + 0.1, balanced=False)
    ForceField.load(model).with_registers({key: turned}).save(tmp_path / "other.json")
    other = [tmp_path / "other.json" if word is model else word for word in command]
    assert "other circuits or angles" in qff(*other, refused, code=2)[1]
    (directory / "job_0.npz").write_text("PK")
    assert "damaged" in qff(*command, refused, code=2)[1]
    (directory / "run.json").write_text("{}")
    assert "earlier version" in qff(*command, refused, code=2)[1]
    assert not refused.exists()


class RemoteJob:
    """What the service tells of a job that a simulator ran."""

    def __init__(self, identity, tags, job):
        self.identity, self.tags, self.job, self.lost = identity, tags, job, ""

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
    plan, left = "open", 600

    def instances(self):
        return [{"crn": "crn:other", "plan": "premium"}, {"crn": "crn:mine", "plan": self.plan}]

    def active_instance(self):
        return "crn:mine"

    def usage(self):
        return {"usage_remaining_seconds": self.left, "usage_consumed_seconds": 600 - self.left}

    def backends(self):
        torino = FakeTorino()
        backend = AerSimulator.from_backend(CutOutBackend(torino, place(torino.target, [3])[0]))
        backend.name, backend._instance = "ibm_tiny", None
        return [backend]

    def jobs(self, *, job_tags, limit):
        return [job for job in self.sent if set(job_tags) <= set(job.tags)][:limit]

    def job(self, identity):
        return next(job for job in self.sent if job.identity == identity)


@pytest.fixture
def service(monkeypatch):
    """The client's service and its estimator end in a simulator; a job holds a few circuits."""
    Service.sent, Service.plan, Service.left = [], "open", 600
    send = Estimator.run

    def recorded(self, pubs, *, precision, dry_run=False):
        if dry_run:
            return SimpleNamespace(usage_estimation={"quantum_seconds": 7.0})
        assert self.options.max_execution_time > 120
        tags, job = list(self.options.environment.job_tags), send(self, pubs, precision=precision)
        Service.sent.append(RemoteJob(f"remote-{len(Service.sent)}", tags, job))
        return Service.sent[-1]

    monkeypatch.setattr(Estimator, "run", recorded)
    monkeypatch.setattr(qiskit_ibm_runtime, "QiskitRuntimeService", Service)
    monkeypatch.setattr(protocol, "MOST_SETS", 6)
    monkeypatch.setenv("QISKIT_IBM_TOKEN", SECRET)
    return Service


@pytest.fixture
def calibrate(model, tmp_path, service, qff):  # noqa: ARG001 (the service takes the jobs)
    return partial(qff, "calibrate", model, "--backend", "ibm_tiny", "--shots", 1000, "--out", tmp_path / "m.json")


class Learner(NoiseLearnerV3):
    """The client's noise learner, which checks and encodes its layers, up to the request that it would send."""

    def __init__(self, mode, options):
        self.options, self._mode, self._backend = options, None, mode
        self._service = SimpleNamespace(_run=self.send)

    def send(self, *, program_id, options, inputs, **_):
        assert (program_id, options["max_execution_time"] > 120, bool(inputs)) == ("noise-learner", True, True)
        strings = [QubitSparsePauliList.from_label("X" * layer.operation.num_qubits) for layer in self.layers]
        found = [NoiseLearnerV3Result.from_generators([one], [1e-3]) for one in strings]
        job = SimpleNamespace(result=lambda: NoiseLearnerV3Results(found))
        Service.sent.append(RemoteJob(f"learned-{len(Service.sent)}", list(options["job_tags"]), job))
        return Service.sent[-1]

    def run(self, instructions):
        self.layers = list(instructions)
        return super().run(self.layers)


@pytest.mark.parametrize("mitigation", ["pea", "pec"])
def test_noise_is_learned_on_the_device_once_in_a_run(calibrate, tmp_path, monkeypatch, service, mitigation):
    monkeypatch.setattr(qiskit_ibm_runtime.noise_learner_v3, "NoiseLearnerV3", Learner)
    (tmp_path / "options.yaml").write_text("noise_learner: {num_randomizations: 2}")
    options = ["--mitigation", mitigation, "--options", tmp_path / "options.yaml"]
    plan, words = calibrate(*options, "--dry-run")
    assert not service.sent
    assert plan["learning"]["shots"] % (9 * 6 * 2 * 128) == 0 < plan["learning"]["seconds"] < plan["qpu_seconds"]
    assert "learn the noise model" in words
    service.left = plan["learning"]["seconds"] + 1  # not enough for what comes after it
    assert "your instance has" in calibrate(*options, code=2)[1]
    assert not service.sent
    service.left, collect = 600, JobStore._collect
    monkeypatch.setattr(JobStore, "_collect", killed)
    calibrate(*options, code=130)
    assert [job.identity for job in service.sent] == ["learned-0"]
    monkeypatch.setattr(JobStore, "_collect", collect)
    service.left = plan["qpu_seconds"] - plan["learning"]["seconds"] + 1  # what was learned is paid
    with monkeypatch.context() as patch:
        patch.setattr(Estimator, "run", killed)  # of the next job nothing but its place in the journal is left
        calibrate(*options, code=130)
    result, words = calibrate(*options)
    assert [job.identity for job in service.sent if job.identity.startswith("learned")] == ["learned-0"]
    origin = [register.measured.provenance for register in ForceField.load(tmp_path / "m.json").registers.values()]
    assert {one.noise_model for one in origin} == {"learned by NoiseLearnerV3, job learned-0"}
    assert "job learned-0" in words
    assert result["n_shots"] == plan["n_shots"]
    assert (tmp_path / "m.run" / "noise_0.npz").exists()


def killed(*_, **__):
    raise KeyboardInterrupt


def test_ibm_device_is_resumed_without_paying_twice(calibrate, tmp_path, monkeypatch, service):
    collect = JobStore._collect
    monkeypatch.setattr(JobStore, "_collect", killed)
    calibrate(code=130)
    directory, n_sent = tmp_path / "m.run", len(service.sent)
    assert n_sent > 1
    # The ids were on disk before anything was waited for.
    journal = directory / "journal.jsonl"
    assert all(job.identity in journal.read_text() for job in service.sent)
    journal.write_text(journal.read_text()[:-5])
    monkeypatch.setattr(JobStore, "_collect", collect)
    service.sent[0].lost = "ERROR"
    error = calibrate(code=2)[1]
    assert "ended as ERROR" in error
    assert SECRET not in error
    assert len(service.sent) == n_sent
    result, _ = calibrate()
    assert len(service.sent) == n_sent + 1
    assert result["run"] == str(directory)
    field = ForceField.load(tmp_path / "m.json")
    assert_near_exact(field, scale=0.2)
    measured_by = {identity for one in field.registers.values() for identity in one.measured.provenance.job_ids}
    assert measured_by == {job.identity for job in service.sent[1:]}
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and SECRET in path.read_text(errors="ignore")]


def test_a_crash_between_sending_and_noting_pays_nothing_twice(calibrate, tmp_path, monkeypatch, service):
    enter = jobs.Journal.enter

    def crashing(self, step, state):
        if state == "remote-1":
            raise KeyboardInterrupt
        enter(self, step, state)

    monkeypatch.setattr(jobs.Journal, "enter", crashing)
    calibrate(code=130)
    assert len(service.sent) == 2
    monkeypatch.setattr(jobs.Journal, "enter", enter)
    calibrate()
    field = ForceField.load(tmp_path / "m.json")
    measured_by = {identity for one in field.registers.values() for identity in one.measured.provenance.job_ids}
    assert measured_by == {job.identity for job in service.sent}


def test_a_paid_result_that_cannot_be_read_is_kept_as_it_came(calibrate, tmp_path, monkeypatch, service):
    def unreadable(*_, **__):
        raise BackendError("values are not finite.")

    monkeypatch.setattr(primitive, "read_strings", unreadable)
    assert "values are not finite." in calibrate(code=2)[1]
    assert service.sent
    assert "0_evs" in np.load(tmp_path / "m.run" / "job_0.npz").files


def test_tokens_do_not_come_through(calibrate, monkeypatch, service):
    def unreachable(_):
        raise ConnectionError(f"GET /jobs with {SECRET}")

    wait = RemoteJob.wait_for_final_state
    monkeypatch.setattr(RemoteJob, "wait_for_final_state", unreachable)
    _, error = calibrate(code=2)
    assert "could not be read" in error
    assert SECRET not in error
    # Being out of reach is no failure: the jobs are still known, and nothing is sent again.
    n_sent = len(service.sent)
    monkeypatch.setattr(RemoteJob, "wait_for_final_state", wait)
    calibrate()
    assert len(service.sent) == n_sent


def test_what_the_plan_does_not_pay_is_not_sent(calibrate, service):
    service.left = 3
    error = calibrate(code=2)[1]
    assert "your instance has 3 s left (597 s are used)" in error
    assert not service.sent


def test_jobs_are_sent_as_the_plan_allows(calibrate, tmp_path, monkeypatch, service):
    plan, words = calibrate("--dry-run")
    assert (plan["mode"], "server_seconds" in plan) == ("job", False)
    assert "job mode (the open plan)" in words
    service.plan, opened = "premium", []

    class Recorded(Batch):
        def __init__(self, backend):
            opened.append(backend.name)
            super().__init__(backend)

    monkeypatch.setattr(qiskit_ibm_runtime, "Batch", Recorded)
    plan, words = calibrate("--dry-run")
    assert plan["mode"] == "batch"
    assert plan["server_seconds"] == 7.0 * plan["n_circuits"] / 6
    assert not opened
    assert not service.sent
    calibrate()
    assert opened == ["ibm_tiny"]
    assert_near_exact(ForceField.load(tmp_path / "m.json"), scale=0.2)
