r"""Uncertainty of energies and forces, and how far an atom lies outside the training data: both from one posterior.

To the data the model is a linear one in the features y of its atoms and the reference energies: E is the sum over atoms
of :math:`e_s + \beta_s\cdot y` up to the small squares of its registers. Its Gram matrix G, over energies, forces and
stresses as the loss weighs them, leaves the coefficients open by

.. math:: C = \frac{L}{N}\, G^{-1},

with the loss L of the trained model on N frames (Laplace's approximation). With X the features of a structure summed
over its atoms, and counts of the species for the reference energies,

* the energy has the standard deviation :math:`f\,(X^T C X)^{1/2}`,
* a force component :math:`f\,(X'^T C X')^{1/2}`, X' being the derivative of X,
* an atom the *extrapolation grade* :math:`(y^T C_{ss}\, y)^{1/2}` in units of its species' edge.

f scales them to the errors of held-out frames (:func:`scaling_factor`). The edge is the 99.9 % quantile over the
training atoms of the species, up to :data:`LIMIT` of which counts as known. What the channels do not see, neither
number sees. Why so, and how well it works: docs/design_notes.md.

*Walls* for simulations (:func:`walls_of`; the form is that of :mod:`~qiskit_qff.descriptors.derivatives`). A fit falls
without end in directions that training never took, and dynamics finds them. So along each principal direction of a
species' features walls stand :data:`MARGIN` off the farthest training atoms, and turn the model's own slope back,

.. math:: \kappa_k = 0.12\,\bigl(|w_k| + \langle w^2 \rangle^{1/2}\bigr),\qquad w = V^{-T}\,2 M_{0,1:},

with w the slope of the energy along each direction in the mean environment. On training frames they are exactly zero,
so errors and what a device measures are those of the model.

References:
    E. V. Podryabinkin and A. V. Shapeev, Comput. Mater. Sci. 140, 171 (2017), doi:10.1016/j.commatsci.2017.08.031.
    Y. Lysogorskiy et al., Phys. Rev. Materials 7, 043801 (2023), doi:10.1103/PhysRevMaterials.7.043801.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from qiskit_qff.array_types import BoolArray, FloatArray, IntArray
from qiskit_qff.descriptors.blocks import Surroundings, channel_values
from qiskit_qff.descriptors.channels import ChannelTables, OwnTables, make_tables
from qiskit_qff.descriptors.derivatives import DesignRows, Fence, linear_design
from qiskit_qff.errors import ConfigError
from qiskit_qff.model.species_model import SpeciesModel
from qiskit_qff.structures.frame import Frame, species_index
from qiskit_qff.structures.neighbors import NeighborList, neighbor_list

QUANTILE = 0.999
"""Share of the training atoms of a species that lie within its edge."""
LIMIT = 1.2
"""Largest grade that counts as known, unless a user says otherwise."""
MARGIN = 0.5
"""How far the walls stand off the farthest training atom, in standard deviations of v."""
STRENGTH = 0.12
"""κ of a direction, in units of the model's own slope along it plus the root mean square of all its slopes."""


