r"""Classical models of at most as many parameters, fitted to the same frames with the same loss.

.. math:: E = \sum_s n_s e_s + \sum_c \beta_c X_c,\qquad F = -\sum_c \beta_c\,\partial X_c/\partial R

with X some descriptors summed over the atoms of a species: as many selected channels as the budget allows, or LAMMPS's
bispectrum (SNAP). Coefficients and reference energies together minimise the training loss, and all of them count as
trainable; which channels, cutoffs and neighbour weights are best is a discrete choice.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
from ase.data import covalent_radii
from ase.stress import voigt_6_to_full_3x3_stress

from qiskit_qff.array_types import FloatArray
from qiskit_qff.errors import BudgetError
from qiskit_qff.model.config import CircuitConfig, ResolvedConfig
from qiskit_qff.model.force_field import FoldedForceField, Prediction
from qiskit_qff.structures.frame import Frame, species_index, species_of
from qiskit_qff.training.statistics import LossWeights, Progress, reference_count
from qiskit_qff.training.trainer import prepare

MOST_DEGREE = 8
"""Largest 2J of SNAP that is tried."""
TRIAL_FRAMES = 10
"""Frames that cutoffs and neighbour weights of SNAP are chosen by."""
Rows = Callable[[Frame], tuple[FloatArray, FloatArray]]
"""Bispectrum components of a frame: sums over atoms, shape ``(C,)``, and end to end minus their gradient and their
derivative by strain, shape ``(3 n + 6, C)``, the last six rows as xx, yy, zz, yz, xz, xy."""
RCOND = 1e-8
"""Relative size of singular values that count as zero: bispectrum components are nearly dependent."""


def linear_baseline(
    frames: Sequence[Frame], config: ResolvedConfig, progress: Progress
) -> tuple[FoldedForceField, int]:
    """The linear model on as many selected channels as the budget allows, and how many parameters it has."""
    loss = config.loss.model_copy(update={"shots": None})  # nothing is measured
    settings = config.model_copy(update={"loss": loss, "circuit": CircuitConfig()})
    prepared = prepare(frames, settings, progress=progress)
    field = prepared.force_field(np.zeros(prepared.objective.layout.n_parameters))
    count = sum(own.n_features for own in prepared.maps.values()) + prepared.objective.layout.n_references
    return prepared.linear_model(field), count


class Snap:
    """A linear model on bispectrum components."""

    def __init__(self, frames: Sequence[Frame], rows: Rows, weights: LossWeights, progress: Progress) -> None:
        """Fit coefficients and reference energies by weighted least squares."""
        self._rows, self._species = rows, species_of(frames)
        blocks, labels = [], []
        for k, frame in enumerate(frames):
            progress("SNAP", k, len(frames))
            energy, others = rows(frame)
            n_rows = weights.n_rows(frame)
            counts = np.zeros((n_rows + 1, len(self._species)))
            counts[-1] = [np.count_nonzero(frame.numbers == z) for z in self._species]
            root = np.sqrt(np.append(weights.row_weights(frame), weights.energy_weight(frame.n_atoms)))
            blocks.append(root[:, None] * np.hstack([np.vstack([others[:n_rows], energy]), counts]))
            labels.append(root * np.append(weights.row_labels(frame), frame.energy or 0.0))
        design, label = np.concatenate(blocks), np.concatenate(labels)
        sizes = np.maximum(np.linalg.norm(design, axis=0), 1e-300)
        solution = np.linalg.lstsq(design / sizes, label, rcond=RCOND)[0] / sizes
        self.loss = float(np.sum((design @ solution - label) ** 2)) / len(frames)
        self._coefficients, self._references = np.split(solution, [-len(self._species)])

    def predict(self, frame: Frame) -> Prediction:
        """Evaluate one structure; its energy comes as one number."""
        energy, others = self._rows(frame)
        constant = self._references[species_index(frame.numbers, self._species, where=frame.where)].sum()
        found = others @ self._coefficients
        virial = voigt_6_to_full_3x3_stress(found[-6:])  # type: ignore[no-untyped-call]
        return Prediction(np.array([energy @ self._coefficients + constant]), found[:-6].reshape(-1, 3), virial)


def snap_baseline(
    frames: Sequence[Frame],
    config: ResolvedConfig,
    bispectrum: Callable[..., Rows],
    n_components: Callable[[int], int],
    progress: Progress,
) -> tuple[Snap, int, str]:
    """Linear SNAP, the largest that keeps to the budget: the model, how many parameters it has, and its size in words.

    Pair cutoffs and neighbour weights decide more than 2J does: on Li-MOF-5 the loss of 2J = 4 lies between 25 and 256.
    So they are chosen among some patterns, by the loss on some training frames.

    Args:
        bispectrum: Makes rows from species, ``twojmax``, ``radii`` and ``neighbor_weights``.
        n_components: Number of components of a species by ``twojmax``.
    """
    weights, species = LossWeights.of(config), species_of(frames)
    n_references = reference_count(frames, species)
    sizes = {d: len(species) * n_components(d) + n_references for d in range(1, MOST_DEGREE + 1)}
    degree = max((d for d, size in sizes.items() if size <= config.max_parameters), default=0)
    if not degree:
        raise BudgetError(f"max_parameters is {config.max_parameters}: not enough for SNAP; raise it.")
    places = np.linspace(0, len(frames) - 1, min(TRIAL_FRAMES, len(frames))).round().astype(int)
    some = [frames[k] for k in places]

    def trial_loss(pattern: dict[str, tuple[float, ...]]) -> float:
        return Snap(some, bispectrum(species, twojmax=degree, **pattern), weights, lambda *_: None).loss

    best = min(_snap_patterns(species, config.descriptor.r_cut), key=trial_loss)
    rows = bispectrum(species, twojmax=degree, **best)
    return Snap(frames, rows, weights, progress), sizes[degree], f"linear SNAP, 2J = {degree}"


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
