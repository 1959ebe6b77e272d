"""From a limit on trainable parameters to the size of every species' register."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qiskit_qff.circuit.ansatz import AnsatzSpec, n_parameters
from qiskit_qff.compression.compressor import SizeLimits
from qiskit_qff.descriptors.pool import PoolSettings
from qiskit_qff.errors import BudgetError, ConfigError
from qiskit_qff.model.config import ResolvedDescriptor, TrainConfig
from qiskit_qff.training.objective import ParameterLayout

_READOUTS = {"rank_one": 1, "rank_two": 2}
_RADIAL_PAIRS: tuple[Literal["all", "same"], ...] = ("all", "same")


def circuit_spec(config: TrainConfig, n_amplitudes: int) -> AnsatzSpec:
    """Ansatz of a register of given size.

    Args:
        config: The configuration.
        n_amplitudes: Amplitudes in use, d + 1.
    """
    circuit = config.circuit
    return AnsatzSpec(
        family=circuit.family,
        readout=circuit.readout,
        n_amplitudes=n_amplitudes,
        layers=circuit.layers,
        n_readouts=_READOUTS.get(circuit.readout, circuit.n_readouts),
    )


def circuit_specs(config: TrainConfig, sizes: NDArray[np.int64]) -> tuple[AnsatzSpec, ...]:
    """Ansatz of every species.

    Args:
        config: The configuration.
        sizes: Amplitudes of each species, shape ``(S,)``.
    """
    if config.circuit.shared:
        # One circuit for all: a species with fewer features leaves the last amplitudes at zero.
        return tuple(circuit_spec(config, int(sizes.max())) for _ in sizes)
    return tuple(circuit_spec(config, int(size)) for size in sizes)


def parameter_layout(config: TrainConfig, sizes: NDArray[np.int64], n_references: int) -> ParameterLayout:
    """What is fitted, and how.

    Args:
        config: The configuration.
        sizes: Amplitudes of each species, shape ``(S,)``.
        n_references: Reference energies that the training data can tell apart.
    """
    circuit = config.circuit
    return ParameterLayout(
        circuit_specs(config, sizes),
        circuit.shared,
        n_references,
        trained_weights=circuit.readout_weights != "power_of_two",
        balanced=circuit.readout_weights == "balanced",
    )


def size_limits(config: TrainConfig, species: tuple[int, ...], n_references: int) -> SizeLimits:
    """Numbers of features that the registers and the budget allow.

    A tree has one angle per feature, so its species share the budget freely and the data decides who gets how
    much. A brickwork has a fixed number of angles, and a shared circuit one size: there every register is full.

    Args:
        config: The configuration.
        species: Atomic numbers.
        n_references: Reference energies that the training data can tell apart.

    Raises:
        BudgetError: If even the smallest registers need more than ``max_parameters``.
    """
    largest, count = 2**config.circuit.n_qubits - 1, len(species)
    if config.circuit.family != "ry_tree" or config.circuit.shared:
        _check_fixed(config, count, n_references)
        return SizeLimits(total=largest * count, per_species=largest, equal=True)
    per_feature = 2 if config.circuit.readout == "rank_two" else 1
    spec = circuit_spec(config, 3)
    overhead = n_parameters(spec) - 2 * per_feature
    if config.circuit.readout_weights != "trained":
        overhead -= spec.n_readouts  # chosen, not fitted; or tied to the angles
    smallest = 2 if config.circuit.readout == "rank_two" else 1
    total = (config.max_parameters - n_references - count * overhead) // per_feature
    if total < smallest * count:
        need = n_references + count * (overhead + smallest * per_feature)
        other = " or choose readout 'rank_one'" if config.circuit.readout != "rank_one" else ""
        raise BudgetError(
            f"max_parameters is {config.max_parameters}, but {count} species with readout "
            f"'{config.circuit.readout}' need at least {need}; raise it{other}."
        )
    return SizeLimits(total=min(total, largest * count), per_species=largest, equal=False, least=smallest)


def _check_fixed(config: TrainConfig, count: int, n_references: int) -> None:
    """Refuse a circuit of fixed size that exceeds the budget.

    Raises:
        BudgetError: With the arithmetic and what to change.
    """
    spec = circuit_spec(config, 2**config.circuit.n_qubits)
    copies = 1 if config.circuit.shared else count
    need = copies * spec.n_angles + count * spec.n_readouts + n_references
    if need > config.max_parameters:
        raise BudgetError(
            f"circuit {spec.family}/{spec.readout} on {config.circuit.n_qubits} qubits needs {need} parameters "
            f"({copies} x {spec.n_angles} angles, {count} x {spec.n_readouts} weights, {n_references} reference "
            f"energies), more than max_parameters = {config.max_parameters}; lower circuit.n_qubits, circuit.layers or "
            "circuit.n_readouts, set circuit.shared, or choose family 'ry_tree', which adapts its size."
        )


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
