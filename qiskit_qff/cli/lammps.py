"""``qff lammps``: a directory that runs a trained model with LAMMPS."""

import shlex
import sys
from dataclasses import asdict

from qiskit_qff.cli.md import RunOptions, StructureArgument
from qiskit_qff.cli.options import ForceOption, JsonOption, ModelArgument, OutOption, model_file, with_options
from qiskit_qff.cli.output import Output, check_output_directory, staged_directory


@with_options(RunOptions)
def lammps(
    model: ModelArgument,
    structure: StructureArgument,
    *,
    out: OutOption,
    options: RunOptions,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Write a LAMMPS input, data file and runner for a trained model."""
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.simulation.lammps import FILES, RUNNER, write_run

    output = Output(as_json=json)
    start = options.read(structure)
    settings = options.settings(start)
    atoms = start.to_atoms() * options.repeat
    check_output_directory(out, owned=FILES, force=force)
    field = ForceField.load(model_file(model))
    fence = options.potential(field, output) is not field
    with staged_directory(out) as staging:
        write_run(staging, field, atoms, settings, fence=fence)
    command = shlex.join([sys.executable, str(out / RUNNER)])
    output.say(f"{settings.steps} steps of {settings.ensemble} for {len(atoms)} atoms, written to {out}")
    output.say(f"run it  {command}")
    output.say("The same command goes on from the newest restart file; --fresh begins anew.")
    output.finish({
        "directory": out,
        "files": list(FILES),
        "n_atoms": len(atoms),
        "fence": fence,
        "settings": asdict(settings),
        "command": command,
    })  # fmt: skip
