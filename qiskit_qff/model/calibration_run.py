"""A calibration in jobs that outlives the process that started it: nothing is paid twice, and no paid job is lost.

A run is a directory. ``run.json`` is the plan and never changes; ``model.json`` is a copy of the model;
``journal.jsonl`` holds the state of every job; ``results/job_K.npz`` what it measured. A job is entered in the journal
before it is sent, and its id before the next one is sent: a job whose id was lost is found by its tag. A job that
failed is sent again by the next call. No token is ever written. ``qff calibrate`` and the scripts in ``hardware/`` are
two doors to it.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from qiskit.primitives import StatevectorEstimator

from qiskit_qff.durable import SUFFIX, Journal, atomic_file, read_arrays, read_journal, read_json, write_atomically
from qiskit_qff.errors import BackendError, ConfigError
from qiskit_qff.evaluators.backends import NOISELESS, Device, check_noiseless, device_evaluator, find_device
from qiskit_qff.evaluators.ibm_account import client_errors, connect, opened_mode, redact
from qiskit_qff.evaluators.mitigation import find_preset
from qiskit_qff.evaluators.primitive import PrimitiveEvaluator, read_row, sets_per_job
from qiskit_qff.evaluators.protocol import ANYWHERE, Cost, Evaluation, Place, Request, TimingModel
from qiskit_qff.evaluators.strategies.operator import assemble_operator, operator_requests
from qiskit_qff.evaluators.tiling import joint_rows
from qiskit_qff.evaluators.z_strings import RESULT_ARRAYS
from qiskit_qff.model.calibrated_operator import CalibratedOperator, Provenance
from qiskit_qff.model.calibration import calibrated
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.quantum_cost import place_registers, two_qubit_depth
from qiskit_qff.model.species_model import RegisterKey

MOST_SETS = 300
"""Most joint circuits times parameter sets of a job."""
FORMAT = 5
"""Version of the run directory; older ones hold other results."""
_LOST = {"ERROR", "CANCELLED"}
"""States from which a job does not come back."""

Say = Callable[[str], None]


class JobFailedError(BackendError):
    """A job that failed or was cancelled on the server: it has no result and never will."""


# --- the plan ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """What is measured and how."""

    backend: str
    shots: int
    """Executions per state."""
    mitigation: str
    """Preset of error mitigation."""
    dynamical_decoupling: bool
    mode: str
    """``job``, ``batch`` or ``session``; local simulations ignore it."""
    seed: int | None = None
    """Seed of a local simulation; by default every run has noise of its own."""


@dataclass(frozen=True)
class PlannedJob:
    """Some joint circuits; each row has the requests of :func:`operator_plan` that share one, side by side."""

    index: int
    rows: tuple[tuple[int, ...], ...]
    circuits: int
    """Joint circuits times parameter sets."""


class Plan(BaseModel):
    """What ``run.json`` holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: int
    """Version of the run directory."""
    run_id: str
    """Tag of all its jobs on the server."""
    model_sha256: str
    settings: Settings
    date: str
    """When the run was planned."""
    places: tuple[tuple[RegisterKey, Place], ...]
    """Qubits of each register, with their error rates at that time."""
    jobs: tuple[PlannedJob, ...]


@dataclass(frozen=True)
class Run:
    """A planned calibration in its directory."""

    directory: Path
    plan: Plan
    field: ForceField
    """The model that is calibrated."""

    @property
    def jobs(self) -> tuple[PlannedJob, ...]:
        """All jobs."""
        return self.plan.jobs

    @cached_property
    def requests(self) -> list[Request]:
        """What has to be measured, and where."""
        return operator_plan(self.field, dict(self.plan.places))

    def rows(self, job: PlannedJob) -> list[list[Request]]:
        """The joint circuits of a job."""
        return [[self.requests[index] for index in row] for row in job.rows]

    def tag(self, job: PlannedJob) -> str:
        """Tag under which the server knows a job."""
        return f"{self.plan.run_id}-{job.index}"

    def result_path(self, job: PlannedJob) -> Path:
        """File of a job's result."""
        return self.directory / "results" / f"job_{job.index}.npz"

    def state(self, job: PlannedJob) -> str | None:
        """The server's id of a job; empty if it may have been sent and None if it has to be sent."""
        found = read_journal(self.directory / "journal.jsonl").get(f"job {job.index}")
        return None if found is None else str(found)

    def enter(self, job: PlannedJob, state: str | None) -> None:
        """Note the state of a job; on disk when this returns."""
        with closing(Journal(self.directory / "journal.jsonl")) as journal:
            journal.enter(f"job {job.index}", state)


