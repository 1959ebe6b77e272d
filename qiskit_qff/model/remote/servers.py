"""Where jobs run: IBM Quantum, or a directory that plays the server for simulated devices.

Both keep a job under the tag that it was submitted with. A client that crashed between submitting a job and writing
down its id finds the job again by its tag, so nothing is paid twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np

from qiskit_qff.durable import write_atomically
from qiskit_qff.errors import BackendError
from qiskit_qff.evaluators.backends import Device, device_evaluator, find_device
from qiskit_qff.evaluators.cutout import QubitLine
from qiskit_qff.evaluators.ibm_account import client_errors, connect, redact
from qiskit_qff.evaluators.mitigation import find_preset
from qiskit_qff.evaluators.primitive import PrimitiveEvaluator, split_joint
from qiskit_qff.evaluators.protocol import Request
from qiskit_qff.model.remote.run_directory import (
    PlannedJob,
    Run,
    job_requests,
    load_result,
    save_result,
)

_LOST = {"ERROR", "CANCELLED"}
"""States from which a job does not come back."""


class JobFailedError(BackendError):
    """A job that failed or was cancelled on the server: it has no result and never will."""


class Server(Protocol):
    """Something that runs jobs while the client may be gone."""

    def submit(self, job: PlannedJob) -> str:
        """Start a job and return its id at once."""
        ...  # pragma: no cover

    def find(self, job: PlannedJob) -> str | None:
        """Id of a job that was submitted before, if any."""
        ...  # pragma: no cover

    def result(self, job_id: str, job: PlannedJob, *, wait: bool) -> list[Any] | None:
        """Data of all PUBs; None if the job is not finished and need not be waited for."""
        ...  # pragma: no cover


def evaluator_of(run: Run, device: Device, rng: np.random.Generator, mode: Any = None) -> PrimitiveEvaluator:
    """Evaluator with the settings of a run."""
    return device_evaluator(
        device,
        shots=run.settings.shots,
        preset=find_preset(run.settings.mitigation),
        dynamical_decoupling=run.settings.dynamical_decoupling,
        mode=mode,
        rng=rng,
    )


class LocalServer:
    """Simulated device: submitting files the job in a directory, collecting runs it there, once."""

    def __init__(self, run: Run) -> None:
        """Open the directory of the server."""
        self._run = run
        self._directory = run.directory / "server"
        self._directory.mkdir(exist_ok=True)

    def submit(self, job: PlannedJob) -> str:
        """File a job; every call counts as paid."""
        tag = self._run.tag(job)
        content = {"tag": tag, "paid": self.paid(job) + 1}
        write_atomically(self._directory / f"{tag}.json", json.dumps(content).encode())
        return f"local-{tag}"

    def paid(self, job: PlannedJob) -> int:
        """How often a job was submitted."""
        path = self._directory / f"{self._run.tag(job)}.json"
        return int(json.loads(path.read_text(encoding="utf-8"))["paid"]) if path.exists() else 0

    def find(self, job: PlannedJob) -> str | None:
        """Id of a job that was filed before."""
        return f"local-{self._run.tag(job)}" if self.paid(job) else None

    def result(self, job_id: str, job: PlannedJob, *, wait: bool) -> list[Any] | None:
        """Run a filed job, unless its result is there."""
        if not self.paid(job) or job_id != f"local-{self._run.tag(job)}":
            raise JobFailedError(f"The local server knows no job '{job_id}'; submit it again.")
        path = self._directory / f"{self._run.tag(job)}.npz"
        if not path.exists():
            if not wait:
                return None
            save_result(path, self._simulate(job))
        return load_result(path)

    def _simulate(self, job: PlannedJob) -> list[Any]:
        """Run a job on the simulated device, with a seed that belongs to the job."""
        run = self._run.settings
        chosen = run.seed
        name = self._run.tag(job) if chosen is None else f"{chosen}-{job.index}"
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]))
        evaluators: dict[tuple[int, ...], PrimitiveEvaluator] = {}
        data = []
        for line, request in job_requests(self._run, job):
            place = (request.task.circuit.num_qubits,) if line is None else line.qubits
            if place not in evaluators:
                size = int(request.task.circuit.num_qubits)
                device = find_device(self._run.settings.backend, n_qubits=size, line=line)
                evaluators[place] = evaluator_of(self._run, device, rng)
            try:
                with client_errors(f"Job {job.index + 1} failed"):
                    (item,) = evaluators[place].submit_joint([[request]], [[None]], shots=run.shots).result()
            except BackendError as error:
                raise JobFailedError(str(error)) from error
            data.append(item.data)
        return data


class RuntimeServer:
    """IBM Quantum, through the runtime client and its saved account."""

    def __init__(self, run: Run, device: Device | None = None, *, mode: Any = None) -> None:
        """Connect; a device is needed for submitting only."""
        self._run = run
        self._device = device
        self._mode = mode
        self._service = connect(f"The calibration in {run.directory}")

    def submit(self, job: PlannedJob) -> str:
        """Send a job."""
        if self._device is None:
            raise BackendError("This connection only collects; submit with qff calibrate or hardware.submit.")
        evaluator = evaluator_of(self._run, self._device, np.random.default_rng(0), self._mode)
        options: Any = evaluator.estimator.options
        options.environment.job_tags = [self._run.run_id, self._run.tag(job)]
        rows, lines = self._rows(job)
        with client_errors(f"Job {job.index + 1} could not be sent"):
            return str(evaluator.submit_joint(rows, lines, shots=self._run.settings.shots).job_id())

    def _rows(self, job: PlannedJob) -> tuple[list[list[Request]], list[list[QubitLine | None]]]:
        """Requests and qubits of every joint circuit of a job."""
        found = iter(job_requests(self._run, job))
        rows: list[list[Request]] = []
        lines: list[list[QubitLine | None]] = []
        for row in job.rows:
            members = [next(found) for _ in row]
            rows.append([request for _, request in members])
            lines.append([line for line, _ in members])
        return rows, lines

    def find(self, job: PlannedJob) -> str | None:
        """Id of a job that the service has under the job's tag, failed ones aside."""
        with client_errors("The service could not be asked for jobs"):
            found = self._service.jobs(job_tags=[self._run.tag(job)], limit=10)
            alive = [item for item in found if str(item.status()) not in _LOST]
            return str(alive[0].job_id()) if alive else None

    def result(self, job_id: str, job: PlannedJob, *, wait: bool) -> list[Any] | None:
        """Result of a job."""
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
            data = [SimpleNamespace(**dict(item.data.items())) for item in remote.result()]
        rows, _ = self._rows(job)
        return [part for row, item in zip(rows, data, strict=True) for part in split_joint(item, row)]


def open_server(run: Run, connect: Callable[[], Server]) -> Server:
    """The server of a run: local for simulated devices, else what ``connect`` returns."""
    return connect() if run.settings.backend.startswith("ibm_") else LocalServer(run)
