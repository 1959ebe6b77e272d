"""Can a data set be trained on, and what in it deserves a look before.

:func:`validate_frames` looks at everything: each frame by itself (finite numbers, volume, distances,
labels), the frames together (duplicates, outliers, energy references) and what the numbers say about their
units. :func:`ensure_trainable` and :func:`ensure_sound` are the quick gates in front of training and
evaluation.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from qiskit_qff.errors import DataError
from qiskit_qff.structures.defects import Defect, ValidationReport, error, warning
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.geometry_checks import check_distances, check_geometry, is_sound
from qiskit_qff.structures.label_checks import check_energies, check_forces, check_labels
from qiskit_qff.structures.similarity import similar_pairs
from qiskit_qff.structures.summary import summarize
from qiskit_qff.structures.unit_checks import PAIR_TOLERANCE, UnitEvidence, check_units, gather_evidence

_LISTED = 5


def validate_frames(frames: Sequence[Frame]) -> ValidationReport:
    """Every defect of a data set, and a summary of what it holds.

    Args:
        frames: read with ``strict=False``, so that defects are reported here instead of on reading.
    """
    defects = [defect for frame in frames for defect in _check_frame(frame)]
    faulty = {defect.where for defect in defects if defect.code == "not-finite"}
    sound = [frame for frame in frames if is_sound(frame) and frame.where not in faulty]
    forces = [float((frame.forces**2).mean()) for frame in sound if frame.forces is not None]
    typical = float(np.sqrt(np.median(forces))) if forces else 0.0
    for frame in sound:
        defects += [*check_distances(frame), *check_forces(frame, typical=typical)]
    defects += [*_check_size(frames), *_check_duplicates(sound), *check_energies(sound), *_check_files(frames)]
    evidence = {source: _evidence(members) for source, members in _by_source(sound).items()}
    for source, found in evidence.items():
        defects += check_units(found, source)
    order = {frame.where: place for place, frame in enumerate(frames)}
    defects.sort(key=lambda defect: (defect.severity, order.get(defect.where, -1)))
    return ValidationReport(defects=tuple(defects), summary=summarize(frames, sound, evidence))


def ensure_trainable(frames: Sequence[Frame]) -> None:
    """Refuse data that can't be trained on: missing or non-finite labels, impossible geometry, too few frames.

    Raises:
        DataError: lists the first defects with file, frame and atom, and counts the rest.
    """
    defects = [*_check_size(frames), *(defect for frame in frames for defect in _check_frame(frame))]
    defects += [defect for frame in frames if is_sound(frame) for defect in check_distances(frame)]
    _refuse(defects, "training")


def ensure_sound(frames: Sequence[Frame]) -> None:
    """Refuse geometry that no energy can be evaluated for; labels may be missing.

    Raises:
        DataError: lists the first defects with file, frame and atom, and counts the rest.
    """
    defects = [defect for frame in frames for defect in check_geometry(frame)]
    defects += [
        defect for frame in frames if is_sound(frame) for defect in check_distances(frame) if defect.code == "same-site"
    ]
    _refuse(defects, "evaluation")


def _refuse(defects: Sequence[Defect], purpose: str) -> None:
    """Raise if there are errors among the defects.

    Raises:
        DataError: then.
    """
    errors = [defect for defect in defects if defect.severity == "error"]
    if errors:
        listed = "; ".join(str(defect) for defect in errors[:_LISTED])
        more = f" ... and {len(errors) - _LISTED} more." if len(errors) > _LISTED else ""
        raise DataError(f"not fit for {purpose}: {listed}{more} 'qff validate' lists everything.")


def _check_frame(frame: Frame) -> Iterator[Defect]:
    """What can be said of a frame by itself without distances."""
    yield from check_geometry(frame)
    yield from check_labels(frame)


def _check_size(frames: Sequence[Frame]) -> Iterator[Defect]:
    """Too few frames to train and test."""
    if len(frames) < 2:
        where = frames[0].source if frames else "data"
        yield Defect(
            severity="error",
            code="too-few-frames",
            where=where,
            atom=None,
            message=f"too few frames ({len(frames)}); one to train on and one to test with is the least",
            remedy="Add frames.",
        )


def _check_files(frames: Sequence[Frame]) -> Iterator[Defect]:
    """Files that end early but could be read in part."""
    for source in dict.fromkeys(frame.source for frame in frames if frame.tags.get("cut_short")):
        yield Defect(
            severity="warning",
            code="cut-short",
            where=source,
            atom=None,
            message="the file ends in the middle of a run; the complete steps were read",
            remedy="Fine for a run that was stopped; copy the file again if it was not.",
        )


def _check_duplicates(frames: Sequence[Frame]) -> Iterator[Defect]:
    """Frames of exactly the same atoms and positions, with the same labels or with others."""
    seen: dict[bytes, Frame] = {}
    for frame in frames:
        points = np.round(frame.positions, 6) + 0.0
        cell = np.round(frame.cell, 6) + 0.0
        key = frame.numbers.tobytes() + frame.pbc.tobytes() + cell.tobytes() + points.tobytes()
        original = seen.setdefault(key, frame)
        if original is not frame:
            yield _duplicate(frame, original)


def _duplicate(frame: Frame, original: Frame) -> Defect:
    """The defect of a repeated structure: worse if its labels contradict the first ones."""
    energy = force = 0.0
    if frame.energy is not None and original.energy is not None:
        energy = abs(frame.energy - original.energy) / frame.n_atoms
    if frame.forces is not None and original.forces is not None:
        force = float(np.abs(frame.forces - original.forces).max())
    if energy > 1e-5 or force > 1e-3:
        report = error if energy > 0.01 or force > 0.1 else warning
        message = (
            f"the same structure as {original.where}, but its energy differs by {1e3 * energy:.3g} meV/atom "
            f"and a force by {1e3 * force:.3g} meV/Å"
        )
        return report("contradiction", frame, message, "Keep the one with the better settings.")
    remedy = "Remove it: a copy on both sides of a split makes the test error too good."
    return warning("duplicate", frame, f"repeats {original.where}", remedy)


def _by_source(frames: Sequence[Frame]) -> dict[str, list[Frame]]:
    """Frames of each file, because units belong to files."""
    sources: dict[str, list[Frame]] = {}
    for frame in frames:
        sources.setdefault(frame.source or "data", []).append(frame)
    return sources


def _evidence(frames: Sequence[Frame]) -> UnitEvidence:
    """What one file says about its units."""
    return gather_evidence(frames, similar_pairs(frames, tolerance=PAIR_TOLERANCE))
