"""From a limit on trainable parameters to the number of features and registers of every species."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from qiskit_qff.circuit.ansatz import AnsatzSpec, n_parameters
from qiskit_qff.compression.compressor import SizeLimits
from qiskit_qff.compression.linear_map import LinearMap
from qiskit_qff.descriptors.pool import PoolSettings
from qiskit_qff.errors import BudgetError, ConfigError
from qiskit_qff.model.config import ResolvedDescriptor, TrainConfig
from qiskit_qff.training.objective import ParameterLayout

_RADIAL_PAIRS: tuple[Literal["all", "same"], ...] = ("all", "same")


def register_spec(config: TrainConfig) -> AnsatzSpec:
    """Ansatz of every register; all have the same circuit.

    Args:
        config: The configuration.
    """
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
    """Features of each register of a species: as many full registers as there are, and one for the rest.

    Args:
        config: The configuration.
        n_features: Features of the species.
    """
    largest = 2**config.circuit.n_qubits - 1
    full, rest = divmod(n_features, int(largest))
    return (largest,) * full + ((rest,) if rest else ())


def parameter_layout(config: TrainConfig, maps: Mapping[int, LinearMap], n_references: int) -> ParameterLayout:
    """What is fitted, and how.

    Args:
        config: The configuration.
        maps: Compression of each species by atomic number.
        n_references: Reference energies that the training data can tell apart.
    """
    sizes = [count + 1 for number in sorted(maps) for count in register_sizes(config, maps[number].n_features)]
    specs = (register_spec(config),) * len(sizes)
    return ParameterLayout(specs, tuple(sizes), n_references, balanced=is_balanced(config))


def size_limits(config: TrainConfig, species: tuple[int, ...], n_references: int) -> SizeLimits:
    """Numbers of features that the budget allows.

    A balanced register counts one parameter per feature, so the species share the budget freely and the data decides
    who gets how much. Other registers count the parameters of their circuit; every species gets as many of them.

    Args:
        config: The configuration.
        species: Atomic numbers.
        n_references: Reference energies that the training data can tell apart.

    Raises:
        BudgetError: If one register or feature for every species needs more than ``max_parameters``.
    """
    spec, count = register_spec(config), len(species)
    free = config.max_parameters - n_references
    each = 1 if is_balanced(config) else n_parameters(spec)
    if free < each * count:
        raise BudgetError(
            f"max_parameters is {config.max_parameters}, but {count} species need at least {each} each beside "
            f"{n_references} reference energies ({each * count + n_references} in all); raise it"
            + ("." if is_balanced(config) else ", lower circuit.n_qubits, layers or n_readouts, or choose 'ry_tree'.")
        )
    if is_balanced(config):
        return SizeLimits(total=free, per_species=free, equal=False)
    features = free // (each * count) * (2**config.circuit.n_qubits - 1)
    return SizeLimits(total=features * count, per_species=features, equal=True)


def fit_pool(descriptor: ResolvedDescriptor, species: tuple[int, ...]) -> PoolSettings:
    """Pool settings within ``max_pool`` channels, with as many radial functions as the configuration says.

    Three-body channels combine all radial functions, or only equal ones where all would be too many.

    Args:
        descriptor: The configuration.
        species: Atomic numbers.

    Raises:
        ConfigError: If the pool is too large either way.
    """
    choices = [_pool_settings(descriptor, descriptor.n_radial, pairs) for pairs in _RADIAL_PAIRS]
    return _first_within(choices, descriptor, len(species))


def fitting_n_radial(descriptor: ResolvedDescriptor, species: tuple[int, ...]) -> int:
    """The default number of radial functions: lowered from the configuration's until the pool fits.

    Args:
        descriptor: The configuration.
        species: Atomic numbers.

    Raises:
        ConfigError: If the pool is too large even with the fewest.
    """
    numbers = range(descriptor.n_radial, 1, -1)
    choices = [_pool_settings(descriptor, n_radial, pairs) for pairs in _RADIAL_PAIRS for n_radial in numbers]
    return _first_within(choices, descriptor, len(species)).n_radial


def _pool_settings(descriptor: ResolvedDescriptor, n_radial: int, radial_pairs: Literal["all", "same"]) -> PoolSettings:
    """The pool of a configuration with some number of radial functions."""
    return PoolSettings(
        r_cut=descriptor.r_cut,
        n_narrow=descriptor.n_narrow,
        n_broad=descriptor.n_broad,
        powers=descriptor.powers,
        n_radial=n_radial,
        l_max=descriptor.l_max,
        angular=descriptor.angular,
        bonds=descriptor.bonds,
        radial_pairs=radial_pairs,
    )


def _first_within(choices: Sequence[PoolSettings], descriptor: ResolvedDescriptor, n_species: int) -> PoolSettings:
    """The first pool of at most ``max_pool`` channels.

    Raises:
        ConfigError: If there is none; with the size of the last.
    """
    for settings in choices:
        size = n_species * settings.n_channels(n_species)
        if size <= descriptor.max_pool:
            return settings
    fewer = "n_radial, " if settings.n_radial > 2 else ""
    raise ConfigError(
        f"descriptor: {n_species} elements make a pool of at least {size:,} channels (n_radial {settings.n_radial}, "
        f"l_max {settings.l_max}; its Gram matrix takes {8 * size**2 / 1e9:.1f} GB), more than max_pool = "
        f"{descriptor.max_pool:,}. Lower {fewer}l_max, n_narrow or n_broad, give fewer powers, set bonds: false, or "
        f"raise max_pool to {size}."
    )
