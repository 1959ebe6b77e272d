"""Jobs that outlive the process that started them: nothing is paid twice, and no paid result is lost.

Calibration and training ask the same questions in the same order whenever they are begun again, so jobs have numbers. A
job is entered in ``journal.jsonl`` before it is sent, and its id before the next one is sent: a job whose id was lost
is found by its tag. ``job_K.npz`` holds what came back, as it came; whoever asks again is answered from there. A job
that failed is sent again by the next process. No token is ever written.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.durable import Journal, atomic_file, read_arrays
from qiskit_qff.errors import BackendError, ConfigError
from qiskit_qff.evaluators.ibm_account import client_errors, redact
from qiskit_qff.evaluators.z_strings import RESULT_ARRAYS, Arrays

JOURNAL = "journal.jsonl"
_LOST = {"ERROR", "CANCELLED"}
"""States from which a job does not come back."""
_SAME = 1e-7
"""Largest difference in radians between angles that count as the same, computed on another machine."""

Send = Callable[[Sequence[str]], Any]
"""Starts a job with some tags and returns it at once."""
Reader = Callable[[Any], list[Arrays]]
"""Makes plain arrays of a job's results."""


def result_arrays(results: Any) -> list[Arrays]:
    """The data of every PUB as plain arrays."""
    return [
        {name: np.asarray(found) for name in RESULT_ARRAYS if (found := getattr(one.data, name, None)) is not None}
        for one in results
    ]


class JobStore:
    """The jobs of one run, in its directory; locked while it is open."""

    def __init__(self, directory: Path, settings: Mapping[str, Any]) -> None:
        """Begin, or go on with what is there; refused if that was measured with other settings."""
        if (directory / "run.json").exists():
            raise ConfigError(f"{directory} is a run of an earlier version; finish it with that, or choose another.")
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._journal = Journal(directory / JOURNAL)
        self._count = 0
        self.kept = 0
        """Jobs whose results an earlier process has left."""
        settings = json.loads(json.dumps(dict(settings)))  # as the journal gives them back: no tuples
        before = self.once("settings", lambda: settings)
        if not isinstance(before, dict):
            self.close()
            raise ConfigError(f"{directory / JOURNAL} is damaged (settings); restore it from a copy, or begin anew.")
        for name, value in settings.items():
            if before.get(name) != value:
                self.close()
                raise ConfigError(
                    f"{directory} was begun with {name} = {before.get(name)!r}, now it is {value!r}; go on with the "
                    "same settings, or choose another directory."
                )
        self._tag = str(self.once("tag", lambda: f"qff-{uuid.uuid4().hex[:12]}"))

    def close(self) -> None:
        """Close the journal, which ends the lock."""
        self._journal.close()

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """Plain data that all processes of a run share: from the journal, or made now and entered."""
        return self._journal.once(name, make)

    def has(self, ahead: int) -> bool:
        """Whether the job after so many others was sent by an earlier process."""
        name = f"job {self._count + ahead}"
        return self.is_paid(name) or self._journal.get(name) is not None

    def is_paid(self, name: str) -> bool:
        """Whether a job has come back or has an id, not only a place in the journal."""
        return self._path(name).exists() or bool(self.id_of(name))

    def _path(self, name: str) -> Path:
        return self.directory / f"{name.replace(' ', '_')}.npz"

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of all jobs so far, as the server has them."""
        return tuple(found for k in range(self._count) if (found := self.id_of(f"job {k}")))

    def id_of(self, name: str) -> str:
        """Id of a job, as the server has it."""
        return str(self._journal.get(name) or "")

    def submit(
        self, send: Send, question: Any, *, service: Any = None, name: str = "", read: Reader = result_arrays
    ) -> Callable[[], list[Arrays]]:
        """Send the next job, or find it; what is returned waits for its results.

        Args:
            question: Angles that the job is about, to recognise the job in a later process.
            service: IBM Quantum; None for a simulator, which runs the job when its results are waited for.
            name: A word and a number for a job that is not one of the numbered ones, such as ``noise 0``.
            read: Makes plain arrays of its results.
        """
        if not name:
            name, self._count = f"job {self._count}", self._count + 1
        path = self._path(name)
        if path.exists():
            stored = _read(path, question)
            self.kept += name.startswith("job ")
            return lambda: stored
        if service is None:
            return lambda: _keep(path, question, read(send(()).result()))
        tag = f"{self._tag}-{name.removeprefix('job ').replace(' ', '-')}"
        with client_errors(f"{name} could not be sent"):
            state, job = self._journal.get(name), None
            if state:
                job = service.job(state)
            elif state is not None:  # its id may have been lost
                found = service.jobs(job_tags=[tag], limit=10)
                job = next((one for one in found if str(one.status()) not in _LOST), None)
            if job is None:
                self._journal.enter(name, "")
                job = send((self._tag, tag))
            if not state:
                self._journal.enter(name, str(job.job_id()))
        return lambda: _keep(path, question, read(self._collect(job, name)))

    def _collect(self, job: Any, name: str) -> Any:
        """Results of a job that the service has."""
        with client_errors(f"{name} could not be read; begin again later, it is not sent twice"):
            job.wait_for_final_state()
            status = str(job.status())
            if status in _LOST:
                self._journal.enter(name, None)
                reason = redact(str(job.error_message() or "no reason given"))
                raise BackendError(f"{name} ended as {status}: {reason}. The same command sends it again.")
            return job.result()


def _keep(path: Path, question: FloatArray, arrays: list[Arrays]) -> list[Arrays]:
    """Write results to disk before they are read, because they are paid."""
    flat = {f"{number}_{name}": values for number, one in enumerate(arrays) for name, values in one.items()}
    with atomic_file(path) as stream:
        np.savez(stream, question=question, **flat)  # type: ignore[arg-type]
    return arrays


def _read(path: Path, question: FloatArray) -> list[Arrays]:
    """Results from disk; refused if they answer another question."""
    try:
        stored = read_arrays(path)
        asked = stored.pop("question")
        found: dict[int, dict[str, FloatArray]] = {}
        for name, values in stored.items():
            number, _, key = name.partition("_")
            found.setdefault(int(number), {})[key] = values
    except (ValueError, KeyError) as error:
        raise ConfigError(f"{path} is damaged ({error}); delete it: the job is fetched or measured again.") from error
    if asked.shape != question.shape or not np.allclose(asked, question, rtol=0.0, atol=_SAME):
        raise ConfigError(
            f"{path} is about other circuits or angles than are asked for now: the model, the data or the versions of "
            "libraries have changed. Go back to those, or choose another directory."
        )
    return [found[number] for number in sorted(found)]
