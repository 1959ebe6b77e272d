r"""Training from frames to force field: pool, channels, statistics, circuit, posterior, in that order.

*Channels that can be measured.* A pair of species is seen from either side, and two channels that differ little can be
chosen with huge coefficients of opposite sign. A linear model loses nothing by that, and decorrelating the features of
a species does not see it, but the readouts of a circuit grow with the coefficients and a measured M drowns in noise. So
where the noise of the assumed shots would add much to the loss of the linear model, channels are chosen again, of whose
norm more must be new. Training lowers the sum of loss and noise, and a balanced readout's noise is a multiple of the
square of its terms, so where it ends on each choice is a ridge regression away. Another choice is taken where the loss
that is left there, noise not counted, falls by much: noise can be bought off with shots, the errors of a model can't.

*Channels of an existing model*, for data that grew. What costs most of a training, the sums over the whole pool and the
search for channels, is left out; sums over the chosen features, posterior and the core repulsion come from the new
frames. The model's own parameters are where training on a backend starts; exact training finds its optimum without
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase.data import chemical_symbols
from threadpoolctl import threadpool_limits

from qiskit_qff.array_types import FloatArray
from qiskit_qff.compression.linear_map import LinearMap
from qiskit_qff.compression.search import SelectionPath, SizeLimits
from qiskit_qff.compression.selection import (
    SELECTED,
    PoolStatistics,
    feature_maps,
    linear_terms,
    product_pool,
    select_channels,
)
from qiskit_qff.errors import BudgetError, DataError
from qiskit_qff.model.config import ResolvedConfig, TrainConfig
from qiskit_qff.model.core_repulsion import CoreRepulsion
from qiskit_qff.model.evaluation import FoldedForceField, Prediction
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.species_model import Register, SpeciesModel
from qiskit_qff.model.uncertainty import Posterior
from qiskit_qff.structures.frame import Frame, species_index, species_of
from qiskit_qff.structures.neighbors import neighbor_list
from qiskit_qff.training.balance import BalancedRegister, minimise_balanced
from qiskit_qff.training.defaults import (
    fit_pool,
    is_balanced,
    parameter_layout,
    register_sizes,
    resolve_config,
    size_limits,
)
from qiskit_qff.training.loss import LossWeights, Progress, check_labels, reference_count
from qiskit_qff.training.objective import Objective, ParameterLayout, Restart, minimise, solve_scaled
from qiskit_qff.training.posterior import posterior_of
from qiskit_qff.training.statistics import (
    channel_statistics,
    find_shortest,
    pool_statistics,
    quadratic_statistics,
)


def prepare_from_model(
    frames: Sequence[Frame],
    config: TrainConfig,
    field: ForceField,
    *,
    progress: Progress,
    same_repulsion: bool = False,
) -> tuple[PreparedTraining, FloatArray]:
    """Sum up the data in the features of a model.

    Returns:
        The prepared data, and the model's own parameters for it, shape ``(P,)``.
    """
    loss = LossWeights.of(config)
    check_labels(frames, loss)
    found, known = species_of(frames), field.species
    if found != known:
        names = [" ".join(chemical_symbols[z] for z in numbers) for numbers in (known, found)]
        raise DataError(f"the model to start from knows the elements {names[0]}, the training frames hold {names[1]}.")
    registers, n_references = list(field.registers.values()), reference_count(frames, field.species)
    layout = ParameterLayout(
        tuple(register.ansatz for register in registers),
        tuple(register.n_features + 1 for register in registers),
        n_references,
        balanced=all(register.balanced for register in registers),
    )
    if layout.n_trainable > config.max_parameters:
        raise BudgetError(
            f"the model to start from has {layout.n_trainable} trainable parameters, more than max_parameters = "
            f"{config.max_parameters}; raise it, or start from a smaller model."
        )
    maps, r_cut = {m.number: m.compression for m in field.models}, field.r_cut
    held = {m.number: [register.n_features for register in m.registers] for m in field.models}
    statistics = quadratic_statistics(frames, maps, held, r_cut=r_cut, weights=loss, progress=progress)
    own = config.descriptor.model_copy(update={"r_cut": r_cut})
    used, _ = resolve_config(config.model_copy(update={"descriptor": own}), frames)
    objective = Objective(statistics, layout, shots=config.loss.shots)
    parameters = np.zeros(layout.n_parameters)
    parameters[: layout.n_angles] = np.concatenate([register.theta for register in registers])
    parameters[layout.all_weights] = np.concatenate([register.weights for register in registers])
    posterior = posterior_of(frames, maps, statistics, r_cut=r_cut, progress=progress)
    repulsion = field.repulsion
    if not same_repulsion:
        shortest = find_shortest(frames, found, r_cut, progress)
        repulsion = CoreRepulsion.from_shortest_distances(found, shortest, cutoff=r_cut)
    prepared = PreparedTraining(used, objective, maps, repulsion, None, posterior, len(frames))
    return prepared, parameters


SELECTION_FRAMES = 100
"""Most frames whose forces channels are chosen by."""
SEARCH_RESTARTS = 30
"""Random restarts of the swap search that follows greedy selection of channels."""
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


@dataclass(frozen=True, eq=False)
class LinearModel:
    """The best linear model on the features of a circuit, to judge the circuit by."""

    folded: FoldedForceField
    """Channels and matrices that hold linear terms only."""
    species: tuple[int, ...]
    """Atomic numbers, ascending."""
    r_cut: float
    """Cutoff radius in Å."""

    def predict(self, frame: Frame) -> Prediction:
        """Evaluate one structure."""
        neighbors = neighbor_list(frame.positions, frame.cell, frame.pbc, self.r_cut)
        return self.folded.evaluate(species_index(frame.numbers, self.species, where=frame.where), neighbors)


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
    linear: LinearModel
    """That model."""
    bound: float
    """Loss of the best symmetric matrices of the same registers; no circuit can be better."""
    selection: SelectionPath | None
    """Order in which channels were chosen; None where they were not chosen here."""

    @property
    def gap(self) -> float:
        """How far the circuit stays above the bound, in units of loss."""
        return self.loss - self.bound


@dataclass(frozen=True, eq=False)
class PreparedTraining:
    """Data in the form that any optimiser of the circuit takes."""

    config: ResolvedConfig
    """The settings."""
    objective: Objective
    """The loss of angles, readout weights and reference energies."""
    maps: dict[int, LinearMap]
    """Compression of each species."""
    repulsion: CoreRepulsion
    """Core repulsion that joins the force field."""
    selection: SelectionPath | None
    """Order in which channels were chosen; None where they were not chosen here."""
    posterior: Posterior | None = None
    """What the data leave open, of unit noise; None if not computed."""
    n_frames: int = 0
    """Frames behind the loss; 0 if not counted."""

    def result(self, runs: Sequence[Restart]) -> TrainingResult:
        """The outcome of some optimisations."""
        best = runs[0].parameters
        loss, model = self.objective.fit_loss(best), self.force_field(best)
        if self.posterior is not None:
            noise = float(np.sqrt(max(loss, 0.0) / self.n_frames))
            model = replace(model, posterior=replace(self.posterior, noise=noise))
        return TrainingResult(
            force_field=model,
            restarts=tuple(runs),
            loss=loss,
            linear_loss=self.objective.linear_solution()[0],
            linear=self.linear_model(model),
            bound=self.objective.bound()[0],
            selection=self.selection,
        )

    def linear_model(self, circuits: ForceField) -> LinearModel:
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
        folded = FoldedForceField.of(models, matrices, r_cut=circuits.r_cut, repulsion=circuits.repulsion)
        return LinearModel(folded, circuits.species, circuits.r_cut)

    def force_field(self, parameters: FloatArray) -> ForceField:
        """Force field of some parameters.

        Args:
            parameters: p, shape ``(P,)``.
        """
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
            models.append(SpeciesModel(number, self.maps[number], registers, float(references[s])))
        raw = ForceField(
            models=tuple(models),
            r_cut=config.descriptor.r_cut,
            repulsion=self.repulsion,
            fitted_references=layout.n_references,
            metadata={"config": config.model_dump(mode="json"), "elements": [chemical_symbols[z] for z in self.maps]},
        )
        return raw.with_mean_environment_references()


def prepare(
    frames: Sequence[Frame],
    config: TrainConfig,
    *,
    pool: PoolStatistics | None = None,
    progress: Progress | None = None,
) -> PreparedTraining:
    """Choose channels and sum up the data; later steps need only the accumulated sums.

    Args:
        pool: What :func:`sum_pool` says of these frames and this descriptor; summed up here by default.
    """
    report = progress or _silent
    weights = LossWeights.of(config)
    check_labels(frames, weights)
    config, _ = resolve_config(config, frames)
    species = species_of(frames)
    limits = size_limits(config, species, reference_count(frames, species))
    shortest = find_shortest(frames, species, config.descriptor.r_cut, report)
    check_reach(species, shortest, config.descriptor.r_cut)
    if pool is None:
        pool = sum_pool(frames, species, shortest, config, weights, report)
    selection = choose_channels(pool, config, limits, progress=report)
    maps = feature_maps(pool, selection)
    del pool
    r_cut = config.descriptor.r_cut
    registers = {number: register_sizes(config, own.n_features) for number, own in maps.items()}
    statistics = quadratic_statistics(frames, maps, registers, r_cut=r_cut, weights=weights, progress=report)
    layout = parameter_layout(config, maps, statistics.references.count)
    repulsion = CoreRepulsion.from_shortest_distances(species, shortest, cutoff=config.descriptor.r_cut)
    objective = Objective(statistics, layout, shots=config.loss.shots)
    posterior = posterior_of(frames, maps, statistics, r_cut=r_cut, progress=report)
    return PreparedTraining(config, objective, maps, repulsion, selection, posterior, len(frames))


def fit(prepared: PreparedTraining, *, rng: np.random.Generator, progress: Progress | None = None) -> TrainingResult:
    """Optimise the circuit on computed losses."""
    objective, report = prepared.objective, progress or _silent
    search = minimise_balanced if objective.layout.balanced else minimise
    # PERF: matrices of a hundred rows; several BLAS threads spent 10 to 20 s waiting for each other, one needs 2 s.
    with threadpool_limits(1, "blas"):
        runs = search(objective, rng=rng, progress=report)
    return prepared.result(runs)


def check_reach(species: Sequence[int], shortest: FloatArray, r_cut: float) -> None:
    """Refuse species whose atoms never have a neighbour: they have no channel, hence no circuit.

    Args:
        shortest: Shortest distance of every pair, shape ``(S, S)``, in Å; ``inf`` beyond the cutoff.
        r_cut: Cutoff radius in Å.
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
    settings = fit_pool(config.descriptor, species)
    count = min(len(frames), SELECTION_FRAMES)
    places = {int(k) for k in np.linspace(0, len(frames) - 1, count).round()}
    known = set(species_of([frames[k] for k in places]))
    # A species that only some frames contain must be in the pool's sums too.
    places |= {k for k, frame in enumerate(frames) if not set(frame.numbers.tolist()) <= known}
    chosen, others = ([f for k, f in enumerate(frames) if (k in places) == side] for side in (True, False))
    pool = pool_statistics(
        chosen, species, shortest, settings=settings, weights=weights, progress=progress, others=others
    )
    labels = sum(3 * frame.n_atoms + 1 for frame in chosen)
    selected = min(SELECTED, labels // LABELS_PER_CHANNEL)
    for k in range(config.descriptor.products):
        sets, start = product_pool(pool, most=MAX_PRODUCTS, selected=selected)
        # PERF: the sums of the last pool fill hundreds of MiB.
        del pool
        pool = channel_statistics(
            chosen, sets, r_cut=settings.r_cut, weights=weights, progress=progress, others=others,
            stage=f"products {k + 1}",
        )  # fmt: skip
        pool = replace(pool, start=start)
    return pool


def choose_channels(
    pool: PoolStatistics, config: TrainConfig, limits: SizeLimits, *, progress: Progress | None = None
) -> SelectionPath:
    """Select channels, again where shot noise would cost much."""
    report = progress or _silent

    def selected(**options: float) -> SelectionPath:
        path = select_channels(
            pool, limits, restarts=SEARCH_RESTARTS, progress=lambda k: report("channels", k, SEARCH_RESTARTS), **options
        )
        report("channels", SEARCH_RESTARTS, SEARCH_RESTARTS)
        return path

    best = selected()
    if config.loss.shots is None or not is_balanced(config):
        return best
    first = noise_of_choice(pool, best, config)
    if first.noise <= MUCH * first.loss:
        return best
    least = (1.0 - GAIN) * first.trained
    for share in STRICTER:
        other = selected(dependent=share)
        found = noise_of_choice(pool, other, config)
        if found.trained < least:
            best, least = other, found.trained
    return best


@dataclass(frozen=True)
class NoiseOfChoice:
    """What some columns come to, in units of the loss."""

    loss: float
    """Loss of the linear model."""
    noise: float
    """What measuring its balanced readouts would add on average."""
    reachable: float
    """Least sum of both over the linear terms."""
    trained: float
    """The loss in this sum."""


def noise_of_choice(pool: PoolStatistics, path: SelectionPath, config: TrainConfig) -> NoiseOfChoice:
    """Loss of linear models on some columns, and the noise of measuring them."""
    assert config.loss.shots is not None  # for the type checker: nobody asks otherwise
    equations = pool.equations
    linear = linear_terms(pool, path, feature_maps(pool, path))
    noise, ridge = 0.0, np.zeros(len(linear.terms))
    n_qubits, begin = config.circuit.n_qubits, 0
    for count in linear.counts:
        for size in register_sizes(config, count):
            own = slice(begin, begin + size)
            added = _noise(linear.terms[own], linear.gram[own, own], n_qubits) / config.loss.shots
            noise, ridge[own] = noise + added, added / max(float(linear.terms[own] @ linear.terms[own]), 1e-300)
            begin += size
    shrunk = solve_scaled(linear.gram + np.diag(ridge), linear.moment)
    least = equations.constant - float(linear.moment @ shrunk)
    trained = least - float(shrunk**2 @ ridge)
    return NoiseOfChoice(equations.constant - float(linear.terms @ linear.moment), noise, least, trained)


def _noise(terms: FloatArray, gram: FloatArray, n_qubits: int) -> float:
    """Loss that one shot per setting adds to a balanced register.

    Args:
        terms: Linear terms of its features, shape ``(d,)``, in eV.
        gram: Second moments of the features in units of the loss, shape ``(d, d)``.
    """
    size = len(terms) + 1
    entries = np.zeros((size * (size + 1) // 2,) * 2)
    # Entry M_0k of the upper triangle stands for 2 M_0k y_k.
    entries[1:size, 1:size] = 4.0 * gram
    return BalancedRegister.of(entries, size, n_qubits).shot_noise(terms, 1.0)[0]


def _silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""
