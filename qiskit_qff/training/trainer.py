r"""Training from frames to force field: pool, channels, statistics, circuit, posterior, in that order.

*Channels that can be measured.* Two channels that nearly cancel can be chosen with huge coefficients of opposite sign,
and a measured M drowns in noise (docs/design_notes.md). So where the noise of the assumed shots would add much to the
loss of the linear model, channels are chosen again, of whose norm more must be new. A balanced readout's noise is a
multiple of the square of its terms, so where training ends on each choice is a ridge regression away. Another choice is
taken where the loss that is left there, noise not counted, falls by much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from ase.data import chemical_symbols
from threadpoolctl import threadpool_limits

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.circuit.ansatz import AnsatzSpec
from qiskit_qff.compression.least_squares import SizeLimits
from qiskit_qff.compression.selection import (
    SELECTED,
    LinearMap,
    PoolStatistics,
    feature_maps,
    linear_terms,
    product_pool,
    select_channels,
)
from qiskit_qff.descriptors.channels import OwnSet, PoolSettings, make_descriptor
from qiskit_qff.errors import BudgetError, ConfigError, DataError
from qiskit_qff.model.config import ResolvedConfig, ResolvedDescriptor, TrainConfig
from qiskit_qff.model.force_field import CoreRepulsion, FoldedForceField, ForceField
from qiskit_qff.model.species_model import Register, SpeciesModel
from qiskit_qff.model.uncertainty import QUANTILE, Posterior, lengths
from qiskit_qff.structures.frame import Frame, species_of
from qiskit_qff.training.objective import (
    BalancedRegister,
    Objective,
    ParameterLayout,
    Restart,
    minimise,
    minimise_balanced,
    solve_scaled,
)
from qiskit_qff.training.statistics import (
    LossWeights,
    Progress,
    QuadraticStatistics,
    channel_statistics,
    find_shortest,
    pool_statistics,
    quadratic_statistics,
    reference_count,
    silent,
    training_features,
)

SELECTION_FRAMES = 100
"""Most frames whose forces channels are chosen by."""
SEARCH_RESTARTS = 30
"""Random restarts of the swap search that follows greedy selection of channels."""
MAX_POOL = 8000
"""Most channels of the pool, whose Gram matrix then takes 0.5 GB; radial functions are fewer until many species fit."""
MAX_PRODUCTS = 2500
"""Most products in the pool; 12,000 of them in three rounds gave no smaller error on lips83 (65.1 meV/Å for 63.9)."""
LABELS_PER_CHANNEL = 10
"""Products are formed of fewer channels where there are fewer labels than this for each: the rest would be noise."""
MUCH = 0.02
"""Noise beyond this fraction of the linear model's loss is worth another choice of channels."""
GAIN = 0.05
"""Fraction of the loss after training that another choice must save."""
STRICTER = (1e-3, 3e-3, 1e-2)
"""Shares of a channel's norm that have to be new, in the choices that follow; more cost more than noise did."""
SOFTEST = 1e-6
"""Directions in which the loss is softer than this, relative to the stiffest in unit-diagonal scaling, count as this
stiff: the quadratic form says nothing about what lies so far away."""
FLOOR = 1e-4
"""Smallest variance of a direction, in units of its features' mean squares, that is believed: training sets with fewer
atoms of a species than features have none in some."""


@dataclass(frozen=True)
class TrainingResult:
    """A force field and how it came about."""

    force_field: ForceField
    """The best restart."""
    restarts: tuple[Restart, ...]
    """All restarts, best first; ``losses`` are learning curves."""
    loss: float
    """Loss of the force field, per frame, without the penalty on weights; one unit is the scale of energies,
    forces or stresses squared."""
    linear_loss: float
    """Loss of the best linear model on the same features."""
    linear: FoldedForceField
    """That model, to judge the circuit by."""
    bound: float
    """Loss of the best symmetric matrices of the same registers; no circuit can be better."""


