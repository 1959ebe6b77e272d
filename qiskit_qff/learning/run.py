"""The rounds of active learning in one directory, from whatever was done there before to a reason to stop.

``journal.jsonl`` says what was done, and the same command goes on after its last entry. ``labels.extxyz`` holds all
labels, with provenance, round and part (train or test). A round has its model in ``rounds/000/model.json``, its
dynamics in ``rounds/000/md/300K-1/`` and frames to be labelled in ``rounds/000/chosen.extxyz``. ``model.json`` is the
last model.
"""

import hashlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from qiskit_qff import __version__
from qiskit_qff.durable import write_atomically
from qiskit_qff.errors import ConfigError, DataError
from qiskit_qff.labelling.label import frame_id
from qiskit_qff.labelling.reference import Reference
from qiskit_qff.learning.choice import choose, write_frames
from qiskit_qff.learning.config import LearnConfig
from qiskit_qff.learning.exploration import explore, harvest, plan_runs
from qiskit_qff.learning.inputs import Inputs
from qiskit_qff.learning.journal import RunJournal
from qiskit_qff.learning.labelled import LABELS, Labelled, adopt_labels, label_all
from qiskit_qff.learning.outcome import Learnt, Progress
from qiskit_qff.learning.records import LabelErrors, RoundRecord, RunOutcome
from qiskit_qff.learning.retraining import retrain
from qiskit_qff.model.extrapolation import Grader
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.reading import read_frames

JOURNAL, MODEL, ROUNDS, CHOSEN, MD = "journal.jsonl", "model.json", "rounds", "chosen.extxyz", "md"


def learn(
    config: LearnConfig,
    inputs: Inputs,
    reference: Reference,
    directory: Path,
    *,
    progress: Progress,
    after_round: Callable[[RoundRecord], None] | None = None,
) -> Learnt:
    """Learn, or go on learning, in a directory.

    Args:
        config: what to do.
        inputs: structures to begin with.
        reference: the calculator.
        directory: where everything is kept.
        progress: told what is going on.
        after_round: told of every round that is over, those of earlier processes included.

    Raises:
        ConfigError: if another run is in the directory.
        DataError: if its files are damaged, or too few frames could be labelled.
    """
    with closing(RunJournal(directory / JOURNAL)) as journal:
        run = _Run(config, inputs, reference, directory, journal, progress)
        run.begin()
        records: list[RoundRecord] = []
        reason = None
        while reason is None:
            records.append(run.round(len(records)))
            if after_round is not None:
                after_round(records[-1])
            reason = _reason_to_stop(config, records)
        return run.finish(reason, records)


