"""``qff md``: molecular dynamics with a trained model; the same command goes on where a run was stopped."""

import hashlib
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qiskit_qff.cli.md_output import FIGURES, SUMMARY, finish, rehearse, tell_held
from qiskit_qff.cli.options import (
    DryRunOption,
    ForceOption,
    JsonOption,
    ModelArgument,
    OutOption,
    SeedOption,
    model_file,
)
from qiskit_qff.cli.output import Output
from qiskit_qff.cli.output_directory import check_output_directory
from qiskit_qff.cli.stresses import fitted_scale, warn_of_volume
from qiskit_qff.cli.walls import FenceOption, fenced_or_not
from qiskit_qff.durable import locked_directory
from qiskit_qff.errors import ConfigError, SimulationError

if TYPE_CHECKING:
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.simulation.calculator import Potential
    from qiskit_qff.simulation.dynamics import MDSummary
    from qiskit_qff.simulation.extrapolation import ExtrapolationWatch
    from qiskit_qff.simulation.held_bonds import HeldBonds
    from qiskit_qff.simulation.settings import MDSettings
    from qiskit_qff.structures.frame import Frame

EXIT_EXTRAPOLATION = 3
"""Exit code of a run that ``--on-extrapolation stop`` has ended."""
OWN_FILES = (
    "trajectory.extxyz",
    "trajectory.extxyz.gz",
    "log.csv",
    "extrapolating.extxyz",
    "checkpoint.npz",
    "checkpoint.npz.partial",
    *(SUMMARY, "report.html"),
    *FIGURES,
)

StructureArgument = Annotated[
    str,
    typer.Argument(metavar="STRUCTURE", help="Any structure file, 'shipped' (Li-MOF-5) or 'li6ps5cl'."),
]


