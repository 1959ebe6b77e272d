"""``qff md``: molecular dynamics with a trained model, restartable, with a restraint to the training data."""

import hashlib
import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qiskit_qff.cli.options import (
    ForceOption,
    GradeLimitOption,
    JsonOption,
    ModelArgument,
    OutOption,
    SeedOption,
    model_file,
    with_options,
)
from qiskit_qff.cli.output import Output, check_output_directory, json_text
from qiskit_qff.durable import locked_directory, write_atomically
from qiskit_qff.errors import ConfigError, SimulationError

if TYPE_CHECKING:
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.simulation.dynamics import MDSettings, MDSummary
    from qiskit_qff.structures.frame import Frame

EXIT_EXTRAPOLATION = 3
"""Exit code of a run that ``--on-extrapolation stop`` has ended."""
SUMMARY = "md.json"
OWN_FILES = (
    *("trajectory.extxyz", "log.csv", "extrapolating.extxyz", "checkpoint.npz", "checkpoint.npz.partial"),
    *(SUMMARY, "report.html", "md.png"),  # the last one is of older versions
)
StructureArgument = Annotated[
    str, typer.Argument(metavar="STRUCTURE", help="Any structure file, 'shipped' (Li-MOF-5) or 'li6ps5cl'.")
]


@dataclass(frozen=True)
class RunOptions:
    """Options of ``qff md`` and ``qff lammps``; those that :class:`MDSettings` has are named as there."""

    temperature_k: Annotated[float, typer.Option("--temperature", help="Temperature in K.")] = 300.0
    steps: Annotated[int, typer.Option("--steps", help="Total number of time steps, restarts included.")] = 10_000
    timestep_fs: Annotated[
        float | None, typer.Option("--timestep", help="Time step in fs; default 1, or 0.5 if H is present.")
    ] = None
    ensemble: Annotated[str, typer.Option("--ensemble", help="nve, nvt or npt.")] = "nvt"
    thermostat: Annotated[
        str, typer.Option("--thermostat", help="For nvt: bussi, langevin or nose-hoover. npt has its own chains.")
    ] = "bussi"
    thermostat_time_fs: Annotated[
        float, typer.Option("--thermostat-time", help="Relaxation time of the thermostat in fs.")
    ] = 100.0
    pressure_gpa: Annotated[float, typer.Option("--pressure", help="Pressure of npt in GPa.")] = 0.0
    barostat: Annotated[str, typer.Option("--barostat", help="For npt: isotropic, or full for all cell vectors.")] = (
        "isotropic"
    )
    barostat_time_fs: Annotated[
        float, typer.Option("--barostat-time", help="Relaxation time of the barostat in fs.")
    ] = 1000.0
    frame: Annotated[int, typer.Option("--frame", help="Which frame of STRUCTURE, from 0; -1 is the last.")] = -1
    repeat: Annotated[int, typer.Option("--repeat", min=1, help="Supercell: repeats along each vector.")] = 1
    interval: Annotated[int, typer.Option("--interval", help="Steps between frames and log entries.")] = 20
    checkpoint_interval: Annotated[int, typer.Option("--checkpoint", help="Steps between checkpoints.")] = 1000
    fence: Annotated[
        bool | None,
        typer.Option(
            "--fence/--no-fence",
            help="Restraint that keeps atoms within the training data, zero inside it; default: on if the model file "
            "has the range of its training data.",
        ),
    ] = None
    seed: SeedOption = 0

    def read(self, structure: str) -> "Frame":
        """The frame of a file, or of the shipped data."""
        from qiskit_qff.structures.dataset import read_frames
        from qiskit_qff.structures.validation import ensure_sound

        frames = read_frames(structure)
        if not -len(frames) <= self.frame < len(frames):
            raise ConfigError(f"--frame {self.frame}: {structure} has {len(frames)} frames, 0 to {len(frames) - 1}.")
        ensure_sound([frames[self.frame]])
        return frames[self.frame]

    def settings(self, start: "Frame") -> "MDSettings":
        """The settings of a run that begins with a structure."""
        from qiskit_qff.simulation.dynamics import MDSettings, default_timestep

        own: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(MDSettings)}
        own["timestep_fs"] = self.timestep_fs or default_timestep(start.numbers.tolist())
        return MDSettings(**own)

    def potential(self, field: "ForceField", output: Output) -> "ForceField":
        """The force field with or without the restraint, and remarks on restraint and volume."""
        if self.ensemble == "npt" and field.stress_scale is None:
            output.note(
                "this model was fitted to energies and forces, not to stresses: trust the volume that npt ends at if "
                "the training data hold several, or train with --stress-scale"
            )
        if self.fence is False:
            return field
        if self.fence:
            field.uncertainty()  # refuses a model file that does not hold the range of its training data
        potential = field.within_walls()
        if potential is field:
            output.note(
                "no restraint: this older model file does not hold the range of its training data; train again to "
                "have one"
            )
        return potential