def _reason_to_stop(config: LearnConfig, records: list[RoundRecord]) -> str | None:
    """Why it is enough; None where it is not."""
    stop, last = config.stop, records[-1]
    recent = records[-stop.calm_rounds :]
    if len(recent) == stop.calm_rounds and all(record.is_calm(stop.outside) for record in recent):
        return "calm"
    limit = stop.force_mae_mev_per_ang
    if limit is not None and last.new is not None and last.new.force_mae_mev_per_ang < limit:
        return "accurate"
    if last.n_labels >= stop.labels:
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
        journal: RunJournal,
        progress: Progress,
    ) -> None:
        self._config = config
        self._inputs = inputs
        self._reference = reference
        self._directory = directory
        self._journal = journal
        self._progress = progress
        self._asked: list[Frame] = [*inputs.start, *inputs.test]
        self._labels: Labelled

    def begin(self) -> None:
        """Make sure that the directory is this run's, and that the frames of the start are labelled.

        Raises:
            ConfigError: if it is another run's.
            DataError: if fewer than two frames of the start could be labelled.
        """
        identity = self._config.identity() | {
            "structures": self._inputs.digest,
            "label settings": self._reference.settings_hash,
        }
        begun = self._journal.get("begin")
        if begun is None:
            self._journal.add("begin", identity=identity, version=__version__)
        else:
            for name in sorted(identity.keys() | begun["identity"].keys()):
                if identity.get(name) != begun["identity"].get(name):
                    raise ConfigError(
                        f"{self._journal.path}: the run there was begun with {name} = "
                        f"{begun['identity'].get(name)!r}, not {identity.get(name)!r}. Choose another --out."
                    )
        adopt_labels(self._asked, self._reference, self._directory / LABELS)
        self._label("labels of the start")
        usable = self._labels.training(-1)
        if len(usable) < 2:
            raise DataError(
                f"start: {len(usable)} of {len(self._inputs.start)} frames could be labelled and have forces up to "
                f"{self._config.select.max_force_ev_per_ang:g} eV/Å; at least 2 are needed. Failures are in "
                f"{self._directory / 'labels.failures.extxyz'}."
            )

    def round(self, round_: int) -> RoundRecord:
        """One round, or what is left of it.

        Raises:
            QFFError: from any step.
        """
        place = self._directory / ROUNDS / f"{round_:03d}"
        done = self._journal.get("round", round_)
        if done is not None:
            self._asked += _read(place / CHOSEN)
            return RoundRecord.from_dict(done)
        trained, field = self._model(round_)
        grader = Grader.of(field.models, r_cut=field.cutoff, limit=self._config.select.grade_limit)
        runs = self._dynamics(round_, field, grader)
        chosen = self._chosen(round_, grader, runs)
        self._asked += _read(place / CHOSEN)
        self._label(f"round {round_}: labels")
        record = self._judge(round_, field, trained, runs, chosen)
        self._journal.add("round", round_, **record.to_dict())
        return record

    def finish(self, reason: str, records: list[RoundRecord]) -> Learnt:
        """Train on the labels of the last round, and compare all models on all frames held out.

        Raises:
            QFFError: from any step.
        """
        last = len(records) - 1
        self._label("labels")
        n_models = len(records) + (self._n_train(last) > self._n_train(last - 1))
        fields = [self._model(k)[1] for k in range(n_models)]
        models = [self._place(k) / MODEL for k in range(n_models)]
        write_atomically(self._directory / MODEL, models[-1].read_text(encoding="utf-8"))
        held_out = self._labels.held_out(last)
        errors = tuple(LabelErrors.of(field, held_out) for field in fields)
        return Learnt(
            reason=reason,
            rounds=tuple(records),
            models=tuple(models),
            held_out=errors,
            n_labels=len(self._labels.frames),
            n_train=self._n_train(n_models - 2),
            n_failed=len(self._asked) - len(self._labels.frames),
        )

    def _place(self, round_: int) -> Path:
        """Directory of a round."""
        return self._directory / ROUNDS / f"{round_:03d}"

    def _n_train(self, round_: int) -> int:
        """Frames to train on after a round."""
        return len(self._labels.training(round_))

    def _label(self, words: str) -> None:
        """Label what was asked for."""
        config = self._config
        self._labels = label_all(
            self._asked,
            self._reference,
            self._directory / LABELS,
            config.label,
            largest_force=config.select.max_force_ev_per_ang,
            progress=lambda n, bad, total: self._progress(words, n, total, detail=f"{bad} failed"),
        )

    def _model(self, round_: int) -> tuple[dict[str, Any], ForceField]:
        """The entry of a model and the model, trained if it is not there."""
        path = self._place(round_) / MODEL
        entry = self._journal.get("trained", round_)
        if entry is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            before = None if round_ == 0 else ForceField.load(self._place(round_ - 1) / MODEL)
            old = self._journal.get("trained", round_ - 1)
            self._label("labels")  # those of rounds that an earlier process did have not been read yet
            frames = self._labels.training(round_ - 1)
            made = retrain(
                frames,
                self._config,
                round_=round_,
                before=before,
                chosen_by=0 if old is None else int(old["chosen_by"]),
                progress=lambda stage, n, total: self._progress(f"model {round_}: {stage}", n, max(total, 1)),
            )
            made.field.save(path)
            entry = self._journal.add(
                "trained",
                round_,
                n_train=len(frames),
                kept_channels=made.kept_channels,
                chosen_by=made.chosen_by,
                loss=made.loss,
                n_trainable=made.field.n_trainable,
            )
        return entry, ForceField.load(path)

    def _dynamics(self, round_: int, field: ForceField, grader: Grader) -> list[RunOutcome]:
        """The runs of a round."""
        config, place = self._config, self._place(round_)
        outcomes: list[RunOutcome] = []
        digest = hashlib.sha256((place / MODEL).read_bytes()).hexdigest()
        for plan in plan_runs(config.md, self._inputs.md, round_=round_, seed=config.seed):
            entry = self._journal.get("md", round_, plan.name)
            if entry is None:
                outcome = explore(
                    plan,
                    field,
                    grader,
                    place / MD / plan.name,
                    model_digest=digest,
                    grade_interval=config.md.grade_interval,
                    break_at=config.select.break_at,
                    progress=partial(_of_stage, self._progress, f"round {round_}, {plan.name}"),
                )
                self._journal.add("md", round_, plan.name, outcome=asdict(outcome))
            else:
                outcome = RunOutcome(**entry["outcome"])
            outcomes.append(outcome)
        return outcomes

    def _chosen(self, round_: int, grader: Grader, runs: list[RunOutcome]) -> dict[str, Any]:
        """The entry of a round's choice, made if it is not there."""
        entry = self._journal.get("chosen", round_)
        if entry is not None:
            return entry
        config, place = self._config, self._place(round_)
        drawn = config.select.held_out
        found = [(run.name, harvest(run, place / MD / run.name, n_inside=drawn)) for run in runs]
        choice = choose(
            found,
            grader,
            round_=round_,
            per_round=config.select.per_round,
            held_out=drawn,
            budget=max(0, config.stop.labels - len(self._asked)),
            known={frame_id(frame) for frame in self._asked},
        )
        write_frames(place / CHOSEN, choice.frames)
        refused = sum(harvested.n_refused for _, harvested in found)
        return self._journal.add("chosen", round_, n_candidates=choice.n_candidates, n_refused=refused)

    def _judge(
        self, round_: int, field: ForceField, trained: dict[str, Any], runs: list[RunOutcome], chosen: dict[str, Any]
    ) -> RoundRecord:
        """What the labels of a round say of its model, which has not seen them."""
        asked = _read(self._place(round_) / CHOSEN)
        for_training, drawn = self._labels.of_round(round_)
        usable = [frame for frame in for_training if self._labels.is_usable(frame)]
        n_drawn = sum(frame.tags["learn_role"] == "test" for frame in asked)
        return RoundRecord(
            round=round_,
            n_train=int(trained["n_train"]),
            kept_channels=bool(trained["kept_channels"]),
            runs=tuple(runs),
            n_candidates=int(chosen["n_candidates"]),
            n_refused=int(chosen["n_refused"]),
            n_chosen=len(asked) - n_drawn,
            n_drawn=n_drawn,
            n_failed=len(asked) - len(for_training) - len(drawn),
            n_set_aside=len(for_training) - len(usable),
            n_labels=len(self._labels.frames),
            label_seconds=sum(float(frame.tags["label_wall_s"]) for frame in (*for_training, *drawn)),
            chosen=LabelErrors.of(field, usable),
            drawn=LabelErrors.of(field, drawn),
            new=LabelErrors.of(field, [*usable, *drawn]),
            held_out=LabelErrors.of(field, self._labels.held_out(round_)),
        )


def _read(path: Path) -> list[Frame]:
    """Frames of a file that may be empty."""
    return read_frames(path) if path.stat().st_size else []


def _of_stage(progress: Progress, stage: str, words: str, done: int, total: int) -> None:
    """Progress of a part, told with what it is a part of."""
    progress(stage, done, total, detail=words)
