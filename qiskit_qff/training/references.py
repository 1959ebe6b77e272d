r"""Reference energies, as many as the data can tell apart: the rank of the matrix of compositions.

A frame with :math:`n_s` atoms of species s has the reference energy :math:`\sum_s n_s e_s`. Frames of one composition
determine one number of these S, and in general the frames determine as many as the matrix C of their compositions has
rank r: energies e that differ by a vector orthogonal to all its rows are the same model on these data. So r numbers c
are fitted, coordinates in the row space of C,

.. math:: e = e_0 + R\,c,\qquad C = U \Sigma V^T,\; R = (V_1, \dots, V_r),

and :math:`e_0`, what is taken off the labels beforehand, is the least-squares solution in the same space, no number
beside c. R knows compositions only, no label. For frames of another composition this is the smallest solution, the
usual choice where data say nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.errors import DataError
from qiskit_qff.structures.frame import Frame

_SAME = 1e-10
"""Singular values below this, relative to the largest, are rounding: compositions are fractions of whole numbers, and
two cells of 10,000 atoms that differ by one atom are 1e-4 apart."""


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
    """Atoms of each species in every frame, shape ``(F, S)``.

    Args:
        frames: The frames.
        species: Atomic numbers.
    """
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
    """How many independent reference energies some frames determine.

    Args:
        frames: The frames.
        species: Atomic numbers.
    """
    return int(composition_directions(compositions(frames, species)).shape[1])


def fit_references(frames: Sequence[Frame], species: Sequence[int]) -> References:
    """Least-squares energy per atom of each species, and the space of those that the data can tell apart.

    Args:
        frames: Frames with energies.
        species: Atomic numbers.

    Raises:
        DataError: If a frame has no energy.
    """
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
