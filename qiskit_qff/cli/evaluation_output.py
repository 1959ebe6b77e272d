"""What ``qff evaluate --out`` writes: errors and predictions, in the form that ``qff report`` reads."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qiskit_qff.cli.output import plain
from qiskit_qff.cli.output_directory import check_output_directory, staged_directory

if TYPE_CHECKING:
    from qiskit_qff.model.metrics import Comparison
    from qiskit_qff.structures.frame import Frame


def check_evaluation_directory(out: Path | None, *, force: bool) -> None:
    """Refuse, before any work is done, a directory that can't or shouldn't be written.

    Args:
        out: where to write; None for nowhere.
        force: accept files of other origin in it.

    Raises:
        ConfigError: then.
    """
    from qiskit_qff.report.record import EVALUATION, RECORD

    if out is not None:
        check_output_directory(out, owned=(EVALUATION, RECORD, "report.html"), force=force)


def write_evaluation(
    out: Path,
    frames: "Sequence[Frame]",
    comparisons: "Mapping[str, Comparison]",
    extra: Mapping[str, Any],
    *,
    data: Path,
    shift_energy: bool,
) -> None:
    """Write errors, predictions and one structure.

    Args:
        out: directory; what is there and ours is replaced.
        frames: labelled structures.
        comparisons: labels and predictions of ``all`` frames and, where the model has seen some, of the others.
        extra: what else was found, such as what a backend did.
        data: file of the structures; only its name is kept.
        shift_energy: whether one constant per composition was removed.

    Raises:
        OSError: if it can't be written.
    """
    from qiskit_qff.model.metrics import measure
    from qiskit_qff.report.record import EVALUATION, Example, Record, environment

    metrics = measure(comparisons["all"], shift_energy=shift_energy)
    record = Record(
        comparisons=comparisons,
        example=Example.typical(frames, comparisons["all"], words="evaluated"),
        environment=environment(),
    )
    told = plain({"data": data.name, **metrics.to_dict(), **extra})
    with staged_directory(out) as staging:
        (staging / EVALUATION).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        record.write(staging)
