"""Jobs that outlive the process that started them: nothing is paid twice, and no paid result is lost.

Calibration and training ask the same questions in the same order whenever they are begun again, so jobs have numbers. A
job is entered in ``journal.jsonl`` before it is sent, and its id before the next one is sent: a job whose id was lost
is found by its tag. ``job_K.npz`` holds what came back, as it came; whoever asks again is answered from there. A job
that failed is sent again by the next process. No token is ever written.
"""

from __future__ import annotations

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
        before = self.once("settings", lambda: dict(settings))
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
        name = self._count + ahead
        return (self.directory / f"job_{name}.npz").exists() or self._journal.get(f"job {name}") is not None

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of all jobs so far, as the server has them."""
        return tuple(str(found) for k in range(self._count) if (found := self._journal.get(f"job {k}")))

    def submit(self, send: Send, question: FloatArray, *, service: Any = None) -> Callable[[], list[Arrays]]:
        """Send the next job, or find it; what is returned waits for its results.

        Args:
            question: Angles that the job is about, to recognise the job in a later process.
            service: IBM Quantum; None for a simulator, which runs the job when its results are waited for.
        """
        number, self._count = self._count, self._count + 1
        path = self.directory / f"job_{number}.npz"
        if path.exists():
            stored = _read(path, question)
            self.kept += 1
            return lambda: stored
        if service is None:
            return lambda: _keep(path, question, send(()).result())
        name, tag = f"job {number}", f"{self._tag}-{number}"
        with client_errors(f"Job {number + 1} could not be sent"):
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
        return lambda: self._collect(job, name, path, question)

    def _collect(self, job: Any, name: str, path: Path, question: FloatArray) -> list[Arrays]:
        """Results of a job that the service has; on disk before they are read, because they are paid."""
        with client_errors(f"{name} could not be read; begin again later, it is not sent twice"):
            job.wait_for_final_state()
            status = str(job.status())
            if status in _LOST:
                self._journal.enter(name, None)
                reason = redact(str(job.error_message() or "no reason given"))
                raise BackendError(f"{name} ended as {status}: {reason}. The same command sends it again.")
            results = job.result()
        return _keep(path, question, results)


def result_arrays(results: Any) -> list[Arrays]:
    """The data of every PUB as plain arrays."""
    return [
        {name: np.asarray(found) for name in RESULT_ARRAYS if (found := getattr(one.data, name, None)) is not None}
        for one in results
    ]


def _keep(path: Path, question: FloatArray, results: Any) -> list[Arrays]:
    """Write results to disk and return them."""
    arrays = result_arrays(results)
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
