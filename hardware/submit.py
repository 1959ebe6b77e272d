"""Submit the calibration of a model: plan it, say what it costs, send its jobs, leave.

python -m hardware.submit MODEL --out RUN --backend fake_torino --preset standard [--dry-run]
python -m hardware.submit --out RUN          # go on after a crash: sends what was not sent yet
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hardware.cost import describe_cost, estimate
from hardware.run_directory import Run, Settings, create_run, load_run
from hardware.servers import RuntimeServer, Server, open_server
from qiskit_qff.errors import ConfigError, QFFError
from qiskit_qff.evaluators.backends import Device, find_device
from qiskit_qff.evaluators.mitigation import find_preset
from qiskit_qff.model.force_field import ForceField

PRESETS = Path(__file__).with_name("presets.toml")
"""Named settings."""


def read_settings(preset: str, backend: str) -> Settings:
    """Settings of a preset for a backend.

    Args:
        preset: Name in presets.toml.
        backend: Name of the backend.

    Raises:
        ConfigError: If there is no such preset.
    """
    presets = tomllib.loads(PRESETS.read_text(encoding="utf-8"))
    if preset not in presets:
        raise ConfigError(f"Unknown preset '{preset}'; {PRESETS.name} has {', '.join(presets)}.")
    return Settings(backend=backend, **presets[preset])


def snapshot_of(device: Device) -> dict[str, Any]:
    """What the device's calibration says of the chosen qubits, with the date."""
    line = device.line
    return {
        "backend": device.name,
        "date": datetime.now(tz=UTC).isoformat(timespec="seconds"),
        "qubits": list(line.qubits) if line else [],
        "two_qubit_errors": list(line.two_qubit_errors) if line else [],
        "readout_errors": list(line.readout_errors) if line else [],
    }


def submit_missing(run: Run, server: Server, say: Callable[[str], None]) -> None:
    """Send every job that was not sent yet; jobs that a crash left without an id are found by their tag.

    Args:
        run: The run.
        server: Where jobs go.
        say: Receives messages.
    """
    known = run.submitted()
    for job in run.jobs:
        if job.index in known:
            continue
        # The first attempt of this job writes a mark before it sends: without one there is nothing to look for.
        found = server.find(job) if (run.directory / f"attempt_{job.index}").exists() else None
        if found is None:
            (run.directory / f"attempt_{job.index}").touch()
            found = server.submit(job)
        run.record({"event": "submitted", "job": job.index, "id": found})
        say(f"job {job.index + 1}/{len(run.jobs)}: {job.circuits} circuits, id {found}")


@contextmanager
def opened_mode(settings: Settings, device: Device) -> Iterator[Any]:
    """Session or Batch of a real device; None otherwise."""
    if device.is_local or settings.mode == "job":
        yield None
        return
    import qiskit_ibm_runtime

    open_mode: Any = qiskit_ibm_runtime.Session if settings.mode == "session" else qiskit_ibm_runtime.Batch
    with open_mode(backend=device.backend) as mode:
        yield mode


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", help="model.json; left out when a run is resumed")
    parser.add_argument("--out", type=Path, required=True, help="directory of the run")
    parser.add_argument("--backend", default="fake_torino")
    parser.add_argument("--preset", default="standard")
    parser.add_argument("--shots", type=int)
    parser.add_argument("--mitigation")
    parser.add_argument("--dry-run", action="store_true", help="say what it would cost, send and write nothing")
    options = parser.parse_args(arguments)
    try:
        _submit(options)
    except QFFError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _say(text: str) -> None:
    """Print at once, so that a log shows how far a killed run came."""
    print(text, flush=True)


def _submit(options: argparse.Namespace) -> None:
    """Plan or resume a run and send its jobs."""
    if options.model is None:
        run = load_run(options.out)
        device = find_device(run.settings.backend, n_qubits=run.field().n_qubits)
    else:
        settings = read_settings(options.preset, options.backend)
        changes = {key: getattr(options, key) for key in ("shots", "mitigation") if getattr(options, key) is not None}
        settings = replace(settings, **changes)
        find_preset(settings.mitigation)
        field = ForceField.load(options.model)
        device = find_device(settings.backend, n_qubits=field.n_qubits)
        _say(describe_cost(estimate(field, settings, device)))
        if options.dry_run:
            return
        run = create_run(options.out, options.model, settings, snapshot_of(device))
    with opened_mode(run.settings, device) as mode:
        submit_missing(run, open_server(run, lambda: RuntimeServer(run, device, mode=mode)), _say)
    _say(f"All {len(run.jobs)} jobs are submitted. Collect them with: python -m hardware.collect {options.out}")


if __name__ == "__main__":
    sys.exit(main())
