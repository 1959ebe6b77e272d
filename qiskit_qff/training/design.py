"""Design rows of one frame: the only place where structures meet the sums that training keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.compression.normal_equations import NormalEquations
from qiskit_qff.descriptors.design_rows import STRAIN_COLUMNS, STRAIN_ROWS
from qiskit_qff.errors import DataError
from qiskit_qff.structures.frame import Frame
from qiskit_qff.training.references import References

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, the work done and the work in all."""


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
    force_noise: dict[int, float] = field(default_factory=dict)
    """Known label noise in eV/Å per atomic number; added in quadrature to σ_F of those atoms."""
    element_weights: dict[int, float] = field(default_factory=dict)
    """Factor on the weight of an element's forces per atomic number; 1 where there is none."""
    remove_net_force: bool = True
    """Whether the mean force of a frame, which no force field can have, is taken off its labels."""
    stress_scale: float | None = None
    """σ_S in eV/Å³; None where stresses are not fitted."""

    def has_stress(self, frame: Frame) -> bool:
        """Whether the stress of a frame counts; without three periods there is none.

        Args:
            frame: A frame.
        """
        return self.stress_scale is not None and frame.stress is not None and bool(frame.pbc.all())

    def n_rows(self, frame: Frame) -> int:
        """Rows of a frame beside that of its energy: its force components, and six of the stress where it counts.

        Args:
            frame: A frame.
        """
        return 3 * frame.n_atoms + (6 if self.has_stress(frame) else 0)

    def row_labels(self, frame: Frame) -> FloatArray:
        """Labels of these rows: forces in eV/Å, and six components of the virial (stress times volume) in eV.

        Args:
            frame: A frame with forces.

        Returns:
            Shape ``(n_rows,)``.

        Raises:
            DataError: If it has none.
        """
        forces = self.force_labels(frame)
        if frame.stress is None or not self.has_stress(frame):
            return forces
        return np.append(forces, frame.volume * frame.stress[STRAIN_ROWS, STRAIN_COLUMNS])

    def row_weights(self, frame: Frame) -> FloatArray:
        """Weights of these rows, shape ``(n_rows,)``.

        Args:
            frame: A frame.
        """
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
        noise = np.array([self.force_noise.get(int(z), 0.0) for z in numbers])
        variance = self.force_scale**2 + noise**2
        factors = np.array([self.element_weights.get(int(z), 1.0) for z in numbers])
        weights: FloatArray = np.repeat(factors / (variance * 3 * len(numbers)), 3)
        return weights

    def energy_weight(self, n_atoms: int) -> float:
        """Weight of a frame's energy.

        Args:
            n_atoms: Number of atoms.
        """
        return float((n_atoms * self.energy_scale) ** -2)

    def force_labels(self, frame: Frame) -> FloatArray:
        """Force labels of a frame, flat, shape ``(3 n,)``, in eV/Å.

        Args:
            frame: A frame with forces.

        Raises:
            DataError: If it has none.
        """
        if frame.forces is None:
            raise DataError(f"{frame.where}: no forces; training needs energies and forces of every frame.")
        forces = frame.forces
        if self.remove_net_force:
            forces = forces - forces.mean(axis=0)
        return forces.ravel()


def add_frame(
    equations: NormalEquations,
    frame: Frame,
    rows: tuple[FloatArray, FloatArray],
    counts: FloatArray,
    references: References,
    weights: LossWeights,
) -> None:
    """Add one frame's rows, columns of the r reference energies last.

    Args:
        equations: Sums over ``C + r`` columns.
        frame: The frame.
        rows: Energy row, shape ``(C,)``, and those of forces and, where the loss has it, the virial, shape
            ``(n_rows, C + r)``, whose last r columns are zero.
        counts: Atoms of each species, shape ``(S,)``.
        references: Space of the reference energies, and those taken off beforehand.
        weights: The loss.
    """
    energy_row, other_rows = rows
    directions, label = energy_of(frame, counts, references)
    # PERF: forces and energy in one product, so that the Gram matrix passes through memory once.
    equations.add(
        np.concatenate([other_rows, np.concatenate([energy_row, directions])[None, :]]),
        np.append(weights.row_labels(frame), label),
        np.append(weights.row_weights(frame), weights.energy_weight(frame.n_atoms)),
    )


def energy_of(frame: Frame, counts: FloatArray, references: References) -> tuple[FloatArray, float]:
    """What the reference energies contribute to a frame's energy, and what is left to explain of it.

    Args:
        frame: A frame with an energy.
        counts: Atoms of each species, shape ``(S,)``.
        references: Space of the reference energies, and those taken off beforehand.

    Returns:
        Coefficients of the r reference energies, shape ``(r,)``, and the label in eV.
    """
    return counts @ references.directions, float(frame.energy or 0.0) - float(counts @ references.baseline)


def eliminate_last(equations: NormalEquations, count: int) -> NormalEquations:
    """Minimise over the last columns exactly and drop them.

    Args:
        equations: Completed sums.
        count: Number of columns to eliminate.

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
    # Only a thin product is subtracted: the large block is updated in place.
    equations.gram[head, head] -= (coupling @ inverse) @ coupling.T
    moment = equations.moment[head] - coupling @ (inverse @ equations.moment[tail])
    constant = equations.constant - float(equations.moment[tail] @ inverse @ equations.moment[tail])
    return NormalEquations(equations.gram[head, head], moment, constant)
