r"""Partial radial distribution functions: how often two elements are at a distance, compared with chance.

.. math:: g_{ab}(r) = \frac{\langle n_{ab}(r) \rangle}
          {N_a (N_b - \delta_{ab}) / V \; \tfrac{4\pi}{3}[(r + dr)^3 - r^3]}

with :math:`n_{ab}(r)` the ordered pairs of different atoms (all their images) in the shell. A uniform gas
gives 1 at every distance and for every number of atoms, also beyond half the cell, where the minimum-image counts
of ASE and others end.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations_with_replacement, product

import numpy as np
from ase.data import chemical_symbols
from scipy.ndimage import gaussian_filter1d, label
from scipy.signal import find_peaks

from qiskit_qff.array_types import FloatArray
from qiskit_qff.errors import DataError
from qiskit_qff.simulation.trajectory import Trajectory
from qiskit_qff.structures.neighbors import neighbor_list

#: Name of the distribution that does not tell elements apart.
ALL = "all"
# More evenly chosen frames than these change no distribution.
_FRAMES = 2000
# A shell ends where g(r) stays below a tenth of a uniform density for half an Å: the split first shell of a distorted
# octahedron has narrower gaps inside, a framework's shells have wider ones between.
_NEAR_ZERO, _GAP_ANG = 0.1, 0.5


@dataclass(frozen=True, eq=False)
class RadialDistribution:
    """Radial distribution functions of one set of frames."""

    r: FloatArray
    """Centres of the shells, shape ``(n_bins,)``, in Å."""
    curves: Mapping[str, FloatArray]
    """g(r) by pair, named like ``Li-S`` in order of atomic number, and ``all``; each shape ``(n_bins,)``."""
    n_frames: int
    """Number of frames averaged over."""
    neighbors: Mapping[str, FloatArray] = field(default_factory=dict)
    """Running coordination number by ordered pair: ``Li-S`` counts the S up to the end of a shell around a Li; each
    shape ``(n_bins,)``."""


@dataclass(frozen=True)
class Shell:
    """First coordination shell of one element around another."""

    peak_ang: float
    """Distance of the first peak of g(r) in Å."""
    end_ang: float
    """Where the shell ends in Å."""
    neighbors: float
    """Mean number of neighbours up to there."""


def radial_distribution(trajectory: Trajectory, *, r_max: float = 6.0, n_bins: int = 120) -> RadialDistribution:
    """Partial radial distribution functions, averaged over the frames.

    Args:
        trajectory: periodic in all directions.
        r_max: largest distance in Å; may exceed half the cell.
        n_bins: number of shells.

    Raises:
        DataError: if the structure is not periodic in all directions, so that it has no density.
    """
    if not trajectory.pbc.all():
        raise DataError("radial distribution functions need a structure periodic in all three directions.")
    species, kinds = np.unique(trajectory.numbers, return_inverse=True)
    n, counts = len(species), np.bincount(kinds)
    total, inverse_volume = np.zeros(n * n * n_bins), 0.0
    chosen = slice(None, None, -(-trajectory.n_frames // _FRAMES))
    frames = list(zip(trajectory.positions[chosen], trajectory.cells[chosen], strict=True))
    for positions, cell in frames:
        near = neighbor_list(positions, cell, trajectory.pbc, r_max)
        shells = (near.distances * (n_bins / r_max)).astype(np.int64)
        # An atom and its own image say nothing about the structure.
        kept = (near.centers != near.neighbor) & (shells < n_bins)
        places = (kinds[near.centers] * n + kinds[near.neighbor]) * n_bins + shells
        total += np.bincount(places[kept], minlength=len(total))
        inverse_volume += 1.0 / abs(np.linalg.det(cell))
    pairs = total.reshape(n, n, n_bins)
    edges = np.linspace(0.0, r_max, n_bins + 1)
    # Summed over frames: what a uniform gas of one pair of atoms would count.
    chance = inverse_volume * 4.0 / 3.0 * np.pi * np.diff(edges**3)
    names = [chemical_symbols[number] for number in species]
    curves = {
        f"{names[a]}-{names[b]}": pairs[a, b] / (counts[a] * (counts[b] - (a == b)) * chance)
        for a, b in combinations_with_replacement(range(n), 2)
        if a != b or counts[a] > 1
    }
    if (n_atoms := int(counts.sum())) > 1:
        curves[ALL] = pairs.sum(axis=(0, 1)) / (n_atoms * (n_atoms - 1) * chance)
    neighbors = {
        f"{names[a]}-{names[b]}": pairs[a, b].cumsum() / (counts[a] * len(frames))
        for a, b in product(range(n), repeat=2)
    }
    return RadialDistribution(0.5 * (edges[1:] + edges[:-1]), curves, len(frames), neighbors)


def coordination_shells(found: RadialDistribution) -> dict[str, Shell]:
    """First coordination shell of every ordered pair of elements, named like ``Li-S``: the neighbours S of a Li.

    A shell ends where g(r) stays near zero. Where it never does, as around the ions of a melt, it ends at the lowest
    point between the first two peaks. Peaks are sought in g(r) smoothed over 0.1 Å, and count if they stand out by at
    least a tenth of the highest one. A pair with one peak and no end within reach has no shell.
    """
    step = float(found.r[1] - found.r[0])
    shells = {}
    for name, neighbors in found.neighbors.items():
        first, second = name.split("-")
        curve = found.curves.get(name, found.curves.get(f"{second}-{first}"))
        if curve is None or not curve.any():
            continue
        smooth = gaussian_filter1d(curve, 0.1 / step, mode="nearest")
        # A peak right at the end of the curve counts too: the shell before it is whole.
        peaks, _ = find_peaks(np.append(smooth, 0.0), prominence=0.1 * smooth.max())
        if len(peaks) and (end := _end_of_shell(curve, smooth, peaks.tolist(), step)) is not None:
            shells[name] = Shell(float(found.r[peaks[0]]), float(found.r[end] + 0.5 * step), float(neighbors[end]))
    return shells


def _end_of_shell(curve: FloatArray, smooth: FloatArray, peaks: list[int], step: float) -> int | None:
    """The last bin of the first shell."""
    gaps, n_gaps = label(curve < _NEAR_ZERO)
    for gap in range(1, n_gaps + 1):
        inside = np.flatnonzero(gaps == gap)
        if inside[0] > peaks[0] and len(inside) * step >= _GAP_ANG - 1e-9:
            return int(inside[0])
    if len(peaks) < 2:
        return None
    between = smooth[peaks[0] : peaks[1]]
    lowest = np.flatnonzero(between == between.min())
    return peaks[0] + int(lowest[len(lowest) // 2])


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