def operator_plan(field: ForceField, places: Mapping[RegisterKey, Place]) -> list[Request]:
    """What has to be measured to know M of every register, register by register."""
    return [
        replace(request, register=number, place=places[key])
        for number, (key, register) in enumerate(field.registers.items())
        for request in operator_requests(register.bound_program())
    ]


def plan_jobs(field: ForceField, settings: Settings, places: Mapping[RegisterKey, Place]) -> tuple[PlannedJob, ...]:
    """Distribute what has to be measured over jobs of a limited number of circuits and executions."""
    most_sets, requests = sets_per_job(settings.shots, most=MOST_SETS), operator_plan(field, places)
    jobs = [PlannedJob(0, (), 0)]
    for row in joint_rows(requests):
        size = max(len(requests[index].parameters) for index in row)
        if jobs[-1].rows and jobs[-1].circuits + size > most_sets:
            jobs.append(PlannedJob(len(jobs), (), 0))
        last = jobs.pop()
        jobs.append(PlannedJob(last.index, (*last.rows, tuple(row)), last.circuits + size))
    return tuple(jobs)


def calibration_cost(field: ForceField, settings: Settings) -> tuple[dict[str, float], str]:
    """What measuring M of every register takes: jobs, circuits, shots and seconds, and the same in words."""
    preset = find_preset(settings.mitigation)
    device, evaluator, timing = None, PrimitiveEvaluator(StatevectorEstimator()), TimingModel()
    if settings.backend in NOISELESS:
        check_noiseless(
            settings.backend, mitigation=settings.mitigation, dynamical_decoupling=settings.dynamical_decoupling
        )
    else:
        device = find_device(settings.backend, n_qubits=field.n_qubits)
        timing = device.timing(preset)
        evaluator = _evaluator(settings, device, np.random.default_rng(0))
    jobs = plan_jobs(field, settings, place_registers(field, device))
    circuits = sum(job.circuits for job in jobs)
    shots = circuits * settings.shots
    seconds = timing.seconds(shots=shots, jobs=len(jobs))
    words = (
        f"{len(jobs)} jobs on {settings.backend}: {circuits} circuits, {shots} shots, two-qubit depth "
        f"{two_qubit_depth(field, evaluator)}, {preset.description}"
        f"{', dynamical decoupling' if settings.dynamical_decoupling else ''}; on a device about {seconds:.0f} s of "
        "processor time (estimate; the provider's accounting decides)"
    )
    return {"n_jobs": len(jobs), "n_circuits": circuits, "n_shots": shots, "qpu_seconds": seconds}, words


def planned_run(model: Path, directory: Path, settings: Settings, say: Say) -> Run:
    """The run in the directory, if it is the same, or a new one, with what it costs."""
    content, copy = model.read_bytes(), directory / "model.json"
    if (directory / "run.json").exists():
        run = load_run(directory)
        if run.plan.settings != settings or content != copy.read_bytes():
            what = "another model" if run.plan.settings == settings else "other settings"
            raise ConfigError(f"{directory} holds a run of {what}; choose another --run, or import it with --from.")
        say(f"going on with the run in {directory}")
        return run
    field = ForceField.load(model)
    _, cost = calibration_cost(field, settings)  # refuses, before anything is written, what the device can't do
    beginnings = {"model.json", "results"}  # of a run whose planning was interrupted
    others = [path.name for path in directory.glob("*") if path.name not in beginnings and path.suffix != SUFFIX]
    if others or (copy.exists() and copy.read_bytes() != content):
        raise ConfigError(f"{directory} holds other files; choose a new directory for the run.")
    places = place_registers(field, find_device(settings.backend, n_qubits=field.n_qubits))
    (directory / "results").mkdir(parents=True, exist_ok=True)
    write_atomically(copy, content)
    plan = Plan(
        format=FORMAT,
        run_id=f"qff-{uuid.uuid4().hex[:12]}",
        model_sha256=hashlib.sha256(content).hexdigest(),
        settings=settings,
        date=datetime.now(tz=UTC).isoformat(timespec="seconds"),
        places=tuple(places.items()),
        jobs=plan_jobs(field, settings, places),
    )
    write_atomically(directory / "run.json", plan.model_dump_json(indent=1))
    say(cost)
    return load_run(directory)


