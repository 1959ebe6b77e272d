"""All labels of a run: one file, one calculator, one set of settings; frames know their round and their part."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qiskit_qff.labelling.label import LabelFile, Progress, frame_id, label_frames
from qiskit_qff.labelling.reference import Reference
from qiskit_qff.learning.config import LabelConfig
from qiskit_qff.learning.inputs import ROLE, ROUND, TRAIN
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.reading import read_frames

LABELS = "labels.extxyz"


@dataclass(frozen=True, eq=False)
class Labelled:
    """Labelled frames, in the order in which they were asked for."""

    frames: tuple[Frame, ...]
    """All of them."""
    largest_force: float
    """Frames with a larger force, in eV/Å, are not trained on."""

    def training(self, round_: int) -> list[Frame]:
        """Frames to train on after a round.

        Args:
            round_: number of the round; -1 for those of the start.
        """
        return [f for f in self.frames if f.tags[ROLE] == TRAIN and int(f.tags[ROUND]) <= round_ and self.is_usable(f)]

    def held_out(self, round_: int) -> list[Frame]:
        """Frames held out up to a round.

        Args:
            round_: number of the round.
        """
        return [f for f in self.frames if f.tags[ROLE] != TRAIN and int(f.tags[ROUND]) <= round_]

    def of_round(self, round_: int) -> tuple[list[Frame], list[Frame]]:
        """Frames of one round: those that were chosen to train on, and those that were drawn to hold out.

        Args:
            round_: number of the round.
        """
        mine = [frame for frame in self.frames if int(frame.tags[ROUND]) == round_]
        return [f for f in mine if f.tags[ROLE] == TRAIN], [f for f in mine if f.tags[ROLE] != TRAIN]

    def is_usable(self, frame: Frame) -> bool:
        """Whether a frame's forces are small enough to train on.

        Args:
            frame: a labelled frame.
        """
        assert frame.forces is not None
        return float(np.linalg.norm(frame.forces, axis=1).max()) <= self.largest_force


def adopt_labels(frames: Sequence[Frame], reference: Reference, path: Path) -> int:
    """Take over labels that the same calculator with the same settings has made before; gives their number.

    Args:
        frames: frames as they were read, labelled or not.
        reference: the calculator.
        path: file of labels.

    Raises:
        ConfigError: if another process is writing the file.
        DataError: if it is no extended XYZ.
    """
    mine = [
        frame
        for frame in frames
        if frame.energy is not None
        and frame.forces is not None
        and frame.tags.get("label_settings") == reference.settings_hash
        and str(frame.tags.get("label_id", "")).split("-", maxsplit=1)[0] == frame_id(frame)
    ]
    with closing(LabelFile(path)) as file:
        have = set(file.keys)
        for frame in mine:
            if (key := frame_id(frame)) not in have:
                atoms = frame.to_atoms()
                atoms.info["label_id"] = key
                file.append(atoms)
    return len(mine)


def label_all(
    frames: Sequence[Frame],
    reference: Reference,
    path: Path,
    config: LabelConfig,
    *,
    largest_force: float,
    progress: Progress,
) -> Labelled:
    """Label what has no label yet, and give all labels.

    Args:
        frames: everything that was asked for so far.
        reference: the calculator.
        path: file of labels.
        config: workers and patience.
        largest_force: frames with a larger force, in eV/Å, will not be trained on.
        progress: told of every frame done.

    Raises:
        ConfigError: if the file holds labels of other settings.
        DataError: if it is no extended XYZ.
    """
    label_frames(
        frames,
        reference,
        path,
        workers=config.workers,
        threads=config.threads,
        timeout=config.timeout_s,
        progress=progress,
    )
    asked = {frame_id(frame) for frame in frames}
    found = read_frames(path) if path.exists() else []
    return Labelled(tuple(f for f in found if f.tags.get("label_id") in asked), largest_force)
