"""All baselines that need nothing but channels: one pool, one loss, one budget, the frames of ``qff train``.

Each model may use the whole budget: where the circuit spends a weight per species, the linear model spends one more
channel. Channels are chosen by the same orthogonal forward selection with exchanges, from the same pool, on the same
frames; only *how many* differs, and no baseline is held to the size of a register. Every model spends the same
number of parameters on reference energies: the rank of the training compositions
(:mod:`qiskit_qff.training.references`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import block_diag

from qiskit_qff.array_types import FloatArray
from qiskit_qff.compression.compressor import PoolStatistics, SizeLimits
from qiskit_qff.compression.feature_basis import FeatureBasis
from qiskit_qff.compression.forward_selection import ForwardSelection
from qiskit_qff.compression.linear_map import LinearMap
from qiskit_qff.errors import BudgetError
from qiskit_qff.model.config import ResolvedConfig, TrainConfig
from qiskit_qff.model.core_repulsion import CoreRepulsion
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.species import species_of
from qiskit_qff.training.baselines.atom_features import atom_features
from qiskit_qff.training.baselines.baseline import Baseline, with_core
from qiskit_qff.training.baselines.linear import (
    ChannelRows,
    LinearSums,
    linear_baseline,
    linear_sums,
    mean_baseline,
)
from qiskit_qff.training.baselines.low_rank import fit_low_rank, low_rank_baseline
from qiskit_qff.training.baselines.perceptron import (
    PerceptronLoss,
    PerceptronShape,
    fit_perceptron,
    perceptron_baseline,
    start_parameters,
)
from qiskit_qff.training.budget import size_limits
from qiskit_qff.training.defaults import resolve_config
from qiskit_qff.training.design import LossWeights, Progress
from qiskit_qff.training.pool_sums import sum_pool
from qiskit_qff.training.references import fit_references, reference_count
from qiskit_qff.training.statistics import find_shortest, quadratic_statistics
from qiskit_qff.training.trainer import check_labels, check_reach, compress, loss_weights

HIDDEN = 2
"""Units of the network per species."""
NETWORK_FRAMES = 100
"""Most frames that the network, whose features are kept in memory, is fitted to; evenly chosen."""
NETWORK_STARTS, NETWORK_ITERATIONS = 2, 500
LOW_RANK_STARTS = 6


@dataclass(frozen=True, eq=False)
class BaselineData:
    """What all baselines share."""

    frames: list[Frame]
    """Training frames."""
    config: ResolvedConfig
    """What ``qff train`` would be asked for."""
    species: tuple[int, ...]
    """Atomic numbers, ascending."""
    pool: PoolStatistics
    """Sums over the pool of channels."""
    weights: LossWeights
    """The loss."""
    repulsion: CoreRepulsion
    """Core repulsion without a trainable parameter."""
    maps: dict[int, LinearMap]
    """The circuit's own compression."""

    @property
    def n_references(self) -> int:
        """Reference energies that the frames can tell apart: so many numbers every model spends on them."""
        return reference_count(self.frames, self.species)


def gather(
    frames: Sequence[Frame],
    config: TrainConfig,
    *,
    maps: dict[int, LinearMap] | None = None,
    progress: Progress,
) -> BaselineData:
    """Sum up the pool, and compress it as the circuit would.

    Args:
        frames: Training frames.
        config: What ``qff train`` would be asked for.
        maps: Compression of a trained model; found anew by default.
        progress: Called as work proceeds.

    Raises:
        DataError: If a frame lacks its energy or forces, or a species never has a neighbour.
        BudgetError: If the budget does not suffice for the circuit.
    """
    weights = loss_weights(config)
    check_labels(frames, weights)
    settings, _ = resolve_config(config, frames)
    species, r_cut = species_of(frames), settings.descriptor.r_cut
    limits = size_limits(settings, species, reference_count(frames, species))
    shortest = find_shortest(frames, species, r_cut, progress)
    check_reach(species, shortest, r_cut)
    pool = sum_pool(frames, species, shortest, settings, weights, progress)
    repulsion = CoreRepulsion.from_shortest_distances(species, shortest, cutoff=r_cut)
    own = compress(pool, settings, limits)[0] if maps is None else maps
    return BaselineData(list(frames), settings, species, pool, weights, repulsion, own)


