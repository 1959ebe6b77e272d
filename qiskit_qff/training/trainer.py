"""Training from frames to force field: pool, compression, statistics, circuit, in that order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from qiskit_qff.array_types import FloatArray
from qiskit_qff.compression.compressor import PoolStatistics, SizeLimits
from qiskit_qff.compression.feature_basis import FeatureBasis
from qiskit_qff.compression.forward_selection import ForwardSelection, SelectionPath
from qiskit_qff.compression.linear_map import LinearMap
from qiskit_qff.compression.principal_components import PrincipalComponents
from qiskit_qff.errors import DataError
from qiskit_qff.model.config import ResolvedConfig, TrainConfig
from qiskit_qff.model.core_repulsion import CoreRepulsion
from qiskit_qff.model.domain import TrainingDomain
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.register import Register
from qiskit_qff.model.species_model import SpeciesModel
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.species import species_of
from qiskit_qff.training.budget import parameter_layout, register_sizes, size_limits
from qiskit_qff.training.column_choice import choose_columns
from qiskit_qff.training.defaults import resolve_config
from qiskit_qff.training.design import LossWeights, Progress
from qiskit_qff.training.domains import training_domains
from qiskit_qff.training.objective import Objective
from qiskit_qff.training.optimisation import optimise
from qiskit_qff.training.pool_sums import sum_pool
from qiskit_qff.training.references import reference_count
from qiskit_qff.training.solver import Restart
from qiskit_qff.training.spread import draw_spread
from qiskit_qff.training.statistics import (
    QuadraticStatistics,
    find_shortest,
    quadratic_statistics,
)
from qiskit_qff.training.workers import Workers


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
    bound: float
    """Loss of the best symmetric matrices of the same registers; no circuit can be better."""
    selection: SelectionPath | None
    """Order in which channels were chosen; None for PCA."""

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
    """Order in which channels were chosen; None where they were not chosen here, or for PCA."""
    domains: Mapping[int, TrainingDomain] = field(default_factory=dict)
    """Feature statistics per species; empty if not computed."""
    n_frames: int = 0
    """Frames behind the loss; 0 if not counted."""

    def result(self, runs: Sequence[Restart]) -> TrainingResult:
        """The outcome of some optimisations.

        Args:
            runs: At least one, best first.
        """
        best = runs[0].parameters
        return TrainingResult(
            force_field=self.force_field(best),
            restarts=tuple(runs),
            loss=self.objective.fit_loss(best),
            linear_loss=self.objective.linear_solution()[0],
            bound=self.objective.bound()[0],
            selection=self.selection,
        )

    def force_field(self, parameters: FloatArray) -> ForceField:
        """Force field of some parameters.

        Args:
            parameters: p, shape ``(P,)``.
        """
        return _assemble(self, parameters)


def prepare(
    frames: Sequence[Frame],
    config: TrainConfig,
    *,
    pool: PoolStatistics | None = None,
    progress: Progress | None = None,
    workers: Workers | None = None,
) -> PreparedTraining:
    """Choose channels and sum up the data; later steps need only the accumulated sums.

    Args:
        frames: Training frames with energies and forces.
        config: Descriptor, compression, circuit and loss.
        pool: What :func:`sum_pool` says of these frames and this descriptor; summed up here by default.
        progress: Called with a stage's name, work done and work in all.
        workers: Processes to sum over frames on; this one by default.

    Raises:
        DataError: If a frame lacks its energy or forces, or a species never has a neighbour.
        BudgetError: If the chosen circuit needs more parameters than ``config.max_parameters``.
    """
    report = progress or _silent
    weights = loss_weights(config)
    check_labels(frames, weights)
    config, _ = resolve_config(config, frames)
    species = species_of(frames)
    limits = size_limits(config, species, reference_count(frames, species))
    shortest = find_shortest(frames, species, config.descriptor.r_cut, report)
    check_reach(species, shortest, config.descriptor.r_cut)
    if pool is None:
        pool = sum_pool(frames, species, shortest, config, weights, report, workers)
    maps, selection = compress(pool, config, limits, progress=report)
    del pool
    r_cut = config.descriptor.r_cut
    registers = {number: register_sizes(config, own.n_features) for number, own in maps.items()}
    statistics = quadratic_statistics(
        frames, maps, registers, r_cut=r_cut, weights=weights, progress=report, workers=workers
    )
    layout = parameter_layout(config, maps, statistics.references.count)
    repulsion = CoreRepulsion.from_shortest_distances(species, shortest, cutoff=config.descriptor.r_cut)
    objective = Objective(statistics, layout, shots=config.loss.shots)
    domains = training_domains(frames, maps, r_cut=r_cut, progress=report, workers=workers)
    return PreparedTraining(config, objective, maps, repulsion, selection, domains, len(frames))


def fit(
    prepared: PreparedTraining,
    *,
    rng: np.random.Generator,
    progress: Progress | None = None,
    further: FloatArray | None = None,
) -> TrainingResult:
    """Optimise the circuit on computed losses.

    Args:
        prepared: The data.
        rng: Source of random starts.
        progress: Called with a stage's name, work done and work in all.
        further: One more start beside those of the configuration, shape ``(P,)``.
    """
    objective = prepared.objective
    runs = optimise(objective, prepared.config, rng=rng, progress=progress or _silent, further=further)
    result = prepared.result(runs)
    if not prepared.n_frames:
        return result
    spread = draw_spread(objective, runs[0].parameters, n_frames=prepared.n_frames, rng=rng)
    models = tuple(replace(m, spread=spread[m.number]) for m in result.force_field.models)
    return replace(result, force_field=replace(result.force_field, models=models))


def check_labels(frames: Sequence[Frame], weights: LossWeights) -> None:
    """Refuse frames that can't be learnt from.

    Args:
        frames: The frames.
        weights: The loss.

    Raises:
        DataError: If there are none, one lacks energy or forces or holds a number that is not finite, or stresses are
            to be fitted and no frame has one.
    """
    if not frames:
        raise DataError("There are no frames to train on; give a file that holds at least one labelled frame.")
    for frame in frames:
        for name, value in (("energy", frame.energy), ("forces", frame.forces)):
            if value is None:
                raise DataError(
                    f"{frame.where}: no {name}; training needs energies and forces of every frame. "
                    "'qff validate' lists all such frames."
                )
            if not np.isfinite(value).all():
                raise DataError(f"{frame.where}: {name} not finite (NaN or inf); remove the frame or label it again.")
        if frame.stress is not None and weights.has_stress(frame) and not np.isfinite(frame.stress).all():
            raise DataError(f"{frame.where}: stress not finite (NaN or inf); remove it or label the frame again.")
    if weights.stress_scale is not None and not any(map(weights.has_stress, frames)):
        raise DataError(
            f"loss.stress_scale_mev_per_ang3 is set, but none of the {len(frames)} training frames has a stress (and "
            "three periods); leave it out (null), or label frames with stresses. 'qff validate' counts them."
        )


def check_reach(species: Sequence[int], shortest: FloatArray, r_cut: float) -> None:
    """Refuse species whose atoms never have a neighbour: they have no channel, hence no circuit.

    Args:
        species: Atomic numbers.
        shortest: Shortest distance of every pair, shape ``(S, S)``, in Å; ``inf`` beyond the cutoff.
        r_cut: Cutoff radius in Å.

    Raises:
        DataError: Naming them.
    """
    alone = [chemical_symbols[z] for z, row in zip(species, shortest, strict=True) if not np.isfinite(row).any()]
    if alone:
        raise DataError(
            f"no atom of {', '.join(alone)} has a neighbour within the cutoff of {r_cut:g} Å in any training frame; "
            "raise descriptor.r_cut (--r-cut), or add frames in which it has one."
        )


def loss_weights(config: TrainConfig) -> LossWeights:
    """The loss of a configuration in eV and Å.

    Args:
        config: The configuration.
    """
    loss = config.loss
    return LossWeights(
        energy_scale=1e-3 * loss.energy_scale_mev_per_atom,
        force_scale=1e-3 * loss.force_scale_mev_per_ang,
        force_noise={atomic_numbers[s]: 1e-3 * v for s, v in loss.force_noise_mev_per_ang.items()},
        element_weights={atomic_numbers[s]: f for s, f in loss.element_weights.items()},
        remove_net_force=loss.remove_net_force,
        stress_scale=None if loss.stress_scale_mev_per_ang3 is None else 1e-3 * loss.stress_scale_mev_per_ang3,
    )


def _silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


def compress(
    pool: PoolStatistics, config: ResolvedConfig, limits: SizeLimits, *, progress: Progress | None = None
) -> tuple[dict[int, LinearMap], SelectionPath | None]:
    """Compress with the configured method.

    Args:
        pool: Sums over the pool.
        config: The configuration.
        limits: Numbers of features allowed.
        progress: Called as work proceeds.

    Returns:
        A map per species, and the order of choice where channels were chosen.
    """
    basis = FeatureBasis(decorrelate=config.compression.decorrelate, norm=config.compression.feature_norm)
    if config.compression.method == "pca":
        return PrincipalComponents(basis).fit(pool, limits), None
    report, rounds = progress or _silent, config.compression.search_rounds
    selector = ForwardSelection(rounds=rounds, seed=config.compression.search_seed, basis=basis)
    path = choose_columns(pool, config, limits, selector, progress=lambda k: report("channels", k, rounds))
    report("channels", rounds, rounds)
    return selector.sorted_maps(pool, path), path


def _assemble(prepared: PreparedTraining, parameters: FloatArray) -> ForceField:
    """Force field of a parameter vector."""
    statistics: QuadraticStatistics = prepared.objective.statistics
    layout, maps, config = prepared.objective.layout, prepared.maps, prepared.config
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
        domain = prepared.domains.get(number)
        models.append(SpeciesModel(number, maps[number], registers, float(references[s]), domain=domain))
    raw = ForceField(
        models=tuple(models),
        r_cut=config.descriptor.r_cut,
        repulsion=prepared.repulsion,
        fitted_references=layout.n_references,
        metadata={"config": config.model_dump(mode="json"), "elements": [chemical_symbols[z] for z in maps]},
    )
    return raw.with_mean_environment_references()
