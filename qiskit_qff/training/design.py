"""Design rows of one frame: the only place where structures meet the sums that training keeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qiskit_qff.compression.normal_equations import NormalEquations
from qiskit_qff.errors import DataError
from qiskit_qff.structures.frame import Frame

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Progress = Callable[[str, int, int], None]
"""Called with a stage's name, the work done and the work in all."""


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    r"""The loss of a frame, :math:`(\Delta E / N\sigma_E)^2 + \frac{1}{3N}\sum (\Delta F/\sigma_F)^2`."""

    energy_scale: float = 3e-3
    """σ_E in eV/atom."""
    force_scale: float = 0.1
    """σ_F in eV/Å."""
    force_noise: dict[int, float] = field(default_factory=dict)
    """Known label noise in eV/Å per atomic number; added in quadrature to σ_F of those atoms."""
    remove_net_force: bool = True
    """Whether the mean force of a frame, which no force field can have, is taken off its labels."""

    def force_weights(self, numbers: IntArray) -> FloatArray:
        """Weight of every force component, shape ``(3 n,)``.

        Args:
            numbers: Atomic numbers, shape ``(n,)``.
        """
        noise = np.array([self.force_noise.get(int(z), 0.0) for z in numbers])
        variance = self.force_scale**2 + noise**2
        weights: FloatArray = np.repeat(1.0 / (variance * 3 * len(numbers)), 3)
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


def reference_energies(frames: Sequence[Frame], species: Sequence[int]) -> FloatArray:
    """Least-squares energy per atom of each species, the smallest solution where it is not unique.

    Args:
        frames: Frames with energies.
        species: Atomic numbers.

    Returns:
        Shape ``(S,)``, in eV.

    Raises:
        DataError: If a frame has no energy.
    """
    for frame in frames:
        if frame.energy is None:
            raise DataError(f"{frame.where}: no energy; training needs energies and forces of every frame.")
    counts = np.array([[np.count_nonzero(f.numbers == z) for z in species] for f in frames], dtype=np.float64)
    size = counts.sum(axis=1)
    energies = np.array([f.energy for f in frames], dtype=np.float64)
    solution: FloatArray = np.linalg.lstsq(counts / size[:, None], energies / size, rcond=1e-9)[0]
    return solution


def add_frame(
    equations: NormalEquations,
    frame: Frame,
    rows: tuple[FloatArray, FloatArray],
    counts: FloatArray,
    baseline: FloatArray,
    weights: LossWeights,
) -> None:
    """Add one frame's energy and force rows, reference-energy columns last.

    Args:
        equations: Sums over ``C + S`` columns.
        frame: The frame.
        rows: Energy row, shape ``(C,)``, and force rows, shape ``(3 n, C + S)`` whose last S columns are zero.
        counts: Atoms of each species, shape ``(S,)``.
        baseline: Reference energies already taken off, shape ``(S,)``, in eV.
        weights: The loss.
    """
    energy_row, force_rows = rows
    equations.add(force_rows, weights.force_labels(frame), weights.force_weights(frame.numbers))
    full = np.concatenate([energy_row, counts])[None, :]
    label = np.array([float(frame.energy or 0.0) - float(counts @ baseline)])
    equations.add(np.ascontiguousarray(full), label, np.array([weights.energy_weight(frame.n_atoms)]))


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
    inverse = np.linalg.pinv(equations.gram[tail, tail], rcond=1e-10, hermitian=True)
    coupling = equations.gram[head, tail]
    # Only a thin product is subtracted: the large block is updated in place.
    equations.gram[head, head] -= (coupling @ inverse) @ coupling.T
    moment = equations.moment[head] - coupling @ (inverse @ equations.moment[tail])
    constant = equations.constant - float(equations.moment[tail] @ inverse @ equations.moment[tail])
    return NormalEquations(equations.gram[head, head], moment, constant)
