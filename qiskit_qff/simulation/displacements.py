r"""Mean squared displacements, gathered while frames stream by.

.. math:: \mathrm{MSD}_g(t) = \langle |r_i(t_0 + t) - r_i(t_0)|^2 \rangle_{i \in g,\, t_0}

The order-n algorithm: level l keeps every 2^l-th of the positions, the last 32 of them, and compares each new one
with those; lags grow geometrically, and so do the distances between origins, at most 1/16 of the lag, so next to
nothing of the average is lost. Memory grows with the logarithm of the number of frames.

References:
    Frenkel, Smit, Understanding Molecular Simulation, 2nd ed., section 4.4.2; Dubbeldam, Ford, Ellis, Snurr,
    doi:10.1080/08927020902818039.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.data import atomic_masses, chemical_symbols
from numpy.typing import NDArray
from scipy.sparse import csr_array

from qiskit_qff.errors import DataError
from qiskit_qff.simulation.trajectory import Floats, Snapshot, SnapshotStream, Trajectory, no_times

#: Positions kept at each level.
SLOTS = 32


@dataclass(frozen=True, eq=False)
class Displacements:
    """Mean squared displacements by element."""

    lag_ps: Floats
    """Lag times, shape ``(n_lags,)``, in ps: evenly spaced at first, then in growing steps."""
    curves: Mapping[str, Floats]
    """Mean squared displacement by element, each of shape ``(n_lags,)``, in Å²."""


def mean_squared_displacements(trajectory: Trajectory) -> Displacements:
    """Mean squared displacement of every element, up to half the length of the trajectory.

    Raises:
        DataError: if there are fewer than two frames, or they carry no time, or it is not evenly spaced.
    """
    stream = trajectory.stream()
    gather = ElementDisplacements(stream)
    for snapshot in stream.snapshots:
        gather.add(snapshot)
    return gather.result()


class ElementDisplacements:
    """Mean squared displacement of every element, about the centre of mass of all atoms."""

    def __init__(self, stream: SnapshotStream) -> None:
        """Make ready for the frames of a stream."""
        self._elements, groups = np.unique(stream.numbers, return_inverse=True)
        self._centre = CentreOfMass(stream.numbers)
        self._correlator = DisplacementCorrelator(groups)
        self._clock = Clock()

    def add(self, snapshot: Snapshot) -> None:
        """Take in the next frame."""
        self._clock.tick(snapshot)
        self._correlator.add(self._centre.relative(snapshot.positions))

    def result(self) -> Displacements:
        """The curves up to half the time.

        Raises:
            DataError: if there are fewer than two frames, or they carry no time, or it is not evenly spaced.
        """
        spacing = self._clock.spacing_ps()
        lags, curves = self._correlator.result()
        kept = lags <= max(1, self._clock.n_frames // 2)
        named = {chemical_symbols[number]: curves[kept, group] for group, number in enumerate(self._elements)}
        return Displacements(lag_ps=spacing * lags[kept].astype(np.float64), curves=named)


class CentreOfMass:
    """Takes the motion of a centre of mass out."""

    def __init__(self, numbers: NDArray[np.int64], *, among: NDArray[np.bool_] | None = None) -> None:
        """Fix the weights.

        Args:
            numbers: atomic numbers, shape ``(n_atoms,)``.
            among: atoms whose centre it is, shape ``(n_atoms,)``; default all.
        """
        masses = np.where(True if among is None else among, atomic_masses[numbers], 0.0)
        self._weights: Floats = masses / masses.sum()

    def relative(self, positions: Floats) -> Floats:
        """Positions relative to the centre of mass, shape ``(n_atoms, 3)``, in Å."""
        relative: Floats = positions - self._weights @ positions
        return relative


class Clock:
    """Watches that frames are evenly spaced in time."""

    def __init__(self) -> None:
        self.n_frames = 0
        """Number of frames so far."""
        self._first = self._last = 0.0
        self._shortest, self._longest = np.inf, -np.inf
        self._is_missing = False

    def tick(self, snapshot: Snapshot) -> None:
        """Note the time of the next frame."""
        self.n_frames += 1
        if snapshot.time_ps is None:
            self._is_missing = True
            return
        if self.n_frames == 1:
            self._first = snapshot.time_ps
        else:
            step = snapshot.time_ps - self._last
            self._shortest, self._longest = min(self._shortest, step), max(self._longest, step)
        self._last = snapshot.time_ps

    def spacing_ps(self) -> float:
        """Time between frames in ps.

        Raises:
            DataError: if there are fewer than two frames, or they carry no time, or it is not evenly spaced.
        """
        if self._is_missing:
            raise no_times()
        if self.n_frames < 2:
            raise DataError("displacements need at least two frames.")
        mean = (self._last - self._first) / (self.n_frames - 1)
        if self._shortest <= 0.0 or self._longest - self._shortest > 1e-6 * mean:
            raise DataError(
                f"frames are not evenly spaced in time ({self._shortest:g} to {self._longest:g} ps apart); "
                "displacements need even steps."
            )
        return mean


class DisplacementCorrelator:
    """Mean squared displacement of groups of points, for one stretch of frames."""

    def __init__(self, groups: NDArray[np.int64]) -> None:
        """Make ready.

        Args:
            groups: group of each point, shape ``(n_points,)``, from 0 without gaps.
        """
        n_points = len(groups)
        shares = 1.0 / np.bincount(groups)[groups]
        self._shares = csr_array((shares, (groups, np.arange(n_points))), shape=(int(groups.max()) + 1, n_points))
        self._levels: list[_Level] = []
        self._start: Floats
        self._n_frames = 0

    def add(self, positions: Floats) -> None:
        """Take in the next frame's points, shape ``(n_points, 3)``, in Å."""
        if self._n_frames == 0:
            self._start = positions.copy()
        level, stride = 0, 1
        while self._n_frames % stride == 0 and stride <= max(1, self._n_frames):
            if level == len(self._levels):
                self._levels.append(_Level(self._shares))
                if level:
                    self._levels[level].add(self._start)
            self._levels[level].add(positions)
            level, stride = level + 1, 2 * stride
        self._n_frames += 1

    def result(self) -> tuple[NDArray[np.int64], Floats]:
        """Lags in frames, shape ``(n_lags,)``, and mean squared displacements, ``(n_lags, n_groups)``, in Å²."""
        lags, curves = [np.zeros(1, dtype=np.int64)], [np.zeros((1, self._shares.shape[0]))]
        for exponent, level in enumerate(self._levels):
            # Lags below half the slots are known from the level below, from more origins.
            slots = np.arange(SLOTS // 2 if exponent else 1, SLOTS)
            slots = slots[level.counts[slots] > 0]
            lags.append(slots << exponent)
            curves.append(level.sums[slots] / level.counts[slots, None])
        return np.concatenate(lags), np.concatenate(curves)


class _Level:
    """The last points at one distance of frames, and the sums of their squared displacements."""

    def __init__(self, shares: "csr_array[Any, tuple[int, int]]") -> None:
        n_groups, n_points = shares.shape
        self._shares = shares
        self._points: Floats = np.empty((SLOTS, n_points, 3))
        self._n_added = 0
        self.sums: Floats = np.zeros((SLOTS, n_groups))
        """Summed over origins, by lag and group."""
        self.counts: NDArray[np.int64] = np.zeros(SLOTS, dtype=np.int64)
        """Number of origins by lag."""

    def add(self, positions: Floats) -> None:
        """Compare the next points with those kept, then keep them."""
        n_kept = min(self._n_added, SLOTS)
        if n_kept:
            moves = self._points[:n_kept] - positions
            squares = (self._shares @ np.einsum("kpi,kpi->pk", moves, moves)).T
            lags = (self._n_added - np.arange(n_kept)) % SLOTS
            # The slot that is about to be overwritten is 32 frames old: its lag is one of the next level's.
            self.sums[lags[lags > 0]] += squares[lags > 0]
            self.counts[lags[lags > 0]] += 1
        self._points[self._n_added % SLOTS] = positions
        self._n_added += 1
