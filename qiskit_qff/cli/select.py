"""``qff select``: the frames that are worth labelling next."""

import io
from pathlib import Path
from typing import Annotated

import typer

from qiskit_qff.cli.options import GradeLimitOption, JsonOption, ModelArgument, model_file
from qiskit_qff.cli.output import Output, check_frames_file
from qiskit_qff.durable import write_atomically
from qiskit_qff.errors import ConfigError, DataError


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
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
    json: JsonOption = False,
) -> None:
    """Choose frames to label: far from the training data, and unlike each other."""
    from ase.io import write

    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.structures.dataset import read_frames
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
    rows, structures = [], []
    for selected in take(graded, count):
        index, grades = unseen[selected.candidate.index], selected.candidate.grades
        frame, largest = frames[index], float(grades.values[grades.worst])
        rows.append(
            {
                "source": frame.source,
                "frame": frame.index,
                "largest_grade": largest,
                "limit": grades.limit,
                "atom": grades.worst,
                "element": frame.symbols[grades.worst],
                "n_outside": int(grades.outside.sum()),
                "gain": selected.gain,
                "index": index,
            }
        )
        structures.append(frame.to_atoms())
        structures[-1].info |= {"selected_from": f"{frame.source} frame {frame.index}", "largest_grade": largest}
    text = io.StringIO()
    write(text, structures, format="extxyz")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, text.getvalue())
    n_outside = sum(bool(candidate.grades.outside.any()) for candidate in graded)
    output.table(
        f"{count} of {len(frames)} frames, the most informative first",
        ("file", "frame", "largest grade", "limit", "atom", "element", "atoms outside", "gain"),
        [tuple(row.values())[:-1] for row in rows],
    )
    output.say(f"{n_outside} of {len(frames)} candidates have an atom outside the training data")
    output.say(f"written: {out}")
    output.finish(
        {
            "selected": rows,
            "indices": [row["index"] for row in rows],
            "n_candidates": len(frames),
            "n_outside": n_outside,
            "file": out,
        }
    )
