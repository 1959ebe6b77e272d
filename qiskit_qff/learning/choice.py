"""Which frames of a round are labelled: the most informative of those outside, some of those inside to judge by."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from qiskit_qff.durable import write_atomically
from qiskit_qff.labelling.label import DIGITS, as_text, frame_id
from qiskit_qff.learning.exploration import Harvest
from qiskit_qff.learning.inputs import ROLE, ROUND, TEST, TRAIN
from qiskit_qff.model.extrapolation import Grader
from qiskit_qff.structures.frame import Frame
from qiskit_qff.training.selection import grade_candidates, select


@dataclass(frozen=True, eq=False)
class Choice:
    """The frames of a round that are labelled."""

    frames: tuple[Frame, ...]
    """Those to train on, in the order of their worth, then those to hold out."""
    n_candidates: int
    """Frames outside that could be chosen from."""


def choose(
    harvests: Sequence[tuple[str, Harvest]],
    grader: Grader,
    *,
    round_: int,
    per_round: int,
    held_out: int,
    budget: int,
    known: Collection[str],
) -> Choice:
    """Choose.

    Args:
        harvests: name and frames of each run.
        grader: grades of the model that ran.
        round_: number of the round.
        per_round: most frames to train on.
        held_out: most frames to hold out.
        budget: labels that may be made at all; frames to train on come first.
        known: ids of frames that were chosen before.
    """
    taken = set(known)
    outside = _new([(name, frame) for name, found in harvests for frame in found.outside], taken)
    count = min(per_round, budget, len(outside))
    chosen: list[Frame] = []
    if count:
        graded = grade_candidates(grader, [frame for _, frame in outside], progress=_silent)
        for selected in select(graded, count):
            name, frame = outside[selected.candidate.index]
            chosen.append(_tagged(frame, name, round_, TRAIN))
    # Runs in turn, so that each has its share where not all can be taken.
    depth = max((len(found.inside) for _, found in harvests), default=0)
    turns = [(n, h.inside[k]) for k in range(depth) for n, h in harvests if k < len(h.inside)]
    inside = _new(turns, taken)[: max(0, min(held_out, budget - count))]
    drawn = [_tagged(frame, name, round_, TEST) for name, frame in inside]
    return Choice((*chosen, *drawn), len(outside))


def write_frames(path: Path, frames: Sequence[Frame]) -> None:
    """Write frames to a file that appears whole or not at all.

    Args:
        path: the file.
        frames: the frames.
    """
    write_atomically(path, "".join(as_text(frame.to_atoms()) for frame in frames))


def _new(frames: Sequence[tuple[str, Frame]], taken: set[str]) -> list[tuple[str, Frame]]:
    """Those that were not there before; they are now."""
    fresh = []
    for name, frame in frames:
        rounded = replace(frame, positions=np.round(frame.positions, DIGITS))
        key = frame_id(rounded)
        if key not in taken:
            taken.add(key)
            fresh.append((name, rounded))
    return fresh


def _tagged(frame: Frame, run: str, round_: int, role: str) -> Frame:
    """The frame with where it comes from and what it is for."""
    source = f"round-{round_:03d}-{run}"
    return replace(frame, source=source, tags={**frame.tags, "learn_run": run, ROUND: round_, ROLE: role})


def _silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""
