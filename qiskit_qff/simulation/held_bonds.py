r"""Bonds that are kept from breaking: walls on the bonds of the first structure, which thermal motion does not reach.

Force fields for porous frameworks commonly have fixed bonds. A model of this package has none, and what it learned from
few frames may take a framework apart that a simulation of guests is meant to be in. For such simulations each bond of
the structure that a run begins with (atoms closer than 1.3 times the sum of their covalent radii; not those of mobile
ions, and none between two metal atoms) gets half a harmonic well,

.. math:: E = 4\ \text{eV} \sum_b \max\left(0,\; \frac{r_b - 1.3\, r^0}{0.2\, r^0}\right)^2

with :math:`r^0` the mean length of the bonds between such elements there, so that a snapshot of hot atoms serves as
well as one at rest. Heat stretches bonds by less; one that is 1.5 times as long counts as broken, and costs 4 eV.
Chemistry at those bonds is then excluded, real or not, and how much the walls had to do says whether the model would
have it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from qiskit_qff.array_types import BoolArray, FloatArray, IntArray
from qiskit_qff.errors import ConfigError
from qiskit_qff.model.prediction import Prediction
from qiskit_qff.simulation.bonds import BREAK_FACTOR, Bonds, first_bonds
from qiskit_qff.simulation.calculator import Potential
from qiskit_qff.structures.neighbors import NeighborList

WITHIN = 1.3
"""Atoms closer than this multiple of the sum of their covalent radii are bonded, those that heat has stretched too."""
REST = 1.3
"""Multiple of the mean length up to which a bond does not feel its wall."""
HEIGHT = 4.0
"""Energy of a wall where its bond counts as broken, in eV; there it pulls by 20 eV/Å in a bond of 2 Å."""


@dataclass(frozen=True, eq=False)
class HeldBonds:
    """A force field with walls on the bonds of one structure; takes that structure's atoms, in their order."""

    species: tuple[int, ...]
    """Atomic numbers that the force field knows."""
    cutoff: float
    """Its reach in Å."""
    inner: Potential
    """The force field without walls on bonds."""
    bonds: Bonds
    """The bonds that are held."""
    rest: FloatArray
    """Length of each in Å from which on it feels its wall, shape ``(n_bonds,)``."""
    width: FloatArray
    """How far beyond that a wall costs :data:`HEIGHT`, in Å, same shape."""
    counts: Mapping[str, int]
    """Number of bonds by pair of elements, such as ``O-Zn``."""

    @classmethod
    def of(cls, inner: Potential, atoms: Atoms) -> "HeldBonds":
        """Put walls on the bonds of a structure.

        Args:
            inner: The force field.
            atoms: The structure that the run begins with; better one at rest, and whole.

        Raises:
            ConfigError: If it has no bonds.
        """
        found = first_bonds(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, within=WITHIN, metallic=False)
        if not len(found.first):
            raise ConfigError("there are no bonds to hold: no two atoms, mobile ions aside, are closer than bonds are.")
        symbols = np.array(atoms.get_chemical_symbols())
        pairs = ["-".join(sorted(pair)) for pair in zip(symbols[found.first], symbols[found.second], strict=True)]
        names, kinds = np.unique(pairs, return_inverse=True)
        counts = np.bincount(kinds)
        lengths = (np.bincount(kinds, weights=found.lengths) / counts)[kinds]
        told = {str(name): int(count) for name, count in zip(names, counts, strict=True)}
        return cls(inner.species, inner.cutoff, inner, found, REST * lengths, (BREAK_FACTOR - REST) * lengths, told)

    def walls(self, positions: FloatArray, cell: FloatArray) -> float:
        """Energy of all walls in eV.

        Args:
            positions: Positions in Å, shape ``(n, 3)``, continuous since the first structure, not wrapped.
            cell: Cell vectors in Å, shape ``(3, 3)``.
        """
        _, over = self._stretched(positions, cell)
        return HEIGHT * float((over**2).sum())

    def evaluate(
        self,
        numbers: IntArray,
        positions: FloatArray,
        cell: FloatArray,
        pbc: BoolArray,
        neighbors: NeighborList,
    ) -> Prediction:
        """Evaluate a structure whose neighbours are known; a wall's energy is shared by the two atoms of its bond.

        Args:
            numbers: Atomic numbers, shape ``(n,)``.
            positions: Positions in Å, shape ``(n, 3)``, continuous since the first structure, not wrapped.
            cell: Cell vectors in Å, shape ``(3, 3)``.
            pbc: Periods, shape ``(3,)``.
            neighbors: Full list with at least the cutoff.
        """
        own = self.inner.evaluate(numbers, positions, cell, pbc, neighbors)
        vectors, over = self._stretched(positions, cell)
        walls = HEIGHT * over**2
        slopes = (2.0 * HEIGHT * over / (self.width * np.linalg.norm(vectors, axis=1)))[:, None] * vectors
        energies, forces = own.energies.copy(), own.forces.copy()
        for atoms, sign in ((self.bonds.first, 1.0), (self.bonds.second, -1.0)):
            np.add.at(energies, atoms, 0.5 * walls)
            np.add.at(forces, atoms, sign * slopes)
        return Prediction(energies, forces, own.virial + slopes.T @ vectors)

    def _stretched(self, positions: FloatArray, cell: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Bond vectors in Å, and how far each is beyond its rest, in widths."""
        vectors = self.bonds.vectors(positions, cell)
        return vectors, np.maximum(np.linalg.norm(vectors, axis=1) - self.rest, 0.0) / self.width
