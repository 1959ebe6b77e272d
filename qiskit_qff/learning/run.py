"""The rounds of active learning in one directory, from whatever was done there before to a reason to stop.

``journal.jsonl`` says which steps are done, and the same command goes on after the last one. ``labels.extxyz`` holds
all labels, with provenance, round and part (train or test). A round has its model in ``rounds/000/model.json``, its
dynamics in ``rounds/000/md/300K-1/`` and frames to be labelled in ``rounds/000/chosen.extxyz``. ``model.json`` is the
last model.
"""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ase.data import chemical_symbols

from qiskit_qff import __version__
from qiskit_qff.durable import Journal, write_atomically
from qiskit_qff.errors import ConfigError, DataError
from qiskit_qff.labelling.label import DIGITS, LabelFile, as_text, frame_id, label_frames
from qiskit_qff.labelling.reference import Reference
from qiskit_qff.learning.config import LearnConfig
from qiskit_qff.learning.dynamics import ROLE, ROUND, TEST, TRAIN, PlannedRun, choose, explore, harvest, plan_runs
from qiskit_qff.learning.records import Learnt, RoundRecord, RunOutcome
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.metrics import Metrics, compare_model, measure
from qiskit_qff.model.uncertainty import UncertaintyEstimator
from qiskit_qff.structures.frame import Frame, species_of
from qiskit_qff.structures.reading import read_frames
from qiskit_qff.structures.validation import ensure_sound
from qiskit_qff.training.pipeline import train

JOURNAL, LABELS, MODEL = "journal.jsonl", "labels.extxyz", "model.json"
ROUNDS, CHOSEN, MD = "rounds", "chosen.extxyz", "md"
KEEP_CHANNELS_BELOW = 1.25
"""Channels are chosen anew once there are so many times the frames that they were chosen by: choosing takes most of the
time of a training, and a few more frames rarely change it."""


