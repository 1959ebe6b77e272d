"""Fixed repulsion between nuclei at distances shorter than any in the training data.

A trained model knows nothing about atoms closer than its training data ever showed them. The
screened nuclear repulsion of Ziegler, Biersack and Littmark (ZBL) takes over there, so that
molecular dynamics does not collapse. It has no trainable parameter and is exactly zero on every
training frame::

    E   = 1/2 sum_i sum_{j != i} e(r_ij)
    e(r) = k Z_i Z_j / (s r) * phi(s r / a) * S(t),     t = (r - inner) / (outer - inner)
    a   = 0.46850 / (Z_i^0.23 + Z_j^0.23)                                    in Å
    phi(x) = 0.18175 exp(-3.19980 x) + 0.50986 exp(-0.94229 x)
           + 0.28022 exp(-0.40290 x) + 0.02817 exp(-0.20162 x)
    S(t) = 1 - 10 t^3 + 15 t^4 - 6 t^5   (1 below inner, 0 above outer)

The scale s is 1 for pairs that bond. Pairs that only ever met farther apart than a bond (S-S at 2.8 Å,
P-P at 3.3 Å in a thiophosphate) feel at their shortest training distance what ZBL gives at the sum of
their covalent radii: s = (sum of covalent radii) / (shortest distance). Bare ZBL is some tenths of an eV
there, too weak a wall: with it a model of Li3PS4 at 520 K fused two PS4 units within 3 to 10 ps.

S has vanishing first and second derivatives at both ends, so e(r) is positive, falls monotonically
and reaches zero with two continuous derivatives at ``outer``.

References:
    J. F. Ziegler, J. P. Biersack, U. Littmark, The Stopping and Range of Ions in Matter
    (Pergamon, New York, 1985), doi:10.1007/978-1-4615-8103-1_3. Constants as in LAMMPS
    ``pair_style zbl``; covalent radii: B. Cordero et al., Dalton Trans. 2832 (2008),
    doi:10.1039/b801115j.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from qiskit_qff.errors import ModelFileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from qiskit_qff.structures.neighbors import NeighborList

#: e^2 / (4 pi epsilon_0) in eV Å (CODATA 2018).
COULOMB_CONSTANT = 14.3996454784
#: Numerator of the universal screening length, in Å (0.8854 Bohr radii).
SCREENING_LENGTH = 0.46850
#: Exponent of the nuclear charge in the universal screening length.
SCREENING_EXPONENT = 0.23
#: Amplitudes of the universal screening function.
SCREENING_AMPLITUDES = (0.18175, 0.50986, 0.28022, 0.02817)
#: Decay rates of the universal screening function.
SCREENING_RATES = (3.19980, 0.94229, 0.40290, 0.20162)

#: The repulsion ends at this fraction of a pair's shortest training distance,
OUTER_FRACTION = 0.95
#: and is unswitched below this fraction: a soft wall for bonds, which the model itself knows well,
INNER_FRACTION = 0.65
#: and a steeper one for pairs that never came as close as a bond.
INNER_FRACTION_APART = 0.85
#: A pair's reach is capped at this multiple of the sum of the covalent radii: data in which two
#: species merely never met must not push them apart at chemical distances.
REACH_CAP = 1.6
#: A pair that was never seen is taken to come as close as this multiple of the covalent radii.
UNSEEN_REACH = 0.9


@dataclass(frozen=True)
class CoreRepulsion:
    """Switched ZBL repulsion between the species of one model."""

    species: tuple[int, ...]
    """Atomic numbers, in the order of ``species_index``."""

    inner: NDArray[np.float64]
    """Distance below which the pair is unswitched ZBL, in Å; shape ``(S, S)``, symmetric."""

    outer: NDArray[np.float64]
    """Distance above which the pair energy is zero, in Å; shape ``(S, S)``, symmetric."""

    scale: NDArray[np.float64]
    """Factor from a distance to the one ZBL is evaluated at, no unit; shape ``(S, S)``, symmetric."""

    def __post_init__(self) -> None:
        """Check shapes, symmetry and order of the radii.

        Raises:
            ModelFileError: The radii do not describe one switch per pair of species.
        """
        shape = (len(self.species), len(self.species))
        for name, radii in (("inner", self.inner), ("outer", self.outer), ("scale", self.scale)):
            if radii.shape != shape or not np.array_equal(radii, radii.T):
                raise ModelFileError(
                    f"core repulsion: '{name}' must be a symmetric {shape} array, one row per "
                    f"species {self.species}; received shape {radii.shape}"
                )
        if not (np.all(self.inner > 0.0) and np.all(self.outer > self.inner)):
            raise ModelFileError("core repulsion: every pair needs 0 < inner < outer radius (Å)")
        if not (np.all(self.scale > 0.0) and np.all(self.scale <= 1.0)):
            raise ModelFileError("core repulsion: every pair needs a scale above 0 and up to 1")

    @classmethod
    def from_shortest_distances(
        cls,
        species: Sequence[int],
        shortest: Mapping[tuple[int, int], float] | NDArray[np.float64],
        *,
        cutoff: float = np.inf,
    ) -> CoreRepulsion:
        """Place every pair's switch below the shortest distance seen in training.

        Args:
            species: Atomic numbers of the model's species.
            shortest: Shortest training distance per pair in Å: an array of shape ``(S, S)`` with
                ``inf`` for pairs never seen, or a mapping from pairs of atomic numbers (either
                order; absent pairs were never seen).
            cutoff: Cutoff radius of the model in Å; pairs beyond it are not listed, so no core may reach it.

        Returns:
            The repulsion, zero on every frame it was derived from.
        """
        seen = _shortest_table(species, shortest)
        covalent = _covalent_sums(species)
        unseen = UNSEEN_REACH * covalent
        reach = np.where(np.isfinite(seen), np.minimum(seen, REACH_CAP * covalent), unseen)
        reach = np.minimum(reach, cutoff)
        scale = np.minimum(1.0, covalent / reach)
        inner = np.where(scale < 1.0, INNER_FRACTION_APART, INNER_FRACTION) * reach
        return cls(species=tuple(int(z) for z in species), inner=inner, outer=OUTER_FRACTION * reach, scale=scale)

    def evaluate(
        self, species_index: NDArray[np.int64], neighbors: NeighborList
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Evaluate energies, forces and virial of one structure.

        Args:
            species_index: Position of each atom's species in ``species``.
            neighbors: Full neighbour list of the first n atoms, or of all; its cutoff is at least the largest
                ``outer``.

        Returns:
            Energies per atom (half of each pair), shape ``(n,)`` in eV; forces, shape ``(n, 3)``
            in eV/Å; and the virial dE/dstrain, shape ``(3, 3)`` in eV.
        """
        return _evaluate_pairs(
            species_index,
            neighbors.first,
            neighbors.neighbor,
            neighbors.vectors,
            neighbors.distances,
            np.asarray(self.species, dtype=np.float64),
            self.inner,
            self.outer,
            self.scale,
        )

    def pair_energy(self, first: int, second: int, distance: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the energy of one pair of species along a distance grid, for plots and export.

        Args:
            first: Atomic number of one species of the model.
            second: Atomic number of the other.
            distance: Distances in Å, any shape.

        Returns:
            Pair energies in eV, the shape of ``distance``.
        """
        a, b = self.species.index(first), self.species.index(second)
        values = [
            _pair_energy(r, float(first), float(second), self.inner[a, b], self.outer[a, b], self.scale[a, b])[0]
            for r in np.ravel(distance)
        ]
        return np.reshape(np.asarray(values), np.shape(distance))

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists for the JSON model file."""
        return {
            "species": list(self.species),
            "inner": self.inner.tolist(),
            "outer": self.outer.tolist(),
            "scale": self.scale.tolist(),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> CoreRepulsion:
        """Rebuild the repulsion from ``to_dict``.

        Raises:
            ModelFileError: A key is missing or a table is malformed.
        """
        try:
            return cls(
                species=tuple(int(z) for z in document["species"]),
                inner=np.asarray(document["inner"], dtype=np.float64),
                outer=np.asarray(document["outer"], dtype=np.float64),
                scale=np.asarray(document["scale"], dtype=np.float64),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"core repulsion in the model file is malformed: {error}") from (error)


def shortest_pair_distances(
    species: Sequence[int],
    structures: Iterable[tuple[NDArray[np.int64], NeighborList]],
) -> NDArray[np.float64]:
    """Find the shortest distance of every pair of species in a set of structures.

    Args:
        species: Atomic numbers, the order of the table.
        structures: Pairs of atomic numbers, shape ``(n,)``, and neighbour list.

    Returns:
        Distances in Å, shape ``(S, S)``, symmetric; ``inf`` where a pair never met.
    """
    table = np.full((len(species), len(species)), np.inf)
    lookup = np.full(max(species) + 1, -1, dtype=np.int64)
    lookup[list(species)] = np.arange(len(species))
    for numbers, neighbors in structures:
        index = lookup[numbers]
        centre = np.repeat(index, np.diff(neighbors.first))
        np.minimum.at(table, (centre, index[neighbors.neighbor]), neighbors.distances)
    symmetric: NDArray[np.float64] = np.minimum(table, table.T)
    return symmetric


def _shortest_table(
    species: Sequence[int],
    shortest: Mapping[tuple[int, int], float] | NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the shortest distances as a symmetric ``(S, S)`` array with ``inf`` where unseen."""
    if isinstance(shortest, np.ndarray):
        table = np.array(shortest, dtype=np.float64)
        return np.asarray(np.minimum(table, table.T))
    table = np.full((len(species), len(species)), np.inf)
    position = {int(z): k for k, z in enumerate(species)}
    for (first, second), distance in shortest.items():
        a, b = position[int(first)], position[int(second)]
        table[a, b] = table[b, a] = min(table[a, b], float(distance))
    return table


def _covalent_sums(species: Sequence[int]) -> NDArray[np.float64]:
    """Return sums of covalent radii in Å, shape ``(S, S)``."""
    from ase.data import covalent_radii

    radii = np.asarray([covalent_radii[z] for z in species], dtype=np.float64)
    return radii[:, None] + radii[None, :]


@numba.njit(cache=True, inline="always")
def _pair_energy(
    distance: float, charge_i: float, charge_j: float, inner: float, outer: float, scale: float
) -> tuple[float, float]:
    """Return the switched pair energy (eV) and its derivative with distance (eV/Å)."""
    if distance >= outer:
        return 0.0, 0.0
    inverse_length = scale * (charge_i**SCREENING_EXPONENT + charge_j**SCREENING_EXPONENT) / SCREENING_LENGTH
    screening = 0.0
    slope = 0.0
    for amplitude, rate in zip(SCREENING_AMPLITUDES, SCREENING_RATES):  # noqa: B905 (numba)
        term = amplitude * math.exp(-rate * inverse_length * distance)
        screening += term
        slope -= rate * inverse_length * term
    coulomb = COULOMB_CONSTANT * charge_i * charge_j / (scale * distance)
    energy = coulomb * screening
    derivative = coulomb * (slope - screening / distance)
    if distance <= inner:
        return energy, derivative
    width = outer - inner
    t = (distance - inner) / width
    switch = 1.0 + t * t * t * (-10.0 + t * (15.0 - 6.0 * t))
    switch_slope = -30.0 * t * t * (1.0 - t) * (1.0 - t) / width
    return energy * switch, derivative * switch + energy * switch_slope


@numba.njit(cache=True, nogil=True)
def _evaluate_pairs(
    species_index: NDArray[np.int64],
    first: NDArray[np.int64],
    neighbor: NDArray[np.int64],
    vectors: NDArray[np.float64],
    distances: NDArray[np.float64],
    charges: NDArray[np.float64],
    inner: NDArray[np.float64],
    outer: NDArray[np.float64],
    scale: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Sum pair energies, forces and virial over a full neighbour list."""
    n_atoms = first.size - 1
    energies = np.zeros(n_atoms)
    forces = np.zeros((n_atoms, 3))
    virial = np.zeros((3, 3))
    for i in range(n_atoms):
        a = species_index[i]
        for pair in range(first[i], first[i + 1]):
            b = species_index[neighbor[pair]]
            distance = distances[pair]
            # PERF: nearly every pair leaves here; no pair is in reach at ordinary distances.
            if distance >= outer[a, b]:
                continue
            energy, slope = _pair_energy(distance, charges[a], charges[b], inner[a, b], outer[a, b], scale[a, b])
            energies[i] += 0.5 * energy
            for k in range(3):
                # The full list holds (i, j) and (j, i): each centre collects its own force, and
                # half of the pair's virial.
                pull = slope * vectors[pair, k] / distance
                forces[i, k] += pull
                for m in range(3):
                    virial[k, m] += 0.5 * pull * vectors[pair, m]
    return energies, forces, virial