def load_run(directory: Path) -> Run:
    """Read a run."""
    path, model = directory / "run.json", directory / "model.json"
    if not path.exists():
        raise ConfigError(
            f"{directory} holds no run (run.json is missing); start one with qff calibrate or hardware.submit MODEL."
        )
    try:
        content = read_json(path)
        if (found := content.get("format")) != FORMAT:
            raise ConfigError(
                f"{directory} is a run of format {found}; this version reads format {FORMAT}. Use the version of "
                "qiskit_qff that wrote it."
            )
        plan = Plan.model_validate(content)
        if not model.exists() or hashlib.sha256(model.read_bytes()).hexdigest() != plan.model_sha256:
            raise ConfigError(f"{model} is not the model that was submitted; restore the original.")
        run = Run(directory, plan, ForceField.load(model))
        for job in run.jobs:
            run.rows(job)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{path} is damaged ({place}: {first['msg']}); restore it from a copy.") from error
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path} is damaged ({error}); restore it from a copy.") from error
    return run


# --- where jobs run ---------------------------------------------------------------------------------------------------


def _evaluator(settings: Settings, device: Device, rng: np.random.Generator, mode: Any = None) -> PrimitiveEvaluator:
    """Evaluator with the settings of a run."""
    return device_evaluator(
        device,
        shots=settings.shots,
        preset=find_preset(settings.mitigation),
        dynamical_decoupling=settings.dynamical_decoupling,
        mode=mode,
        rng=rng,
    )


class LocalServer:
    """A simulated device: a job runs when its result is waited for, with a seed of its own."""

    def __init__(self, run: Run) -> None:
        """Serve a run."""
        self._run = run

    def submit(self, job: PlannedJob) -> str:
        """Give a job its id."""
        return f"local-{self._run.tag(job)}"

    def find(self, _: PlannedJob) -> str | None:
        """Nothing: a simulated job costs nothing, and is simply submitted again."""
        return None

    def result(self, _: str, job: PlannedJob, *, wait: bool) -> list[Evaluation] | None:
        """Answers to the requests of all rows."""
        if not wait:
            return None
        settings = self._run.plan.settings
        name = self._run.tag(job) if settings.seed is None else f"{settings.seed}-{job.index}"
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]))
        evaluators: dict[tuple[int, ...], PrimitiveEvaluator] = {}
        answers = []
        for request in (one for row in self._run.rows(job) for one in row):
            size, line = int(request.task.circuit.num_qubits), request.place.line
            place = (size,) if line is None else line.qubits
            if place not in evaluators:
                evaluators[place] = _evaluator(settings, find_device(settings.backend, n_qubits=size, line=line), rng)
            try:
                answers += evaluators[place].evaluate([replace(request, place=ANYWHERE)])
            except BackendError as error:
                raise JobFailedError(f"Job {job.index + 1} failed: {error}") from error
        return answers


