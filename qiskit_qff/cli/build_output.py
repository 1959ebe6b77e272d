"""What all of ``qff build`` shares: its options, reading what to build from, and writing what was built."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qiskit_qff.cli.output import Output
from qiskit_qff.cli.output_directory import check_frames_file
from qiskit_qff.durable import write_atomically
from qiskit_qff.errors import ConfigError, DataError

if TYPE_CHECKING:
    from qiskit_qff.structures.frame import Frame, Tag

StructureArgument = Annotated[
    Path,
    typer.Argument(metavar="STRUCTURE", help="Structure to build from: CIF, extxyz, POSCAR, 'shipped', 'li6ps5cl'."),
]
FileOption = Annotated[Path, typer.Option("--out", help="File to write, extended XYZ.")]
OverwriteOption = Annotated[bool, typer.Option("--force", help="Overwrite the file if there is one.")]
FrameOption = Annotated[int, typer.Option("--frame", min=0, help="Which frame of STRUCTURE, counted from 0.")]
CountOption = Annotated[int, typer.Option("--count", min=1, help="Most structures to build.")]
SymprecOption = Annotated[float, typer.Option("--symprec", min=1e-6, help="Symmetry tolerance in Å.")]


def read_structures(path: Path, output: Output) -> "list[Frame]":
    """All frames of a file; a CIF file with partly occupied sites is refused.

    Raises:
        DataError: if the file can't be read.
    """
    from qiskit_qff.structures.building.ordering import ordered_frame
    from qiskit_qff.structures.reading import read_frames
    from qiskit_qff.structures.shipped import is_shipped, read_shipped

    if is_shipped(path):
        return read_shipped(str(path))
    if path.suffix.lower() == ".cif":
        frame, notes = ordered_frame(path)
        for note in notes:
            output.note(f"{path}: {note}")
        return [frame]
    return read_frames(path)


def read_structure(path: Path, index: int, output: Output) -> "Frame":
    """One frame of a file.

    Raises:
        DataError: if the file can't be read, or has no such frame.
    """
    frames = read_structures(path, output)
    if index >= len(frames):
        raise DataError(f"{path}: --frame {index}, but it has {len(frames)} frames, counted from 0.")
    if len(frames) > 1:
        output.note(f"{path} has {len(frames)} frames; building from frame {index}")
    return frames[index]


def refuse_overwriting(out: Path, *, force: bool) -> None:
    """Refuse, before any work is done, a file that should not be written.

    Raises:
        ConfigError: if it is a directory, has another ending than .extxyz, or exists and may not be overwritten.
    """
    check_frames_file(out)
    if out.exists() and not force:
        raise ConfigError(f"--out {out}: there is a file already. Choose another, or overwrite it with --force.")


def write_built(
    frames: "Sequence[Frame]",
    out: Path,
    output: Output,
    *,
    settings: "Mapping[str, Tag]",
    extra: Mapping[str, Any],
) -> None:
    """Write the frames with where they come from, tell what they are, and end.

    Args:
        frames: what was built.
        out: file to write; it is complete or not there.
        output: where the words go.
        settings: what the frames were built with, kept in each.
        extra: more for the JSON object.
    """
    from qiskit_qff import __version__
    from qiskit_qff.structures.summary import formula

    named = [
        replace(frame, tags={**frame.tags, **_origin(frame), "build_version": __version__, **settings})
        for frame in frames
    ]
    _write(named, out)
    rows = [(k, formula(f.numbers), f.n_atoms, f.tags.get("build_multiplicity")) for k, f in enumerate(named[:20])]
    output.table(f"{len(named)} built", ("frame", "formula", "atoms", "multiplicity"), rows)
    if len(named) > len(rows):
        output.say(f"  ... and {len(named) - len(rows)} more")
    output.say(f"written      {out}")
    output.finish(
        {
            "file": out,
            "n_frames": len(named),
            "formulas": [formula(frame.numbers) for frame in named],
            "n_atoms": [frame.n_atoms for frame in named],
            "multiplicities": [frame.tags.get("build_multiplicity") for frame in named],
            **extra,
        }
    )


def _origin(frame: "Frame") -> "dict[str, Tag]":
    """Where a frame was built from: the file's name, not its place on this machine."""
    history = " < ".join(str(frame.tags[key]) for key in ("build_history",) if key in frame.tags)
    step = str(frame.tags.get("build", ""))
    tags: dict[str, Tag] = {"build_history": f"{step} < {history}" if history else step}
    if "build_source" not in frame.tags and frame.source:
        tags["build_source"] = f"{Path(frame.source).name} frame {frame.index}"
    return tags


def _write(frames: "Sequence[Frame]", out: Path) -> None:
    """Write extended XYZ beside the target and move it in place."""
    from ase.io import write

    text = io.StringIO()
    write(text, [frame.to_atoms() for frame in frames], format="extxyz")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, text.getvalue())
