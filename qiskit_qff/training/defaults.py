"""What follows from the data and the parameter limit: open settings, pool, sizes of the registers.

A longer cutoff shows more of the surroundings, but each of its channels is a weaker function of more neighbours, and
more of them compete for the same parameters. With many atoms to learn from it pays: on validation frames from inside
the training parts, 6 Å and 7 radial functions have 5 % smaller force errors than 5 Å and 5 on LiPS (83 atoms, 120
frames, 3,300 atoms per element) and on Li10GeP2S12 (156 frames, 1,950), 2 % on molten Li7P3S11. On UiO-66 with 10
frames they are 13 % worse, on Li-MOF-5 6 % with 18 frames, 5 and 11 % with 51 (1,120 atoms per element).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from qiskit_qff.circuit.ansatz import AnsatzSpec
from qiskit_qff.compression.linear_map import LinearMap
from qiskit_qff.compression.search import SizeLimits
from qiskit_qff.descriptors.pool import PoolSettings
from qiskit_qff.errors import BudgetError, ConfigError
from qiskit_qff.model.config import DataConfig, ResolvedConfig, ResolvedData, ResolvedDescriptor, TrainConfig
from qiskit_qff.structures.frame import Frame, species_of
from qiskit_qff.structures.splitting import GROUP_TAGS, group_tag, is_time_ordered
from qiskit_qff.training.objective import ParameterLayout

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

MAX_POOL = 8000
"""Most channels of the pool, whose Gram matrix then takes 0.5 GB; radial functions are fewer until many species fit."""
_RADIAL_PAIRS: tuple[Literal["all", "same"], ...] = ("all", "same")

Reasons = dict[str, str]
"""Why a setting got its value, by dotted name such as ``descriptor.r_cut``."""


def resolve_split(config: DataConfig, frames: Sequence[Frame]) -> tuple[ResolvedData, Reasons]:
    """Decide how frames are held out, where the configuration leaves it open."""
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
        products = PRODUCTS if pays else 0
        reasons["descriptor.products"] = f"{n_atoms:,} training atoms, {_side(pays)} {PRODUCT_ATOMS:,}"
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
        reasons["descriptor.n_radial"] = f"as many as a pool of {MAX_POOL:,} channels has room for"
        resolved = resolved.model_copy(update={"n_radial": fitting})
    return resolved, reasons


def _side(reached: bool) -> str:  # noqa: FBT001
    """Which side of a threshold a number is on."""
    return "at least" if reached else "fewer than"


def register_spec(config: TrainConfig) -> AnsatzSpec:
    """Ansatz of every register; all have the same circuit."""
    circuit = config.circuit
    return AnsatzSpec(
        family=circuit.family,
        readout=circuit.readout,
        n_amplitudes=2**circuit.n_qubits,
        layers=circuit.layers,
        n_readouts=1 if circuit.readout == "rank_one" else circuit.n_readouts,
    )


def is_balanced(config: TrainConfig) -> bool:
    """Whether readouts are balanced: those of rank-one trees, where the angles can follow the linear terms."""
    return config.circuit.family == "ry_tree"


def register_sizes(config: TrainConfig, n_features: int) -> tuple[int, ...]:
    """Features of each register of a species: as many full registers as there are, and one for the rest."""
    largest = 2**config.circuit.n_qubits - 1
    full, rest = divmod(n_features, int(largest))
    return (largest,) * full + ((rest,) if rest else ())


def parameter_layout(config: TrainConfig, maps: Mapping[int, LinearMap], n_references: int) -> ParameterLayout:
    """What is fitted, and how."""
    sizes = [count + 1 for number in sorted(maps) for count in register_sizes(config, maps[number].n_features)]
    specs = (register_spec(config),) * len(sizes)
    return ParameterLayout(specs, tuple(sizes), n_references, balanced=is_balanced(config))


def size_limits(config: TrainConfig, species: tuple[int, ...], n_references: int) -> SizeLimits:
    """Numbers of features that the budget allows.

    A balanced register counts one parameter per feature, so the species share the budget freely and the data decides
    who gets how much. Other registers count the parameters of their circuit; every species gets as many of them.
    """
    spec, count = register_spec(config), len(species)
    free = config.max_parameters - n_references
    each = 1 if is_balanced(config) else spec.n_parameters
    if free < each * count:
        raise BudgetError(
            f"max_parameters is {config.max_parameters}, but {count} species need at least {each} each beside "
            f"{n_references} reference energies ({each * count + n_references} in all); raise it"
            + ("." if is_balanced(config) else ", lower circuit.n_qubits, layers or n_readouts, or choose 'ry_tree'.")
        )
    if is_balanced(config):
        return SizeLimits(total=free, per_species=free)
    features = free // (each * count) * (2**config.circuit.n_qubits - 1)
    return SizeLimits(total=features * count, per_species=features)


def fit_pool(descriptor: ResolvedDescriptor, species: tuple[int, ...]) -> PoolSettings:
    """Pool settings within :data:`MAX_POOL` channels, with as many radial functions as the configuration says.

    Three-body channels combine all radial functions, or only equal ones where all would be too many.
    """
    return _first_within([_pool_settings(descriptor, descriptor.n_radial, p) for p in _RADIAL_PAIRS], len(species))


def fitting_n_radial(descriptor: ResolvedDescriptor, species: tuple[int, ...]) -> int:
    """The default number of radial functions: lowered from the configuration's until the pool fits."""
    numbers = range(descriptor.n_radial, 1, -1)
    choices = [_pool_settings(descriptor, n_radial, pairs) for pairs in _RADIAL_PAIRS for n_radial in numbers]
    return _first_within(choices, len(species)).n_radial


def _pool_settings(descriptor: ResolvedDescriptor, n_radial: int, radial_pairs: Literal["all", "same"]) -> PoolSettings:
    """The pool of a configuration with some number of radial functions."""
    return PoolSettings(
        r_cut=descriptor.r_cut,
        n_radial=n_radial,
        l_max=descriptor.l_max,
        radial_pairs=radial_pairs,
    )


def _first_within(choices: Sequence[PoolSettings], n_species: int) -> PoolSettings:
    """The first pool of at most :data:`MAX_POOL` channels."""
    for settings in choices:
        size = n_species * settings.n_channels(n_species)
        if size <= MAX_POOL:
            return settings
    lower = [name for name, least in (("n_radial", 2), ("l_max", 0)) if getattr(settings, name) > least]
    remedy = f"Lower {' or '.join(lower)}." if lower else "These are too many elements for one model."
    raise ConfigError(
        f"descriptor: {n_species} elements make a pool of at least {size:,} channels (n_radial {settings.n_radial}, "
        f"l_max {settings.l_max}; its Gram matrix takes {8 * size**2 / 1e9:.1f} GB), more than {MAX_POOL:,}. "
        f"{remedy}"
    )
