r"""A force field with walls around its training domain, for simulations that would leave it.

A model that is fitted to energies and forces falls without end in directions that training never took, and dynamics
finds them. Directions are the principal ones of each species' training domain (:mod:`qiskit_qff.model.domain`), so v
varies by about one over the training atoms along each, the hardly varied ones included. From the least and the largest
v of the training atoms the walls stand off by :data:`MARGIN`; beyond, they turn the model's own slope back:

.. math:: \kappa_k = 0.12\,\bigl(|w_k| + \langle w^2 \rangle^{1/2}\bigr),\qquad w = V^{-T}\,2 M_{0,1:}

with w the slope of the energy along each direction in the mean environment. Nothing is fitted, and on training frames
the walls are exactly zero: energies and forces there, and with them all errors, are those of the model.

Walls are as soft as they can be. An atom that leaves on one side has just begun to fall and is turned back by little,
while steeper walls heat what touches them at the usual time steps. Thirty times as steep, Li6PS5Cl at 1000 K and 2 fs
exploded within 2.3 ps, and UiO-66, whose 15 strained training frames do not reach where heat takes hydrogen, at once;
four times as steep, Li6PS5Cl at 1200 K and 2 fs gained 14 meV/atom/ps, and nothing was held that these do not hold.
What walls hold together is measured for models of 4, 8 and 12 frames by ``benchmarks/dynamics/walls.py``, for larger
ones by ``benchmarks/dynamics/stability.py``. They do not hold what looks known atom by atom (CONTRIBUTING.md).

They are no part of a model, so that its errors and what a device measures are those of one quadratic form. ``qff md``
and ``qff lammps`` put them up by default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from qiskit_qff.array_types import BoolArray, FloatArray, IntArray
from qiskit_qff.descriptors.fence import Fence
from qiskit_qff.errors import ConfigError
from qiskit_qff.model.evaluation import FoldedForceField
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.prediction import Prediction
from qiskit_qff.model.species_model import SpeciesModel
from qiskit_qff.structures.neighbors import NeighborList
from qiskit_qff.structures.species import species_index

MARGIN = 0.5
"""How far the walls stand off the farthest training atom, in standard deviations of v."""
STRENGTH = 0.12
"""κ of a direction, in units of the model's own slope along it plus the root mean square of all its slopes."""


@dataclass(frozen=True, eq=False)
class FencedForceField:
    """The force field that :class:`~qiskit_qff.simulation.calculator.QFFCalculator` takes for a run within walls."""

    species: tuple[int, ...]
    """Atomic numbers, ascending."""
    cutoff: float
    """Cutoff radius in Å."""
    folded: FoldedForceField
    """The force field, walls included."""

    @classmethod
    def of(cls, field: ForceField) -> FencedForceField:
        """Put walls around a model's training domain.

        Args:
            field: The model.

        Raises:
            ConfigError: If its file does not say how far training reached.
        """
        walls = fence_of(field.models, field.operator_matrices())
        return cls(field.species, field.cutoff, replace(field.folded, fence=walls))

    def evaluate(
        self,
        numbers: IntArray,
        positions: FloatArray,
        cell: FloatArray,
        pbc: BoolArray,
        neighbors: NeighborList,
    ) -> Prediction:
        """Evaluate a structure whose neighbours are known.

        Args:
            numbers: Atomic numbers, shape ``(n,)``.
            positions: Positions in Å, shape ``(n, 3)``; unused beyond ``neighbors``.
            cell: Cell vectors in Å, shape ``(3, 3)``; unused beyond ``neighbors``.
            pbc: Periods, shape ``(3,)``; unused beyond ``neighbors``.
            neighbors: Full list with at least this cutoff; pairs beyond it have no effect.

        Raises:
            DataError: If an atom is of a species the model does not know.
        """
        del positions, cell, pbc
        return self.folded.evaluate(species_index(numbers, self.species, where="structure"), neighbors)


def within_walls(field: ForceField) -> ForceField | FencedForceField:
    """The force field for a simulation: within walls where the model file knows how far training reached.

    Args:
        field: The model.
    """
    return FencedForceField.of(field) if all(_reach(m) is not None for m in field.models) else field


def fence_of(models: Sequence[SpeciesModel], matrices: Mapping[int, FloatArray]) -> Fence:
    """The walls of a force field.

    Args:
        models: Species, atomic numbers ascending.
        matrices: M per atomic number, in eV.

    Raises:
        ConfigError: If a species does not say how far training reached.
    """
    maps, low, high, slopes = [], [], [], []
    for m in models:
        reach = _reach(m)
        if m.domain is None or reach is None:
            raise ConfigError(
                "the model does not say how far its training reached (its file is from before walls); train it again "
                "with 'qff train'."
            )
        directions = m.domain.directions
        own = np.abs(np.linalg.solve(directions.T, 2.0 * matrices[m.number][0, 1 : len(directions) + 1]))
        maps.append((directions @ m.compression.matrix).ravel())
        low.append(reach[0] - MARGIN)
        high.append(reach[1] + MARGIN)
        slopes.append(STRENGTH * (own + np.sqrt(np.mean(own**2))))
    return Fence(
        maps=np.concatenate(maps),
        map_start=_starts(maps),
        low=np.concatenate(low),
        high=np.concatenate(high),
        start=_starts(low),
        slope=np.concatenate(slopes),
    )


def _reach(model: SpeciesModel) -> FloatArray | None:
    """Least and largest v of the training atoms of a species, shape ``(2, d)``; None where the model does not say."""
    return None if model.domain is None else model.domain.reach


def _starts(parts: Sequence[FloatArray]) -> IntArray:
    """Where each part begins when they are laid end to end, and where the last one ends."""
    return np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
