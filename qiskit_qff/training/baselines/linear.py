r"""Models that are linear in some per-atom descriptors, and the one that has none.

.. math:: E = \sum_s n_s e_s + \sum_c \beta_c X_c,\qquad F = -\sum_c \beta_c\,\partial X_c/\partial R

with X the descriptors summed over the atoms of a species. Coefficients and reference energies together minimise the
loss of training; descriptors come from a :class:`RowSource`, so channels and LAMMPS's bispectrum are fitted by the
same lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.compression.normal_equations import NormalEquations
from qiskit_qff.descriptors.channels import ChannelSet
from qiskit_qff.descriptors.design_rows import linear_design
from qiskit_qff.descriptors.tables import make_tables
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.neighbors import neighbor_list
from qiskit_qff.structures.species import species_index
from qiskit_qff.training.baselines.baseline import Baseline, BaselineLedger
from qiskit_qff.training.design import LossWeights, Progress, add_frame
from qiskit_qff.training.objective import RIDGE, solve_scaled
from qiskit_qff.training.references import References, fit_references

Rows = tuple[FloatArray, FloatArray]
"""Descriptor sums of a frame, shape ``(C,)``, and, end to end, minus their gradient and their derivative by strain as
xx, yy, zz, yz, xz, xy, shape ``(3 n + 6, C)``."""


class RowSource(Protocol):
    """Descriptors of a frame in the form that a linear model needs."""

    @property
    def n_columns(self) -> int:
        """Number of descriptors of all species together."""
        ...

    def __call__(self, frame: Frame) -> Rows:
        """Sums over atoms, minus their gradient, and their derivative by strain.

        Args:
            frame: The frame.
        """
        ...


class ChannelRows:
    """Rows of channels, without any compression: a linear model's reach does not depend on it."""

    def __init__(self, sets: dict[int, ChannelSet], r_cut: float, *, core_start: FloatArray | None = None) -> None:
        """Lay the channels of all species end to end.

        Args:
            sets: Channels per atomic number.
            r_cut: Cutoff radius in Å.
            core_start: Distance in Å per pair of species below which channels level off, shape ``(S, S)``.
        """
        self._tables = make_tables(sets, r_cut, core_start=core_start)
        self._species = tuple(self._tables.species.tolist())

    @property
    def n_columns(self) -> int:
        """Number of channels of all species together."""
        return int(self._tables.channel_start[-1])

    def __call__(self, frame: Frame) -> Rows:
        """Channel sums, minus their gradient, and their derivative by strain.

        Args:
            frame: The frame.
        """
        tables = self._tables
        kinds = species_index(frame.numbers, self._species, where=frame.where)
        neighbors = neighbor_list(frame.positions, frame.cell, frame.pbc, tables.r_cut)
        energy, others = np.empty(self.n_columns), np.empty((3 * frame.n_atoms + 6, self.n_columns))
        forces, virial = np.split(others, [3 * frame.n_atoms])
        values = np.empty((frame.n_atoms, int(np.diff(tables.channel_start).max())))
        linear_design(
            tables, neighbors.first, neighbors.neighbor, neighbors.vectors, neighbors.distances, kinds,
            energy, forces, virial, values,
        )  # fmt: skip
        return energy, others


@dataclass(frozen=True, eq=False)
class LinearSums:
    """Normal equations of a linear model; smaller models are read off by leaving columns out."""

    species: tuple[int, ...]
    """Atomic numbers, ascending."""
    equations: NormalEquations
    """Completed sums over descriptors and, last, reference energies."""
    references: References
    """Space of the reference energies, and those taken off beforehand."""

    def solve(
        self, columns: IntArray | None = None, *, ridge: float = RIDGE, basis: FloatArray | None = None
    ) -> tuple[FloatArray, FloatArray, float]:
        """Coefficients that minimise the loss.

        Args:
            columns: Descriptors to use; all by default.
            ridge: Tikhonov term on coefficients, as a fraction of the diagonal.
            basis: Combinations of descriptors and reference energies, shape ``(d, C + r)``, that the model is linear
                in and whose coefficients the ridge is on; the descriptors themselves by default.

        Returns:
            Coefficients, shape ``(len(columns),)``, reference energies, shape ``(S,)``, in eV, and the loss.
        """
        count = self.references.count
        everything = len(self.equations.moment) - count
        chosen = np.arange(everything) if columns is None else columns
        index = np.concatenate([chosen, everything + np.arange(count)])
        gram, moment = self.equations.gram[np.ix_(index, index)], self.equations.moment[index]
        turn = np.eye(len(index))
        if basis is not None:
            turn = np.concatenate([basis, turn[len(chosen) :]])
        gram, moment = turn @ gram @ turn.T, turn @ moment
        inner = np.arange(len(turn) - count)
        gram[inner, inner] *= 1.0 + ridge
        solution = solve_scaled(gram, moment)
        loss = float(solution @ gram @ solution - 2.0 * moment @ solution + self.equations.constant)
        solution = turn.T @ solution
        return solution[: len(chosen)], self.references.energies(solution[len(chosen) :]), loss