@dataclass(frozen=True, eq=False)
class Posterior:
    """What training leaves open of a model, and where its atoms were."""

    covariance: FloatArray  # G^-1 of the features of all species and one reference energy each, in eV² per unit of loss
    edges: FloatArray  # 99.9 % quantile of sqrt(y G^-1 y) over the training atoms of each species, shape (S,)
    counts: IntArray  # training atoms of each species, shape (S,)
    directions: tuple[FloatArray, ...]  # V of each species: v = V y are uncorrelated there, of variance about one
    reach: FloatArray  # least and largest v there, shape (2, P); simulations build their walls on it
    noise: float = 1.0  # square root of L / N: makes standard deviations in eV of the covariance
    factor: float = 1.0  # f: root mean square of error over standard deviation of held-out force components
    n_held_out: int = 0  # frames that the factor was fitted to; 0 if it was not

    def __post_init__(self) -> None:
        """Check the numbers."""
        size, sizes = len(self.covariance), [len(own) for own in self.directions]
        shapes = self.covariance.shape == (size, size) and self.reach.shape == (2, sum(sizes))
        shapes = shapes and all(own.shape == (d, d) for own, d in zip(self.directions, sizes, strict=True))
        if not (shapes and len(self.edges) == len(self.counts) == len(sizes) == size - sum(sizes)):
            raise ConfigError("posterior: the shapes of its arrays disagree.")
        positive = np.concatenate([self.edges, self.counts, [self.factor]])
        arrays = [self.covariance, self.reach, *self.directions]
        finite = np.concatenate([positive, [self.noise], *(array.ravel() for array in arrays)])
        if not (np.isfinite(finite).all() and (positive > 0.0).all() and self.noise >= 0.0):
            raise ConfigError("posterior: a number is not finite or not positive.")

    @property
    def n_numbers(self) -> int:
        """Numbers that it holds."""
        size = len(self.covariance)
        held = sum(own.size for own in self.directions) + self.reach.size
        return size * (size + 1) // 2 + held + 2 * len(self.edges) + 2

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists for a model file; of the covariance the lower triangle, row by row."""
        return {
            "covariance": self.covariance[np.tril_indices(len(self.covariance))].tolist(),
            "edges": self.edges.tolist(),
            "counts": self.counts.tolist(),
            "directions": [own.tolist() for own in self.directions],
            "reach": self.reach.tolist(),
            "noise": self.noise,
            "factor": self.factor,
            "n_held_out": self.n_held_out,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Posterior:
        """Read back what :meth:`to_dict` wrote."""
        arrays = {name: np.asarray(data[name], dtype=np.float64) for name in ("edges", "reach")}
        size = arrays["reach"].shape[1] + len(arrays["edges"])
        triangle = np.asarray(data["covariance"], dtype=np.float64)
        if triangle.shape != (size * (size + 1) // 2,):
            raise ConfigError(f"posterior: {triangle.size} numbers are no triangle of {size} rows.")
        lower = np.zeros((size, size))
        lower[np.tril_indices(size)] = triangle
        return cls(
            covariance=lower + np.tril(lower, -1).T,
            counts=np.asarray(data["counts"], dtype=np.int64),
            directions=tuple(np.asarray(own, dtype=np.float64) for own in data["directions"]),
            noise=float(data["noise"]),
            factor=float(data["factor"]),
            n_held_out=int(data["n_held_out"]),
            **arrays,
        )


@dataclass(frozen=True, eq=False)
class Grades:
    """Extrapolation grades of the atoms of one structure."""

    values: FloatArray  # shape (n,); 1 at the edge of the training data
    limit: float  # largest grade that counts as known

    @property
    def outside(self) -> BoolArray:
        """Which atoms the model extrapolates for, shape ``(n,)``; a grade that is no number is outside."""
        return ~(self.values <= self.limit)

    @property
    def worst(self) -> int:
        """Index of the atom with the largest grade."""
        return int(np.argmax(np.where(np.isfinite(self.values), self.values, np.inf)))


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """Expected errors of one structure, one standard deviation, and its grades."""

    energy_std: float  # of the total energy, in eV
    force_std: FloatArray  # of each force component of every atom, shape (n,), in eV/Å
    grades: Grades


@dataclass(frozen=True, eq=False)
class UncertaintyEstimator:
    """Uncertainties and grades of a force field; made by :meth:`~qiskit_qff.ForceField.uncertainty`."""

    models: tuple[SpeciesModel, ...]
    posterior: Posterior
    r_cut: float  #: cutoff radius in Å
    limit: float = LIMIT  #: largest grade that counts as known

    def __post_init__(self) -> None:
        """Check the limit."""
        if not (np.isfinite(self.limit) and self.limit > 0.0):
            raise ConfigError(f"a grade limit must be a positive number; {self.limit} was given.")

    @property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers, ascending."""
        return tuple(m.number for m in self.models)

    @cached_property
    def tables(self) -> ChannelTables | OwnTables:
        """Channels in use, without a core, as training sees them."""
        return make_tables({m.number: m.compression.channels for m in self.models}, self.r_cut)

    @cached_property
    def blocks(self) -> tuple[slice, ...]:
        """Features of each species among those of all."""
        ends = np.cumsum([m.compression.n_features for m in self.models]).tolist()
        return tuple(slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True))

    def surroundings(self, frame: Frame) -> tuple[IntArray, NeighborList]:
        """Species indices and neighbours of one structure."""
        kinds = species_index(frame.numbers, self.species, where=frame.where)
        return kinds, neighbor_list(frame.positions, frame.cell, frame.pbc, self.r_cut)

    def features(self, kinds: IntArray, neighbors: NeighborList) -> list[FloatArray]:
        """Features y of the atoms of each species, shapes ``(n_s, d_s)``, in the order of the structure."""
        return features_of(self.models, kinds, channel_values(self.tables, Surroundings.of(kinds, neighbors)))

    def grades_of(self, kinds: IntArray, features: Sequence[FloatArray]) -> Grades:
        """Grades of atoms whose :meth:`features` are known."""
        values = np.empty(len(kinds))
        for s, (own, block) in enumerate(zip(features, self.blocks, strict=True)):
            values[kinds == s] = lengths(own, self.posterior.covariance[block, block]) / self.posterior.edges[s]
        return Grades(values, self.limit)

    def grades(self, kinds: IntArray, neighbors: NeighborList) -> Grades:
        """Grades alone, which need no derivatives: on lips83 they take two thirds of the time of forces."""
        return self.grades_of(kinds, self.features(kinds, neighbors))

    def grade(self, frame: Frame) -> Grades:
        """Grades of one structure, of elements that the model knows."""
        return self.grades(*self.surroundings(frame))

    def evaluate(self, kinds: IntArray, neighbors: NeighborList) -> Uncertainty:
        """Uncertainty and grades of a structure whose neighbours are known."""
        starts, n_atoms = self.tables.channel_start, len(kinds)
        slopes, values = np.empty((3 * n_atoms, int(starts[-1]))), np.empty((n_atoms, int(np.diff(starts).max())))
        rows = DesignRows.of(np.empty(int(starts[-1])), slopes, n_atoms)
        linear_design(self.tables, Surroundings.of(kinds, neighbors), rows, values)
        features = features_of(self.models, kinds, values)
        counts = np.bincount(kinds, minlength=len(self.models)).astype(np.float64)
        energy_row = np.concatenate([*(own.sum(axis=0) for own in features), counts])
        force_rows = np.concatenate(
            [slopes[:, starts[s] : starts[s + 1]] @ m.compression.matrix.T for s, m in enumerate(self.models)], axis=1
        )
        covariance, unit = self.posterior.covariance, self.posterior.noise * self.posterior.factor
        n_features = self.posterior.reach.shape[1]
        components = lengths(force_rows, covariance[:n_features, :n_features])
        return Uncertainty(
            energy_std=unit * float(lengths(energy_row[None, :], covariance)[0]),
            force_std=unit * np.sqrt((components.reshape(-1, 3) ** 2).mean(axis=1)),
            grades=self.grades_of(kinds, features),
        )

    def frame(self, frame: Frame) -> Uncertainty:
        """Uncertainty and grades of one structure, of elements that the model knows."""
        return self.evaluate(*self.surroundings(frame))


