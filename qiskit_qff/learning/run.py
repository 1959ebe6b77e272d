"""The rounds of active learning in one directory, from whatever was done there before to a reason to stop.

``journal.jsonl`` says which steps are done, and the same command goes on after the last one. ``labels.extxyz`` holds
all labels, with provenance, round and part (train or test). A round has its model in ``rounds/000/model.json``, its
dynamics in ``rounds/000/md/300K-1/`` and frames to be labelled in ``rounds/000/chosen.extxyz``. ``model.json`` is the
last model.
"""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase.data import chemical_symbols

from qiskit_qff import __version__
from qiskit_qff.durable import Journal, write_atomically
from qiskit_qff.errors import ConfigError, DataError
from qiskit_qff.labelling.label import DIGITS, LabelFile, as_text, frame_id, label_frames
from qiskit_qff.labelling.reference import Reference
from qiskit_qff.learning.config import LearnConfig
from qiskit_qff.learning.dynamics import ROLE, ROUND, TEST, TRAIN, choose, explore, harvest, plan_runs
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.metrics import compare_model, measure
from qiskit_qff.model.uncertainty import UncertaintyEstimator
from qiskit_qff.simulation.dynamics import MDSettings
from qiskit_qff.structures.dataset import read_frames
from qiskit_qff.structures.frame import Frame, species_of
from qiskit_qff.structures.validation import ensure_sound
from qiskit_qff.training.pipeline import train

JOURNAL, LABELS, MODEL = "journal.jsonl", "labels.extxyz", "model.json"
ROUNDS, CHOSEN, MD = "rounds", "chosen.extxyz", "md"
REASONS = {
    "calm": "all runs stayed inside the training data and went to their end",
    "accurate": "the error on new labels is below the limit",
    "labels": "as many labels as allowed",
    "rounds": "as many rounds as allowed",
}

Record = dict[str, Any]
"""One round in numbers: its runs, counts of frames and labels, and errors on labels that the model has not seen."""
Progress = Callable[..., None]
"""Told the step at hand, how much of it is done and in all, and as ``detail`` something to see meanwhile."""


class Inputs(NamedTuple):
    """The structures that a run begins with."""

    start: list[Frame]  # to train the first model on, tagged
    test: list[Frame]  # held out from the beginning, tagged
    md: list[Frame]  # that dynamics begin from


def read_inputs(config: LearnConfig) -> Inputs:
    """Read and check all structures of a configuration."""

    def read(paths: str | list[str] | None) -> list[Frame]:
        frames = read_frames(paths or [])
        ensure_sound(frames)
        return [replace(frame, positions=np.round(frame.positions, DIGITS)) for frame in frames]

    def tagged(frames: Sequence[Frame], role: str) -> dict[str, Frame]:
        distinct = {frame_id(frame): frame for frame in reversed(frames)}
        return {
            key: replace(frame, tags={**frame.tags, ROUND: -1, ROLE: role}) for key, frame in reversed(distinct.items())
        }

    start, test = tagged(read(config.start), TRAIN), tagged(read(config.test), TEST)
    test = {key: frame for key, frame in test.items() if key not in start}
    if len(start) < 2:
        raise DataError(
            f"start: {len(start)} distinct frame(s); at least 2 are needed to train on. Add rattled copies."
        )
    md = [
        replace(frame, energy=None, forces=None, stress=None, tags={})
        for frame in read(config.md.structures) or start.values()
    ]
    species = species_of(list(start.values()))
    for frame in (*test.values(), *md):
        unknown = sorted(set(frame.numbers.tolist()) - set(species))
        if unknown:
            raise DataError(
                f"{frame.where}: holds {chemical_symbols[unknown[0]]}, which no frame of 'start' does. "
                "Add frames with this element there."
            )
    return Inputs(list(start.values()), list(test.values()), md)


def learn(
    config: LearnConfig,
    inputs: Inputs,
    reference: Reference,
    directory: Path,
    *,
    progress: Progress,
    after_round: Callable[[list[Record]], None] | None = None,
) -> Record:
    """Learn, or go on learning, in a directory.

    Returns:
        Why it ended, all rounds, the models, and the errors of each on all frames held out.
    """
    with closing(Journal(directory / JOURNAL)) as journal:
        run = _Run(config, inputs, reference, directory, journal, progress)
        run.begin()
        records: list[Record] = []
        while (reason := _reason_to_stop(config, records, n_asked=len(run.asked))) is None:
            records.append(run.round(len(records)))
            if after_round is not None:
                after_round(records)
        return run.finish(reason, records)


