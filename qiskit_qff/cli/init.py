"""``qff init``: a configuration for a data file, with every setting explained and the reasons for those chosen."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qiskit_qff import __version__
from qiskit_qff.cli.options import JsonOption
from qiskit_qff.cli.output import Output
from qiskit_qff.durable import write_atomically
from qiskit_qff.errors import ConfigError

if TYPE_CHECKING:
    from qiskit_qff.model.config import TrainConfig
    from qiskit_qff.structures.defects import DataSummary

SUFFIXES = {".yaml", ".yml"}


def init(
    data: Annotated[
        list[Path],
        typer.Argument(metavar="DATA", help="Labelled structure files, 'shipped' (Li-MOF-5) or 'li6ps5cl'."),
    ],
    *,
    out: Annotated[Path, typer.Option("--out", help="Configuration to write.")] = Path("config.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace a configuration that exists.")] = False,
    json: JsonOption = False,
) -> None:
    """Write a commented configuration for a data file: how to hold frames out, the cutoff, and all the rest."""
    from qiskit_qff.model.config_text import commented_yaml
    from qiskit_qff.structures.reading import read_frames
    from qiskit_qff.structures.shipped import seen_path
    from qiskit_qff.structures.validation import ensure_trainable, validate_frames
    from qiskit_qff.training.suggestion import suggest_config

    output = Output(as_json=json)
    _check_out(out, force=force)
    frames = read_frames([seen_path(path) for path in data], strict=False)
    ensure_trainable(frames)
    report = validate_frames(frames)
    suggestion = suggest_config(frames, report.summary, _seen_from(out.parent, data))
    heading = _heading(report.summary, out, n_warnings=len(report.warnings))
    notes = suggestion.notes | _of_stresses(report.summary)
    write_atomically(out, commented_yaml(suggestion.config, heading=heading, notes=notes))
    _tell(suggestion.config, notes, out, output)
    if report.warnings:
        output.note(f"{len(report.warnings)} warnings about the data: qff validate {' '.join(map(str, data))}")
    output.finish({"config": out, "settings": suggestion.config.model_dump(mode="json"), "notes": notes})


def _of_stresses(summary: "DataSummary") -> dict[str, str]:
    """That stresses could be fitted, where there are some."""
    if not summary.n_with_stress:
        return {}
    told = f"{summary.n_with_stress} of {summary.n_frames} frames have a stress; for constant pressure fit them, with 2"
    return {"loss.stress_scale_mev_per_ang3": told}


def _check_out(out: Path, *, force: bool) -> None:
    """Refuse a file that is no configuration, or would be lost.

    Raises:
        ConfigError: then.
    """
    if out.suffix.lower() not in SUFFIXES or out.is_dir():
        raise ConfigError(f"--out {out}: name a file that ends in .yaml.")
    if out.exists() and not force:
        raise ConfigError(f"--out {out}: exists. Choose another name, or add --force to replace it.")
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: {out.parent} is no directory; make it first.")


def _seen_from(directory: Path, data: Sequence[Path]) -> list[str]:
    """Data paths as the configuration has to name them: relative to its directory where they lie below it."""
    from qiskit_qff.structures.shipped import is_shipped

    home = directory.absolute()
    return [
        str(path)
        if is_shipped(path)
        else os.path.relpath(path.absolute(), home)
        if path.absolute().is_relative_to(home)
        else str(path.absolute())
        for path in data
    ]


def _heading(summary: "DataSummary", out: Path, *, n_warnings: int) -> str:
    """What the file is, what it was made for, and what to do with it."""
    formulas = list(summary.compositions)
    kinds = ", ".join(formulas[:3]) + (f" and {len(formulas) - 3} more compositions" if len(formulas) > 3 else "")
    lines = [
        f"Training configuration of qiskit_qff {__version__}, written by qff init.",
        f"The data: {summary.n_frames} frames of {kinds}.",
        *([f"Validation warns {n_warnings} times about them; qff validate says of what."] if n_warnings else []),
        "",
        f"Train with    qff train {out.name} --out run",
        f"Check first   qff train {out.name} --out run --dry-run",
        "",
        "Paths start at the directory of this file. Lines may be removed: what is missing has its default.",
    ]
    return "\n".join(lines)


def _tell(config: "TrainConfig", notes: dict[str, str], out: Path, output: Output) -> None:
    """Say what was decided, and what comes next."""
    settings = config.model_dump(mode="json")
    for name, reason in notes.items():
        section, _, key = name.rpartition(".")
        value = settings[section][key] if section else settings[key]
        output.say(f"{name} = {value}: {reason}")
    output.say(f"written: {out}; next: qff train {out} --out run")