class RuntimeServer:
    """IBM Quantum, through the runtime client and its saved account."""

    def __init__(self, run: Run, device: Device | None = None, *, mode: Any = None) -> None:
        """Connect; a device is needed for submitting only."""
        self._run, self._device, self._mode = run, device, mode
        self._service = connect(f"The calibration in {run.directory}")

    def submit(self, job: PlannedJob) -> str:
        """Start a job under its tag and return its id at once."""
        assert self._device is not None
        settings = self._run.plan.settings
        evaluator = _evaluator(settings, self._device, np.random.default_rng(0), self._mode)
        options: Any = evaluator.estimator.options
        options.environment.job_tags = [self._run.plan.run_id, self._run.tag(job)]
        with client_errors(f"Job {job.index + 1} could not be sent"):
            return str(evaluator.submit_joint(self._run.rows(job), shots=settings.shots).job_id())

    def find(self, job: PlannedJob) -> str | None:
        """Id of a job that the service has under the job's tag, failed ones aside."""
        with client_errors("The service could not be asked for jobs"):
            found = self._service.jobs(job_tags=[self._run.tag(job)], limit=10)
            return next((str(item.job_id()) for item in found if str(item.status()) not in _LOST), None)

    def result(self, job_id: str, job: PlannedJob, *, wait: bool) -> list[Evaluation] | None:
        """Answers to the requests of all rows; None if the job is not finished and need not be waited for."""
        with client_errors(f"Job {job_id} (number {job.index + 1}) could not be read"):
            remote = self._service.job(job_id)
            if wait:
                remote.wait_for_final_state()
            status = str(remote.status())
            if status in _LOST:
                reason = redact(str(remote.error_message() or "no reason given"))
                raise JobFailedError(f"Job {job_id} (number {job.index + 1}) ended as {status}: {reason}")
            if status != "DONE":
                return None
            results = remote.result()
        # As they came, before they are read: they are paid, and the service does not keep them for ever.
        raw = self._run.result_path(job).with_suffix(".raw.npz")
        with atomic_file(raw) as stream:
            found = (
                (f"{n}_{name}", getattr(one.data, name, None))
                for n, one in enumerate(results)
                for name in RESULT_ARRAYS
            )
            arrays = {name: np.asarray(values) for name, values in found if values is not None}
            np.savez(stream, **arrays)  # type: ignore[arg-type]
        shots = self._run.plan.settings.shots
        try:
            return [
                Evaluation(values, covariances, Cost(len(values), len(values) * shots))
                for row, item in zip(self._run.rows(job), results, strict=True)
                for values, covariances in read_row(item.data, row, shots)
            ]
        except BackendError as error:
            raise BackendError(
                f"{error} The job is done and paid: its raw results are kept in {raw}; to measure these registers "
                "otherwise, start a new run with another --mitigation."
            ) from error


# --- sending and fetching ---------------------------------------------------------------------------------------------


def calibrate_by_jobs(model: Path, directory: Path, settings: Settings, say: Say) -> tuple[ForceField, Run]:
    """The calibrated model, every operator measured in jobs, and the run; goes on where an earlier call left off."""
    run = planned_run(model, directory, settings, say)
    submit_missing(run, say)
    missing = fetch(run, say, wait=True)
    if missing:
        numbers = ", ".join(str(index + 1) for index in missing)
        raise BackendError(
            f"jobs {numbers} of {len(run.jobs)} gave no result. The others are kept in {directory}: the same command "
            f"sends the missing ones again, and 'qff calibrate --from {directory}' takes the registers that are "
            "complete. (Without --run nothing is kept.)"
        )
    return calibrated_model(directory), run


def submit_missing(run: Run, say: Say) -> None:
    """Send every job that was not sent yet or has failed, in the Session or Batch that the settings ask for."""
    settings = run.plan.settings
    device = find_device(settings.backend, n_qubits=run.field.n_qubits)
    with opened_mode(device.backend, "job" if device.is_local else settings.mode) as mode:
        server = LocalServer(run) if device.is_local else RuntimeServer(run, device, mode=mode)
        for job in run.jobs:
            state = run.state(job)
            if state or run.result_path(job).exists():
                continue
            found = None if state is None else server.find(job)  # its id may have been lost
            if found is None:
                run.enter(job, "")
                found = server.submit(job)
            run.enter(job, found)
            say(f"job {job.index + 1}/{len(run.jobs)}: {job.circuits} circuits, id {found}")
    if not device.is_local:
        say(f"job ids are in {run.directory}; the same command goes on after an interruption")