@with_options(RunOptions)
def md(
    model: ModelArgument,
    structure: StructureArgument,
    *,
    out: OutOption,
    options: RunOptions,
    on_extrapolation: Annotated[
        str | None,
        typer.Option(
            "--on-extrapolation",
            help="When an atom leaves the training data: warn (default), save such frames to extrapolating.extxyz, "
            f"or stop with exit code {EXIT_EXTRAPOLATION}.",
        ),
    ] = None,
    grade_limit: GradeLimitOption = None,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew even if there is a checkpoint.")] = False,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Run molecular dynamics; the same command continues a run that was killed."""
    from qiskit_qff.cli.calibrate import calibration_note
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.simulation.dynamics import run_dynamics
    from qiskit_qff.simulation.extrapolation import ExtrapolationWatch
    from qiskit_qff.simulation.recording import CHECKPOINT
    from qiskit_qff.structures.frame import species_index

    output = Output(as_json=json)
    check_output_directory(out, owned=OWN_FILES, force=force or (out / CHECKPOINT).exists())
    start = options.read(structure)
    atoms = start.to_atoms() * options.repeat
    settings = options.settings(start)
    if options.timestep_fs is None:
        step = settings.timestep_fs
        output.note(f"time step {step:g} fs ({'hydrogen is present' if step < 1 else 'no hydrogen'})")
    field = ForceField.load(model_file(model))
    potential = options.potential(field, output)
    is_fenced = potential is not field
    watch = None
    if field.posterior is not None or on_extrapolation is not None or grade_limit is not None:
        watch = ExtrapolationWatch(
            field.uncertainty(grade_limit=grade_limit), action=on_extrapolation or "warn", warn=output.note
        )
    note, calibration = calibration_note(field)
    species_index(start.numbers, potential.species, where=start.where)
    if note:
        output.note(note)
    with locked_directory(out):
        if restart:
            (out / CHECKPOINT).unlink(missing_ok=True)
        with output.progress("molecular dynamics") as advance, _stop_signals() as should_stop:
            try:
                summary = run_dynamics(
                    atoms,
                    potential,
                    settings,
                    out,
                    model_digest=hashlib.sha256(
                        model_file(model).read_bytes() + (b"fence" if is_fenced else b"")
                    ).hexdigest(),
                    progress=lambda words, done, total: advance("", done, total, detail=words),
                    should_stop=should_stop,
                    extrapolation=watch,
                )
            except SimulationError as error:
                output.note(f"qff: error: {error}")
                raise typer.Exit(1) from error
        stopped = summary.extrapolation is not None and summary.extrapolation["stopped"]
        if stopped:
            output.note(f"stopped at step {summary.steps}: outside the training data; a higher --grade-limit goes on")
        elif not summary.completed:
            output.note(f"stopped at step {summary.steps}; the same command goes on from there")
            raise KeyboardInterrupt
        _tell(summary, calibration | {"fence": is_fenced}, settings, out, output, n_atoms=len(atoms))
    if stopped:
        raise typer.Exit(EXIT_EXTRAPOLATION)


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C and SIGTERM into a request to stop, so that the current step is finished and saved."""
    received: list[int] = []
    previous = {
        number: signal.signal(number, lambda number, _frame: received.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _tell(
    summary: "MDSummary", extra: dict[str, Any], settings: "MDSettings", out: Path, output: Output, *, n_atoms: int
) -> None:
    """Write the summary and report the result."""
    result = asdict(summary) | extra | {"settings": asdict(settings)}
    write_atomically(out / SUMMARY, json_text(result))
    output.say(f"{summary.steps} steps, {summary.time_ps:g} ps of {summary.ensemble} for {n_atoms} atoms")
    output.say(f"temperature  {summary.temperature_mean_k:.1f} ± {summary.temperature_std_k:.1f} K")
    if math.isfinite(drift := summary.drift_mev_per_atom_per_ps):
        output.say(f"drift        {drift:+.3g} meV/atom/ps")
    if math.isfinite(pressure := summary.pressure_mean_gpa):
        output.say(f"pressure     {pressure:.3g} GPa")
    output.say(f"speed        {summary.ms_per_step:.2f} ms/step")
    if (counts := summary.extrapolation) is not None:
        saved = f", {counts['saved']} of them saved" if counts["saved"] else ""
        output.say(
            f"extrapolation  {counts['outside']} of {counts['checks']} graded structures outside the training data"
            f"{saved}; largest grade {counts['largest_grade']:.2f}, atom {counts['largest_grade_atom']} at step "
            f"{counts['largest_grade_step']}"
        )
    output.say(f"written      {summary.trajectory}, {summary.log}; for a page: qff report {out}")
    output.finish(result)