class Progress(Protocol):
    """Told how far the step at hand is."""

    def __call__(self, stage: str, done: float, total: float = 1.0, *, detail: str = "") -> None:
        """Note progress: the step in a few words, how much of it is done and in all, and something to see meanwhile."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """The structures that a run begins with."""

    start: tuple[Frame, ...]
    """Frames to train the first model on, tagged."""
    test: tuple[Frame, ...]
    """Frames held out from the beginning, tagged."""
    md: tuple[Frame, ...]
    """Frames that dynamics begin from."""

    @property
    def digest(self) -> str:
        """What identifies all of them."""
        keys = [[frame_id(frame) for frame in group] for group in (self.start, self.test, self.md)]
        return hashlib.sha256(repr(keys).encode()).hexdigest()


def read_inputs(config: LearnConfig) -> Inputs:
    """Read and check all structures of a configuration."""

    def read(paths: str | list[str] | None) -> list[Frame]:
        frames = read_frames(paths or [])
        ensure_sound(frames)
        return [replace(frame, positions=np.round(frame.positions, DIGITS), momenta=None) for frame in frames]

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
    return Inputs(tuple(start.values()), tuple(test.values()), tuple(md))


def learn(
    config: LearnConfig,
    inputs: Inputs,
    reference: Reference,
    directory: Path,
    *,
    progress: Progress,
    after_round: Callable[[RoundRecord], None] | None = None,
) -> Learnt:
    """Learn, or go on learning, in a directory."""
    with closing(Journal(directory / JOURNAL)) as journal:
        run = _Run(config, inputs, reference, directory, journal, progress)
        run.begin()
        records: list[RoundRecord] = []
        reason = None
        while reason is None:
            records.append(run.round(len(records)))
            if after_round is not None:
                after_round(records[-1])
            reason = _reason_to_stop(config, records, n_asked=len(run.asked))
        return run.finish(reason, records)


def _reason_to_stop(config: LearnConfig, records: list[RoundRecord], *, n_asked: int) -> str | None:
    """Why it is enough; None where it is not."""
    stop, last = config.stop, records[-1]
    recent = records[-stop.calm_rounds :]
    if len(recent) == stop.calm_rounds and all(record.is_calm for record in recent):
        return "calm"
    limit = stop.force_mae_mev_per_ang
    if limit is not None and last.new is not None and last.new.force_mae_mev_per_ang < limit:
        return "accurate"
    if n_asked >= stop.labels:  # labels that failed have spent the budget too
        return "labels"
    return "rounds" if len(records) >= stop.rounds else None


@dataclass(eq=False)
class _Run:
    """A run at work: its directory, its journal, and what has been read of it."""

    config: LearnConfig
    inputs: Inputs
    reference: Reference
    directory: Path
    journal: Journal
    progress: Progress

    def __post_init__(self) -> None:
        """Nothing is labelled yet."""
        self.asked: list[Frame] = [*self.inputs.start, *self.inputs.test]
        self.labels: list[Frame] = []

    def begin(self) -> None:
        """Make sure that the directory is this run's, and that the frames of the start are labelled."""
        identity = self.config.identity() | {
            "structures": self.inputs.digest,
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

    def round(self, round_: int) -> RoundRecord:
        """One round, or what is left of it."""
        step = f"round {round_}"
        if self.journal.get(step) is not None:  # of an earlier process
            self.asked += _read(self.place(round_) / CHOSEN)
        return RoundRecord.from_dict(self.journal.once(step, lambda: asdict(self.new_round(round_))))

    def new_round(self, round_: int) -> RoundRecord:
        """Train, run, choose, label, and compare the model with labels that it has not seen."""
        config, place = self.config, self.place(round_)
        trained, field = self.model(round_)
        grader = field.uncertainty(grade_limit=config.select.grade_limit)
        runs = self.dynamics(round_, field, grader)

        def choice() -> dict[str, int]:
            found = [(run.name, harvest(run, place / MD / run.name)) for run in runs]
            frames, n_candidates = choose(
                found,
                grader,
                config.select,
                round_=round_,
                budget=max(0, config.stop.labels - len(self.asked)),
                known={frame_id(frame) for frame in self.asked},
            )
            write_frames(place / CHOSEN, frames)
            return {"n_candidates": n_candidates, "n_refused": sum(entry.n_refused for _, entry in found)}

        counts = self.journal.once(f"choice {round_}", choice)
        asked = _read(place / CHOSEN)
        self.asked += asked
        self.label(f"round {round_}: labels")
        mine = [frame for frame in self.labels if int(frame.tags[ROUND]) == round_]
        drawn = [frame for frame in mine if frame.tags[ROLE] == TEST]
        usable = [frame for frame in mine if frame.tags[ROLE] == TRAIN and self.is_usable(frame)]
        n_drawn = sum(frame.tags[ROLE] == TEST for frame in asked)
        return RoundRecord(
            round=round_,
            n_train=int(trained["n_train"]),
            kept_channels=bool(trained["kept_channels"]),
            runs=tuple(runs),
            n_candidates=int(counts["n_candidates"]),
            n_refused=int(counts["n_refused"]),
            n_chosen=len(asked) - n_drawn,
            n_drawn=n_drawn,
            n_failed=len(asked) - len(mine),
            n_set_aside=len(mine) - len(drawn) - len(usable),
            n_labels=len(self.labels),
            label_seconds=sum(float(frame.tags["label_wall_s"]) for frame in mine),
            chosen=_errors(field, usable),
            drawn=_errors(field, drawn),
            new=_errors(field, [*usable, *drawn]),
            held_out=_errors(field, self.held_out(round_)),
        )

    def finish(self, reason: str, records: list[RoundRecord]) -> Learnt:
        """Train on the labels of the last round, and compare all models on all frames held out."""
        last = len(records) - 1
        self.label("labels")
        n_models = len(records) + (len(self.training(last)) > len(self.training(last - 1)))
        fields = [self.model(k)[1] for k in range(n_models)]
        models = [self.place(k) / MODEL for k in range(n_models)]
        write_atomically(self.directory / MODEL, models[-1].read_bytes())
        held_out = self.held_out(last)
        return Learnt(
            reason=reason,
            rounds=tuple(records),
            models=tuple(models),
            held_out=tuple(_errors(field, held_out) for field in fields),
            n_labels=len(self.labels),
            n_train=len(self.training(n_models - 2)),
            n_failed=len(self.asked) - len(self.labels),
        )

    def place(self, round_: int) -> Path:
        """Directory of a round."""
        return self.directory / ROUNDS / f"{round_:03d}"

    def model(self, round_: int) -> tuple[dict[str, Any], ForceField]:
        """The journal's entry of a model and the model, trained if it is not there."""
        path = self.place(round_) / MODEL

        def fit() -> dict[str, Any]:
            self.label("labels")  # those of rounds that an earlier process did have not been read yet
            frames = self.training(round_ - 1)
            old = self.journal.get(f"model {round_ - 1}")
            keep = old is not None and len(frames) < KEEP_CHANNELS_BELOW * int(old["chosen_by"])
            trained = train(
                frames,
                self.config.train.model_copy(
                    update={"data": self.config.train.data.model_copy(update={"split": "none"})}
                ),
                rng=np.random.default_rng([self.config.seed, round_]),
                progress=lambda stage, n, total: self.progress(f"model {round_}: {stage}", n, max(total, 1)),
                channels_of=ForceField.load(self.place(round_ - 1) / MODEL) if keep else None,
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            trained.force_field.save(path)
            return {
                "n_train": len(frames),
                "kept_channels": keep,
                "chosen_by": int(old["chosen_by"]) if keep else len(frames),
                "loss": float(trained.result.loss),
                "n_trainable": trained.force_field.n_trainable,
            }

        entry: dict[str, Any] = self.journal.once(f"model {round_}", fit)
        return entry, ForceField.load(path)

    def dynamics(self, round_: int, field: ForceField, grader: UncertaintyEstimator) -> list[RunOutcome]:
        """The runs of a round."""
        place = self.place(round_)
        digest = hashlib.sha256((place / MODEL).read_bytes()).hexdigest()

        def run(plan: PlannedRun) -> dict[str, Any]:
            outcome = explore(
                plan,
                field,
                grader,
                place / MD / plan.name,
                model_digest=digest,
                break_at=self.config.select.break_at,
                progress=lambda words, n, total: self.progress(f"round {round_}, {plan.name}", n, total, detail=words),
            )
            return asdict(outcome)

        plans = plan_runs(self.config.md, self.inputs.md, round_=round_, seed=self.config.seed)
        return [RunOutcome(**self.journal.once(f"dynamics {round_} {plan.name}", partial(run, plan))) for plan in plans]

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


def _errors(field: ForceField, frames: Sequence[Frame]) -> Metrics | None:
    """Errors of a model on labelled frames; None without frames."""
    return measure(compare_model(field, frames)) if frames else None


def write_frames(path: Path, frames: Sequence[Frame]) -> None:
    """Write frames to a file that appears whole or not at all."""
    write_atomically(path, "".join(as_text(frame.to_atoms()) for frame in frames))


def _read(path: Path) -> list[Frame]:
    """Frames of a file that may be empty."""
    return read_frames(path) if path.stat().st_size else []
