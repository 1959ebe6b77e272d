r"""Features of every atom and their derivatives, kept for all frames: what a model needs that is not linear in M.

For the atoms of species s with features y, the derivatives :math:`-\partial y_{ia}/\partial R` are a sparse matrix with
3 n rows for each frame (its force components) and one column per atom and feature. So forces of any
:math:`E_i = f(y_i)` are one product with :math:`\partial f/\partial y`. Where stresses are asked for, six rows with the
derivatives by strain follow those of each frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import sparse

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.compression.linear_map import LinearMap
from qiskit_qff.descriptors.design_rows import STRAIN_COLUMNS, STRAIN_ROWS, channel_jacobian
from qiskit_qff.descriptors.tables import make_tables
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.neighbors import neighbor_list
from qiskit_qff.structures.species import species_index
from qiskit_qff.training.design import Progress


@dataclass(frozen=True, eq=False)
class SpeciesAtoms:
    """All atoms of one species, over all frames."""

    features: FloatArray
    """y, shape ``(n, d)``."""
    frame: IntArray
    """Which frame each atom is in, shape ``(n,)``."""
    slopes: sparse.csr_array
    """Minus the derivatives of y with respect to all positions, in 1/Å, and after those of a frame its derivatives by
    strain as xx, yy, zz, yz, xz, xy, where they were asked for; shape ``(n_rows, n d)``."""


@dataclass(frozen=True, eq=False)
class AtomFeatures:
    """Features of all atoms of some frames."""

    species: tuple[SpeciesAtoms, ...]
    """One entry per species, atomic numbers ascending."""
    counts: FloatArray
    """Atoms of each species in each frame, shape ``(F, S)``."""


def atom_features(
    frames: Sequence[Frame],
    maps: dict[int, LinearMap],
    *,
    r_cut: float,
    core_start: FloatArray | None = None,
    strained: Callable[[Frame], bool] | None = None,
    progress: Progress | None = None,
) -> AtomFeatures:
    """Compute the features of some frames.

    Args:
        frames: The frames.
        maps: Compression of each species.
        r_cut: Cutoff radius in Å.
        core_start: Distance in Å per pair of species below which channels level off, shape ``(S, S)``.
        strained: Which frames get rows of derivatives by strain; none by default.
        progress: Called as work proceeds.
    """
    species = tuple(sorted(maps))
    tables = make_tables({z: maps[z].channels for z in species}, r_cut, core_start=core_start)
    collected = [_Collector(maps[z]) for z in species]
    counts = np.zeros((len(frames), len(species)))
    row = 0
    for k, frame in enumerate(frames):
        if progress is not None:
            progress("features", k, len(frames))
        kinds = species_index(frame.numbers, species, where=frame.where)
        counts[k] = np.bincount(kinds, minlength=len(species))
        neighbors = neighbor_list(frame.positions, frame.cell, frame.pbc, r_cut)
        extra = row + 3 * frame.n_atoms if strained is not None and strained(frame) else None
        values, jacobian = channel_jacobian(
            tables, neighbors.first, neighbors.neighbor, neighbors.vectors, neighbors.distances, kinds
        )
        for i, s in enumerate(kinds.tolist()):
            near, own = slice(neighbors.first[i], neighbors.first[i + 1]), slice(maps[species[s]].channels.n_channels)
            atom = _Environment(
                i, neighbors.neighbor[near], neighbors.vectors[near], values[i, own], jacobian[near, :, own]
            )
            collected[s].add(atom, frame=k, row=row, strain_row=extra)
        row += 3 * frame.n_atoms + (0 if extra is None else 6)
    return AtomFeatures(tuple(c.finish(row) for c in collected), counts)


class _Environment(NamedTuple):
    """An atom and its neighbours."""

    center: int
    neighbors: IntArray
    """Who they are, shape ``(k,)``."""
    vectors: FloatArray
    """Where, seen from the atom, shape ``(k, 3)``, in Å."""
    values: FloatArray
    """Its channels, shape ``(C,)``."""
    jacobian: FloatArray
    """Their derivatives with respect to the vectors, shape ``(k, 3, C)``."""


class _Collector:
    """Gathers the atoms of one species."""

    def __init__(self, compression: LinearMap) -> None:
        self._map = compression
        self._features: list[FloatArray] = []
        self._frames: list[int] = []
        self._rows: list[IntArray] = []
        self._columns: list[IntArray] = []
        self._data: list[FloatArray] = []

    def add(self, atom: _Environment, *, frame: int, row: int, strain_row: int | None) -> None:
        """Add one atom; the rows are the first force component of its frame, and the first of its strain."""
        size = self._map.n_features
        place = size * len(self._frames) + np.arange(size)
        slopes = atom.jacobian @ self._map.matrix.T
        # E_i depends on r_j - r_i: its neighbours feel minus the slope, the centre the sum.
        data = np.concatenate([-slopes, slopes.sum(axis=0)[None]]).reshape(-1, size)
        rows = (row + 3 * np.append(atom.neighbors, atom.center)[:, None] + np.arange(3)).ravel()
        if strain_row is not None:
            by_strain = np.einsum("ja,jbf->abf", atom.vectors, slopes)[STRAIN_ROWS, STRAIN_COLUMNS]
            data, rows = np.concatenate([data, by_strain]), np.append(rows, strain_row + np.arange(6))
        self._rows.append(np.repeat(rows, size))
        self._columns.append(np.tile(place, len(rows)))
        self._data.append(data.ravel())
        self._features.append(self._map.apply(atom.values[None])[0])
        self._frames.append(frame)

    def finish(self, n_rows: int) -> SpeciesAtoms:
        """Everything added so far."""
        size = self._map.n_features
        shape = (n_rows, size * len(self._frames))
        if not self._frames:
            return SpeciesAtoms(np.zeros((0, size)), np.zeros(0, dtype=np.int64), sparse.csr_array(shape))
        rows, columns = np.concatenate(self._rows), np.concatenate(self._columns)
        slopes = sparse.coo_array((np.concatenate(self._data), (rows, columns)), shape=shape).tocsr()
        return SpeciesAtoms(np.array(self._features), np.array(self._frames, dtype=np.int64), slopes)
