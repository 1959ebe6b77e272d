"""``qff export``: a model as plain JSON for other programs: every element's M and how its channels are computed."""

from pathlib import Path
from typing import Annotated

import typer

from qiskit_qff.cli.options import JsonOption, ModelArgument, model_file
from qiskit_qff.cli.output import Output
from qiskit_qff.errors import ConfigError


def export(
    model: ModelArgument,
    *,
    out: Annotated[Path, typer.Option("--out", help="File to write, JSON.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    json: JsonOption = False,
) -> None:
    """Write M, channels and core repulsion as plain numbers, with the formulas; no circuit is needed to read them."""
    from qiskit_qff.model.export import FORMAT, VERSION, write_export
    from qiskit_qff.model.force_field import ForceField

    output = Output(as_json=json)
    if out.is_dir():
        raise ConfigError(f"--out {out}: is a directory. Name a file, such as {out / 'export.json'}.")
    if out.exists() and not force:
        raise ConfigError(f"{out}: there is a file already; choose another --out, or replace it with --force.")
    field = ForceField.load(model_file(model))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_export(out, field)
    n_channels = sum(m.compression.channels.n_channels for m in field.models)
    output.say(f"{len(field.models)} elements, {n_channels} channels, cutoff {field.cutoff:g} Å")
    output.say(f"written: {out}")
    measured = sorted({key[0] for key, register in field.registers.items() if register.measured is not None})
    output.finish({"file": out, "format": FORMAT, "version": VERSION, "n_channels": n_channels, "measured": measured})
