"""``qff select``: the frames that are worth labelling next."""

import io
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qiskit_qff.cli.options import GradeLimitOption, JsonOption, ModelArgument, model_file
from qiskit_qff.cli.output import Output, check_frames_file
from qiskit_qff.durable import write_atomically
from qiskit_qff.errors import ConfigError, DataError

if TYPE_CHECKING:
    from qiskit_qff.structures.frame import Frame
    from qiskit_qff.training.selection import Selected


def select(
    model: ModelArgument,
    candidates: Annotated[
        list[str],
        typer.Argument(metavar="CANDIDATES...", help="Structure files, 'shipped', 'li6ps5cl'; labels unused."),
    ],
    *,
    count: Annotated[int, typer.Option("--n", help="How many frames to select.")],
    out: Annotated[Path, typer.Option("--out", help="File to write them to, extended XYZ.")],
    grade_limit: GradeLimitOption = None,
    only_outside: Annotated[
        bool, typer.Option("--only-outside", help="Leave out frames without an atom above the limit.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
    json: JsonOption = False,
) -> None:
    """Choose frames to label: far from the training data, and unlike each other."""
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.structures.reading import read_frames
    from qiskit_qff.structures.validation import ensure_sound
    from qiskit_qff.training.selection import grade_candidates
    from qiskit_qff.training.selection import select as take

    output = Output(as_json=json)
    check_frames_file(out)
    if out.resolve() in {Path(source).resolve() for source in candidates}:
        raise ConfigError(f"--out {out}: would be read and written at once. Choose another --out.")
    if out.exists() and not force:
        raise ConfigError(f"{out}: there is a file already; choose another --out, or overwrite it with --force.")
    field = ForceField.load(model_file(model))
    estimator = field.uncertainty(grade_limit=grade_limit)
    frames = read_frames(candidates)
    ensure_sound(frames)
    unseen = [index for index, frame in enumerate(frames) if not field.has_seen(frame)]
    if not unseen:
        raise DataError(f"the model was trained on all {len(frames)} candidates; give others.")
    if len(unseen) < len(frames):
        output.note(
            f"left out: {len(frames) - len(unseen)} of {len(frames)} candidates, which the model was trained on"
        )
    with output.progress("grading") as advance:
        graded = grade_candidates(estimator, [frames[index] for index in unseen], progress=advance)
    graded = [replace(candidate, index=unseen[candidate.index]) for candidate in graded]
    outside = [candidate for candidate in graded if candidate.grades.outside.any()]
    pool = outside if only_outside else graded
    if only_outside and len(outside) < count:
        output.note(f"only {len(outside)} of {len(frames)} frames have an atom outside the training data")
    taken = take(pool, min(count, len(pool)) if only_outside else count) if pool else []
    chosen = [(frames[selected.candidate.index], selected) for selected in taken]
    if chosen:
        _write(chosen, out)
    elif out.exists():
        out.unlink()  # of an earlier selection, with --force: nobody should label it again
        output.note(f"removed: {out}, of an earlier selection")
    _tell(chosen, len(frames), len(outside), out if chosen else None, output)


def _write(chosen: "list[tuple[Frame, Selected]]", out: Path) -> None:
    """Write the frames with their labels, if they have any, and where they come from."""
    from ase.io import write

    structures = [frame.to_atoms() for frame, _ in chosen]
    for atoms, (frame, selected) in zip(structures, chosen, strict=True):
        grades = selected.candidate.grades
        atoms.info["selected_from"] = f"{frame.source} frame {frame.index}"
        atoms.info["largest_grade"] = float(grades.values[grades.worst])
    text = io.StringIO()
    write(text, structures, format="extxyz")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, text.getvalue())


def _tell(
    chosen: "list[tuple[Frame, Selected]]", n_candidates: int, n_outside: int, out: Path | None, output: Output
) -> None:
    """The table and the JSON object."""
    rows = [
        {
            "source": frame.source,
            "frame": frame.index,
            "largest_grade": float(grades.values[grades.worst]),
            "limit": grades.limit,
            "atom": grades.worst,
            "element": frame.symbols[grades.worst],
            "n_outside": int(grades.outside.sum()),
            "gain": selected.gain,
            "gain_alone": selected.first_gain,
        }
        for frame, selected in chosen
        for grades in [selected.candidate.grades]
    ]
    output.table(
        f"{len(chosen)} of {n_candidates} frames, in the order of their worth",
        ("file", "frame", "largest grade", "limit", "atom", "element", "atoms outside", "gain", "gain alone"),
        [tuple(row.values()) for row in rows],
    )
    output.say(f"{n_outside} of {n_candidates} candidates have an atom outside the training data")
    output.say(f"written: {out}" if out else "none is outside: nothing written")
    output.finish(
        {
            "selected": rows,
            "indices": [selected.candidate.index for _, selected in chosen],
            "n_candidates": n_candidates,
            "n_outside": n_outside,
            "file": out,
        }
    )
