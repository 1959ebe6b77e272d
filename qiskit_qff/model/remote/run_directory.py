"""A calibration run on disk: the plan, a journal of every job, the results, and the model that they make.

``run.json`` is the plan and never changes; ``model.json`` a copy of the model; ``journal.jsonl`` gets one line per
event, forced to disk before the next step; ``results/job_K.npz`` holds what was measured. No token is ever written.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from qiskit_qff.durable import SUFFIX, atomic_file, parse_json, read_arrays, read_json, sync_directory, write_atomically
from qiskit_qff.errors import ConfigError
from qiskit_qff.evaluators.backends import Device
from qiskit_qff.evaluators.cutout import QubitLine
from qiskit_qff.evaluators.primitive import JobLimits
from qiskit_qff.evaluators.protocol import Cost, Evaluation, Request
from qiskit_qff.evaluators.strategies.operator import assemble_operator, operator_requests
from qiskit_qff.evaluators.z_strings import RESULT_ARRAYS, read_strings, string_set
from qiskit_qff.model.calibrated_operator import CalibratedOperator, Provenance
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.placement import Tile, place_registers
from qiskit_qff.model.species_model import RegisterKey

FORMAT = 3
"""Version of the run directory; older ones measured other circuits."""
_EVENT = {"event", "job", "id"}
"""What every line of the journal says."""


@dataclass(frozen=True)
class Settings:
    """What is measured and how."""

    backend: str
    """Name of the backend."""
    shots: int
    """Executions per state."""
    mitigation: str
    """Preset of error mitigation."""
    dynamical_decoupling: bool
    """Whether idle qubits are decoupled."""
    mode: str
    """``job``, ``batch`` or ``session``; local simulations ignore it."""
    seed: int | None = None
    """Seed of a local simulation; by default every run has noise of its own."""


@dataclass(frozen=True)
class PlannedJob:
    """One job: some of the requests of all registers."""

    index: int
    """Number of the job in the run."""
    rows: tuple[tuple[int, ...], ...]
    """For every joint circuit the requests of :func:`operator_plan` that it answers, side by side."""
    circuits: int
    """Joint circuits times parameter sets."""

    @property
    def requests(self) -> tuple[int, ...]:
        """All requests in the order of the rows."""
        return tuple(index for row in self.rows for index in row)


@dataclass(frozen=True)
class Run:
    """A planned calibration."""

    directory: Path
    """Where it lives."""
    run_id: str
    """Tag of its jobs on the server."""
    settings: Settings
    """What is measured."""
    jobs: tuple[PlannedJob, ...]
    """All jobs."""
    snapshot: Mapping[str, Any]
    """Device calibration when the run was planned: date, and for each register its qubits and their error rates."""

    def tag(self, job: PlannedJob) -> str:
        """Tag under which the server knows a job."""
        return f"{self.run_id}-{job.index}"

    def tiles(self) -> dict[RegisterKey, Tile]:
        """Where each register is measured."""
        return snapshot_tiles(self.snapshot)

    def field(self) -> ForceField:
        """The model that is calibrated."""
        return ForceField.load(self.directory / "model.json")

    def record(self, event: Mapping[str, Any]) -> None:
        """Append an event to the journal and force it to disk."""
        path = self.directory / "journal.jsonl"
        is_new = not path.exists()
        # A crash may have cut the last line short: the next one must not grow out of it.
        begin = "\n" if path.exists() and path.read_bytes()[-1:] not in {b"", b"\n"} else ""
        with path.open("a", encoding="utf-8") as stream:
            stream.write(begin + json.dumps(dict(event)) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        if is_new:
            sync_directory(self.directory)

    def was_tried(self, job: PlannedJob) -> bool:
        """Whether somebody began to send a job, so that the server may have it though its id was lost."""
        return any(event["event"] == "sending" and event["job"] == job.index for event in self._events())

    def submitted(self) -> dict[int, str]:
        """Server's id of every job that was submitted and has not failed, by index."""
        known: dict[int, str] = {}
        for event in self._events():
            if event["event"] == "submitted":
                known[event["job"]] = event["id"]
            elif event["event"] == "failed" and known.get(event["job"]) == event["id"]:
                del known[event["job"]]
        return known

    def _events(self) -> Iterator[dict[str, Any]]:
        """All events, in order; a line without its end was never written."""
        path = self.directory / "journal.jsonl"
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        for line in lines:
            with suppress(ValueError):
                event = parse_json(line)
                if isinstance(event, dict) and event.keys() >= _EVENT and isinstance(event["job"], int):
                    yield event

    def result_path(self, job: PlannedJob) -> Path:
        """File of a job's result."""
        return self.directory / "results" / f"job_{job.index}.npz"


def operator_plan(field: ForceField) -> list[tuple[RegisterKey, Request]]:
    """What has to be measured to know M of every register, register by register."""
    return [
        (key, request)
        for key, register in field.registers.items()
        for request in operator_requests(register.bound_program())
    ]


