"""Settings that depend on how much data there is, where the configuration leaves them open.

A longer cutoff shows more of the surroundings, but each of its channels is a weaker function of more neighbours, and
more of them compete for the same parameters. With many atoms to learn from it pays: on validation frames from inside
the training parts, 6 Å and 7 radial functions have 5 % smaller force errors than 5 Å and 5 on LiPS (83 atoms, 120
frames) and on Li10GeP2S12 (156 frames), 2 % on molten Li7P3S11. On the two metal-organic frameworks, with 10 and 18
frames, they are 13 % and 6 % worse.

Products of channels lower the error on frames like those of training by 4 to 12 % on every set, but they take models
farther from what few or alike frames hold down. At 300 K Li-MOF-5 with 46 and with 67 frames (5,060 and 7,342 atoms)
broke after 19 to 87 ps, in four of four runs, at 600 K Li6PS5Cl with 123 frames of one short trajectory (12,792 atoms)
after 9 ps; models without lasted 100 ps. LiPS with 600 frames (49,800 atoms) is stable with them. So they are the
default from more atoms on; ``descriptor.products: 2`` asks for them anyway.
"""

from __future__ import annotations

from collections.abc import Sequence

from qiskit_qff.model.config import TrainConfig
from qiskit_qff.structures.frame import Frame

MANY_ATOMS = 7_500
"""From so many atoms in all training frames together on the longer cutoff is the default."""
LONG_REACH = {"r_cut": 6.0, "n_radial": 7}
"""Cutoff radius in Å and three-body radial functions then."""

PRODUCT_ATOMS, PRODUCT_ROUNDS = 20_000, 2
"""From so many atoms on products of channels are the default, and how many rounds of them."""


def with_data_defaults(config: TrainConfig, frames: Sequence[Frame]) -> TrainConfig:
    """Fill in what the configuration leaves to the data.

    Args:
        config: As given; settings that were set stay.
        frames: Training frames.

    Returns:
        A configuration whose cutoff and products count as set, so that a second call changes nothing.
    """
    descriptor = config.descriptor
    given, atoms = descriptor.model_fields_set, sum(frame.n_atoms for frame in frames)
    chosen: dict[str, float] = {}
    if "r_cut" not in given:
        reach = LONG_REACH if atoms >= MANY_ATOMS else {}
        chosen |= {"r_cut": descriptor.r_cut} | {key: value for key, value in reach.items() if key not in given}
    if "products" not in given:
        chosen["products"] = PRODUCT_ROUNDS if atoms >= PRODUCT_ATOMS else descriptor.products
    return config.model_copy(update={"descriptor": descriptor.model_copy(update=chosen)}) if chosen else config
