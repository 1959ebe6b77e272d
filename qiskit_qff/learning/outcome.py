"""What an active learning run says: how far it is while it goes, and what came out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from qiskit_qff.learning.records import LabelErrors, RoundRecord


class Progress(Protocol):
    """Told how far the step at hand is."""

    def __call__(self, stage: str, done: float, total: float = 1.0, *, detail: str = "") -> None:
        """Note progress.

        Args:
            stage: the step, in a few words.
            done: how much of it is done.
            total: how much there is in all.
            detail: something to see meanwhile.
        """


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
    held_out: tuple[LabelErrors | None, ...]
    """Errors of each of these models on all frames held out; None where there are none."""
    n_labels: int
    """Labels in all."""
    n_train: int
    """Frames that the last model was trained on."""
    n_failed: int
    """Frames that the calculator failed on."""