def job_requests(run: Run, job: PlannedJob) -> list[tuple[QubitLine | None, Request]]:
    """The requests of one job, each with the qubits of its register."""
    plan, tiles = operator_plan(run.field()), run.tiles()
    try:
        return [(tiles[plan[index][0]].line, plan[index][1]) for index in job.requests]
    except (IndexError, TypeError, KeyError) as error:
        raise ConfigError(
            f"job {job.index} asks for what the model has not ({error}); restore run.json, or start a new run."
        ) from error


def plan_jobs(
    field: ForceField, settings: Settings, tiles: Mapping[RegisterKey, Tile], *, sets_per_job: int = 300
) -> tuple[PlannedJob, ...]:
    """Distribute what has to be measured over jobs of a limited number of circuits and executions."""
    sets_per_job = min(sets_per_job, JobLimits().sets_per_job(settings.shots))
    plan = operator_plan(field)
    rows: dict[tuple[int, int], list[int]] = {}
    seen: Counter[RegisterKey] = Counter()
    for index, (key, _) in enumerate(plan):
        rows.setdefault((tiles[key].round, seen[key]), []).append(index)
        seen[key] += 1
    jobs: list[PlannedJob] = []
    members: list[tuple[int, ...]] = []
    used = 0
    for row in rows.values():
        size = max(len(plan[index][1].parameters) for index in row)
        if members and used + size > sets_per_job:
            jobs.append(PlannedJob(len(jobs), tuple(members), used))
            members, used = [], 0
        members.append(tuple(row))
        used += size
    return (*jobs, PlannedJob(len(jobs), tuple(members), used))


def snapshot_of(device: Device, field: ForceField) -> dict[str, Any]:
    """Where each register is measured, and what the device's calibration says of its qubits, with the date."""
    tiles = [
        {"number": number, "register": register, "round": tile.round, **_line_entry(tile.line)}
        for (number, register), tile in place_registers(field, device).items()
    ]
    return {"backend": device.name, "date": datetime.now(tz=UTC).isoformat(timespec="seconds"), "tiles": tiles}


def _line_entry(line: QubitLine | None) -> dict[str, Any]:
    """Qubits and their error rates; empty on simulators without noise."""
    return asdict(QubitLine((), (), (), 0.0) if line is None else line)


def snapshot_tiles(snapshot: Mapping[str, Any]) -> dict[RegisterKey, Tile]:
    """Where each register is measured, from what was written down when the run was planned."""
    tiles = {}
    for entry in snapshot["tiles"]:
        bonds, readouts = tuple(entry["two_qubit_errors"]), tuple(entry["readout_errors"])
        line = QubitLine(tuple(entry["qubits"]), bonds, readouts, entry["score"]) if entry["qubits"] else None
        tiles[int(entry["number"]), int(entry["register"])] = Tile(int(entry["round"]), line)
    return tiles


def create_run(directory: Path, model: Path, settings: Settings, snapshot: Mapping[str, Any]) -> Run:
    """Plan a run and write it down."""
    if (directory / "run.json").exists():
        raise ConfigError(f"{directory} already holds a run; resume it without a model, or choose another directory.")
    _check_free(directory, model)
    jobs = plan_jobs(ForceField.load(model), settings, snapshot_tiles(snapshot))
    (directory / "results").mkdir(parents=True, exist_ok=True)
    write_atomically(directory / "model.json", model.read_bytes())
    run = Run(directory, f"qff-{uuid.uuid4().hex[:12]}", settings, jobs, snapshot)
    plan = {
        "format": FORMAT,
        "run_id": run.run_id,
        "model_sha256": hashlib.sha256((directory / "model.json").read_bytes()).hexdigest(),
        "settings": asdict(settings),
        "snapshot": dict(snapshot),
        "jobs": [asdict(job) for job in jobs],
    }
    write_atomically(directory / "run.json", json.dumps(plan, indent=1).encode())
    return run


def _check_free(directory: Path, model: Path) -> None:
    """Refuse a directory that holds anything but the beginnings of the same run."""
    content = (
        {path.name for path in directory.iterdir() if not path.name.endswith(SUFFIX)} if directory.is_dir() else set()
    )
    copied = directory / "model.json"
    if content - {"model.json", "results"} or (copied.exists() and copied.read_bytes() != model.read_bytes()):
        raise ConfigError(f"{directory} holds other files; choose a new directory for the run.")


