"""Calibrate by jobs: plan them, send them, fetch their results, and go on after a crash at any point.

A job is marked before it is sent, and its id is on disk before the next one is sent: a job whose id was lost is found
by its tag, and nothing is paid twice. A job that failed is written down as such and sent again only when asked to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from qiskit_qff.errors import BackendError, ConfigError
from qiskit_qff.evaluators.backends import Device, find_device
from qiskit_qff.evaluators.ibm_account import opened_mode
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.quantum_cost import calibration_cost
from qiskit_qff.model.remote.run_directory import (
    Run,
    Settings,
    calibrated_model,
    create_run,
    load_run,
    save_result,
    snapshot_of,
)
from qiskit_qff.model.remote.servers import JobFailedError, RuntimeServer, Server, open_server


def calibrate_by_jobs(
    model: Path, directory: Path, settings: Settings, say: Callable[[str], None]
) -> tuple[ForceField, Run]:
    """Measure every operator of a model in jobs; goes on where an earlier call left off.

    Returns:
        The calibrated model, and the run.
    """
    run = planned_run(model, directory, settings, say)
    with sending_server(run) as server:
        submit_missing(run, server, say)
    if isinstance(server, RuntimeServer):
        say(f"job ids are in {directory}; the same command goes on after an interruption")
    missing = fetch(run, server, say, wait=True)
    if missing:
        numbers = ", ".join(str(index + 1) for index in missing)
        raise BackendError(
            f"jobs {numbers} of {len(run.jobs)} gave no result. The others are kept in {directory}: the same command "
            f"sends the missing ones again, and 'qff calibrate --from {directory}' takes the registers that are "
            "complete. (Without --run nothing is kept.)"
        )
    return calibrated_model(directory), run


def planned_run(model: Path, directory: Path, settings: Settings, say: Callable[[str], None]) -> Run:
    """The run in the directory, if it is the same, or a new one, with what it costs."""
    field = ForceField.load(model)
    if (directory / "run.json").exists():
        run = load_run(directory)
        same_model = model.read_bytes() == (directory / "model.json").read_bytes()
        if run.settings != settings or not same_model:
            what = "other settings" if same_model else "another model"
            raise ConfigError(f"{directory} holds a run of {what}; choose another --run, or import it with --from.")
        say(f"going on with the run in {directory}")
        return run
    cost = calibration_cost(field, settings)  # refuses, before anything is written, what the device can't do
    device = find_device(settings.backend, n_qubits=field.n_qubits)
    run = create_run(directory, model, settings, snapshot_of(device, field))
    say(cost.in_words())
    return run


def device_of(run: Run) -> Device:
    """The device of a run."""
    return find_device(run.settings.backend, n_qubits=run.field().n_qubits)


@contextmanager
def sending_server(run: Run) -> Iterator[Server]:
    """The server of a run, ready to take jobs, in the Session or Batch that the settings ask for."""
    device = device_of(run)
    with opened_mode(device.backend, "job" if device.is_local else run.settings.mode) as mode:
        yield open_server(run, lambda: RuntimeServer(run, device, mode=mode))


def submit_missing(run: Run, server: Server, say: Callable[[str], None]) -> None:
    """Send every job that was not sent yet or has failed; jobs without an id are found by their tag."""
    known = run.submitted()
    for job in run.jobs:
        if job.index in known or run.result_path(job).exists():
            continue
        # Without a line in the journal there is nothing to look for on the server.
        found = server.find(job) if run.was_tried(job) else None
        if found is None:
            run.record({"event": "sending", "job": job.index, "id": ""})
            found = server.submit(job)
        run.record({"event": "submitted", "job": job.index, "id": found})
        say(f"job {job.index + 1}/{len(run.jobs)}: {job.circuits} circuits, id {found}")


def fetch(run: Run, server: Server, say: Callable[[str], None], *, wait: bool) -> list[int]:
    """Store the result of every job that is finished; returns the jobs that are missing."""
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