def fetch(run: Run, say: Say, *, wait: bool) -> list[int]:
    """Store the result of every job that is finished; returns the jobs that are missing."""
    server = RuntimeServer(run) if run.plan.settings.backend.startswith("ibm_") else LocalServer(run)
    missing = []
    for job in run.jobs:
        if run.result_path(job).exists():
            continue
        state, answers = run.state(job), None
        try:
            answers = server.result(state, job, wait=wait) if state else None
        except BackendError as error:
            say(f"job {job.index + 1}: {error}")
            if isinstance(error, JobFailedError):
                run.enter(job, None)
        if answers is None:
            missing.append(job.index)
            continue
        with atomic_file(run.result_path(job)) as stream:
            arrays = {f"values_{number}": one.values for number, one in enumerate(answers)}
            arrays |= {f"covariances_{number}": one.covariances for number, one in enumerate(answers)}
            np.savez(stream, **arrays)  # type: ignore[arg-type]
        say(f"job {job.index + 1}/{len(run.jobs)} collected")
    return missing


# --- the calibrated model ---------------------------------------------------------------------------------------------


def calibrated_model(directory: Path, *, field: ForceField | None = None) -> ForceField:
    """The given model or the one of a run, with what was measured; registers that are not complete keep the exact M."""
    run = load_run(directory)
    chosen = run.field if field is None else field
    ours, theirs = chosen.registers, run.field.registers
    same = ours.keys() == theirs.keys() and all(
        one.ansatz == theirs[key].ansatz
        and np.array_equal(one.theta, theirs[key].theta)
        and np.array_equal(one.weights, theirs[key].weights)
        for key, one in ours.items()
    )
    if not same:
        raise ConfigError(
            f"The model has other circuits than the one that was measured in {directory}; "
            f"leave MODEL out, or give the model that was submitted ({directory / 'model.json'} is a copy)."
        )
    measured = measured_operators(run)
    if not measured:
        raise ConfigError(
            f"{directory}: no register is complete; fetch the results of its jobs first: "
            f"python -m hardware.collect {directory}"
        )
    return chosen.with_registers({key: replace(ours[key], measured=one) for key, one in measured.items()})


def measured_operators(run: Run) -> dict[RegisterKey, CalibratedOperator]:
    """Measured operators of all registers whose jobs are complete."""
    answers: list[list[Evaluation]] = [[] for _ in run.field.registers]
    ids: list[dict[str, None]] = [{} for _ in run.field.registers]
    for job in run.jobs:
        if not run.result_path(job).exists():
            continue
        job_id, members = run.state(job), [index for row in job.rows for index in row]
        for index, answer in zip(members, _answers(run, job, len(members)), strict=True):
            number = run.requests[index].register
            answers[number].append(answer)
            if job_id:
                ids[number][job_id] = None
    wanted = Counter(request.register for request in run.requests)
    settings, places, operators = run.plan.settings, dict(run.plan.places), {}
    for number, (key, register) in enumerate(run.field.registers.items()):
        if len(answers[number]) != wanted[number]:
            continue
        line = places[key].line
        origin = Provenance(
            backend=settings.backend,
            shots=settings.shots,
            mitigation=settings.mitigation,
            date=run.plan.date,
            seed=settings.seed,
            dynamical_decoupling=settings.dynamical_decoupling,
            qubits=() if line is None else line.qubits,
            two_qubit_errors=() if line is None else line.two_qubit_errors,
            readout_errors=() if line is None else line.readout_errors,
            job_ids=tuple(ids[number]),
        )
        operator = assemble_operator(register.bound_program(), answers[number])
        operators[key] = calibrated(operator, origin)
    return operators


def _answers(run: Run, job: PlannedJob, count: int) -> list[Evaluation]:
    """What a job found, request by request."""
    path = run.result_path(job)
    try:
        arrays = read_arrays(path)
        pairs = [(arrays[f"values_{number}"], arrays[f"covariances_{number}"]) for number in range(count)]
    except (ValueError, KeyError) as error:
        raise ConfigError(f"{path} is damaged ({error}); delete it and collect again, the server has it.") from error
    shots = run.plan.settings.shots
    return [Evaluation(*pair, Cost(len(pair[0]), len(pair[0]) * shots)) for pair in pairs]
