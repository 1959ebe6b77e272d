"""Settings that depend on how much data there is, where the configuration leaves them open.

A longer cutoff shows more of the surroundings, but each of its channels is a weaker function of more neighbours, and
more of them compete for the same parameters. With many atoms to learn from it pays: on validation frames from inside
the training parts, 6 Å and 7 radial functions have 5 % smaller force errors than 5 Å and 5 on LiPS (83 atoms, 120
frames, 3,300 atoms an element) and on Li10GeP2S12 (156 frames, 1,950), 2 % on molten Li7P3S11. On UiO-66 with 10 frames
they are 13 % worse, on Li-MOF-5 6 % with 18 frames, 5 and 11 % with 51 (1,120 atoms an element).
"""

from __future__ import annotations

from collections.abc import Sequence

from qiskit_qff.model.config import TrainConfig
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.species import species_of

ATOMS_PER_ELEMENT = 1_800
"""From so many training atoms an element on, on average, the longer cutoff is the default."""
LONG_REACH = {"r_cut": 6.0, "n_radial": 7}
"""Cutoff radius in Å and three-body radial functions then."""
SOME_ATOMS = 1_000
"""From so many on products of channels are."""
PRODUCTS = 2
"""Rounds of them then."""


def products_pay(n_atoms: int) -> bool:
    """Whether products of channels are worth their work.

    Args:
        n_atoms: Atoms of all training frames.
    """
    return n_atoms >= SOME_ATOMS


def long_reach_pays(n_atoms: int, n_elements: int) -> bool:
    """Whether the longer cutoff lowers errors.

    Args:
        n_atoms: Atoms of all training frames.
        n_elements: Elements among them.
    """
    return n_atoms >= ATOMS_PER_ELEMENT * n_elements


def with_data_defaults(config: TrainConfig, frames: Sequence[Frame]) -> TrainConfig:
    """Fill in what the configuration leaves to the data.

    Args:
        config: As given; settings that were set stay.
        frames: Training frames.

    Returns:
        A configuration in which cutoff and products count as set, so that a second call changes nothing.
    """
    descriptor, n_atoms = config.descriptor, sum(frame.n_atoms for frame in frames)
    given, selects = descriptor.model_fields_set, config.compression.method == "forward_selection"
    chosen: dict[str, float] = {}
    if "products" not in given:
        chosen["products"] = PRODUCTS if selects and products_pay(n_atoms) else descriptor.products
    if "r_cut" not in given:
        chosen["r_cut"] = descriptor.r_cut
        if long_reach_pays(n_atoms, len(species_of(frames))):
            chosen |= {key: value for key, value in LONG_REACH.items() if key not in given}
    return config.model_copy(update={"descriptor": descriptor.model_copy(update=chosen)})
