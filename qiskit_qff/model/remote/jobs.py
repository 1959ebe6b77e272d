"""Send the jobs of a calibration and fetch their results; go on after a crash at any point.

A job is marked before it is sent, and its id is on disk before the next one is sent: a job whose id was lost is found
by its tag, and nothing is paid twice. A job that failed is written down as such and sent again only when asked to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from qiskit_qff.durable import write_atomically
from qiskit_qff.errors import BackendError
from qiskit_qff.evaluators.backends import Device, find_device
from qiskit_qff.evaluators.ibm_account import opened_mode
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.placement import place_registers
from qiskit_qff.model.remote.run_directory import Run, save_result
from qiskit_qff.model.remote.servers import JobFailedError, RuntimeServer, Server, open_server


def snapshot_of(device: Device, field: ForceField) -> dict[str, Any]:
    """Where each register is measured, and what the device's calibration says of its qubits, with the date.

    Args:
        device: The device.
        field: The model.

    Raises:
        BackendError: If the device has too few qubits.
    """
    tiles = [
        {
            "number": number,
            "register": register,
            "round": tile.round,
            "qubits": [] if tile.line is None else list(tile.line.qubits),
            "two_qubit_errors": [] if tile.line is None else list(tile.line.two_qubit_errors),
            "readout_errors": [] if tile.line is None else list(tile.line.readout_errors),
            "score": 0.0 if tile.line is None else tile.line.score,
        }
        for (number, register), tile in place_registers(field, device).items()
    ]
    return {
        "backend": device.name,
        "date": datetime.now(tz=UTC).isoformat(timespec="seconds"),
        "tiles": tiles,
    }


def device_of(run: Run) -> Device:
    """The device of a run.

    Args:
        run: The run.

    Raises:
        BackendError: If it cannot be reached.
    """
    return find_device(run.settings.backend, n_qubits=run.field().n_qubits)


@contextmanager
def sending_server(run: Run) -> Iterator[Server]:
    """The server of a run, ready to take jobs, in the Session or Batch that the settings ask for.

    Args:
        run: The run.

    Raises:
        BackendError: If there is no account or no connection.
    """
    device = device_of(run)
    with opened_mode(device.backend, "job" if device.is_local else run.settings.mode) as mode:
        yield open_server(run, lambda: RuntimeServer(run, device, mode=mode))


def submit_missing(run: Run, server: Server, say: Callable[[str], None]) -> None:
    """Send every job that was not sent yet or has failed; jobs without an id are found by their tag.

    Args:
        run: The run.
        server: Where jobs go.
        say: Receives messages.

    Raises:
        BackendError: If a job is refused; those before it are sent and known.
    """
    known = run.submitted()
    for job in run.jobs:
        if job.index in known or run.result_path(job).exists():
            continue
        # The first attempt of this job writes a mark before it sends: without one there is nothing to look for.
        found = server.find(job) if (run.directory / f"attempt_{job.index}").exists() else None
        if found is None:
            write_atomically(run.directory / f"attempt_{job.index}", b"")
            found = server.submit(job)
        run.record({"event": "submitted", "job": job.index, "id": found})
        say(f"job {job.index + 1}/{len(run.jobs)}: {job.circuits} circuits, id {found}")


def fetch(run: Run, server: Server, say: Callable[[str], None], *, wait: bool) -> list[int]:
    """Store the result of every job that is finished; returns the jobs that are missing.

    Args:
        run: The run.
        server: Where the jobs are.
        say: Receives messages.
        wait: Whether to wait for jobs that still run.
    """
    known, missing = run.submitted(), []
    for job in run.jobs:
        if run.result_path(job).exists():
            continue
        try:
            data = server.result(known[job.index], job, wait=wait) if job.index in known else None
        except BackendError as error:
            say(f"job {job.index + 1}: {error}")
            if isinstance(error, JobFailedError):
                run.record({"event": "failed", "job": job.index, "id": known[job.index]})
            data = None
        if data is None:
            missing.append(job.index)
            continue
        save_result(run.result_path(job), data)
        say(f"job {job.index + 1}/{len(run.jobs)} collected")
    return missing
