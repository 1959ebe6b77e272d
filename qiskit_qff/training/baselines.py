r"""Classical models of at most as many parameters, fitted to the same frames with the same loss.

.. math:: E = \sum_s n_s e_s + \sum_c \beta_c X_c,\qquad F = -\sum_c \beta_c\,\partial X_c/\partial R

with X some descriptors summed over the atoms of a species: the circuit's own features, as many selected channels as the
budget allows, or LAMMPS's bispectrum (SNAP). Coefficients and reference energies together minimise the training loss.

Each model may use the whole budget: where the circuit spends a weight per species, the linear model spends one more
channel. Channels are chosen by the same search, from the same pool, on the same frames; only *how many* differs. Every
number fitted to a label is trainable; discrete choices made against labels are listed beside.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from ase.data import covalent_radii

from qiskit_qff.array_types import FloatArray
from qiskit_qff.compression.linear_map import LinearMap
from qiskit_qff.compression.normal_equations import NormalEquations
from qiskit_qff.compression.search import SizeLimits
from qiskit_qff.compression.selection import PoolStatistics, feature_maps, select_channels
from qiskit_qff.descriptors.channels import make_tables
from qiskit_qff.errors import BudgetError
from qiskit_qff.model.config import ResolvedConfig, TrainConfig
from qiskit_qff.model.core_repulsion import CoreRepulsion
from qiskit_qff.structures.frame import Frame, species_index, species_of
from qiskit_qff.structures.neighbors import neighbor_list
from qiskit_qff.training.defaults import resolve_config, size_limits
from qiskit_qff.training.loss import LossWeights, Progress, add_frame, check_labels, fit_references, reference_count
from qiskit_qff.training.objective import RIDGE, solve_scaled
from qiskit_qff.training.statistics import channel_rows, find_shortest
from qiskit_qff.training.trainer import SEARCH_RESTARTS, check_reach, choose_channels, sum_pool

MOST_DEGREE = 8
"""Largest 2J of SNAP that is tried."""
TRIAL_FRAMES = 10
"""Frames that cutoffs and neighbour weights of SNAP are chosen by."""
SNAP_RIDGE = 1e-10
"""Tikhonov term; bispectrum components are nearly dependent, and a larger one costs accuracy."""


class RowSource(Protocol):
    """Descriptors of a frame in the form that a linear model needs."""

    @property
    def n_columns(self) -> int:
        """Number of descriptors of all species together."""

    def __call__(self, frame: Frame) -> tuple[FloatArray, FloatArray]:
        """Sums over atoms, and end to end minus their gradient and their derivative by strain.

        Returns:
            Shapes ``(C,)`` and ``(3 n + 6, C)``, the last six rows as xx, yy, zz, yz, xz, xy.
        """


class SnapRows(RowSource, Protocol):
    """Rows of bispectrum components, which some program computes."""

    def close(self) -> None:
        """End the program."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Baseline:
    """A fitted classical model."""

    name: str
    """Its key in results."""
    words: str
    """What it is, in a few words."""
    coefficients: int
    """Coefficients that were fitted."""
    reference_energies: int
    """Reference energies that the training compositions tell apart, as the quantum model counts them."""
    choices: int
    """Discrete choices made against the labels, such as selected channels."""
    predict: Callable[[Frame], tuple[float, FloatArray]]
    """Energy in eV and forces, shape ``(n, 3)``, in eV/Å, of a frame."""

    @property
    def n_trainable(self) -> int:
        """All numbers fitted to an energy, a force or a stress."""
        return self.coefficients + self.reference_energies

    def ledger(self) -> dict[str, Any]:
        """Totals for JSON, under the names of the quantum model's ledger where they mean the same."""
        return {
            "coefficients": self.coefficients,
            "reference_energies": self.reference_energies,
            "n_trainable": self.n_trainable,
            "not_trained": {"selected_channels": self.choices},
        }


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
    """The circuit's own features."""

    @property
    def budget(self) -> int:
        """Coefficients that the limit leaves beside the reference energies."""
        return self.config.max_parameters - reference_count(self.frames, self.species)


