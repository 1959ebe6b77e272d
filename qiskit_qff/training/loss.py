r"""The loss of a frame: what its labels are, how they are weighted, and which reference energies they determine.

*Reference energies*, as many as the data can tell apart. A frame with :math:`n_s` atoms of species s has the reference
energy :math:`\sum_s n_s e_s`. Frames of one composition determine one number of these S, and in general the frames
determine as many as the matrix C of their compositions has rank r: energies e that differ by a vector orthogonal to all
its rows are the same model on these data. So r numbers c are fitted, coordinates in the row space of C,

.. math:: e = e_0 + R\,c,\qquad C = U \Sigma V^T,\; R = (V_1, \dots, V_r),

and :math:`e_0`, what is taken off the labels beforehand, is the least-squares solution in the same space, no number
beside c. R knows compositions only, no label. For frames of another composition this is the smallest solution, the
usual choice where data say nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from ase.data import atomic_numbers

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.compression.normal_equations import NormalEquations
from qiskit_qff.descriptors.design_rows import STRAIN_COLUMNS, STRAIN_ROWS
from qiskit_qff.errors import DataError
from qiskit_qff.model.config import TrainConfig
from qiskit_qff.structures.frame import Frame

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, the work done and the work in all."""

_SAME = 1e-10
"""Singular values below this, relative to the largest, are rounding: compositions are fractions of whole numbers, and
two cells of 10,000 atoms that differ by one atom are 1e-4 apart."""


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    r"""The loss of a frame.

    .. math:: (\Delta E / N\sigma_E)^2 + \frac{1}{3N}\sum f_Z (\Delta F/\sigma_F)^2
              + \frac 1 9 \sum_{\alpha\beta} (\Delta\sigma_{\alpha\beta}/\sigma_S)^2

    The last term, over all nine components so that it does not depend on the axes, is there for frames with a stress
    where a scale for it is set.
    """

    energy_scale: float = 3e-3
    """σ_E in eV/atom."""
    force_scale: float = 0.1
    """σ_F in eV/Å."""
    element_weights: dict[int, float] = field(default_factory=dict)
    """Factor on the weight of an element's forces per atomic number; 1 where there is none."""
    stress_scale: float | None = None
    """σ_S in eV/Å³; None where stresses are not fitted."""

    def has_stress(self, frame: Frame) -> bool:
        """Whether the stress of a frame counts; without three periods there is none."""
        return self.stress_scale is not None and frame.stress is not None and bool(frame.pbc.all())

    def n_rows(self, frame: Frame) -> int:
        """Rows of a frame beside that of its energy: its force components, and six of the stress where it counts."""
        return 3 * frame.n_atoms + (6 if self.has_stress(frame) else 0)

    def row_labels(self, frame: Frame) -> FloatArray:
        """Labels of these rows: forces in eV/Å, and six components of the virial (stress times volume) in eV.

        Returns:
            Shape ``(n_rows,)``.
        """
        forces = self.force_labels(frame)
        if frame.stress is None or not self.has_stress(frame):
            return forces
        return np.append(forces, frame.volume * frame.stress[STRAIN_ROWS, STRAIN_COLUMNS])

    def row_weights(self, frame: Frame) -> FloatArray:
        """Weights of these rows, shape ``(n_rows,)``."""
        forces = self.force_weights(frame.numbers)
        if self.stress_scale is None or not self.has_stress(frame):
            return forces
        # Off the diagonal each component stands for two.
        shares = np.array([1.0, 1.0, 1.0, 2.0, 2.0, 2.0]) / 9.0
        return np.append(forces, shares / (self.stress_scale * frame.volume) ** 2)

    def force_weights(self, numbers: IntArray) -> FloatArray:
        """Weight of every force component, shape ``(3 n,)``.

        Args:
            numbers: Atomic numbers, shape ``(n,)``.
        """
        variance = self.force_scale**2
        factors = np.array([self.element_weights.get(int(z), 1.0) for z in numbers])
        weights: FloatArray = np.repeat(factors / (variance * 3 * len(numbers)), 3)
        return weights

    def energy_weight(self, n_atoms: int) -> float:
        """Weight of a frame's energy."""
        return float((n_atoms * self.energy_scale) ** -2)

    def force_labels(self, frame: Frame) -> FloatArray:
        """Force labels of a frame without their mean, which no force field can have, shape ``(3 n,)``, in eV/Å."""
        if frame.forces is None:
            raise DataError(f"{frame.where}: no forces; training needs energies and forces of every frame.")
        forces: FloatArray = frame.forces - frame.forces.mean(axis=0)
        return forces.ravel()

    @classmethod
    def of(cls, config: TrainConfig) -> LossWeights:
        """The loss of a configuration in eV and Å."""
        loss = config.loss
        return cls(
            energy_scale=1e-3 * loss.energy_scale_mev_per_atom,
            force_scale=1e-3 * loss.force_scale_mev_per_ang,
            element_weights={atomic_numbers[s]: f for s, f in loss.element_weights.items()},
            stress_scale=None if loss.stress_scale_mev_per_ang3 is None else 1e-3 * loss.stress_scale_mev_per_ang3,
        )


def check_labels(frames: Sequence[Frame], weights: LossWeights) -> None:
    """Refuse frames that can't be learnt from."""
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