def features_of(models: Sequence[SpeciesModel], kinds: IntArray, values: FloatArray) -> list[FloatArray]:
    """Features of the atoms of each species from the channels of all, shapes ``(n_s, d_s)``."""
    return [m.compression.apply(values[kinds == s, : m.compression.channels.n_channels]) for s, m in enumerate(models)]


def walls_of(models: Sequence[SpeciesModel], posterior: Posterior) -> Fence:
    """Walls around the training data."""
    maps, slopes = [], []
    for m, directions in zip(models, posterior.directions, strict=True):
        own = np.abs(np.linalg.solve(directions.T, 2.0 * m.operator_matrix()[0, 1 : len(directions) + 1]))
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


def lengths(rows: FloatArray, covariance: FloatArray) -> FloatArray:
    """Standard deviations ``sqrt(x C x)`` of rows x, shape ``(n, d)``."""
    return np.asarray(np.sqrt(np.maximum(np.einsum("na,na->n", rows @ covariance, rows), 0.0)))


def scaling_factor(errors: FloatArray, deviations: FloatArray) -> float:
    """The factor that makes standard deviations ``(n,)`` as large as errors ``(n, 3)``: that of largest likelihood."""
    return float(np.sqrt(np.mean((errors / deviations[:, None]) ** 2)))