def gather(
    frames: Sequence[Frame],
    config: TrainConfig,
    *,
    maps: dict[int, LinearMap] | None = None,
    progress: Progress,
) -> BaselineData:
    """Sum up the pool, and choose channels as the circuit would.

    Args:
        config: What ``qff train`` would be asked for.
        maps: Features of a trained model; found anew by default.
    """
    weights = LossWeights.of(config)
    check_labels(frames, weights)
    settings, _ = resolve_config(config, frames)
    species, r_cut = species_of(frames), settings.descriptor.r_cut
    limits = size_limits(settings, species, reference_count(frames, species))
    shortest = find_shortest(frames, species, r_cut, progress)
    check_reach(species, shortest, r_cut)
    pool = sum_pool(frames, species, shortest, settings, weights, progress)
    repulsion = CoreRepulsion.from_shortest_distances(species, shortest, cutoff=r_cut)
    own = feature_maps(pool, choose_channels(pool, settings, limits)) if maps is None else maps
    return BaselineData(list(frames), settings, species, pool, weights, repulsion, own)


def linear_same_channels(data: BaselineData, progress: Progress) -> Baseline:
    """Linear in the circuit's own features."""
    return _linear(data, "linear_same_channels", "linear, the circuit's channels", data.maps, progress)


def linear_selected(data: BaselineData, progress: Progress) -> Baseline:
    """Linear in as many selected channels as the budget allows."""
    if data.budget < len(data.species):
        raise BudgetError(
            f"max_parameters is {data.config.max_parameters}: not enough for a linear model of {len(data.species)} "
            "species; raise it, or leave the baseline out with --models."
        )
    limits = SizeLimits(total=data.budget, per_species=data.budget)
    path = select_channels(data.pool, limits, restarts=SEARCH_RESTARTS)
    words = "linear, selected channels, full budget"
    return _linear(data, "linear_selected", words, feature_maps(data.pool, path), progress)


LINEAR: dict[str, Callable[[BaselineData, Progress], Baseline]] = {
    "linear_same_channels": linear_same_channels,
    "linear_selected": linear_selected,
}
"""Baselines on channels, by name."""


def snap_baseline(
    data: BaselineData,
    bispectrum: Callable[..., SnapRows],
    n_components: Callable[[int], int],
    progress: Progress,
) -> Baseline:
    """Linear SNAP, the largest that keeps to the budget.

    Pair cutoffs and neighbour weights are no fitted numbers but choices, and decide more than 2J does: on Li-MOF-5 the
    loss of 2J = 4 lies between 25 and 256. So they are chosen among some patterns, by the loss on some training frames,
    and listed as choices.

    Args:
        bispectrum: Makes rows from species, ``twojmax``, ``radii`` and ``neighbor_weights``.
    """
    degree = largest_degree(len(data.species), data.budget, n_components)
    if not degree:
        raise BudgetError(f"max_parameters is {data.config.max_parameters}: not enough for SNAP; raise it.")
    keep = np.linspace(0, len(data.frames) - 1, min(TRIAL_FRAMES, len(data.frames))).round().astype(int)
    some = [data.frames[k] for k in keep]

    def rows(pattern: dict[str, tuple[float, ...]]) -> SnapRows:
        return bispectrum(data.species, twojmax=degree, **pattern)

    def trial_loss(pattern: dict[str, tuple[float, ...]]) -> float:
        with closing(rows(pattern)) as source:
            return fit_linear(some, source, data, progress=lambda *_: None, ridge=SNAP_RIDGE)[2]

    source = rows(min(_snap_patterns(data.species, data.config.descriptor.r_cut), key=trial_loss))
    coefficients, references, _ = fit_linear(data.frames, source, data, progress=progress, ridge=SNAP_RIDGE)
    return Baseline(
        name="snap",
        words=f"linear SNAP, 2J = {degree}",
        coefficients=source.n_columns,
        reference_energies=reference_count(data.frames, data.species),
        choices=2 * len(data.species),
        predict=lambda frame: _predicted(frame, source, data.species, coefficients, references),
    )


def largest_degree(n_species: int, budget: int, n_components: Callable[[int], int]) -> int:
    """Largest 2J whose linear model keeps to a limit; 0 where none does."""
    return max((d for d in range(1, MOST_DEGREE + 1) if n_species * n_components(d) <= budget), default=0)


def _snap_patterns(species: tuple[int, ...], r_cut: float) -> list[dict[str, tuple[float, ...]]]:
    """Cutoffs, equal or growing with covalent radii, none beyond ``r_cut``, and three weightings to choose among."""
    size = np.array([covalent_radii[z] for z in species])
    rising = np.linspace(0.4, 1.0, len(species))
    alternating = np.where(np.arange(len(species)) % 2 == 0, 1.0, -1.0)
    weightings = (rising, rising[::-1] * alternating, np.ones(len(species)))
    reaches = [
        0.5 * r_cut * reach * (size / size.max()) ** power
        for reach, power in itertools.product((0.7, 1.0), (0.0, 0.5, 1.0))
    ]
    return [
        {"radii": tuple(radii.tolist()), "neighbor_weights": tuple(weights.tolist())}
        for radii, weights in itertools.product(reaches, weightings)
    ]


