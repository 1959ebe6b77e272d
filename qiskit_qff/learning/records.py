"""What active learning found, in numbers: by round, kept in the journal and shown on the page, and in the end."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from qiskit_qff.model.metrics import Metrics

End = Literal["done", "outside", "exploded"]


def _metrics(data: Mapping[str, Any] | None) -> Metrics | None:
    return None if data is None else Metrics.from_dict(data)


@dataclass(frozen=True)
class RunOutcome:
    """How one run of molecular dynamics ended."""

    name: str
    """Temperature and number, also its directory's name."""
    temperature_k: float
    """Of the thermostat, or of the initial velocities."""
    time_ps: float
    """Time that it lasted."""
    asked_ps: float
    """Time that it was to last."""
    end: End
    """``done``, ``outside`` where a grade passed its limit too far, or ``exploded``."""
    first_outside_ps: float | None
    """When a grade passed its limit for the first time; None where none did."""
    outside: float
    """Share of the graded structures with an atom outside."""
    largest_ratio: float
    """Largest grade in units of its limit."""
    message: str = ""
    """What an explosion said."""


@dataclass(frozen=True)
class RoundRecord:
    """One round: a model, what its dynamics met, what labels said about it."""

    round: int
    """Counted from 0."""
    n_train: int
    """Frames that the model was trained on."""
    kept_channels: bool
    """Whether it kept the channels of the model before."""
    runs: tuple[RunOutcome, ...]
    """Its dynamics."""
    n_candidates: int
    """Frames outside the training data that dynamics kept."""
    n_refused: int
    """Of these, frames that no structure could be: atoms too close, numbers not finite."""
    n_chosen: int
    """Frames chosen to be labelled and trained on."""
    n_drawn: int
    """Frames drawn to be labelled and held out."""
    n_failed: int
    """Of the frames of this round, those that the calculator failed on."""
    n_set_aside: int
    """Labelled, but with forces too large to train on."""
    n_labels: int
    """Labels in all, after this round."""
    label_seconds: float
    """Time that the labels of this round took."""
    chosen: Metrics | None
    """Errors on the chosen frames, before anything was trained on them."""
    drawn: Metrics | None
    """Errors on the drawn frames."""
    new: Metrics | None
    """Errors on both together."""
    held_out: Metrics | None
    """Errors on all frames held out so far."""

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
        errors = {name: _metrics(data[name]) for name in ("chosen", "drawn", "new", "held_out")}
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

    reason: str
    """Why it ended; one of :data:`REASONS`."""
    rounds: tuple[RoundRecord, ...]
    """All rounds, those of earlier processes included."""
    models: tuple[Path, ...]
    """Model of each round, and one more where labels came after the last."""
    held_out: tuple[Metrics | None, ...]
    """Errors of each of these models on all frames held out; None where there are none."""
    n_labels: int
    """Labels in all."""
    n_train: int
    """Frames that the last model was trained on."""
    n_failed: int
    """Frames that the calculator failed on."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read back what ``dataclasses.asdict`` made, with other entries beside.

        Args:
            data: the content of ``learn.json``.
        """
        return cls(
            reason=str(data["reason"]),
            rounds=tuple(RoundRecord.from_dict(record) for record in data["rounds"]),
            models=tuple(map(Path, data["models"])),
            held_out=tuple(map(_metrics, data["held_out"])),
            n_labels=int(data["n_labels"]),
            n_train=int(data["n_train"]),
            n_failed=int(data["n_failed"]),
        )
