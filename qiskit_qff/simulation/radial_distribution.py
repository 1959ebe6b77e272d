r"""Partial radial distribution functions: how often two elements are at a distance, compared with chance.

.. math:: g_{ab}(r) = \frac{\langle n_{ab}(r) \rangle}
          {N_a (N_b - \delta_{ab}) / V \; \tfrac{4\pi}{3}[(r + dr)^3 - r^3]}

with :math:`n_{ab}(r)` the ordered pairs of different atoms (all their images) in the shell. A uniform gas
gives 1 at every distance and for every number of atoms, also beyond half the cell.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from ase.data import chemical_symbols
from numba import njit
from numpy.typing import NDArray

from qiskit_qff.errors import DataError
from qiskit_qff.simulation.trajectory import Trajectory
from qiskit_qff.structures.neighbors import VerletList

Floats = NDArray[np.float64]

#: Name of the distribution that does not tell elements apart.
ALL = "all"
# Neighbours up to this much beyond r_max are kept from frame to frame, in Å.
_SKIN = 1.0


@dataclass(frozen=True, eq=False)
class RadialDistribution:
    """Radial distribution functions of one set of frames."""

    r: Floats
    """Centres of the shells, shape ``(n_bins,)``, in Å."""
    curves: Mapping[str, Floats]
    """g(r) by pair, named like ``Li-S`` in order of atomic number, and ``all``; each shape ``(n_bins,)``."""
    n_frames: int
    """Number of frames averaged over."""


def radial_distribution(trajectory: Trajectory, *, r_max: float = 6.0, n_bins: int = 120) -> RadialDistribution:
    """Partial radial distribution functions, averaged over all frames.

    Args:
        trajectory: periodic in all directions.
        r_max: largest distance in Å; may exceed half the cell.
        n_bins: number of shells.

    Raises:
        DataError: if the structure is not periodic in all directions, so that it has no density.
    """
    if not trajectory.pbc.all():
        raise DataError("radial distribution functions need a structure periodic in all three directions.")
    species, index = np.unique(trajectory.numbers, return_inverse=True)
    counts = np.bincount(index)
    verlet_list = VerletList(r_max, _SKIN)
    total = np.zeros((len(species), len(species), n_bins))
    inverse_volume = 0.0
    for positions, cell in zip(trajectory.positions, trajectory.cells, strict=True):
        pairs = verlet_list.update(positions, cell, trajectory.pbc)
        _count_pairs(index, pairs.first, pairs.neighbor, pairs.distances, n_bins / r_max, total)
        inverse_volume += 1.0 / abs(np.linalg.det(cell))
    edges = np.linspace(0.0, r_max, n_bins + 1)
    # Summed over frames: what a uniform gas of one pair of atoms would count.
    chance = inverse_volume * 4.0 / 3.0 * np.pi * np.diff(edges**3)
    curves = {}
    for a, b in combinations_with_replacement(range(len(species)), 2):
        n_pairs = counts[a] * (counts[b] - (a == b))
        if n_pairs:
            name = f"{chemical_symbols[species[a]]}-{chemical_symbols[species[b]]}"
            curves[name] = total[a, b] / (n_pairs * chance)
    n_atoms = trajectory.n_atoms
    if n_atoms > 1:
        curves[ALL] = total.sum(axis=(0, 1)) / (n_atoms * (n_atoms - 1) * chance)
    return RadialDistribution(r=0.5 * (edges[1:] + edges[:-1]), curves=curves, n_frames=trajectory.n_frames)


def radial_distribution_errors(first: RadialDistribution, second: RadialDistribution) -> dict[str, float]:
    """Mean absolute difference over all distances, for each pair that both have, and for ``all``.

    Raises:
        DataError: if the distances differ.
    """
    if not np.array_equal(first.r, second.r):
        raise DataError("the radial distribution functions are on different distances; use one r_max and n_bins.")
    return {
        name: float(np.abs(values - second.curves[name]).mean())
        for name, values in first.curves.items()
        if name in second.curves
    }


@njit(cache=True)
def _count_pairs(
    species: NDArray[np.int64],
    first: NDArray[np.int64],
    neighbor: NDArray[np.int64],
    distances: Floats,
    bins_per_ang: float,
    total: Floats,
) -> None:  # pragma: no cover
    """Add the ordered pairs of one frame to ``total``, shape ``(n_species, n_species, n_bins)``."""
    for i in range(species.shape[0]):
        for pair in range(first[i], first[i + 1]):
            j = neighbor[pair]
            shell = int(distances[pair] * bins_per_ang)
            # An atom and its own image say nothing about the structure.
            if j != i and shell < total.shape[2]:
                total[species[i], species[j], shell] += 1.0
