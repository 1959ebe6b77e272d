"""Bonds that should last: which of those in the first frame have broken, and which atoms have gone astray.

A bond of the first frame joins two atoms closer than 1.2 times the sum of their covalent radii, neither of
them a mobile ion. It counts as broken in a frame where its length exceeds 1.5 times that of the first frame;
thermal motion of a sound framework stays far below.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import covalent_radii

from qiskit_qff.array_types import BoolArray, FloatArray, IntArray
from qiskit_qff.simulation.trajectory import Trajectory
from qiskit_qff.structures.framework import BOND, MOBILE, NONMETALS
from qiskit_qff.structures.neighbors import NeighborList, neighbor_list

#: A bond longer than this multiple of its first length is broken.
BREAK_FACTOR = 1.5


@dataclass(frozen=True, eq=False)
class BondReport:
    """What became of the bonds of the first frame."""

    n_bonds: int
    """Number of bonds in the first frame."""
    persistence: FloatArray
    """Fraction of them unbroken in each frame, shape ``(n_frames,)``; 1 where there were none."""
    broken: tuple[tuple[int, int], ...]
    """Pairs of atoms whose bond is broken in the last frame."""
    lost: tuple[int, ...]
    """Atoms that in the last frame have no neighbour within reach, though they had one in the first."""


@dataclass(frozen=True, eq=False)
class Bonds:
    """Bonds of a structure, each once."""

    first: IntArray
    """First atom, shape ``(n_bonds,)``."""
    second: IntArray
    """Second atom, same shape."""
    shifts: FloatArray
    """Cell vectors between the second atom and its image at the bond, shape ``(n_bonds, 3)``. Positions of dynamics are
    continuous, so the image of the first frame stays the bond's image."""
    lengths: FloatArray
    """Lengths in Å, shape ``(n_bonds,)``."""

    def vectors(self, positions: FloatArray, cell: FloatArray) -> FloatArray:
        """From the first atoms to the second ones in another frame, in Å, shape ``(n_bonds, 3)``."""
        between: FloatArray = positions[self.second] - positions[self.first] + self.shifts @ cell
        return between


def first_bonds(
    numbers: IntArray,
    positions: FloatArray,
    cell: FloatArray,
    pbc: BoolArray,
    *,
    mobile: Sequence[int] = MOBILE,
    within: float = BOND,
    metallic: bool = True,
) -> Bonds:
    """The bonds of a structure.

    Args:
        numbers: atomic numbers, shape ``(n_atoms,)``.
        positions: in Å, shape ``(n_atoms, 3)``.
        cell: cell vectors in Å, shape ``(3, 3)``.
        pbc: periods, shape ``(3,)``.
        mobile: atomic numbers of ions whose contacts are no bonds.
        within: atoms closer than this multiple of the sum of their covalent radii are bonded.
        metallic: whether two metal atoms may be.
    """
    reach = 2.0 * within * float(covalent_radii[numbers].max())
    return _bonds_among(neighbor_list(positions, cell, pbc, reach), numbers, mobile, within=within, metallic=metallic)


def _bonds_among(
    near: NeighborList,
    numbers: IntArray,
    mobile: Sequence[int],
    *,
    within: float = BOND,
    metallic: bool = True,
) -> Bonds:
    """Which neighbours are bonded."""
    centers, others = near.centers, near.neighbor
    radii, light = covalent_radii[numbers], np.isin(numbers, NONMETALS)
    bonded = near.distances < within * (radii[centers] + radii[others])
    bonded &= ~np.isin(numbers[centers], mobile) & ~np.isin(numbers[others], mobile)
    bonded &= metallic | light[centers] | light[others]
    # Each bond once; an atom bonded to its own image is kept by the sign of its vector.
    chosen = bonded & ((centers < others) | ((centers == others) & (near.vectors[:, 0] > 0.0)))
    return Bonds(centers[chosen], others[chosen], near.shifts[chosen].astype(np.float64), near.distances[chosen])


def bond_report(trajectory: Trajectory, *, mobile: Sequence[int] = MOBILE, reach: float = 5.0) -> BondReport:
    """Follow the bonds of the first frame through a trajectory.

    Args:
        trajectory: frames in time order.
        mobile: atomic numbers of ions whose contacts are no bonds.
        reach: an atom without any other this close is lost, in Å.
    """
    first, last = (
        neighbor_list(trajectory.positions[frame], trajectory.cells[frame], trajectory.pbc, reach) for frame in (0, -1)
    )
    bonds = _bonds_among(first, trajectory.numbers, mobile)
    broken = np.array(
        [
            np.linalg.norm(bonds.vectors(*frame), axis=1) > BREAK_FACTOR * bonds.lengths
            for frame in zip(trajectory.positions, trajectory.cells, strict=True)
        ]
    )
    pairs = zip(bonds.first[broken[-1]], bonds.second[broken[-1]], strict=True)
    had, has = np.diff(first.first) > 0, np.diff(last.first) > 0
    return BondReport(
        n_bonds=len(bonds.first),
        persistence=1.0 - broken.mean(axis=1) if len(bonds.first) else np.ones(len(broken)),
        broken=tuple((int(i), int(j)) for i, j in pairs),
        lost=tuple(int(i) for i in np.flatnonzero(had & ~has)),
    )
