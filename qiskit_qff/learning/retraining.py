"""The model of a round: trained on all labels so far, with new channels or with those of the model before."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qiskit_qff.learning.config import LearnConfig
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.structures.frame import Frame
from qiskit_qff.training.design import Progress
from qiskit_qff.training.pipeline import train


@dataclass(frozen=True, eq=False)
class RoundModel:
    """A model and how it came about."""

    field: ForceField
    """The model."""
    kept_channels: bool
    """Whether channels are those of the model before."""
    chosen_by: int
    """Number of frames that its channels were chosen by."""
    loss: float
    """Loss on the training frames."""


def retrain(
    frames: Sequence[Frame],
    config: LearnConfig,
    *,
    round_: int,
    before: ForceField | None,
    chosen_by: int,
    progress: Progress,
) -> RoundModel:
    """Train a model.

    Args:
        frames: labelled frames.
        config: how.
        round_: number of the round; decides random starts.
        before: the model of the round before.
        chosen_by: number of frames that its channels were chosen by.
        progress: called with a stage's name, work done and work in all.

    Raises:
        DataError: if the frames can't be trained on.
        BudgetError: if the circuit needs more parameters than it may have.
    """
    rng = np.random.default_rng([config.seed, round_])
    keep = before is not None and len(frames) < config.retrain.keep_channels_below * chosen_by
    everything = config.train.model_copy(update={"data": config.train.data.model_copy(update={"split": "none"})})
    trained = train(frames, everything, rng=rng, progress=progress, channels_of=before if keep else None)
    chosen = chosen_by if keep else len(frames)
    return RoundModel(trained.force_field, keep, chosen, float(trained.result.loss))
