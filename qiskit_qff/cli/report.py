"""``qff report``: one self-contained HTML page of what other verbs wrote."""

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
        typer.Argument(metavar="DIR...", help="Directories of qff train, evaluate, md, analyse, learn."),
    ],
    *,
    out: Annotated[
        Path | None, typer.Option("--out", help="Page to write; default report.html in the first DIR.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Write one HTML page of what other verbs wrote, several together; it needs no network to be read."""
    output = Output(as_json=json)
    target = directories[0] / PAGE if out is None else out
    _check_target(target)
    from qiskit_qff.report.directory import read_run
    from qiskit_qff.report.page import numbered, write_page

    names = numbered([directory.absolute().name or "run" for directory in directories])
    runs = {name: read_run(place) for name, place in zip(names, directories, strict=True)}
    with made_directory(target.absolute().parent):
        write_page(runs, target)
    parts = [(name, part) for name, several in runs.items() for part in several]
    for name, part in parts:
        output.say(f"{name}: {part.kind}, {len(part.sections)} section{'' if len(part.sections) == 1 else 's'}")
    size = target.stat().st_size
    output.say(f"written: {target} ({size / 1e6:.2f} MB)")
    output.finish({
        "report": target,
        "bytes": size,
        "runs": [
            {"name": name, "kind": part.kind, "sections": [section.title for section in part.sections]}
            for name, part in parts
        ],
    })  # fmt: skip


def _check_target(target: Path) -> None:
    """Refuse, before any work is done, a page that should not be written."""
    if target.is_dir():
        raise ConfigError(f"--out {target}: is a directory. Name a file, such as {target / PAGE}.")
    if not target.exists():
        return
    with target.open("rb") as stream:
        if b'name="generator" content="qiskit_qff"' not in stream.read(2000):
            raise ConfigError(f"--out {target}: there is a file of other origin. Choose another name, or delete it.")
