"""Bonds that should last: which of those in the first frame have broken, and which atoms have gone astray.

A bond of the first frame joins two atoms closer than 1.2 times the sum of their covalent radii, neither of
them a mobile ion. It counts as broken in a frame where its length exceeds 1.5 times that of the first frame;
thermal motion of a sound framework stays far below.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray

from qiskit_qff.simulation.trajectory import Trajectory
from qiskit_qff.structures.neighbors import NeighborList, neighbor_list

#: Two atoms closer than this multiple of their covalent radii are bonded.
BOND_FACTOR = 1.2
#: A bond longer than this multiple of its first length is broken.
BREAK_FACTOR = 1.5
#: Ions that hop by nature: Li, Na, K.
MOBILE = (3, 11, 19)


@dataclass(frozen=True, eq=False)
class BondReport:
    """What became of the bonds of the first frame."""

    n_bonds: int
    """Number of bonds in the first frame."""
    persistence: NDArray[np.float64]
    """Fraction of them unbroken in each frame, shape ``(n_frames,)``; 1 where there were none."""
    broken: tuple[tuple[int, int], ...]
    """Pairs of atoms whose bond is broken in the last frame."""
    lost: tuple[int, ...]
    """Atoms that in the last frame have no neighbour within reach, though they had one in the first."""


def bond_report(trajectory: Trajectory, *, mobile: Sequence[int] = MOBILE, reach: float = 5.0) -> BondReport:
    """Follow the bonds of the first frame through a trajectory.

    Args:
        trajectory: frames in time order.
        mobile: atomic numbers of ions whose contacts are no bonds.
        reach: an atom without any other this close is lost, in Å.
    """
    numbers = trajectory.numbers
    first, last = (_neighbors(trajectory, frame, reach) for frame in (0, -1))
    radii = covalent_radii[numbers]
    centers, others = first.centers, first.neighbor
    bonded = first.distances < BOND_FACTOR * (radii[centers] + radii[others])
    bonded &= ~np.isin(numbers[centers], mobile) & ~np.isin(numbers[others], mobile)
    # Each bond once; an atom bonded to its own image is kept by the sign of its vector.
    forward = (centers < others) | ((centers == others) & (first.vectors[:, 0] > 0.0))
    chosen = bonded & forward
    a, b = centers[chosen], others[chosen]
    # Positions are continuous, so the image of the first frame stays the bond's image.
    shifts = first.shifts[chosen].astype(np.float64)
    vectors = trajectory.positions[:, b] - trajectory.positions[:, a] + np.matmul(shifts, trajectory.cells)
    lengths = np.linalg.norm(vectors, axis=2)
    is_broken = lengths > BREAK_FACTOR * lengths[0]
    had, has = np.diff(first.first) > 0, np.diff(last.first) > 0
    return BondReport(
        n_bonds=len(a),
        persistence=1.0 - is_broken.mean(axis=1) if len(a) else np.ones(trajectory.n_frames),
        broken=tuple((int(i), int(j)) for i, j in zip(a[is_broken[-1]], b[is_broken[-1]], strict=True)),
        lost=tuple(int(i) for i in np.flatnonzero(had & ~has)),
    )


def _neighbors(trajectory: Trajectory, frame: int, reach: float) -> NeighborList:
    """Neighbours in one frame."""
    return neighbor_list(trajectory.positions[frame], trajectory.cells[frame], trajectory.pbc, reach)