@dataclass(frozen=True, eq=False)
class PreparedTraining:
    """Data in the form that any optimiser of the circuit takes."""

    config: ResolvedConfig  # the settings
    objective: Objective  # the loss of angles, readout weights and reference energies
    maps: dict[int, LinearMap]  # compression of each species
    repulsion: CoreRepulsion  # core repulsion that joins the force field
    posterior: Posterior  # what the data leave open, of unit noise
    n_frames: int  # frames behind the loss

    def result(self, runs: Sequence[Restart]) -> TrainingResult:
        """The outcome of some optimisations."""
        best = runs[0].parameters
        loss, model = self.objective.fit_loss(best), self.force_field(best)
        noise = float(np.sqrt(max(loss, 0.0) / self.n_frames))
        return TrainingResult(
            force_field=replace(model, posterior=replace(self.posterior, noise=noise)),
            restarts=tuple(runs),
            loss=loss,
            linear_loss=self.objective.linear_solution()[0],
            linear=self.linear_model(model),
            bound=self.objective.bound(),
        )

    def linear_model(self, circuits: ForceField) -> FoldedForceField:
        """The best linear model on the features of a force field of this training."""
        _, coefficients, coordinates = self.objective.linear_solution()
        references = self.objective.statistics.references.energies(coordinates)
        models, matrices = [], {}
        for s, model in enumerate(circuits.models):
            own = np.flatnonzero(self.objective.statistics.owners == s)
            terms = np.concatenate([coefficients[r] for r in own])
            matrix = np.zeros((len(terms) + 1,) * 2)
            matrix[0, 1:] = matrix[1:, 0] = 0.5 * terms
            matrices[model.number] = matrix
            models.append(replace(model, reference_energy=float(references[s])))
        return FoldedForceField.of(models, matrices, r_cut=circuits.r_cut, repulsion=circuits.repulsion)

    def force_field(self, parameters: FloatArray) -> ForceField:
        """Force field of some parameters p, shape ``(P,)``."""
        layout, config, statistics = self.objective.layout, self.config, self.objective.statistics
        references = statistics.references.energies(parameters[layout.references])
        models = []
        for s, number in enumerate(statistics.species):
            registers = tuple(
                Register(
                    n_features=layout.sizes[r] - 1,
                    ansatz=layout.specs[r],
                    theta=parameters[layout.angles[r]].copy(),
                    weights=parameters[layout.weights[r]].copy(),
                    balanced=layout.balanced,
                )
                for r in np.flatnonzero(statistics.owners == s)
            )
            # Training fits the energy of the mean environment, x = (1, 0): M_00 and a reference energy are one number.
            raw = SpeciesModel(number, self.maps[number], registers, float(references[s]))
            origin = float(raw.operator_matrix()[0, 0])
            models.append(replace(raw, reference_energy=raw.reference_energy - origin))
        return ForceField(
            models=tuple(models),
            r_cut=config.descriptor.r_cut,
            repulsion=self.repulsion,
            fitted_references=layout.n_references,
            metadata={"config": config.model_dump(mode="json"), "elements": [chemical_symbols[z] for z in self.maps]},
        )


def prepare(
    frames: Sequence[Frame],
    config: ResolvedConfig,
    *,
    pool: PoolStatistics | None = None,
    progress: Progress = silent,
) -> PreparedTraining:
    """Choose channels and sum up the data; later steps need only the accumulated sums.

    Args:
        pool: What :func:`sum_pool` says of these frames and this descriptor; summed up here by default.
    """
    weights, species, r_cut = LossWeights.of(config), species_of(frames), config.descriptor.r_cut
    n_references = reference_count(frames, species)
    limits = size_limits(config, species, n_references)
    shortest = find_shortest(frames, species, r_cut, progress)
    check_reach(species, shortest, r_cut)
    if pool is None:
        pool = sum_pool(frames, species, shortest, config, weights, progress)
    maps = feature_maps(pool, choose_channels(pool, config, limits, progress=progress))
    del pool
    registers = {number: register_sizes(config, own.n_features) for number, own in maps.items()}
    sizes = tuple(count + 1 for own in registers.values() for count in own)
    spec = register_spec(config)
    layout = ParameterLayout((spec,) * len(sizes), sizes, n_references, balanced=is_balanced(config))
    statistics = quadratic_statistics(frames, maps, registers, r_cut=r_cut, weights=weights, progress=progress)
    return PreparedTraining(
        config,
        Objective(statistics, layout, shots=config.loss.shots),
        maps,
        CoreRepulsion.from_shortest_distances(species, shortest, cutoff=r_cut),
        posterior_of(frames, maps, statistics, r_cut=r_cut, progress=progress),
        len(frames),
    )