def linear_sums(
    frames: Sequence[Frame],
    source: RowSource,
    species: tuple[int, ...],
    *,
    weights: LossWeights,
    progress: Progress,
    stage: str = "linear",
) -> LinearSums:
    """Accumulate the normal equations of a linear model.

    Args:
        frames: Training frames.
        source: Descriptors.
        species: Atomic numbers, ascending.
        weights: The loss.
        progress: Called as work proceeds.
        stage: What to call the work.
    """
    references = fit_references(frames, species)
    width = source.n_columns + references.count
    equations = NormalEquations.empty(width)
    for k, frame in enumerate(frames):
        progress(stage, k, len(frames))
        energy, others = source(frame)
        padded = np.zeros((weights.n_rows(frame), width))
        padded[:, : others.shape[1]] = others[: len(padded)]
        counts = np.array([np.count_nonzero(frame.numbers == z) for z in species], dtype=np.float64)
        add_frame(equations, frame, (energy, padded), counts, references, weights)
    progress(stage, len(frames), len(frames))
    equations.symmetric()
    equations.gram /= len(frames)
    equations.moment /= len(frames)
    equations.constant /= len(frames)
    return LinearSums(species, equations, references)


def linear_baseline(
    name: str,
    words: str,
    sums: LinearSums,
    source: RowSource,
    *,
    columns: IntArray | None = None,
    choices: int = 0,
    label_free: int = 0,
    ridge: float = RIDGE,
    basis: FloatArray | None = None,
) -> Baseline:
    """A fitted linear model.

    Args:
        name: Its key.
        words: What it is.
        sums: Its normal equations.
        source: Descriptors.
        columns: Descriptors to use; all by default.
        choices: Discrete choices made against the labels.
        label_free: Numbers computed without labels.
        ridge: Tikhonov term.
        basis: As for :meth:`LinearSums.solve`.
    """
    coefficients, references, _ = sums.solve(columns, ridge=ridge, basis=basis)

    def predict(frame: Frame) -> tuple[float, FloatArray]:
        energy, others = source(frame)
        forces = others[: 3 * frame.n_atoms]
        if columns is not None:
            energy, forces = energy[columns], forces[:, columns]
        constant = references_of(frame, sums.species, references)
        return constant + float(energy @ coefficients), (forces @ coefficients).reshape(-1, 3)

    ledger = BaselineLedger(
        coefficients=len(coefficients) if basis is None else len(basis),
        reference_energies=sums.references.count,
        choices=choices,
        label_free=label_free,
    )
    return Baseline(name, words, ledger, predict)


def mean_baseline(frames: Sequence[Frame], species: tuple[int, ...]) -> Baseline:
    """Reference energies alone, and no force.

    Args:
        frames: Training frames.
        species: Atomic numbers, ascending.
    """
    references = fit_references(frames, species)

    def predict(frame: Frame) -> tuple[float, FloatArray]:
        return references_of(frame, species, references.baseline), np.zeros((frame.n_atoms, 3))

    ledger = BaselineLedger(coefficients=0, reference_energies=references.count)
    return Baseline("mean", "mean energy of the composition, no force", ledger, predict)


def references_of(frame: Frame, species: tuple[int, ...], references: FloatArray) -> float:
    """Sum of the reference energies of a frame's atoms.

    Args:
        frame: The frame.
        species: Atomic numbers, ascending.
        references: Energies, shape ``(S,)``, in eV.

    Raises:
        DataError: If an atom is of another species.
    """
    return float(references[species_index(frame.numbers, species, where=frame.where)].sum())