def predicting_the_mean(data: BaselineData, _rng: np.random.Generator, _progress: Progress) -> Baseline:
    """No force, and the mean energy of the composition."""
    return mean_baseline(data.frames, data.species)


def linear_same_channels(data: BaselineData, _rng: np.random.Generator, progress: Progress) -> Baseline:
    """Linear in the circuit's own features."""
    if data.config.compression.method == "forward_selection":
        # Every feature is a combination of chosen channels, and there are as many of both.
        return _linear(data, "linear_same_channels", "linear, the circuit's channels", data.maps, progress)
    statistics = quadratic_statistics(
        data.frames,
        data.maps,
        _whole(data.maps),
        r_cut=data.config.descriptor.r_cut,
        weights=data.weights,
        progress=progress,
    )
    fit = fit_low_rank(statistics, 0, starts=1, rng=np.random.default_rng(0))
    return low_rank_baseline(
        "linear_same_channels", "linear, the circuit's features", fit, data.maps, data.repulsion,
        r_cut=data.config.descriptor.r_cut,
    )  # fmt: skip


def linear_selected(data: BaselineData, _rng: np.random.Generator, progress: Progress) -> Baseline:
    """Linear in as many selected channels as the budget allows."""
    maps = select(data, data.config.max_parameters - data.n_references)
    return _linear(data, "linear_selected", "linear, selected channels, full budget", maps, progress)


def quadratic_rank_one(data: BaselineData, rng: np.random.Generator, progress: Progress) -> Baseline:
    """Linear and one square per species."""
    return _low_rank(data, 1, rng, progress)


def quadratic_rank_two(data: BaselineData, rng: np.random.Generator, progress: Progress) -> Baseline:
    """Linear and two squares per species."""
    return _low_rank(data, 2, rng, progress)


