"""The structures that a run of active learning begins with, and whether they fit together."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase.data import chemical_symbols

from qiskit_qff.errors import DataError
from qiskit_qff.labelling.label import DIGITS, frame_id
from qiskit_qff.learning.config import LearnConfig
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.shipped import read_source
from qiskit_qff.structures.species import species_of
from qiskit_qff.structures.validation import ensure_sound

ROUND, ROLE = "learn_round", "learn_role"
TRAIN, TEST = "train", "test"


@dataclass(frozen=True, eq=False)
class Inputs:
    """What the files of a configuration hold."""

    start: tuple[Frame, ...]
    """Frames to train the first model on, tagged."""
    test: tuple[Frame, ...]
    """Frames held out from the beginning, tagged."""
    md: tuple[Frame, ...]
    """Frames that dynamics begin from."""

    @property
    def digest(self) -> str:
        """What identifies all of them."""
        keys = [frame_id(frame) for group in (self.start, self.test, self.md) for frame in (*group, _END)]
        return hashlib.sha256(" ".join(keys).encode()).hexdigest()


_END = Frame(numbers=np.array([1]), positions=np.zeros((1, 3)), cell=np.zeros((3, 3)), pbc=np.zeros(3, dtype=bool))
"""Separates groups of frames in their digest."""


def read_inputs(config: LearnConfig) -> Inputs:
    """Read and check all structures of a configuration.

    Args:
        config: the configuration.

    Raises:
        DataError: if a file can't be read, a frame is not sound, or dynamics would begin with an unknown element.
    """
    start = _distinct([_tagged(frame, TRAIN) for frame in _read(config.start)])
    known = {frame_id(frame) for frame in start}
    test = [f for f in _distinct([_tagged(frame, TEST) for frame in _read(config.test)]) if frame_id(f) not in known]
    md = [_bare(frame) for frame in _read(config.md.structures)] or [_bare(frame) for frame in start]
    if len(start) < 2:
        raise DataError(
            f"start: {len(start)} distinct frame(s); at least 2 are needed to train on. Add rattled copies."
        )
    species = species_of(start)
    for frame in (*test, *md):
        unknown = sorted(set(frame.numbers.tolist()) - set(species))
        if unknown:
            raise DataError(
                f"{frame.where}: holds {chemical_symbols[unknown[0]]}, which no frame of 'start' does. "
                "Add frames with this element there."
            )
    return Inputs(tuple(start), tuple(test), tuple(md))


def _read(paths: str | list[str] | None) -> list[Frame]:
    """Frames of some files, rounded as labels are.

    Raises:
        DataError: if one can't be read or a frame is not sound.
    """
    listed = [] if paths is None else [paths] if isinstance(paths, str) else paths
    frames = [f for path in listed for f in read_source(path)]
    ensure_sound(frames)
    return [replace(frame, positions=np.round(frame.positions, DIGITS)) for frame in frames]


def _tagged(frame: Frame, role: str) -> Frame:
    """The frame with its part in the run."""
    return replace(frame, momenta=None, tags={**frame.tags, ROUND: -1, ROLE: role})


def _bare(frame: Frame) -> Frame:
    """The structure alone."""
    return replace(frame, energy=None, forces=None, stress=None, momenta=None, tags={})


def _distinct(frames: Sequence[Frame]) -> list[Frame]:
    """The first of every structure that is there several times."""
    return list({frame_id(frame): frame for frame in reversed(frames)}.values())[::-1]
