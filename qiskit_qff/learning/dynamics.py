"""The dynamics of one round, and the frames of it that are labelled.

A run ends at its time, where a grade passes its limit too far, or where it explodes. What is labelled are the most
uncertain frames of all runs, unlike each other, whether or not one of them is beyond the limit; some more are drawn
evenly from the part inside the training data and held out.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from qiskit_qff.errors import DataError, SimulationError
from qiskit_qff.labelling.label import DIGITS, frame_id
from qiskit_qff.learning.config import DynamicsConfig, SelectConfig
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.uncertainty import UncertaintyEstimator
from qiskit_qff.simulation.dynamics import MDSettings, default_timestep, run_dynamics
from qiskit_qff.simulation.extrapolation import EXTRAPOLATING, ExtrapolationWatch
from qiskit_qff.simulation.recording import CHECKPOINT, LOG, TRAJECTORY, read_checkpoint, read_log
from qiskit_qff.structures.dataset import read_frames
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.validation import check_structure
from qiskit_qff.training.selection import grade_candidates, select

ROUND, ROLE = "learn_round", "learn_role"
TRAIN, TEST = "train", "test"
GRADE_INTERVAL = 5
"""Steps between grades: atoms move by 0.01 Å in the meantime."""
CHECKPOINT_INTERVAL = 1000
SAVE_EVERY = 4
"""While atoms stay outside, one structure in so many grades is kept; the choice among them is made later."""
MOST_INSIDE = 200
"""Frames inside the training data that a run offers, evenly spaced: neighbours in time are alike."""


def plan_runs(
    config: DynamicsConfig, starts: Sequence[Frame], *, round_: int, seed: int
) -> list[tuple[str, Frame, MDSettings]]:
    """The runs of a round, each with a name, a structure and settings.

    They have other starting structures, in turn, and other velocities than in the rounds before.
    """
    count = len(config.temperatures_k) * config.repeats
    plans = []
    for k in range(count):
        temperature, start = config.temperatures_k[k // config.repeats], starts[(round_ * count + k) % len(starts)]
        timestep = config.timestep_fs or default_timestep(start.numbers.tolist())
        settings = MDSettings(
            temperature_k=temperature,
            steps=max(1, round(1e3 * config.time_ps / timestep)),
            timestep_fs=timestep,
            ensemble=config.ensemble,
            thermostat=config.thermostat,
            pressure_gpa=config.pressure_gpa,
            seed=int(np.random.default_rng([seed, round_, k]).integers(2**31)),
            interval=config.interval,
            checkpoint_interval=CHECKPOINT_INTERVAL,
        )
        plans.append((f"{temperature:g}K-{k % config.repeats + 1}", start, settings))
    return plans


def explore(
    start: Frame,
    settings: MDSettings,
    field: ForceField,
    grader: UncertaintyEstimator,
    directory: Path,
    *,
    model_digest: str,
    break_at: float,
    progress: Callable[[str, int, int], None],
) -> dict[str, Any]:
    """Run, or go on with, the dynamics of a directory.

    Returns:
        How far it came: ``time_ps`` of ``asked_ps``; how it ended: ``done``, ``outside`` where a grade passed its limit
        too far, or ``exploded`` with a ``message``; ``first_outside_ps``, the share of graded structures ``outside``
        and the ``largest_ratio`` of a grade to its limit.
    """
    exploded = ""
    watch = ExtrapolationWatch(grader, action="save", interval=GRADE_INTERVAL, break_at=break_at, save_every=SAVE_EVERY)
    before = read_checkpoint(directory / CHECKPOINT) if (directory / CHECKPOINT).exists() else None
    steps, counts = 0, watch.counts
    if before is not None:
        steps, counts = before["step"], before["watch"]
    if before is None or not (counts["stopped"] or steps == settings.steps):  # it has not ended yet
        try:
            steps = run_dynamics(
                start.to_atoms(),
                field,
                settings,
                directory,
                model_digest=model_digest,
                progress=progress,
                extrapolation=watch,
            ).steps
        except (SimulationError, DataError) as error:
            if not watch.counts["checks"]:  # it never began: files are damaged
                raise
            exploded, steps = str(error), int(read_log(directory / LOG)["step"][-1])
        counts = watch.counts
    first, ps = counts["first_step"], settings.timestep_fs / 1e3
    return {
        "name": directory.name,
        "temperature_k": settings.temperature_k,
        "time_ps": steps * ps,
        "asked_ps": settings.steps * ps,
        "end": "exploded" if exploded else "outside" if counts["stopped"] else "done",
        "first_outside_ps": None if first is None else first * ps,
        "outside": counts["outside"] / max(counts["checks"], 1),
        "largest_ratio": min(counts["largest_ratio"], 1e6),
        "message": exploded,
    }


def harvest(outcome: Mapping[str, Any], directory: Path) -> tuple[list[Frame], list[Frame]]:
    """Collect the frames of one run that may be labelled.

    Returns:
        Those with an atom outside the training data, or the last good one of a run that ended early without; and those
        from before any atom was outside, evenly spaced.
    """
    outside = [frame for frame in _structures(directory / EXTRAPOLATING) if not any(check_structure(frame))]
    first = outcome["first_outside_ps"]
    inside = [
        frame
        for frame in _structures(directory / TRAJECTORY)
        if 0.0 < float(frame.tags["time_fs"]) < (np.inf if first is None else 1e3 * first)
        and not any(check_structure(frame))
    ]
    if outcome["end"] != "done" and not outside:
        outside, inside = inside[-1:], inside[:-1]
    found = (outside, evenly(inside, MOST_INSIDE))
    bare, spaced = ([_bare(frame, directory.name) for frame in frames] for frames in found)
    return bare, spaced


def evenly(frames: Sequence[Frame], count: int) -> list[Frame]:
    """At most so many of the frames, evenly spaced, the last one among them."""
    count = min(count, len(frames))
    return [frames[k * len(frames) // count - 1] for k in range(1, count + 1)]


def choose(
    outside: Sequence[Frame],
    inside: Sequence[Frame],
    grader: UncertaintyEstimator,
    config: SelectConfig,
    *,
    round_: int,
    budget: int,
    known: Collection[str],
) -> tuple[list[Frame], int]:
    """Choose what to label: greedy D-optimal design over all new frames of the runs.

    Returns:
        Frames to train on, the most informative first, then those to hold out; and the number of new frames outside.
    """
    taken = set(known)
    far, near = _new(outside, taken), _new(inside, taken)
    count = min(config.per_round, budget)
    drawn = evenly(near, max(0, min(config.held_out, budget - count)))
    pool = [*far, *(frame for frame in near if not any(frame is other for other in drawn))]
    chosen: list[Frame] = []
    if count := min(count, len(pool)):
        graded = grade_candidates(grader, pool, progress=lambda *_: None)
        chosen = [pool[selected.candidate.index] for selected in select(graded, count)]
    roles = [*((frame, TRAIN) for frame in chosen), *((frame, TEST) for frame in drawn)]
    return [
        replace(
            frame,
            source=f"round-{round_:03d}-{frame.tags['learn_run']}",
            tags={**frame.tags, ROUND: round_, ROLE: role},
        )
        for frame, role in roles
    ], len(far)


def _new(frames: Sequence[Frame], taken: set[str]) -> list[Frame]:
    """Those that were not there before, rounded as they are written; now they are known."""
    fresh = []
    for frame in frames:
        rounded = replace(frame, positions=np.round(frame.positions, DIGITS))
        if (key := frame_id(rounded)) not in taken:
            taken.add(key)
            fresh.append(rounded)
    return fresh


def _structures(path: Path) -> list[Frame]:
    """Frames of a file that may be empty or absent."""
    return read_frames(path, strict=False) if path.exists() and path.stat().st_size else []


def _bare(frame: Frame, run: str) -> Frame:
    """The structure with its time and run, without what the model said of it."""
    kept = {name: frame.tags[name] for name in ("step", "time_fs", "largest_grade", "atom") if name in frame.tags}
    return replace(frame, energy=None, forces=None, stress=None, tags={**kept, "learn_run": run})
