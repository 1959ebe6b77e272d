"""Settings that depend on the data, decided in one place where the configuration leaves them open.

A longer cutoff shows more of the surroundings, but each of its channels is a weaker function of more neighbours, and
more of them compete for the same parameters. With many atoms to learn from it pays: on validation frames from inside
the training parts, 6 Å and 7 radial functions have 5 % smaller force errors than 5 Å and 5 on LiPS (83 atoms, 120
frames, 3,300 atoms per element) and on Li10GeP2S12 (156 frames, 1,950), 2 % on molten Li7P3S11. On UiO-66 with 10
frames they are 13 % worse, on Li-MOF-5 6 % with 18 frames, 5 and 11 % with 51 (1,120 atoms per element).
"""

from __future__ import annotations

from collections.abc import Sequence

from qiskit_qff.errors import ConfigError
from qiskit_qff.model.config import DataConfig, ResolvedConfig, ResolvedData, ResolvedDescriptor, TrainConfig
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.species import species_of
from qiskit_qff.structures.splitting import GROUP_TAGS, group_tag, is_time_ordered
from qiskit_qff.training.budget import fitting_n_radial

ATOMS_PER_ELEMENT = 1_800
"""Training atoms per element, on average, from which the longer cutoff is the default."""
CUTOFF, LONG_CUTOFF = 5.0, 6.0
"""Default cutoff radii in Å, with few and with many training atoms."""
N_RADIAL, LONG_N_RADIAL = 5, 7
"""Three-body radial functions that go with them."""
PRODUCT_ATOMS = 1_000
"""Training atoms from which products of channels are the default."""
PRODUCTS = 2
"""Rounds of products then."""

Reasons = dict[str, str]
"""Why a setting got its value, by dotted name such as ``descriptor.r_cut``."""


def resolve_split(config: DataConfig, frames: Sequence[Frame]) -> tuple[ResolvedData, Reasons]:
    """Decide how frames are held out, where the configuration leaves it open.

    Args:
        config: As given; what it sets stays.
        frames: All frames of the data set, in file order.

    Raises:
        ConfigError: If the split is to be balanced and no tag divides the frames into groups.
    """
    split, group, reasons = config.split, config.group, Reasons()
    if split in {None, "balanced"} and group is None:
        group = group_tag(frames)
    if split == "balanced" and group is None:
        raise ConfigError(
            f"data.split 'balanced' needs a tag of all frames that divides them into groups, such as {GROUP_TAGS[0]}, "
            "and there is none. Name one as data.group (--group), or choose 'random' or 'block'."
        )
    if split is None and group is not None:
        split, reasons["data.split"] = "balanced", f"the tag {group!r} divides the frames into groups"
    elif split is None and is_time_ordered(frames):
        split, reasons["data.split"] = "block", "successive frames are alike, as in a trajectory"
    elif split is None:
        split, reasons["data.split"] = "random", "the frames are in no order of time and have no tag of groups"
    settings = config.model_dump() | {"split": split, "group": group}
    return ResolvedData.model_validate(settings), reasons


def resolve_config(config: TrainConfig, frames: Sequence[Frame]) -> tuple[ResolvedConfig, Reasons]:
    """Decide every setting that the configuration leaves open.

    Args:
        config: As given; what it sets stays, so a resolved configuration comes back unchanged.
        frames: Training frames.

    Returns:
        The settings, and the reasons for those that were decided here.
    """
    data, reasons = resolve_split(config.data, frames)
    descriptor, more = _descriptor(config, frames)
    sections = {name: getattr(config, name) for name in TrainConfig.model_fields}
    return ResolvedConfig(**(sections | {"data": data, "descriptor": descriptor})), reasons | more


def _descriptor(config: TrainConfig, frames: Sequence[Frame]) -> tuple[ResolvedDescriptor, Reasons]:
    """Cutoff, radial functions and products."""
    given, reasons = config.descriptor, Reasons()
    n_atoms, n_elements = sum(frame.n_atoms for frame in frames), len(species_of(frames))
    r_cut, n_radial, products = given.r_cut, given.n_radial, given.products
    if products is None:
        pays = n_atoms >= PRODUCT_ATOMS
        chosen = config.compression.method == "forward_selection"
        products = PRODUCTS if pays and chosen else 0
        reasons["descriptor.products"] = (
            f"{n_atoms:,} training atoms, {_side(pays)} {PRODUCT_ATOMS:,}" if chosen else "needs forward selection"
        )
    is_long = n_atoms >= ATOMS_PER_ELEMENT * n_elements
    share = f"{n_atoms // n_elements:,} training atoms per element, {_side(is_long)} {ATOMS_PER_ELEMENT:,}"
    is_default_long = r_cut is None and is_long
    if r_cut is None:
        r_cut, reasons["descriptor.r_cut"] = LONG_CUTOFF if is_long else CUTOFF, share
    chosen_radial = n_radial is None
    if n_radial is None:
        n_radial = LONG_N_RADIAL if is_default_long else N_RADIAL
        reasons["descriptor.n_radial"] = f"goes with a cutoff of {r_cut:g} Å"
    settings = given.model_dump() | {"r_cut": r_cut, "n_radial": n_radial, "products": products}
    resolved = ResolvedDescriptor.model_validate(settings)
    if chosen_radial and (fitting := fitting_n_radial(resolved, species_of(frames))) < n_radial:
        reasons["descriptor.n_radial"] = f"as many as a pool of max_pool = {given.max_pool:,} channels has room for"
        resolved = resolved.model_copy(update={"n_radial": fitting})
    return resolved, reasons


def _side(reached: bool) -> str:  # noqa: FBT001
    """Which side of a threshold a number is on."""
    return "at least" if reached else "fewer than"
