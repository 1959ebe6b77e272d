"""The jobs behind ``qff calibrate``: planned and written down, sent, waited for, and resumed after a crash."""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qiskit_qff.cli.output import Output
from qiskit_qff.durable import locked_directory
from qiskit_qff.errors import BackendError, ConfigError

if TYPE_CHECKING:
    from qiskit_qff.evaluators.backends import Device
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.model.remote.run_directory import PlannedJob, Run, Settings


def measure_in_jobs(
    model: Path,
    output: Output,
    *,
    backend: str,
    shots: int,
    mitigation: str,
    decoupling: bool,
    design: str,
    seed: int,
    directory: Path | None,
) -> tuple["ForceField", dict[str, Any]]:
    """Measure every operator of a model in jobs; goes on where an earlier call left off.

    Args:
        model: Model file.
        output: Receives notes.
        backend: A device, or what stands in for one.
        shots: Executions per state.
        mitigation: Preset of error mitigation.
        decoupling: Whether idle qubits are decoupled.
        design: States that M is measured by; auto for the fewest.
        seed: Of a local simulation.
        directory: Where jobs and results are kept; None to keep them no longer than this call takes.

    Returns:
        The calibrated model, and what it took for the JSON object.

    Raises:
        ConfigError: If the backend cannot do what is asked, or the directory holds another run.
        BackendError: If the backend cannot be reached, or a job failed; what was measured is kept.
    """
    from qiskit_qff.evaluators.backends import find_device
    from qiskit_qff.model.remote.jobs import fetch, sending_server, submit_missing
    from qiskit_qff.model.remote.results import assemble, calibrated_model, write_operators
    from qiskit_qff.model.remote.run_directory import Settings

    is_local = not backend.startswith("ibm_")
    settings = Settings(backend, shots, mitigation, decoupling, design, "batch", seed if is_local else None)
    with _directory(directory) as place:
        run = _planned(model, place, settings, output)
        device = find_device(backend, n_qubits=run.field().n_qubits)
        output.note(price(run.jobs, run.settings, device)[0])
        with sending_server(run) as server:
            submit_missing(run, server, output.note)
        if not is_local:
            output.note(f"job ids are in {place}; the same command goes on after an interruption")
        missing = fetch(run, server, output.note, wait=True)
        write_operators(run, assemble(run))
        if missing:
            raise BackendError(_what_is_left(run, missing, kept=directory))
        circuits = sum(job.circuits for job in run.jobs)
        spent = {"n_circuits": circuits, "n_settings": circuits, "n_shots": circuits * shots, "run": directory}
        return calibrated_model(place), spent


@contextmanager
def _directory(kept: Path | None) -> Iterator[Path]:
    """The directory of the run: the given one, or one that is gone afterwards."""
    if kept is not None:
        with locked_directory(kept, option="--run"):
            yield kept
        return
    with tempfile.TemporaryDirectory(prefix="qff-calibrate-") as name:
        yield Path(name)


def _planned(model: Path, directory: Path, settings: "Settings", output: Output) -> "Run":
    """The run in the directory, if it is the same, or a new one.

    Raises:
        ConfigError: If the directory holds another run, or the backend cannot do what is asked.
    """
    from qiskit_qff.evaluators.backends import find_device
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.model.remote.jobs import snapshot_of
    from qiskit_qff.model.remote.run_directory import create_run, load_run

    field = ForceField.load(model)
    if (directory / "run.json").exists():
        run = load_run(directory)
        same_model = _digest(model) == _digest(directory / "model.json")
        if run.settings != settings or not same_model:
            what = "other settings" if same_model else "another model"
            raise ConfigError(f"{directory} holds a run of {what}; choose another --run, or import it with --from.")
        output.note(f"going on with the run in {directory}")
        return run
    device = find_device(settings.backend, n_qubits=field.n_qubits)
    _check_abilities(device, settings)
    return create_run(directory, model, settings, snapshot_of(device, field))


def _check_abilities(device: "Device", settings: "Settings") -> None:
    """Refuse, before anything is written or sent, what the device cannot do.

    Raises:
        ConfigError: If the preset is unknown, or the device cannot do what is asked.
    """
    import numpy as np

    from qiskit_qff.evaluators.backends import device_evaluator
    from qiskit_qff.evaluators.mitigation import find_preset

    device_evaluator(
        device,
        shots=settings.shots,
        preset=find_preset(settings.mitigation),
        dynamical_decoupling=settings.dynamical_decoupling,
        rng=np.random.default_rng(0),
    )


def price(jobs: "Sequence[PlannedJob]", settings: "Settings", device: "Device | None") -> tuple[str, dict[str, Any]]:
    """What planned jobs take, told before anything is sent.

    Args:
        jobs: The jobs.
        settings: What is measured.
        device: Where; None for simulators that no job is sent to.

    Returns:
        One line in words, and the numbers for the JSON object.
    """
    from qiskit_qff.evaluators.mitigation import find_preset
    from qiskit_qff.evaluators.timing import TimingModel

    preset = find_preset(settings.mitigation)
    circuits = sum(job.circuits for job in jobs)
    shots = circuits * settings.shots
    timing = TimingModel(mitigation_factor=preset.time_factor) if device is None else device.timing(preset)
    seconds = timing.seconds(shots=shots, jobs=len(jobs))
    words = (
        f"{len(jobs)} jobs on {settings.backend}: {circuits} circuits, {shots} shots, {preset.description}"
        f"{', dynamical decoupling' if settings.dynamical_decoupling else ''}; "
        f"on a device about {seconds:.0f} s of processor time (estimate)"
    )
    return words, {"n_jobs": len(jobs), "n_circuits": circuits, "n_shots": shots, "qpu_seconds": seconds}


def rehearse(model: Path, settings: "Settings", output: Output) -> None:
    """Check backend and settings and say what a calibration takes; send and write nothing.

    Args:
        model: Model file.
        settings: What would be measured.
        output: Where to say it.

    Raises:
        ConfigError: If the backend cannot do what is asked.
        BackendError: If the backend cannot be reached.
    """
    import numpy as np

    from qiskit_qff.evaluators.backends import NOISELESS, build_evaluator, find_device
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.model.placement import place_registers
    from qiskit_qff.model.remote.run_directory import plan_jobs

    field = ForceField.load(model)
    if settings.backend in NOISELESS:
        build_evaluator(
            settings.backend,
            n_qubits=field.n_qubits,
            shots=settings.shots,
            mitigation=settings.mitigation,
            dynamical_decoupling=settings.dynamical_decoupling,
            rng=np.random.default_rng(0),
        )
        device = None
    else:
        device = find_device(settings.backend, n_qubits=field.n_qubits)
        _check_abilities(device, settings)
    words, numbers = price(plan_jobs(field, settings, place_registers(field, device)), settings, device)
    output.say(f"would send {words}; nothing was sent or written")
    output.finish(numbers)


def _what_is_left(run: "Run", missing: list[int], *, kept: Path | None) -> str:
    """What to do when jobs are missing."""
    numbers = ", ".join(str(index + 1) for index in missing)
    if kept is None:
        return f"jobs {numbers} of {len(run.jobs)} gave no result; nothing was kept (--run DIR would keep the others)."
    return (
        f"jobs {numbers} of {len(run.jobs)} gave no result. The others are kept in {kept}: the same command sends the "
        f"missing ones again, and 'qff calibrate --from {kept}' takes the registers that are complete."
    )


def _digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
