"""``qff report``: one self-contained HTML page of what other verbs wrote."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from qiskit_qff.cli.options import JsonOption
from qiskit_qff.cli.output import Output
from qiskit_qff.durable import made_directory
from qiskit_qff.errors import ConfigError

PAGE = "report.html"


def report(
    directories: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR...", help="Directories of qff train, evaluate, baseline, calibrate, md, analyse, label, learn."
        ),
    ],
    *,
    out: Annotated[
        Path | None, typer.Option("--out", help="Page to write; default report.html in the first DIR.")
    ] = None,
    title: Annotated[str | None, typer.Option("--title", help="Heading of the page.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a page of other origin.")] = False,
    json: JsonOption = False,
) -> None:
    """Write one HTML page of what other verbs wrote, several together; it needs no network to be read."""
    output = Output(as_json=json)
    target = directories[0] / PAGE if out is None else out
    _check_target(target, force=force)
    from qiskit_qff.report.directory import read_run
    from qiskit_qff.report.page import write_page

    runs = {name: read_run(place) for name, place in zip(run_names(directories), directories, strict=True)}
    with made_directory(target.absolute().parent):
        write_page(runs, target, title=title)
    parts = [(name, part) for name, several in runs.items() for part in several]
    for name, part in parts:
        output.say(f"{name}: {part.kind}, {len(part.sections)} section{'' if len(part.sections) == 1 else 's'}")
        for line in part.missing:
            output.note(f"{name}: {line}")
    size = target.stat().st_size
    output.say(f"written: {target} ({size / 1e6:.2f} MB)")
    output.finish({
        "report": target,
        "bytes": size,
        "runs": [
            {"name": name, "kind": part.kind, "sections": [section.title for section in part.sections]}
            for name, part in parts
        ],
        "missing": [f"{name}: {line}" for name, part in parts for line in part.missing],
    })  # fmt: skip


def run_names(directories: Sequence[Path]) -> list[str]:
    """A short name for each directory: its last part, with a number where several end alike."""
    names: list[str] = []
    for directory in directories:
        plain = name = directory.absolute().name or "run"
        number = 1
        while name in names:
            number += 1
            name = f"{plain}-{number}"
        names.append(name)
    return names


def _check_target(target: Path, *, force: bool) -> None:
    """Refuse, before any work is done, a page that should not be written."""
    if target.is_dir():
        raise ConfigError(f"--out {target}: is a directory. Name a file, such as {target / PAGE}.")
    if not target.exists() or force:
        return
    with target.open("rb") as stream:
        ours = b'name="generator" content="qiskit_qff"' in stream.read(2000)
    if not ours:
        raise ConfigError(
            f"--out {target}: there is a file of other origin. Choose another, or replace it with --force."
        )
