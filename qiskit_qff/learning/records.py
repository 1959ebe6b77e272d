"""What active learning found, in numbers: by round, kept in the journal and shown on the page, and in the end."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from qiskit_qff.model.metrics import Metrics

End = Literal["done", "outside", "exploded"]


@dataclass(frozen=True)
class RunOutcome:
    """How one run of molecular dynamics ended."""

    name: str  # temperature and number, also the name of its directory
    temperature_k: float  # of the thermostat, or of the initial velocities
    time_ps: float
    asked_ps: float
    end: End  # "outside" where a grade passed its limit too far
    first_outside_ps: float | None  # when a grade first passed its limit
    outside: float  # share of the graded structures with an atom outside
    largest_ratio: float  # largest grade in units of its limit
    message: str = ""  # what an explosion said


@dataclass(frozen=True)
class RoundRecord:
    """One round: a model, what its dynamics met, what labels said about it."""

    round: int
    n_train: int  # frames that the model was trained on
    kept_channels: bool  # the channels are those of the model before
    runs: tuple[RunOutcome, ...]
    n_candidates: int  # frames outside the training data that dynamics kept
    n_refused: int  # of these, frames with atoms too close or numbers that are not finite
    n_chosen: int  # chosen to be labelled and trained on
    n_drawn: int  # drawn to be labelled and held out
    n_failed: int  # chosen or drawn, but the calculator failed
    n_set_aside: int  # labelled, but with forces too large to train on
    n_labels: int  # labels in all, after this round
    label_seconds: float  # time that the labels of this round took
    chosen: Metrics | None  # errors on the chosen frames, before training on them
    drawn: Metrics | None  # errors on the drawn frames
    new: Metrics | None  # errors on both together
    held_out: Metrics | None  # errors on all frames held out so far

    @property
    def is_calm(self) -> bool:
        """Whether all runs went to their end, and inside the training data."""
        return all(run.end == "done" and not run.outside for run in self.runs)

    @property
    def shortest_ps(self) -> float:
        """The shortest run."""
        return min(run.time_ps for run in self.runs)

    @property
    def largest_ratio(self) -> float:
        """Largest grade of all runs, in units of its limit."""
        return max(run.largest_ratio for run in self.runs)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read back what ``dataclasses.asdict`` made."""
        names = ("chosen", "drawn", "new", "held_out")
        errors = {name: None if data[name] is None else Metrics.from_dict(data[name]) for name in names}
        runs = tuple(RunOutcome(**run) for run in data["runs"])
        return cls(**{**data, **errors, "runs": runs})


REASONS = {
    "calm": "all runs stayed inside the training data and went to their end",
    "accurate": "the error on new labels is below the limit",
    "labels": "as many labels as allowed",
    "rounds": "as many rounds as allowed",
}


@dataclass(frozen=True, eq=False)
class Learnt:
    """What came out."""

    reason: str  # one of REASONS
    rounds: tuple[RoundRecord, ...]  # all rounds, those of earlier processes included
    models: tuple[Path, ...]  # of each round, and one more where labels came after the last
    held_out: tuple[Metrics | None, ...]  # errors of each model on all frames held out
    n_labels: int
    n_train: int
    n_failed: int  # frames that the calculator failed on
