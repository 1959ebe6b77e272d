"""The dynamics of one round: each run ends at its time, where it has left the training data too far, or exploded."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from qiskit_qff.errors import DataError, SimulationError
from qiskit_qff.learning.config import DynamicsConfig
from qiskit_qff.learning.records import End, RunOutcome
from qiskit_qff.model.extrapolation import Grader
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.simulation.checkpoint import read_checkpoint
from qiskit_qff.simulation.dynamics import CHECKPOINT, run_dynamics
from qiskit_qff.simulation.extrapolation import EXTRAPOLATING, ExtrapolationCounts, ExtrapolationWatch
from qiskit_qff.simulation.recording import LOG, TRAJECTORY, read_log
from qiskit_qff.simulation.settings import MDSettings, default_timestep
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.reading import read_frames
from qiskit_qff.structures.validation import Defect, check_distances, check_geometry, is_sound

Progress = Callable[[str, int, int], None]
"""Takes a few words, the steps done and the steps in all."""
CHECKPOINT_INTERVAL = 1000
SAVE_EVERY = 4
"""While atoms stay outside, one structure in so many grades is kept; the choice among them is made later."""
HOT = 2.0
"""Frames hotter than so many times the thermostat are not taken from a run that exploded."""


@dataclass(frozen=True, eq=False)
class PlannedRun:
    """One run of a round."""

    name: str
    """Its directory's name."""
    start: Frame
    """Structure to begin from."""
    settings: MDSettings
    """What to run."""


def plan_runs(config: DynamicsConfig, starts: Sequence[Frame], *, round_: int, seed: int) -> list[PlannedRun]:
    """The runs of a round: other starting structures, in turn, and other velocities than in the rounds before.

    Args:
        config: what runs are like.
        starts: structures to begin from.
        round_: number of the round.
        seed: of the whole run.
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
            thermostat_time_fs=config.thermostat_time_fs,
            pressure_gpa=config.pressure_gpa,
            seed=int(np.random.default_rng([seed, round_, k]).integers(2**31)),
            interval=config.interval,
            checkpoint_interval=CHECKPOINT_INTERVAL,
            velocities=False,
        )
        plans.append(PlannedRun(f"{temperature:g}K-{k % config.repeats + 1}", start, settings))
    return plans


def explore(
    plan: PlannedRun,
    field: ForceField,
    grader: Grader,
    directory: Path,
    *,
    model_digest: str,
    grade_interval: int,
    break_at: float,
    progress: Progress,
) -> RunOutcome:
    """Run, or go on with, the dynamics of a directory.

    Args:
        plan: what to run.
        field: the model.
        grader: its grades.
        directory: for the files of the run.
        model_digest: what identifies the model.
        grade_interval: steps between grades.
        break_at: the run ends where a grade passes so many times its limit.
        progress: told how far it is.

    Raises:
        ConfigError: if another run is in the directory.
        DataError: if its files are damaged.
    """
    settings, exploded = plan.settings, ""
    ended = _ended(directory / CHECKPOINT, settings)
    if ended is None:
        watch = ExtrapolationWatch(
            grader, action="save", interval=grade_interval, break_at=break_at, save_every=SAVE_EVERY
        )
        try:
            summary = run_dynamics(
                plan.start.to_atoms(),
                field,
                settings,
                directory,
                model_digest=model_digest,
                progress=progress,
                extrapolation=watch,
            )
            steps = summary.steps
        except (SimulationError, DataError) as error:
            if not watch.counts.checks:  # it never began: files are damaged
                raise
            exploded, steps = str(error), int(read_log(directory / LOG)["step"][-1])
        counts = watch.counts
    else:
        steps, counts = ended
    end: End = "exploded" if exploded else "outside" if counts.stopped else "done"
    first = counts.first_step
    return RunOutcome(
        name=plan.name,
        temperature_k=settings.temperature_k,
        time_ps=steps * settings.timestep_fs / 1e3,
        asked_ps=settings.steps * settings.timestep_fs / 1e3,
        end=end,
        first_outside_ps=None if first is None else first * settings.timestep_fs / 1e3,
        outside=counts.outside / max(counts.checks, 1),
        largest_ratio=min(counts.largest_ratio, 1e6),
        message=exploded,
    )


def _ended(path: Path, settings: MDSettings) -> tuple[int, ExtrapolationCounts] | None:
    """Steps and counts of a run that has ended already, by its checkpoint."""
    if not path.exists():
        return None
    checkpoint = read_checkpoint(path)
    counts = ExtrapolationCounts(**checkpoint.watch["counts"])
    return (checkpoint.step, counts) if counts.stopped or checkpoint.step == settings.steps else None


@dataclass(frozen=True, eq=False)
class Harvest:
    """Frames of one run that may be labelled."""

    outside: tuple[Frame, ...]
    """Frames with an atom outside the training data, or the last good one of a run that exploded without."""
    inside: tuple[Frame, ...]
    """Frames from before any atom was outside, evenly drawn."""
    n_refused: int
    """Frames outside that no structure could be."""


def harvest(outcome: RunOutcome, directory: Path, *, n_inside: int) -> Harvest:
    """Collect the frames of one run.

    Args:
        outcome: how it ended.
        directory: where its files are.
        n_inside: how many frames to draw from the part inside the training data.

    Raises:
        DataError: if its files are damaged.
    """
    kept = _structures(directory / EXTRAPOLATING)
    good = [frame for frame in kept if not any(unphysical(frame))]
    refused = len(kept) - len(good)
    trajectory = _structures(directory / TRAJECTORY)
    limit_fs = np.inf if outcome.first_outside_ps is None else 1e3 * outcome.first_outside_ps
    before = [f for f in trajectory if 0.0 < float(f.tags["time_fs"]) < limit_fs and not any(unphysical(f))]
    cool = [f for f in before if float(f.tags["temperature_k"]) < HOT * outcome.temperature_k]
    if outcome.end != "done" and not good:
        good = cool[-1:]
        cool = cool[:-1]
    chosen = np.unique(np.linspace(0, len(cool) - 1, min(n_inside, len(cool)) + 1).round().astype(int)[1:])
    return Harvest(tuple(map(_bare, good)), tuple(_bare(cool[k]) for k in chosen), refused)


def unphysical(frame: Frame) -> Iterator[Defect]:
    """What no structure could be: numbers that are not finite, atoms far closer than their covalent radii allow.

    Args:
        frame: the structure.
    """
    yield from check_geometry(frame)
    if is_sound(frame):
        yield from check_distances(frame)


def _structures(path: Path) -> list[Frame]:
    """Frames of a file that may be empty or absent."""
    if not path.exists() or not path.stat().st_size:
        return []
    return read_frames(path, strict=False)


def _bare(frame: Frame) -> Frame:
    """The structure with its time, without what the model said of it."""
    kept = {name: frame.tags[name] for name in ("step", "time_fs", "largest_grade", "atom") if name in frame.tags}
    return replace(frame, energy=None, forces=None, stress=None, momenta=None, tags=kept)
