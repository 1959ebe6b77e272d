r"""Features of every atom and their derivatives, kept for all frames: what a model needs that is not linear in M.

For the atoms of species s with features y, the derivatives :math:`-\partial y_{ia}/\partial R` are a sparse matrix of
3 n rows (force components of all frames) and one column per atom and feature. So forces of any
:math:`E_i = f(y_i)` are one product with :math:`\partial f/\partial y`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from qiskit_qff.compression.linear_map import LinearMap
from qiskit_qff.descriptors.kernels import atom_channels
from qiskit_qff.descriptors.tables import ChannelTables, make_tables
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.neighbors import NeighborList, neighbor_list
from qiskit_qff.structures.species import species_index
from qiskit_qff.training.design import Progress

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SpeciesAtoms:
    """All atoms of one species, over all frames."""

    features: FloatArray
    """y, shape ``(n, d)``."""
    frame: IntArray
    """Which frame each atom is in, shape ``(n,)``."""
    slopes: sparse.csr_array
    """Minus the derivatives of y with respect to all positions, shape ``(3 N, n d)``, in 1/Å."""


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
    progress: Progress | None = None,
) -> AtomFeatures:
    """Compute the features of some frames.

    Args:
        frames: The frames.
        maps: Compression of each species.
        r_cut: Cutoff radius in Å.
        core_start: Distance in Å per pair of species below which channels level off, shape ``(S, S)``.
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
        for i, s in enumerate(kinds.tolist()):
            collected[s].add(*_one_atom(tables, neighbors, kinds, i), i, k, row)
        row += 3 * frame.n_atoms
    return AtomFeatures(tuple(c.finish(row) for c in collected), counts)


def _one_atom(
    tables: ChannelTables, neighbors: NeighborList, kinds: IntArray, i: int
) -> tuple[FloatArray, FloatArray, IntArray]:
    """Channels of an atom, their Jacobian with respect to its neighbour vectors, and who the neighbours are."""
    part = slice(int(neighbors.first[i]), int(neighbors.first[i + 1]))
    others = neighbors.neighbor[part]
    width = int(tables.channel_start[kinds[i] + 1] - tables.channel_start[kinds[i]])
    values, jacobian = np.empty(width), np.empty((len(others), 3, width))
    atom_channels(tables, kinds[i], neighbors.vectors[part], neighbors.distances[part], kinds[others], values, jacobian)
    return values, jacobian, others


class _Collector:
    """Gathers the atoms of one species."""

    def __init__(self, compression: LinearMap) -> None:
        self._map = compression
        self._features: list[FloatArray] = []
        self._frames: list[int] = []
        self._rows: list[IntArray] = []
        self._columns: list[IntArray] = []
        self._data: list[FloatArray] = []

    def add(
        self, values: FloatArray, jacobian: FloatArray, neighbors: IntArray, center: int, frame: int, row: int
    ) -> None:
        """Add one atom; ``row`` is the first force component of its frame."""
        size = self._map.n_features
        place = size * len(self._frames) + np.arange(size)
        slopes = jacobian @ self._map.matrix.T
        # E_i depends on r_j - r_i: its neighbours feel minus the slope, the centre the sum.
        data = np.concatenate([-slopes, slopes.sum(axis=0)[None]])
        atoms = np.append(neighbors, center)
        rows = row + 3 * atoms[:, None] + np.arange(3)
        self._rows.append(np.repeat(rows.ravel(), size))
        self._columns.append(np.tile(place, rows.size))
        self._data.append(data.ravel())
        self._features.append(self._map.apply(values[None])[0])
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
