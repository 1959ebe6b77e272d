"""Settings that depend on how much data there is, where the configuration leaves them open.

A longer cutoff shows more of the surroundings, but each of its channels is a weaker function of more neighbours, and
more of them compete for the same parameters. With many atoms to learn from it pays: on validation frames from inside
the training parts, 6 Å and 7 radial functions have 5 % smaller force errors than 5 Å and 5 on LiPS (83 atoms, 120
frames) and on Li10GeP2S12 (156 frames), 2 % on molten Li7P3S11. On the two metal-organic frameworks, with 10 and 18
frames, they are 13 % and 6 % worse.
"""

from __future__ import annotations

from collections.abc import Sequence

from qiskit_qff.model.config import TrainConfig
from qiskit_qff.structures.frame import Frame

MANY_ATOMS = 7_500
"""From so many atoms in all training frames together on the longer cutoff is the default."""
LONG_REACH = {"r_cut": 6.0, "n_radial": 7}
"""Cutoff radius in Å and three-body radial functions then."""


def with_data_defaults(config: TrainConfig, frames: Sequence[Frame]) -> TrainConfig:
    """Fill in what the configuration leaves to the data.

    Args:
        config: As given; settings that were set stay.
        frames: Training frames.

    Returns:
        A configuration whose cutoff counts as set, so that a second call changes nothing.
    """
    descriptor = config.descriptor
    if "r_cut" in descriptor.model_fields_set:
        return config
    chosen: dict[str, float] = {"r_cut": descriptor.r_cut}
    if sum(frame.n_atoms for frame in frames) >= MANY_ATOMS:
        chosen |= {key: value for key, value in LONG_REACH.items() if key not in descriptor.model_fields_set}
    return config.model_copy(update={"descriptor": descriptor.model_copy(update=chosen)})