def md(
    model: ModelArgument,
    structure: StructureArgument,
    *,
    out: OutOption,
    temperature: Annotated[float, typer.Option("--temperature", help="Temperature in K.")] = 300.0,
    to_temperature: Annotated[
        float | None, typer.Option("--to-temperature", help="Heat or cool linearly to this temperature in K.")
    ] = None,
    ramp_steps: Annotated[
        int | None, typer.Option("--ramp-steps", help="Steps of that ramp; then the temperature stays. Default: all.")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", help="Time steps in all, restarts included.")] = 10_000,
    timestep: Annotated[
        float | None,
        typer.Option("--timestep", help="Time step in fs; default 1, or 0.5 where H is present."),
    ] = None,
    ensemble: Annotated[str, typer.Option("--ensemble", help="nve, nvt or npt.")] = "nvt",
    thermostat: Annotated[
        str,
        typer.Option("--thermostat", help="Of nvt: bussi, langevin or nose-hoover. npt has its own chains."),
    ] = "bussi",
    thermostat_time: Annotated[
        float, typer.Option("--thermostat-time", help="Relaxation time of the thermostat in fs.")
    ] = 100.0,
    pressure: Annotated[float, typer.Option("--pressure", help="Pressure of npt in GPa.")] = 0.0,
    barostat: Annotated[
        str, typer.Option("--barostat", help="Of npt: isotropic, or full for all cell vectors.")
    ] = "isotropic",
    barostat_time: Annotated[
        float, typer.Option("--barostat-time", help="Relaxation time of the barostat in fs.")
    ] = 1000.0,
    frame: Annotated[int, typer.Option("--frame", help="Which frame of STRUCTURE, from 0; -1 is the last.")] = -1,
    repeat: Annotated[int, typer.Option("--repeat", min=1, help="Supercell: repeats along each vector.")] = 1,
    interval: Annotated[int, typer.Option("--interval", help="Steps between frames and lines of the log.")] = 20,
    checkpoint_interval: Annotated[int, typer.Option("--checkpoint", help="Steps between checkpoints.")] = 1000,
    velocities: Annotated[
        bool, typer.Option("--velocities/--no-velocities", help="Write momenta too; vibrations need them.")
    ] = True,
    keep_velocities: Annotated[
        bool,
        typer.Option("--keep-velocities", help="Start with the velocities of STRUCTURE (anneal in several runs)."),
    ] = False,
    compact: Annotated[bool, typer.Option("--compact", help="Compress the trajectory, rounded to 1e-5 Å.")] = False,
    on_extrapolation: Annotated[
        str | None,
        typer.Option(
            "--on-extrapolation",
            help="Where an atom leaves the training data: warn (default), save such frames to extrapolating.extxyz, "
            f"or stop with exit code {EXIT_EXTRAPOLATION}.",
        ),
    ] = None,
    grade_limit: Annotated[
        float | None,
        typer.Option("--grade-limit", help="Largest extrapolation grade; default 1.2 times the training data's."),
    ] = None,
    grade_interval: Annotated[int, typer.Option("--grade-interval", help="Steps between grades.")] = 10,
    fence: FenceOption = None,
    hold_bonds: Annotated[
        bool,
        typer.Option(
            "--hold-bonds",
            help="Walls that keep bonds of STRUCTURE from breaking (not those of Li, Na, K): for ions in a framework.",
        ),
    ] = False,
    seed: SeedOption = 0,
    dry_run: DryRunOption = False,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew even if there is a checkpoint.")] = False,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Run molecular dynamics; the same command goes on where a killed run left off."""
    from qiskit_qff.cli.calibration_summary import calibration_note
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.simulation.settings import MDSettings, default_timestep

    output = Output(as_json=json)
    is_ours = (out / "checkpoint.npz").exists()
    check_output_directory(out, owned=OWN_FILES, force=force or is_ours)
    start = read_structure(structure, frame)
    if keep_velocities and (start.momenta is None or not start.momenta.any()):
        raise ConfigError(f"--keep-velocities: {start.where} has none; take a frame of a run that wrote them.")
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
        ramp_steps=_ramp_steps(ramp_steps, steps, to_temperature),
        velocities=velocities,
        keep_velocities=keep_velocities,
        compact=compact,
        seed=seed,
        interval=interval,
        checkpoint_interval=checkpoint_interval,
    )
    field = ForceField.load(model_file(model))
    potential: Potential = fenced_or_not(field, fence, output)
    fence = potential is not field
    if ensemble == "npt" and start.pbc.all():
        warn_of_volume(potential, start, pressure, output, fitted=fitted_scale(field) is not None)
    held = _held(potential, start, repeat, output) if hold_bonds else None
    potential = held or potential
    watch = _watch(field, on_extrapolation, grade_limit, grade_interval, output)
    # The cell as given: its copies have the same errors, because they share one M.
    note, calibration = calibration_note(field, start)
    if dry_run:
        rehearse(potential, start, settings, out, output, repeat=repeat)
        return
    with locked_directory(out):
        identity = model_file(model).read_bytes() + (b"fence" if fence else b"") + (b"held" if held else b"")
        run = (identity, potential, start, settings, out, output)
        summary = _run(*run, watch=watch, repeat=repeat, restart=restart, note=note)
        stopped = summary.extrapolation is not None and summary.extrapolation.stopped
        if stopped:
            output.note(f"stopped at step {summary.steps}: outside the training data; a higher --grade-limit goes on")
        elif not summary.completed:
            output.note(f"stopped at step {summary.steps}; the same command goes on from there")
            raise KeyboardInterrupt
        told = calibration | {"fence": fence, "held_bonds": None}
        if held is not None:
            told["held_bonds"] = tell_held(held, summary.trajectory, output)
        finish(summary, told, settings, out, output, n_atoms=len(start.numbers) * repeat**3)
    if stopped:
        raise typer.Exit(EXIT_EXTRAPOLATION)


def _held(potential: "Potential", start: "Frame", repeat: int, output: Output) -> "HeldBonds":
    """The force field with walls on the bonds of the structure; says which these are.

    Raises:
        ConfigError: if it has none.
    """
    from qiskit_qff.simulation.held_bonds import HeldBonds

    held = HeldBonds.of(potential, start.to_atoms() * (repeat, repeat, repeat))
    output.note(f"bonds held: {', '.join(f'{count} {pair}' for pair, count in held.counts.items())}")
    return held


def _ramp_steps(given: int | None, steps: int, to_temperature: float | None) -> int:
    """Steps of the ramp: all of them unless told otherwise.

    Raises:
        ConfigError: if steps are given for no ramp.
    """
    if to_temperature is None and given is not None:
        raise ConfigError("--ramp-steps needs --to-temperature.")
    return 0 if to_temperature is None else steps if given is None else given


def _watch(
    field: "ForceField", action: str | None, limit: float | None, interval: int, output: Output
) -> "ExtrapolationWatch | None":
    """Who grades the atoms; None where the model file has no training domain and nobody asked.

    Raises:
        ConfigError: if an option is wrong, or asked of such a model.
    """
    from qiskit_qff.model.extrapolation import Grader
    from qiskit_qff.simulation.extrapolation import ExtrapolationWatch

    asked = action is not None or limit is not None
    if not asked and any(m.domain is None for m in field.models):
        return None
    grader = Grader.of(field.models, r_cut=field.cutoff, limit=limit)
    return ExtrapolationWatch(grader, action=action or "warn", interval=interval, warn=output.note)


def _run(
    model: bytes,
    potential: "Potential",
    start: "Frame",
    settings: "MDSettings",
    out: Path,
    output: Output,
    *,
    watch: "ExtrapolationWatch | None",
    repeat: int,
    restart: bool,
    note: str,
) -> "MDSummary":
    """Run, with a progress bar, until done, stopped or exploded.

    Raises:
        typer.Exit: with code 1, when the simulation exploded or lost an atom.
    """
    from qiskit_qff.simulation.dynamics import run_dynamics
    from qiskit_qff.structures.species import species_index

    species_index(start.numbers, potential.species, where=start.where)
    if note:
        output.note(note)
    atoms = start.to_atoms()
    if settings.keep_velocities and start.momenta is not None:
        atoms.set_momenta(start.momenta)  # type: ignore[no-untyped-call]
    atoms *= (repeat, repeat, repeat)
    with output.progress("molecular dynamics") as advance, _stop_signals() as should_stop:
        try:
            return run_dynamics(
                atoms,
                potential,
                settings,
                out,
                model_digest=hashlib.sha256(model).hexdigest(),
                restart=restart,
                progress=lambda words, done, total: advance("", done, total, detail=words),
                should_stop=should_stop,
                log_note=note,
                extrapolation=watch,
            )
        except SimulationError as error:
            output.note(f"qff: error: {error}")
            raise typer.Exit(1) from error


def read_structure(structure: str, index: int) -> "Frame":
    """One frame of a file, or of the shipped data.

    Raises:
        ConfigError: if the file has no such frame.
        DataError: if the file can't be read.
    """
    from qiskit_qff.structures.shipped import read_source
    from qiskit_qff.structures.validation import ensure_sound

    frames = read_source(structure)
    if not -len(frames) <= index < len(frames):
        raise ConfigError(f"--frame {index}: {structure} has {len(frames)} frames, 0 to {len(frames) - 1}.")
    ensure_sound([frames[index]])
    return frames[index]


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C and SIGTERM into a wish to stop, so that the running step is finished and saved."""
    received: list[int] = []

    def remember(number: int, _frame: Any) -> None:
        received.append(number)

    previous = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