def load_run(directory: Path) -> Run:
    """Read a run."""
    path = directory / "run.json"
    if not path.exists():
        raise ConfigError(
            f"{directory} holds no run (run.json is missing); start one with qff calibrate or hardware.submit MODEL."
        )
    try:
        plan = read_json(path)
        if plan["format"] != FORMAT:
            raise ConfigError(
                f"{path} has format {plan['format']}; this version reads {FORMAT}. Use the version of qiskit_qff that "
                "wrote it."
            )
        jobs = tuple(PlannedJob(**{**job, "rows": tuple(map(tuple, job["rows"]))}) for job in plan["jobs"])
        run = Run(directory, plan["run_id"], Settings(**plan["settings"]), jobs, plan["snapshot"])
        digest = plan["model_sha256"]
        run.tiles()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"{path} is damaged ({type(error).__name__}: {error}); restore it from a copy, or start a new run."
        ) from error
    model = directory / "model.json"
    if not model.exists() or hashlib.sha256(model.read_bytes()).hexdigest() != digest:
        raise ConfigError(f"{model} is not the model that was submitted; restore the original.")
    return run


def save_result(path: Path, data: list[Any]) -> None:
    """Write the data of all PUBs of a job: values, errors, and what the mitigation adds."""
    arrays = {
        f"{pub}_{name}": np.asarray(getattr(item, name))
        for pub, item in enumerate(data)
        for name in RESULT_ARRAYS
        if hasattr(item, name)
    }
    with atomic_file(path) as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def load_result(path: Path) -> list[Any]:
    """Read back what :func:`save_result` wrote."""
    items: dict[int, dict[str, Any]] = {}
    try:
        for label, array in read_arrays(path).items():
            pub, name = label.split("_", 1)
            items.setdefault(int(pub), {})[name] = array
    except ValueError as error:
        raise ConfigError(f"{path} is damaged ({error}); delete it and collect again, the server has it.") from error
    return [SimpleNamespace(**items[pub]) for pub in sorted(items)]


def calibrated_model(directory: Path, *, field: ForceField | None = None) -> ForceField:
    """The model of a run, with what was measured in it; registers that are not complete keep the exact M.

    Args:
        field: The model to calibrate; the one that was submitted by default.
    """
    run = load_run(directory)
    submitted = run.field()
    chosen = submitted if field is None else field
    _check_same_circuits(chosen, submitted, directory)
    measured = measured_operators(run)
    if not measured:
        raise ConfigError(
            f"{directory}: no register is complete; fetch the results of its jobs first: "
            f"python -m hardware.collect {directory}"
        )
    registers = chosen.registers
    return chosen.with_registers({key: replace(registers[key], measured=one) for key, one in measured.items()})


def measured_operators(run: Run) -> dict[RegisterKey, CalibratedOperator]:
    """Measured operators of all registers whose jobs are complete."""
    plan, registers, ids = operator_plan(run.field()), run.field().registers, run.submitted()
    lines = {key: tile.line for key, tile in run.tiles().items()}
    answers: dict[RegisterKey, list[Evaluation]] = {key: [] for key in registers}
    jobs: dict[RegisterKey, list[str]] = {key: [] for key in registers}
    for job in run.jobs:
        if not run.result_path(job).exists():
            continue
        for key, answer in zip((plan[index][0] for index in job.requests), _answers(run, job), strict=True):
            answers[key].append(answer)
            if job.index in ids and ids[job.index] not in jobs[key]:
                jobs[key].append(ids[job.index])
    wanted = Counter(key for key, _ in plan)
    return {
        key: CalibratedOperator.of(
            assemble_operator(registers[key].bound_program(), found), _provenance(run, lines[key], jobs[key])
        )
        for key, found in answers.items()
        if len(found) == wanted[key]
    }


def _answers(run: Run, job: PlannedJob) -> list[Evaluation]:
    """What a job found, request by request."""
    data, requests = load_result(run.result_path(job)), job_requests(run, job)
    if len(data) != len(requests):
        raise ConfigError(
            f"{run.result_path(job)}: {len(data)} answers to {len(requests)} requests of {run.directory}/run.json; one "
            "of them was edited: restore it from a copy, or start a new run."
        )
    answers, shots = [], run.settings.shots
    for (_, request), item in zip(requests, data, strict=True):
        values, covariances = read_strings(item, string_set(request.task.readouts), shots)
        answers.append(Evaluation(values, covariances, Cost(len(values), len(values) * shots)))
    return answers


def _provenance(run: Run, line: QubitLine | None, job_ids: list[str]) -> Provenance:
    """Where the measurement of a register comes from."""
    settings = run.settings
    return Provenance(
        backend=str(run.snapshot["backend"]),
        shots=settings.shots,
        mitigation=settings.mitigation,
        date=str(run.snapshot["date"]),
        seed=settings.seed,
        dynamical_decoupling=settings.dynamical_decoupling,
        qubits=() if line is None else line.qubits,
        two_qubit_errors=() if line is None else line.two_qubit_errors,
        readout_errors=() if line is None else line.readout_errors,
        job_ids=tuple(job_ids),
    )


def _check_same_circuits(field: ForceField, submitted: ForceField, directory: Path) -> None:
    """Refuse a model whose M is another than the one that was measured."""
    ours, theirs = field.registers, submitted.registers
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