def _reason_to_stop(config: LearnConfig, records: list[Record], *, n_asked: int) -> str | None:
    """Why it is enough; None where it is not."""
    if not records:
        return None
    stop, new = config.stop, records[-1]["new"]
    recent = records[-stop.calm_rounds :]
    if len(recent) == stop.calm_rounds and all(
        run["end"] == "done" and not run["outside"] for record in recent for run in record["runs"]
    ):
        return "calm"
    limit = stop.force_mae_mev_per_ang
    if limit is not None and new is not None and new["force_mae_mev_per_ang"] < limit:
        return "accurate"
    if n_asked >= stop.labels:  # labels that failed have spent the budget too
        return "labels"
    return "rounds" if len(records) >= stop.rounds else None


class _Run:
    """A run at work: its directory, its journal, and what has been read of it."""

    def __init__(
        self,
        config: LearnConfig,
        inputs: Inputs,
        reference: Reference,
        directory: Path,
        journal: Journal,
        progress: Progress,
    ) -> None:
        self.config, self.inputs, self.reference = config, inputs, reference
        self.directory, self.journal, self.progress = directory, journal, progress
        self.asked: list[Frame] = [*inputs.start, *inputs.test]
        self.labels: list[Frame] = []

    def begin(self) -> None:
        """Make sure that the directory is this run's, and that the frames of the start are labelled."""
        keys = [[frame_id(frame) for frame in group] for group in self.inputs]
        identity = self.config.identity() | {
            "structures": hashlib.sha256(repr(keys).encode()).hexdigest(),
            "label settings": self.reference.settings_hash,
        }
        begun = self.journal.once("begin", lambda: {"identity": identity, "version": __version__})["identity"]
        for name in sorted(identity.keys() | begun.keys()):
            if identity.get(name) != begun.get(name):
                raise ConfigError(
                    f"{self.directory / JOURNAL}: the run there was begun with {name} = {begun.get(name)!r}, not "
                    f"{identity.get(name)!r}. Choose another --out."
                )
        self.adopt_labels()
        self.label("labels of the start")
        usable = self.training(-1)
        if len(usable) < 2:
            raise DataError(
                f"start: {len(usable)} of {len(self.inputs.start)} frames could be labelled and have forces up to "
                f"{self.config.select.max_force_ev_per_ang:g} eV/Å; at least 2 are needed. Failures are in "
                f"{self.directory / 'labels.failures.extxyz'}."
            )

    def round(self, round_: int) -> Record:
        """One round, or what is left of it."""
        step = f"round {round_}"
        if self.journal.get(step) is not None:  # of an earlier process
            self.asked += _read(self.place(round_) / CHOSEN)
        record: Record = self.journal.once(step, lambda: self.new_round(round_))
        return record

    def new_round(self, round_: int) -> Record:
        """Train, run, choose, label, and compare the model with labels that it has not seen."""
        config, place = self.config, self.place(round_)
        n_train, field = self.model(round_)
        grader = field.uncertainty(grade_limit=config.select.grade_limit)
        runs = self.dynamics(round_, field, grader)

        def choice() -> int:
            found = [harvest(run, place / MD / run["name"]) for run in runs]
            frames, n_candidates = choose(
                [frame for outside, _ in found for frame in outside],
                [frame for _, inside in found for frame in inside],
                grader,
                config.select,
                round_=round_,
                budget=max(0, config.stop.labels - len(self.asked)),
                known={frame_id(frame) for frame in self.asked},
            )
            write_frames(place / CHOSEN, frames)
            return n_candidates

        n_candidates = self.journal.once(f"choice {round_}", choice)
        asked = _read(place / CHOSEN)
        self.asked += asked
        self.label(f"round {round_}: labels")
        mine = [frame for frame in self.labels if int(frame.tags[ROUND]) == round_]
        drawn = [frame for frame in mine if frame.tags[ROLE] == TEST]
        usable = [frame for frame in mine if frame.tags[ROLE] == TRAIN and self.is_usable(frame)]
        n_drawn = sum(frame.tags[ROLE] == TEST for frame in asked)
        return {
            "round": round_,
            "n_train": n_train,  # frames that the model was trained on
            "runs": runs,
            "shortest_ps": min(run["time_ps"] for run in runs),
            "largest_ratio": max(run["largest_ratio"] for run in runs),
            "n_candidates": n_candidates,  # frames outside the training data that dynamics kept
            "n_chosen": len(asked) - n_drawn,
            "n_drawn": n_drawn,  # chosen to be held out
            "n_failed": len(asked) - len(mine),
            "n_set_aside": len(mine) - len(drawn) - len(usable),  # labelled, but with forces too large to train on
            "n_labels": len(self.labels),  # in all
            "label_seconds": sum(float(frame.tags["label_wall_s"]) for frame in mine),
            "chosen": _errors(field, usable),
            "drawn": _errors(field, drawn),
            "new": _errors(field, [*usable, *drawn]),
            "held_out": _errors(field, self.held_out(round_)),
        }

    def finish(self, reason: str, records: list[Record]) -> Record:
        """Train on the labels of the last round, and compare all models on all frames held out."""
        last = len(records) - 1
        self.label("labels")
        n_models = len(records) + (len(self.training(last)) > len(self.training(last - 1)))
        fields = [self.model(k)[1] for k in range(n_models)]
        models = [self.place(k) / MODEL for k in range(n_models)]
        write_atomically(self.directory / MODEL, models[-1].read_bytes())
        held_out = self.held_out(last)
        return {
            "reason": reason,
            "reason_in_words": REASONS[reason],
            "rounds": records,
            "models": models,
            "held_out": [_errors(field, held_out) for field in fields],
            "n_labels": len(self.labels),
            "n_train": len(self.training(n_models - 2)),
            "n_failed": len(self.asked) - len(self.labels),
        }

    def place(self, round_: int) -> Path:
        """Directory of a round."""
        return self.directory / ROUNDS / f"{round_:03d}"

    def model(self, round_: int) -> tuple[int, ForceField]:
        """The model of a round, trained if it is not there, and the number of frames it was trained on."""
        path = self.place(round_) / MODEL

        def fit() -> int:
            self.label("labels")  # those of rounds that an earlier process did have not been read yet
            frames, settings = self.training(round_ - 1), self.config.train
            trained = train(
                frames,
                settings.model_copy(update={"data": settings.data.model_copy(update={"split": "none"})}),
                rng=np.random.default_rng([self.config.seed, round_]),
                progress=lambda stage, n, total: self.progress(f"model {round_}: {stage}", n, max(total, 1)),
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            trained.force_field.save(path)
            return len(frames)

        n_train: int = self.journal.once(f"model {round_}", fit)
        return n_train, ForceField.load(path)

    def dynamics(self, round_: int, field: ForceField, grader: UncertaintyEstimator) -> list[Record]:
        """The runs of a round."""
        place = self.place(round_)
        digest = hashlib.sha256((place / MODEL).read_bytes()).hexdigest()

        def run(name: str, start: Frame, settings: MDSettings) -> Record:
            return explore(
                start,
                settings,
                field,
                grader,
                place / MD / name,
                model_digest=digest,
                break_at=self.config.select.break_at,
                progress=lambda words, n, total: self.progress(f"round {round_}, {name}", n, total, detail=words),
            )

        plans = plan_runs(self.config.md, self.inputs.md, round_=round_, seed=self.config.seed)
        return [self.journal.once(f"dynamics {round_} {plan[0]}", partial(run, *plan)) for plan in plans]

    def adopt_labels(self) -> None:
        """Take over labels of the start that the same calculator with the same settings has made before."""
        with closing(LabelFile(self.directory / LABELS)) as file:
            have = set(file.headers)
            for frame in self.asked:
                key = frame_id(frame)
                if (
                    key not in have
                    and frame.energy is not None
                    and frame.forces is not None
                    and frame.tags.get("label_settings") == self.reference.settings_hash
                    and str(frame.tags.get("label_id", "")).split("-", maxsplit=1)[0] == key
                ):
                    atoms = frame.to_atoms()
                    atoms.info["label_id"] = key
                    file.append(atoms)

    def label(self, words: str) -> None:
        """Label what was asked for and has no label yet, and read all labels."""
        config, path = self.config.label, self.directory / LABELS
        label_frames(
            self.asked,
            self.reference,
            path,
            workers=config.workers,
            threads=config.threads,
            timeout=config.timeout_s,
            progress=lambda n, bad, total: self.progress(words, n, total, detail=f"{bad} failed"),
        )
        asked = {frame_id(frame) for frame in self.asked}
        found = read_frames(path) if path.exists() else []
        self.labels = [frame for frame in found if frame.tags.get("label_id") in asked]

    def is_usable(self, frame: Frame) -> bool:
        """Whether the forces of a labelled frame are small enough to train on."""
        assert frame.forces is not None
        return float(np.linalg.norm(frame.forces, axis=1).max()) <= self.config.select.max_force_ev_per_ang

    def training(self, round_: int) -> list[Frame]:
        """Frames to train on after a round; -1 for those of the start."""
        return [f for f in self.labels if f.tags[ROLE] == TRAIN and int(f.tags[ROUND]) <= round_ and self.is_usable(f)]

    def held_out(self, round_: int) -> list[Frame]:
        """Frames held out up to a round."""
        return [frame for frame in self.labels if frame.tags[ROLE] == TEST and int(frame.tags[ROUND]) <= round_]


def _errors(field: ForceField, frames: Sequence[Frame]) -> Record | None:
    """Errors of a model on labelled frames; None without frames."""
    return asdict(measure(compare_model(field, frames))) if frames else None


def write_frames(path: Path, frames: Sequence[Frame]) -> None:
    """Write frames to a file that appears whole or not at all."""
    write_atomically(path, "".join(as_text(frame.to_atoms()) for frame in frames))


def _read(path: Path) -> list[Frame]:
    """Frames of a file that may be empty."""
    return read_frames(path) if path.stat().st_size else []
