"""The dynamics of one round, and the frames of it that are labelled.

A run ends at its time, where a grade passes its limit too far, or where it explodes. What is labelled are the most
uncertain frames of all runs, unlike each other, whether or not one of them is beyond the limit; some more are drawn
evenly from the part inside the training data and held out.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qiskit_qff.errors import DataError, SimulationError
from qiskit_qff.labelling.label import DIGITS, frame_id
from qiskit_qff.learning.config import DynamicsConfig, SelectConfig
from qiskit_qff.learning.records import End, RunOutcome
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.uncertainty import UncertaintyEstimator
from qiskit_qff.simulation.dynamics import run_dynamics
from qiskit_qff.simulation.extrapolation import EXTRAPOLATING, ExtrapolationWatch
from qiskit_qff.simulation.recording import CHECKPOINT, LOG, TRAJECTORY, read_checkpoint, read_log
from qiskit_qff.simulation.settings import MDSettings, default_timestep
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.reading import read_frames
from qiskit_qff.structures.validation import check_structure
from qiskit_qff.training.selection import grade_candidates, select

ROUND, ROLE = "learn_round", "learn_role"
TRAIN, TEST = "train", "test"
GRADE_INTERVAL = 5
"""Steps between grades: atoms move by 0.01 Å in the meantime."""
CHECKPOINT_INTERVAL = 1000
SAVE_EVERY = 4
"""While atoms stay outside, one structure in so many grades is kept; the choice among them is made later."""
HOT = 2.0
"""Frames hotter than so many times the thermostat are not taken from a run that exploded."""
MOST_INSIDE = 200
"""Frames inside the training data that a run offers, evenly spaced: neighbours in time are alike."""


class PlannedRun(NamedTuple):
    """One run of a round: its directory's name, the structure to begin from, and what to run."""

    name: str
    start: Frame
    settings: MDSettings


def plan_runs(config: DynamicsConfig, starts: Sequence[Frame], *, round_: int, seed: int) -> list[PlannedRun]:
    """The runs of a round: other starting structures, in turn, and other velocities than in the rounds before."""
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
        plans.append(PlannedRun(f"{temperature:g}K-{k % config.repeats + 1}", start, settings))
    return plans


def explore(
    plan: PlannedRun,
    field: ForceField,
    grader: UncertaintyEstimator,
    directory: Path,
    *,
    model_digest: str,
    break_at: float,
    progress: Callable[[str, int, int], None],
) -> RunOutcome:
    """Run, or go on with, the dynamics of a directory."""
    settings, exploded = plan.settings, ""
    watch = ExtrapolationWatch(grader, action="save", interval=GRADE_INTERVAL, break_at=break_at, save_every=SAVE_EVERY)
    before = read_checkpoint(directory / CHECKPOINT) if (directory / CHECKPOINT).exists() else None
    steps, counts = 0, watch.counts
    if before is not None:
        steps, counts = before["step"], before["watch"]
    if before is None or not (counts["stopped"] or steps == settings.steps):  # it has not ended yet
        try:
            steps = run_dynamics(
                plan.start.to_atoms(),
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
    end: End = "exploded" if exploded else "outside" if counts["stopped"] else "done"
    first = counts["first_step"]
    return RunOutcome(
        name=plan.name,
        temperature_k=settings.temperature_k,
        time_ps=steps * settings.timestep_fs / 1e3,
        asked_ps=settings.steps * settings.timestep_fs / 1e3,
        end=end,
        first_outside_ps=None if first is None else first * settings.timestep_fs / 1e3,
        outside=counts["outside"] / max(counts["checks"], 1),
        largest_ratio=min(counts["largest_ratio"], 1e6),
        message=exploded,
    )


class Harvest(NamedTuple):
    """Frames of one run that may be labelled."""

    outside: tuple[Frame, ...]  # with an atom outside the training data, or the last good one of a run that exploded
    inside: tuple[Frame, ...]  # from before any atom was outside, evenly spaced
    n_refused: int  # frames outside that no structure could be


def harvest(outcome: RunOutcome, directory: Path) -> Harvest:
    """Collect the frames of one run."""
    kept = _structures(directory / EXTRAPOLATING)
    good = [frame for frame in kept if not any(check_structure(frame))]
    limit_fs = np.inf if outcome.first_outside_ps is None else 1e3 * outcome.first_outside_ps
    cool = [
        frame
        for frame in _structures(directory / TRAJECTORY)
        if 0.0 < float(frame.tags["time_fs"]) < limit_fs
        and float(frame.tags["temperature_k"]) < HOT * outcome.temperature_k
        and not any(check_structure(frame))
    ]
    refused = len(kept) - len(good)
    if outcome.end != "done" and not good:
        good, cool = cool[-1:], cool[:-1]
    return Harvest(tuple(map(_bare, good)), tuple(map(_bare, evenly(cool, MOST_INSIDE))), refused)


def evenly(frames: Sequence[Frame], count: int) -> list[Frame]:
    """At most so many of the frames, evenly spaced, the last one among them."""
    count = min(count, len(frames))
    return [frames[k] for k in np.unique(np.linspace(0, len(frames) - 1, count + 1).round().astype(int)[1:])]


def choose(
    harvests: Sequence[tuple[str, Harvest]],
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
    outside = _new([(name, frame) for name, found in harvests for frame in found.outside], taken)
    inside = {name: _new([(name, frame) for frame in found.inside], taken) for name, found in harvests}
    # Held out are the same shares of all runs, in turn, so that each has its share where not all can be taken.
    drawn_of = {name: evenly([frame for _, frame in frames], config.held_out) for name, frames in inside.items()}
    turns = [(name, own[k]) for k in range(config.held_out) for name, own in drawn_of.items() if k < len(own)]
    count = min(config.per_round, budget)
    drawn = turns[: max(0, min(config.held_out, budget - count))]
    held = {id(frame) for _, frame in drawn}
    pool = [*outside, *((n, frame) for frames in inside.values() for n, frame in frames if id(frame) not in held)]
    chosen: list[Frame] = []
    if count := min(count, len(pool)):
        graded = grade_candidates(grader, [frame for _, frame in pool], progress=lambda *_: None)
        for selected in select(graded, count):
            name, frame = pool[selected.candidate.index]
            chosen.append(_tagged(frame, name, round_, TRAIN))
    return [*chosen, *(_tagged(frame, name, round_, TEST) for name, frame in drawn)], len(outside)


def _new(frames: Sequence[tuple[str, Frame]], taken: set[str]) -> list[tuple[str, Frame]]:
    """Those that were not there before, rounded as they are written; now they are known."""
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


def _structures(path: Path) -> list[Frame]:
    """Frames of a file that may be empty or absent."""
    return read_frames(path, strict=False) if path.exists() and path.stat().st_size else []


def _bare(frame: Frame) -> Frame:
    """The structure with its time, without what the model said of it."""
    kept = {name: frame.tags[name] for name in ("step", "time_fs", "largest_grade", "atom") if name in frame.tags}
    return replace(frame, energy=None, forces=None, stress=None, momenta=None, tags=kept)