class FeatureRows:
    """Rows of features: centred, and with most of their correlations taken out, as the circuit has them.

    On the channels as they are the ridge alone raised the force error on UiO-66 by 7 %.
    """

    def __init__(self, maps: dict[int, LinearMap], r_cut: float, *, core_start: FloatArray | None = None) -> None:
        """Lay the features of all species end to end.

        Args:
            r_cut: Cutoff radius in Å.
            core_start: Distance in Å per pair of species below which channels level off, shape ``(S, S)``.
        """
        self._maps = maps
        self._tables = make_tables({z: m.channels for z, m in maps.items()}, r_cut, core_start=core_start)

    @property
    def n_columns(self) -> int:
        """Number of features of all species together."""
        return sum(m.n_features for m in self._maps.values())

    def __call__(self, frame: Frame) -> tuple[FloatArray, FloatArray]:
        """Feature sums, and end to end minus their gradient and their derivative by strain."""
        energy, others = channel_rows(self._tables, frame)
        starts, sums, slopes = self._tables.channel_start, [], []
        for s, (z, own) in enumerate(self._maps.items()):
            place = slice(int(starts[s]), int(starts[s + 1]))
            count = np.count_nonzero(frame.numbers == z)
            sums.append(own.matrix @ (energy[place] - count * own.mean))
            slopes.append(others[:, place] @ own.matrix.T)
        return np.concatenate(sums), np.concatenate(slopes, axis=1)


def fit_linear(
    frames: Sequence[Frame], source: RowSource, data: BaselineData, *, progress: Progress, ridge: float = RIDGE
) -> tuple[FloatArray, FloatArray, float]:
    """Coefficients and reference energies that minimise the loss.

    Returns:
        Coefficients, shape ``(C,)``, reference energies, shape ``(S,)``, in eV, and the loss per frame.
    """
    species, weights = data.species, data.weights
    references, count = fit_references(frames, species), source.n_columns
    equations = NormalEquations.empty(count + references.count)
    for k, frame in enumerate(frames):
        progress("linear", k, len(frames))
        energy, others = source(frame)
        rows = np.zeros((weights.n_rows(frame) + 1, count + references.count))
        rows[:-1, :count], rows[-1, :count] = others[: len(rows) - 1], energy
        counts = np.array([np.count_nonzero(frame.numbers == z) for z in species], dtype=np.float64)
        add_frame(equations, frame, rows, counts, references, weights)
    progress("linear", len(frames), len(frames))
    gram, inner = equations.symmetric(), np.arange(count)
    gram[inner, inner] *= 1.0 + ridge
    solution = solve_scaled(gram, equations.moment)
    loss = equations.loss(solution) / len(frames)
    return solution[:count], references.energies(solution[count:]), loss


def _linear(data: BaselineData, name: str, words: str, maps: dict[int, LinearMap], progress: Progress) -> Baseline:
    """Linear in some features, with the core repulsion of the quantum model, which is zero on all training frames."""
    r_cut, repulsion = data.config.descriptor.r_cut, data.repulsion
    coefficients, references, _ = fit_linear(data.frames, FeatureRows(maps, r_cut), data, progress=progress)
    source = FeatureRows(maps, r_cut, core_start=repulsion.level)

    def predict(frame: Frame) -> tuple[float, FloatArray]:
        energy, forces = _predicted(frame, source, data.species, coefficients, references)
        kinds = species_index(frame.numbers, repulsion.species, where=frame.where)
        core, push, _ = repulsion.evaluate(kinds, neighbor_list(frame.positions, frame.cell, frame.pbc, r_cut))
        return energy + float(core.sum()), forces + push

    return Baseline(
        name=name,
        words=words,
        coefficients=source.n_columns,
        reference_energies=reference_count(data.frames, data.species),
        choices=source.n_columns,
        predict=predict,
    )


def _predicted(
    frame: Frame, source: RowSource, species: tuple[int, ...], coefficients: FloatArray, references: FloatArray
) -> tuple[float, FloatArray]:
    """Energy in eV and forces in eV/Å of a linear model."""
    energy, others = source(frame)
    constant = float(references[species_index(frame.numbers, species, where=frame.where)].sum())
    forces: FloatArray = (others[: 3 * frame.n_atoms] @ coefficients).reshape(-1, 3)
    return constant + float(energy @ coefficients), forces
