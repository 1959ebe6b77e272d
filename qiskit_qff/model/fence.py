r"""A force field with walls around its training data, for simulations that would leave them.

A model that is fitted to energies and forces falls without end in directions that training never took, and dynamics
finds them. Directions are the principal ones of each species' features, so v varies by about one over the training
atoms along each, the hardly varied ones included. From the least and the largest v of the training atoms the walls
stand off by :data:`MARGIN`; beyond, they turn the model's own slope back:

.. math:: \kappa_k = 0.12\,\bigl(|w_k| + \langle w^2 \rangle^{1/2}\bigr),\qquad w = V^{-T}\,2 M_{0,1:}

with w the slope of the energy along each direction in the mean environment. Nothing is fitted, and on training frames
the walls are exactly zero: energies and forces there, and with them all errors, are those of the model.

They are not built on the extrapolation grade, one length for all directions: a limit on it that lets all training atoms
pass lets an atom go several times as far along a single direction as any ever went. Within such a ball instead of this
box Li6PS5Cl exploded at once at 1000 K and 2 fs. A box of the features themselves is too wide in directions that hardly
vary.

Walls are as soft as they can be, since steeper ones heat what touches them at the usual time steps: thirty times as
steep, Li6PS5Cl at 1000 K and 2 fs exploded within 2.3 ps; four times as steep, nothing was held that these do not hold.
They do not hold what looks known atom by atom.

They are no part of a model, so that its errors and what a device measures are those of one quadratic form. ``qff md``
and ``qff lammps`` put them up by default.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from qiskit_qff.array_types import BoolArray, FloatArray, IntArray
from qiskit_qff.descriptors.quadratic import Fence
from qiskit_qff.model.evaluation import FoldedForceField, Prediction
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.structures.frame import species_index
from qiskit_qff.structures.neighbors import NeighborList

MARGIN = 0.5
"""How far the walls stand off the farthest training atom, in standard deviations of v."""
STRENGTH = 0.12
"""κ of a direction, in units of the model's own slope along it plus the root mean square of all its slopes."""


@dataclass(frozen=True, eq=False)
class FencedForceField:
    """The force field that :class:`~qiskit_qff.simulation.calculator.QFFCalculator` takes for a run within walls."""

    field: ForceField
    folded: FoldedForceField  # walls included

    @property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers, ascending."""
        return self.field.species

    @property
    def cutoff(self) -> float:
        """Cutoff radius in Å."""
        return self.field.cutoff

    @classmethod
    def of(cls, field: ForceField) -> FencedForceField:
        """Put walls around a model's training domain."""
        return cls(field, replace(field.folded, fence=_fence_of(field)))

    def evaluate(
        self, numbers: IntArray, positions: FloatArray, cell: FloatArray, pbc: BoolArray, neighbors: NeighborList
    ) -> Prediction:
        """Evaluate a structure whose neighbours are known, like :meth:`~qiskit_qff.ForceField.evaluate`."""
        del positions, cell, pbc
        return self.folded.evaluate(species_index(numbers, self.species, where="structure"), neighbors)


def within_walls(field: ForceField) -> ForceField | FencedForceField:
    """The force field for a simulation: within walls where the model file knows how far training reached."""
    return field if field.posterior is None else FencedForceField.of(field)


def _fence_of(field: ForceField) -> Fence:
    """The walls of a force field."""
    posterior, matrices = field.uncertainty().posterior, field.operator_matrices()
    maps, slopes = [], []
    for m, directions in zip(field.models, posterior.directions, strict=True):
        own = np.abs(np.linalg.solve(directions.T, 2.0 * matrices[m.number][0, 1 : len(directions) + 1]))
        maps.append((directions @ m.compression.matrix).ravel())
        slopes.append(STRENGTH * (own + np.sqrt(np.mean(own**2))))
    return Fence(
        maps=np.concatenate(maps),
        map_start=np.cumsum([0, *map(len, maps)]),
        low=posterior.reach[0] - MARGIN,
        high=posterior.reach[1] + MARGIN,
        start=np.cumsum([0, *map(len, slopes)]),
        slope=np.concatenate(slopes),
    )
