r"""Partial radial distribution functions: how often two elements are at a distance, compared with chance.

.. math:: g_{ab}(r) = \frac{\langle n_{ab}(r) \rangle}
          {N_a (N_b - \delta_{ab}) / V \; \tfrac{4\pi}{3}[(r + dr)^3 - r^3]}

with :math:`n_{ab}(r)` the ordered pairs of different atoms (all their images) in the shell. A uniform gas
gives 1 at every distance and for every number of atoms, also beyond half the cell.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations_with_replacement, product

import numpy as np
from ase.data import chemical_symbols
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from qiskit_qff.errors import DataError
from qiskit_qff.simulation.trajectory import Snapshot, SnapshotStream, Trajectory
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
    neighbors: Mapping[str, Floats] = field(default_factory=dict)
    """Running coordination number by ordered pair: ``Li-S`` counts the S up to the end of a shell around a Li; each
    shape ``(n_bins,)``."""


@dataclass(frozen=True)
class Shell:
    """First coordination shell of one element around another."""

    peak_ang: float
    """Distance of the first peak of g(r) in Å."""
    end_ang: float
    """Distance of the minimum behind it in Å."""
    neighbors: float
    """Mean number of neighbours up to there."""


def radial_distribution(trajectory: Trajectory, *, r_max: float = 6.0, n_bins: int = 120) -> RadialDistribution:
    """Partial radial distribution functions, averaged over all frames.

    Args:
        trajectory: periodic in all directions.
        r_max: largest distance in Å; may exceed half the cell.
        n_bins: number of shells.

    Raises:
        DataError: if the structure is not periodic in all directions, so that it has no density.
    """
    stream = trajectory.stream()
    gather = PairDistances(stream, r_max=r_max, n_bins=n_bins)
    for snapshot in stream.snapshots:
        gather.add(snapshot)
    return gather.result()


class PairDistances:
    """Counts pairs by distance while frames stream by."""

    def __init__(self, stream: SnapshotStream, *, r_max: float = 6.0, n_bins: int = 120) -> None:
        """Make ready for the frames of a stream.

        Args:
            stream: periodic in all directions.
            r_max: largest distance in Å; may exceed half the cell.
            n_bins: number of shells.

        Raises:
            DataError: if the structure is not periodic in all directions, so that it has no density.
        """
        if not stream.pbc.all():
            raise DataError("radial distribution functions need a structure periodic in all three directions.")
        species, self._index = np.unique(stream.numbers, return_inverse=True)
        self._symbols = [chemical_symbols[number] for number in species]
        self._counts = np.bincount(self._index)
        self._pbc, self._n_frames, self._inverse_volume = stream.pbc, 0, 0.0
        self._verlet_list = VerletList(r_max, _SKIN)
        self._total = np.zeros((len(species), len(species), n_bins))
        self._edges = np.linspace(0.0, r_max, n_bins + 1)

    def add(self, snapshot: Snapshot) -> None:
        """Take in the next frame."""
        pairs = self._verlet_list.update(snapshot.positions, snapshot.cell, self._pbc)
        bins_per_ang = (len(self._edges) - 1) / self._edges[-1]
        _count_pairs(self._index, pairs.first, pairs.neighbor, pairs.distances, bins_per_ang, self._total)
        self._inverse_volume += 1.0 / abs(np.linalg.det(snapshot.cell))
        self._n_frames += 1

    def result(self) -> RadialDistribution:
        """The averages over the frames so far."""
        edges, counts, total = self._edges, self._counts, self._total
        # Summed over frames: what a uniform gas of one pair of atoms would count.
        chance = self._inverse_volume * 4.0 / 3.0 * np.pi * np.diff(edges**3)
        curves, neighbors = {}, {}
        for a, b in combinations_with_replacement(range(len(counts)), 2):
            n_pairs = counts[a] * (counts[b] - (a == b))
            if n_pairs:
                curves[f"{self._symbols[a]}-{self._symbols[b]}"] = total[a, b] / (n_pairs * chance)
        for a, b in product(range(len(counts)), repeat=2):
            found = total[a, b].cumsum() / (counts[a] * self._n_frames)
            neighbors[f"{self._symbols[a]}-{self._symbols[b]}"] = found
        n_atoms = int(counts.sum())
        if n_atoms > 1:
            curves[ALL] = total.sum(axis=(0, 1)) / (n_atoms * (n_atoms - 1) * chance)
        return RadialDistribution(
            r=0.5 * (edges[1:] + edges[:-1]), curves=curves, n_frames=self._n_frames, neighbors=neighbors
        )


def coordination_shells(found: RadialDistribution) -> dict[str, Shell]:
    """First coordination shell of every ordered pair of elements, named like ``Li-S``: the neighbours S of a Li.

    The shell ends at the lowest point between the first two peaks of g(r). Peaks are sought in g(r) smoothed over
    0.1 Å, and count if they stand out by at least a tenth of the highest one; a pair without two of them has no shell.
    """
    width = 0.1 / (found.r[1] - found.r[0])
    shells = {}
    for name, neighbors in found.neighbors.items():
        first, second = name.split("-")
        curve = found.curves.get(name, found.curves.get(f"{second}-{first}"))
        if curve is None or not curve.any():
            continue
        smooth = gaussian_filter1d(curve, width, mode="nearest")
        # A peak right at the end of the curve counts too: the shell before it is whole.
        peaks, _ = find_peaks(np.append(smooth, 0.0), prominence=0.1 * smooth.max())
        if len(peaks) < 2:
            continue
        lowest = np.flatnonzero(smooth[peaks[0] : peaks[1]] == smooth[peaks[0] : peaks[1]].min())
        end = peaks[0] + int(lowest[len(lowest) // 2])
        shells[name] = Shell(
            peak_ang=float(found.r[peaks[0]]),
            end_ang=float(found.r[end] + 0.5 * (found.r[1] - found.r[0])),
            neighbors=float(neighbors[end]),
        )
    return shells


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