@dataclass(frozen=True, eq=False)
class References:
    """The space in which reference energies are fitted, and where the fit begins."""

    baseline: FloatArray
    """Energies e_0 taken off the labels beforehand, inside the space, shape ``(S,)``, in eV."""
    directions: FloatArray
    """R, orthonormal columns, shape ``(S, r)``."""

    @property
    def count(self) -> int:
        """r: how many independent numbers the data determine."""
        return int(self.directions.shape[1])

    def energies(self, coordinates: FloatArray) -> FloatArray:
        """Reference energy of every species, shape ``(S,)``, in eV.

        Args:
            coordinates: c, shape ``(r,)``, in eV.
        """
        found: FloatArray = self.baseline + self.directions @ coordinates
        return found

    def changes(self, coordinates: FloatArray) -> FloatArray:
        """Changes of the reference energies that go with changes of the coordinates, shape ``(..., S)``.

        Args:
            coordinates: Shape ``(..., r)``.
        """
        found: FloatArray = coordinates @ self.directions.T
        return found


def compositions(frames: Sequence[Frame], species: Sequence[int]) -> FloatArray:
    """Atoms of each species in every frame, shape ``(F, S)``."""
    return np.array([[np.count_nonzero(f.numbers == z) for z in species] for f in frames], dtype=np.float64)


def composition_directions(counts: FloatArray) -> FloatArray:
    """Orthonormal basis of the row space of some compositions, whatever the sizes of the cells.

    Args:
        counts: Atoms of each species, shape ``(F, S)``, no empty frame.

    Returns:
        Shape ``(S, r)``.
    """
    # Fractions, so that a small cell counts as much as a large one; each composition once, so that neither the number
    # of frames nor their order matters.
    distinct = np.unique(counts / counts.sum(axis=1, keepdims=True), axis=0)
    _, values, rows = np.linalg.svd(distinct, full_matrices=False)
    directions = rows[values > _SAME * values[0]].T
    largest = np.abs(directions).argmax(axis=0)
    signed: FloatArray = directions * np.sign(directions[largest, np.arange(directions.shape[1])])
    return signed


def reference_count(frames: Sequence[Frame], species: Sequence[int]) -> int:
    """How many independent reference energies some frames determine."""
    return int(composition_directions(compositions(frames, species)).shape[1])


def fit_references(frames: Sequence[Frame], species: Sequence[int]) -> References:
    """Least-squares energy per atom of each species, and the space of those that the data can tell apart."""
    for frame in frames:
        if frame.energy is None:
            raise DataError(f"{frame.where}: no energy; training needs energies and forces of every frame.")
    counts = compositions(frames, species)
    directions = composition_directions(counts)
    size = counts.sum(axis=1)
    energies = np.array([f.energy for f in frames], dtype=np.float64)
    columns = (counts / size[:, None]) @ directions
    scale = np.linalg.norm(columns, axis=0)
    solution = np.linalg.lstsq(columns / scale, energies / size, rcond=None)[0] / scale
    return References(directions @ solution, directions)


def add_frame(
    equations: NormalEquations,
    frame: Frame,
    rows: FloatArray,
    counts: FloatArray,
    references: References,
    weights: LossWeights,
) -> None:
    """Add one frame's rows, columns of the r reference energies last.

    Args:
        equations: Sums over ``C + r`` columns.
        rows: Those of forces and, where the loss has it, the virial, whose last r columns are zero, then that of the
            energy, whose last r columns are filled in here; shape ``(n_rows + 1, C + r)``. Overwritten.
        counts: Atoms of each species, shape ``(S,)``.
    """
    rows[-1, rows.shape[1] - references.count :], label = energy_of(frame, counts, references)
    # PERF: forces and energy in one product, so that the Gram matrix passes through memory once.
    equations.add(
        rows,
        np.append(weights.row_labels(frame), label),
        np.append(weights.row_weights(frame), weights.energy_weight(frame.n_atoms)),
    )


def energy_of(frame: Frame, counts: FloatArray, references: References) -> tuple[FloatArray, float]:
    """What the reference energies contribute to a frame's energy, and what is left to explain of it.

    Args:
        counts: Atoms of each species, shape ``(S,)``.

    Returns:
        Coefficients of the r reference energies, shape ``(r,)``, and the label in eV.
    """
    return counts @ references.directions, float(frame.energy or 0.0) - float(counts @ references.baseline)


ROWS_AT_ONCE = 256
"""Rows of a large matrix that are updated together."""


def eliminate_last(equations: NormalEquations, count: int) -> NormalEquations:
    """Minimise over the last columns exactly and drop them.

    Returns:
        Sums over the remaining columns whose loss is the minimum over those eliminated.
    """
    head = slice(0, len(equations.moment) - count)
    tail = slice(len(equations.moment) - count, None)
    corner = equations.gram[tail, tail]
    # In units of the diagonal: one composition may be rare, or differ little from another.
    scale = 1.0 / np.sqrt(np.maximum(np.diagonal(corner), 1e-300))
    inverse = np.linalg.pinv(corner * np.outer(scale, scale), rcond=1e-12, hermitian=True) * np.outer(scale, scale)
    coupling = equations.gram[head, tail]
    # PERF: updated in place, some rows at a time; the product of all would take as much memory as the Gram matrix.
    thin = coupling @ inverse
    for begin in range(0, len(thin), ROWS_AT_ONCE):
        rows = slice(begin, min(begin + ROWS_AT_ONCE, len(thin)))
        equations.gram[rows, head] -= thin[rows] @ coupling.T
    moment = equations.moment[head] - coupling @ (inverse @ equations.moment[tail])
    constant = equations.constant - float(equations.moment[tail] @ inverse @ equations.moment[tail])
    return NormalEquations(equations.gram[head, head], moment, constant)
