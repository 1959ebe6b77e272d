r"""Bonds that are kept from breaking: walls on the bonds of the first structure, which thermal motion does not reach.

Force fields for porous frameworks commonly have fixed bonds. A model of this package has none, and what it learned from
few frames may take a framework apart that a simulation of guests is meant to be in. For such simulations each bond of
the structure that a run begins with (as :func:`~qiskit_qff.simulation.bonds.bond_report` counts them: not those of
mobile ions) gets half a harmonic well,

.. math:: E = 4\ \text{eV} \sum_b \max\left(0,\; \frac{r_b - 1.3\, r_b^0}{0.2\, r_b^0}\right)^2

with :math:`r^0` its first length. Heat stretches bonds by less; a bond that is 1.5 times as long counts as broken, and
costs 4 eV. Chemistry at those bonds is then excluded, real or not, and how much the walls had to do says whether the
model would have it.
"""

from dataclasses import dataclass, field

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from qiskit_qff.errors import ConfigError
from qiskit_qff.simulation.bonds import BREAK_FACTOR, first_bonds
from qiskit_qff.simulation.calculator import Potential
from qiskit_qff.structures.neighbors import NeighborList

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

REST = 1.3
"""Multiple of its first length up to which a bond does not feel its wall."""
HEIGHT = 4.0
"""Energy of a wall where its bond counts as broken, in eV; there it pulls by 20 eV/Å in a bond of 2 Å."""


@dataclass(frozen=True, eq=False)
class HeldEnergy:
    """Energies, forces and virial, walls included."""

    energy: float
    """Total energy in eV."""
    energies: FloatArray
    """Energy of each atom, shape ``(n_atoms,)``, in eV; a wall's is shared by the two atoms of its bond."""
    forces: FloatArray
    """Forces, shape ``(n_atoms, 3)``, in eV/Å."""
    virial: FloatArray
    """Derivative of the energy with strain, shape ``(3, 3)``, in eV."""


@dataclass(eq=False)
class HeldBonds:
    """A force field with walls on the bonds of one structure; takes that structure's atoms, in their order."""

    species: tuple[int, ...]
    """Atomic numbers that the force field knows."""
    cutoff: float
    """Its reach in Å."""
    inner: Potential
    """The force field without walls on bonds."""
    first: IntArray
    """First atom of each bond."""
    second: IntArray
    """Second atom of each bond."""
    shifts: FloatArray
    """Cell vectors from its image in the cell to the second atom, shape ``(n_bonds, 3)``."""
    lengths: FloatArray
    """First lengths in Å."""
    evaluations: int = field(default=0, init=False)
    """Number of evaluations so far."""
    felt: int = field(default=0, init=False)
    """In how many of them a bond was at its wall."""
    largest: float = field(default=0.0, init=False)
    """Largest energy of all walls together in eV."""

    @classmethod
    def of(cls, inner: Potential, atoms: Atoms) -> "HeldBonds":
        """Put walls on the bonds of a structure.

        Args:
            inner: The force field.
            atoms: The structure that the run begins with.

        Raises:
            ConfigError: If it has no bonds.
        """
        bonds = first_bonds(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
        if not len(bonds.first):
            raise ConfigError("there are no bonds to hold: no two atoms, mobile ions aside, are closer than bonds are.")
        return cls(inner.species, inner.cutoff, inner, bonds.first, bonds.second, bonds.shifts, bonds.lengths)

    def evaluate(
        self,
        numbers: NDArray[np.int64],
        positions: FloatArray,
        cell: FloatArray,
        pbc: NDArray[np.bool_],
        neighbors: NeighborList,
    ) -> HeldEnergy:
        """Evaluate a structure whose neighbours are known.

        Args:
            numbers: Atomic numbers, shape ``(n,)``.
            positions: Positions in Å, shape ``(n, 3)``, continuous since the first structure, not wrapped.
            cell: Cell vectors in Å, shape ``(3, 3)``.
            pbc: Periods, shape ``(3,)``.
            neighbors: Full list with at least the cutoff.
        """
        own = self.inner.evaluate(numbers, positions, cell, pbc, neighbors)
        vectors = positions[self.second] - positions[self.first] + self.shifts @ cell
        lengths = np.linalg.norm(vectors, axis=1)
        width = (BREAK_FACTOR - REST) * self.lengths
        over = np.maximum(lengths - REST * self.lengths, 0.0) / width
        walls = HEIGHT * over**2
        slopes = (2.0 * HEIGHT * over / (width * lengths))[:, None] * vectors
        energies, forces = own.energies.copy(), own.forces.copy()
        for atoms, sign in ((self.first, 1.0), (self.second, -1.0)):
            np.add.at(energies, atoms, 0.5 * walls)
            np.add.at(forces, atoms, sign * slopes)
        added = float(walls.sum())
        self.evaluations += 1
        self.felt += added > 0.0
        self.largest = max(self.largest, added)
        return HeldEnergy(own.energy + added, energies, forces, own.virial + slopes.T @ vectors)