def network(data: BaselineData, rng: np.random.Generator, progress: Progress) -> Baseline:
    """A small neural network per species."""
    count = len(data.species)
    maps = select(data, (data.config.max_parameters - data.n_references - 2 * HIDDEN * count) // HIDDEN)
    keep = np.linspace(0, len(data.frames) - 1, min(len(data.frames), NETWORK_FRAMES)).round().astype(int)
    frames = [data.frames[k] for k in keep]
    weights, r_cut = data.weights, data.config.descriptor.r_cut
    atoms = atom_features(frames, maps, r_cut=r_cut, strained=weights.has_stress, progress=progress)
    references = fit_references(frames, data.species)
    shape = PerceptronShape(HIDDEN, tuple(maps[z].n_features for z in data.species), references.count)
    loss = PerceptronLoss(frames, atoms, shape, weights=weights, references=references)
    beta, energies = _linear_start(data, frames, maps)
    # What lies outside the space no training frame sees.
    coordinates = references.directions.T @ (energies - references.baseline)
    starts = [start_parameters(shape, atoms, beta, coordinates, rng) for _ in range(NETWORK_STARTS)]
    progress("network", 0, 1)
    parameters, _ = fit_perceptron(loss, starts, max_iterations=NETWORK_ITERATIONS)
    progress("network", 1, 1)
    return perceptron_baseline(shape, parameters, maps, data.repulsion, references=references, r_cut=r_cut)


BASELINES: dict[str, Callable[[BaselineData, np.random.Generator, Progress], Baseline]] = {
    "mean": predicting_the_mean,
    "linear_same_channels": linear_same_channels,
    "linear_selected": linear_selected,
    "quadratic_rank_one": quadratic_rank_one,
    "quadratic_rank_two": quadratic_rank_two,
    "mlp": network,
}
"""All of them by name, from simple to rich."""


def select(data: BaselineData, total: int) -> dict[int, LinearMap]:
    """Forward selection of some channels, improved by the same search, without a limit per species.

    Args:
        data: What all baselines share.
        total: Channels of all species together.

    Raises:
        BudgetError: If that is less than one per species.
    """
    if total < len(data.species):
        raise BudgetError(
            f"max_parameters is {data.config.max_parameters}: not enough for this baseline on {len(data.species)} "
            "species; raise it, or leave the baseline out with --models."
        )
    limits = SizeLimits(total=total, per_species=total, equal=False)
    compression = data.config.compression
    selector = ForwardSelection(
        rounds=compression.search_rounds,
        seed=compression.search_seed,
        basis=FeatureBasis(decorrelate=True, norm=1.0),
    )
    return selector.fit(data.pool, limits)


def _linear(data: BaselineData, name: str, words: str, maps: dict[int, LinearMap], progress: Progress) -> Baseline:
    """Linear in the channels of some maps."""
    r_cut = data.config.descriptor.r_cut
    sets = {z: m.channels for z, m in maps.items()}
    sums = linear_sums(
        data.frames, ChannelRows(sets, r_cut), data.species, weights=data.weights, progress=progress, stage=name
    )
    source = ChannelRows(sets, r_cut, core_start=data.repulsion.level)
    basis = _features(maps, data.species, sums.references.directions)
    fitted = linear_baseline(name, words, sums, source, choices=source.n_columns, basis=basis)
    return Baseline(name, words, fitted.ledger, with_core(fitted.predict, data.repulsion, r_cut=r_cut))


def _features(maps: dict[int, LinearMap], species: tuple[int, ...], directions: FloatArray) -> FloatArray:
    """Features of all maps in terms of channels and reference energies, shape ``(d, C + r)``.

    Centred, and with most of their correlations taken out, as the circuit has them: on the channels as they are the
    ridge alone raised the force error on UiO-66 by 7 %.
    """
    matrices = [maps[z].matrix for z in species]
    constants = [
        -np.outer(m @ maps[z].mean, directions[s]) for s, (z, m) in enumerate(zip(species, matrices, strict=True))
    ]
    return np.hstack([block_diag(*matrices), np.concatenate(constants)])


def _whole(maps: dict[int, LinearMap]) -> dict[int, list[int]]:
    """All features of a species in one block."""
    return {number: [own.n_features] for number, own in maps.items()}


def _low_rank(data: BaselineData, rank: int, rng: np.random.Generator, progress: Progress) -> Baseline:
    """Linear and some squares per species, on as many channels as the budget allows."""
    r_cut = data.config.descriptor.r_cut
    maps = select(data, (data.config.max_parameters - data.n_references) // (1 + rank))
    statistics = quadratic_statistics(
        data.frames, maps, _whole(maps), r_cut=r_cut, weights=data.weights, progress=progress
    )
    fit = fit_low_rank(statistics, rank, starts=LOW_RANK_STARTS, rng=rng)
    name = {1: "quadratic_rank_one", 2: "quadratic_rank_two"}[rank]
    words = f"linear and {rank} square{'s' * (rank > 1)} per species, fewer channels"
    return low_rank_baseline(name, words, fit, maps, data.repulsion, r_cut=r_cut)


def _linear_start(
    data: BaselineData, frames: Sequence[Frame], maps: dict[int, LinearMap]
) -> tuple[list[FloatArray], FloatArray]:
    """Linear coefficients in the features of some maps, and the reference energies that go with them."""
    sets = {z: m.channels for z, m in maps.items()}
    source = ChannelRows(sets, data.config.descriptor.r_cut)
    sums: LinearSums = linear_sums(frames, source, data.species, weights=data.weights, progress=lambda *_: None)
    basis = _features(maps, data.species, sums.references.directions)
    coefficients, references, _ = sums.solve(basis=basis)
    pieces = np.split(coefficients, np.cumsum([sets[z].n_channels for z in data.species])[:-1])
    # Features have independent rows, so what is linear in them is found again exactly.
    beta = [
        np.asarray(np.linalg.lstsq(maps[z].matrix.T, piece, rcond=None)[0], dtype=np.float64)
        for z, piece in zip(data.species, pieces, strict=True)
    ]
    shift = [piece @ maps[z].mean for z, piece in zip(data.species, pieces, strict=True)]
    return beta, references + np.array(shift)