def fit(prepared: PreparedTraining, *, rng: np.random.Generator, progress: Progress = silent) -> TrainingResult:
    """Optimise the circuit on computed losses."""
    search = minimise_balanced if prepared.objective.layout.balanced else minimise
    # PERF: matrices of a hundred rows; several BLAS threads spent 10 to 20 s waiting for each other, one needs 2 s.
    with threadpool_limits(1, "blas"):
        return prepared.result(search(prepared.objective, rng=rng, progress=progress))


def check_reach(species: Sequence[int], shortest: FloatArray, r_cut: float) -> None:
    """Refuse species whose atoms never have a neighbour: they have no channel, hence no circuit.

    Args:
        shortest: Shortest distance of every pair, shape ``(S, S)``, in Å; ``inf`` beyond the cutoff.
    """
    alone = [chemical_symbols[z] for z, row in zip(species, shortest, strict=True) if not np.isfinite(row).any()]
    if alone:
        raise DataError(
            f"no atom of {', '.join(alone)} has a neighbour within the cutoff of {r_cut:g} Å in any training frame; "
            "raise descriptor.r_cut (--r-cut), or add frames in which it has one."
        )


def sum_pool(
    frames: Sequence[Frame],
    species: tuple[int, ...],
    shortest: FloatArray,
    config: ResolvedConfig,
    weights: LossWeights,
    progress: Progress,
) -> PoolStatistics:
    """Pool statistics over at most :data:`SELECTION_FRAMES` evenly chosen frames, and the energies of all others.

    Products of the best channels join the pool in as many rounds as the configuration says.

    Args:
        shortest: Shortest distance of every pair, shape ``(S, S)``, in Å.
    """
    count = min(len(frames), SELECTION_FRAMES)
    places = {int(k) for k in np.linspace(0, len(frames) - 1, count).round()}
    known = set(species_of([frames[k] for k in places]))
    # A species that only some frames contain must be in the pool's sums too.
    places |= {k for k, frame in enumerate(frames) if not set(frame.numbers.tolist()) <= known}
    chosen, others = ([f for k, f in enumerate(frames) if (k in places) == side] for side in (True, False))
    r_cut = config.descriptor.r_cut
    if config.descriptor.own is not None:
        sets = own_pool(config.descriptor.own, species, r_cut)
        return channel_statistics(chosen, sets, r_cut=r_cut, weights=weights, progress=progress, others=others)
    settings = fit_pool(config.descriptor, len(species))
    pool = pool_statistics(
        chosen, species, shortest, settings=settings, weights=weights, progress=progress, others=others
    )
    labels = sum(3 * frame.n_atoms + 1 for frame in chosen)
    selected = min(SELECTED, labels // LABELS_PER_CHANNEL)
    for k in range(config.descriptor.products):
        larger, start = product_pool(pool, most=MAX_PRODUCTS, selected=selected)
        # PERF: the sums of the last pool fill hundreds of MiB.
        del pool
        pool = channel_statistics(
            chosen, larger, r_cut=r_cut, weights=weights, progress=progress, others=others,
            stage=f"products {k + 1}",
        )  # fmt: skip
        pool = replace(pool, start=start)
    return pool


def own_pool(own: Mapping[str, Any], species: tuple[int, ...], r_cut: float) -> dict[int, OwnSet]:
    """All features of a registered descriptor, for every species."""
    arguments = {key: value for key, value in own.items() if key != "name"}
    size = make_descriptor(own["name"], arguments, list(species), r_cut).n_features
    if size * len(species) > MAX_POOL:
        raise ConfigError(
            f"descriptor.own: {size:,} features for each of {len(species)} elements are more than {MAX_POOL:,} in all; "
            "choose smaller arguments."
        )
    return {z: OwnSet(z, own["name"], arguments, np.arange(size)) for z in species}


def choose_channels(
    pool: PoolStatistics, config: TrainConfig, limits: SizeLimits, *, progress: Progress = silent
) -> IntArray:
    """Select channels, again where shot noise would cost much."""

    def selected(**options: float) -> IntArray:
        columns = select_channels(
            pool,
            limits,
            restarts=SEARCH_RESTARTS,
            progress=lambda k: progress("channels", k, SEARCH_RESTARTS),
            **options,
        )
        progress("channels", SEARCH_RESTARTS, SEARCH_RESTARTS)
        return columns

    best = selected()
    if config.loss.shots is None or not is_balanced(config):
        return best
    first = noise_of_choice(pool, best, config, config.loss.shots)
    if first.noise <= MUCH * first.loss:
        return best
    least = (1.0 - GAIN) * first.trained
    for share in STRICTER:
        other = selected(dependent=share)
        trained = noise_of_choice(pool, other, config, config.loss.shots).trained
        if trained < least:
            best, least = other, trained
    return best


class NoiseOfChoice(NamedTuple):
    """What some channels come to, in units of the loss."""

    loss: float  # loss of the linear model
    noise: float  # what measuring its balanced readouts would add on average
    trained: float  # loss without noise where the sum of both is least


def noise_of_choice(pool: PoolStatistics, columns: IntArray, config: TrainConfig, shots: int) -> NoiseOfChoice:
    """Loss of linear models on some columns, and the noise of measuring them."""
    constant, linear = pool.equations.constant, linear_terms(pool, columns, feature_maps(pool, columns))
    noise, ridge, begin = 0.0, np.zeros(len(linear.terms)), 0
    for count in linear.counts:
        for size in register_sizes(config, count):
            own = slice(begin, begin + size)
            terms = linear.terms[own]
            entries = np.zeros(((size + 1) * (size + 2) // 2,) * 2)
            # Entry M_0k of the upper triangle stands for 2 M_0k y_k.
            entries[1 : size + 1, 1 : size + 1] = 4.0 * linear.gram[own, own]
            register = BalancedRegister.of(entries, size + 1, config.circuit.n_qubits)
            added = register.shot_noise(terms, 1.0)[0] / shots
            noise, ridge[own] = noise + added, added / max(float(terms @ terms), 1e-300)
            begin += size
    shrunk = solve_scaled(linear.gram + np.diag(ridge), linear.moment)
    trained = constant - float(linear.moment @ shrunk) - float(shrunk**2 @ ridge)
    return NoiseOfChoice(constant - float(linear.terms @ linear.moment), noise, trained)


def register_spec(config: TrainConfig) -> AnsatzSpec:
    """Ansatz of every register; all have the same circuit."""
    circuit = config.circuit
    return AnsatzSpec(
        family=circuit.family,
        readout=circuit.readout if isinstance(circuit.readout, str) else tuple(circuit.readout),
        n_amplitudes=2**circuit.n_qubits,
        layers=circuit.layers,
    )


def is_balanced(config: TrainConfig) -> bool:
    """Whether readouts are balanced: those of rank-one trees, where the angles can follow the linear terms."""
    return config.circuit.family == "ry_tree"


def register_sizes(config: TrainConfig, n_features: int) -> tuple[int, ...]:
    """Features of each register of a species: as many full registers as there are, and one for the rest."""
    largest = 2**config.circuit.n_qubits - 1
    full, rest = divmod(n_features, int(largest))
    return (largest,) * full + ((rest,) if rest else ())


def size_limits(config: TrainConfig, species: tuple[int, ...], n_references: int) -> SizeLimits:
    """Numbers of features that the budget allows.

    A balanced register counts one parameter per feature, so the species share the budget freely and the data decides
    who gets how much. Other registers count the parameters of their circuit; every species gets as many of them.
    """
    count, free = len(species), config.max_parameters - n_references
    each = 1 if is_balanced(config) else register_spec(config).n_parameters
    if free < each * count:
        raise BudgetError(
            f"max_parameters is {config.max_parameters}, but {count} species need at least {each} each beside "
            f"{n_references} reference energies ({each * count + n_references} in all); raise it"
            + (
                "."
                if is_balanced(config)
                else ", lower circuit.n_qubits or layers, list fewer readouts, or choose 'ry_tree'."
            )
        )
    if is_balanced(config):
        return SizeLimits(total=free, per_species=free)
    features = free // (each * count) * (2**config.circuit.n_qubits - 1)
    return SizeLimits(total=features * count, per_species=features)


def fit_pool(descriptor: ResolvedDescriptor, n_species: int, *, lower: bool = False) -> PoolSettings:
    """Pool settings within :data:`MAX_POOL` channels.

    Three-body channels combine all radial functions, or only equal ones where all would be too many.

    Args:
        lower: Whether there may be fewer radial functions than the configuration says.
    """
    pairs: tuple[Literal["all", "same"], ...] = ("all", "same")
    for radial_pairs in pairs:
        for n_radial in range(descriptor.n_radial, 1 if lower else descriptor.n_radial - 1, -1):
            settings = PoolSettings(
                r_cut=descriptor.r_cut, n_radial=n_radial, l_max=descriptor.l_max, radial_pairs=radial_pairs
            )
            size = n_species * settings.n_channels(n_species)
            if size <= MAX_POOL:
                return settings
    lowest = [name for name, least in (("n_radial", 2), ("l_max", 0)) if getattr(settings, name) > least]
    remedy = f"Lower {' or '.join(lowest)}." if lowest else "These are too many elements for one model."
    raise ConfigError(
        f"descriptor: {n_species} elements make a pool of at least {size:,} channels (n_radial {settings.n_radial}, "
        f"l_max {settings.l_max}; its Gram matrix takes {8 * size**2 / 1e9:.1f} GB), more than {MAX_POOL:,}. "
        f"{remedy}"
    )


def posterior_of(
    frames: Sequence[Frame],
    maps: dict[int, LinearMap],
    statistics: QuadraticStatistics,
    *,
    r_cut: float,
    progress: Progress,
) -> Posterior:
    """The posterior of unit noise from sums over some frames, and where their atoms are."""
    covariance = linear_covariance(statistics)
    features, squares = training_features(frames, maps, r_cut=r_cut, progress=progress)
    edges, directions, reaches, end = [], [], [], 0
    for parts, square in zip(features, squares, strict=True):
        own = slice(end, end + len(square))
        grades = np.concatenate([lengths(part, covariance[own, own]) for part in parts])
        edges.append(np.quantile(grades, QUANTILE))
        directions.append(directions_of(square / len(grades)))
        along = np.concatenate([part @ directions[-1].T for part in parts])
        # The mean environment, v = 0, is always inside.
        reaches.append([along.min(axis=0, initial=0.0), along.max(axis=0, initial=0.0)])
        end = own.stop
    return Posterior(
        covariance=covariance,
        edges=np.array(edges),
        counts=np.array([sum(map(len, parts)) for parts in features]),
        directions=tuple(directions),
        reach=np.concatenate(reaches, axis=1),
    )


def directions_of(moments: FloatArray) -> FloatArray:
    """V with uncorrelated v = V y of variance one, or less in directions that hardly vary.

    Args:
        moments: Mean of ``y y^T`` over the training atoms, shape ``(d, d)``.

    Returns:
        Shape ``(d, d)``.
    """
    scale = np.sqrt(np.diagonal(moments))
    inverse = np.where(scale > 0.0, 1.0 / np.where(scale > 0.0, scale, 1.0), 1.0)
    values, vectors = np.linalg.eigh(moments * np.outer(inverse, inverse))
    directions: FloatArray = (vectors / np.sqrt(np.maximum(values, FLOOR))).T * inverse
    return directions


def linear_covariance(statistics: QuadraticStatistics) -> FloatArray:
    """Inverse of the Gram matrix of the model's linear terms.

    Returns:
        Of the features of all species and one reference energy a species, shape ``(P + S, P + S)``, in eV^2 per unit of
        loss. Combinations of reference energies that the compositions do not determine do not move.
    """
    starts, sizes, directions = statistics.starts, statistics.sizes, statistics.references.directions
    features = [np.arange(starts[r] + 1, starts[r] + sizes[r]) for r in range(len(sizes))]
    columns = np.concatenate([*features, np.arange(starts[-1], len(statistics.equations.moment))])
    n_features = len(columns) - directions.shape[1]
    units = np.ones(len(columns))
    units[:n_features] = 2.0  # the column of M_0a is 2 y_a
    gram = statistics.equations.gram[np.ix_(columns, columns)] / np.outer(units, units)
    diagonal = np.diagonal(gram)
    scale = 1.0 / np.sqrt(np.maximum(diagonal, 1e-14 * diagonal.max()))
    values, vectors = np.linalg.eigh(gram * np.outer(scale, scale))
    vectors = vectors * scale[:, None]
    inverse = (vectors / np.maximum(values, SOFTEST * values[-1])) @ vectors.T
    spread = np.zeros((n_features + len(directions), len(columns)))
    spread[:n_features, :n_features] = np.eye(n_features)
    spread[n_features:, n_features:] = directions
    covariance: FloatArray = spread @ inverse @ spread.T
    return 0.5 * (covariance + covariance.T)
