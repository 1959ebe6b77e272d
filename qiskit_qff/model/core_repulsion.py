"""Fixed repulsion where atoms are closer than in any training frame, and where channels level off.

Training data do not tell how atoms behave that come closer than they ever did there. Two rules take over, without a
trainable parameter and without effect on any training frame. For two species whose shortest training distance is d
and whose covalent radii add up to c:

- Channels level off below 0.95 d (:func:`qiskit_qff.descriptors.blocks.core_distance`): nothing is extrapolated.
- The screened nuclear repulsion of Ziegler, Biersack and Littmark (ZBL) acts, low at first, high where no bond can be::

    E = 1/2 sum_i sum_{j != i} e(r_ij)
    e = ZBL S(r; outer) + h tanh{ZBL [S(r; level) - S(r; outer)] / h},    level = 0.95 d,  outer = 0.95 R,  h = 0.25 eV
    R = d where d <= c: the bond is known;  R = max(2 c - d, 0.9 c) where d > c;  R = d = 0.9 c if the two never met
    S(r; x) = 1 - 10 t^3 + 15 t^4 - 6 t^5,    t = (r - y) / (x - y),    1 below y = 0.65 x / 0.95, 0 above x

    ZBL = k Z_i Z_j / r  [0.18175 exp(-3.19980 x) + 0.50986 exp(-0.94229 x) + 0.28022 exp(-0.40290 x)
          + 0.02817 exp(-0.20162 x)],    x = r (Z_i^0.23 + Z_j^0.23) / 0.46850 Å

e is positive, falls monotonically and has two continuous
derivatives. Where the data know the bond, e is ZBL S. A bond that they merely lack is possible chemistry: down to
0.855 c it costs at most h, ten kT at room temperature. R falls from c to 0.9 c as d grows to 1.1 c, so that no
wall jumps when one more frame is added.

Why so, measured with default models of 99 parameters: a wall of tens of eV below 0.95 d, as in older models, makes
314 meV/Å of force error on the last 100 frames of a Li7P3S11 melt, 32 of which have S-S bonds that the first 450 lack;
the rule above makes 248. Without the low part a model of 15 frames of UiO-66 let H fall from 2.57 to 1.3 Å from Zr at
300 K and exploded within 1 ps.

References:
    J. F. Ziegler, J. P. Biersack, U. Littmark, The Stopping and Range of Ions in Matter
    (Pergamon, New York, 1985), doi:10.1007/978-1-4615-8103-1_3. Constants as in LAMMPS
    ``pair_style zbl``; covalent radii: B. Cordero et al., Dalton Trans. 2832 (2008),
    doi:10.1039/b801115j.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.data import covalent_radii

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.errors import ModelFileError
from qiskit_qff.structures.neighbors import NeighborList

#: e^2 / (4 pi epsilon_0) in eV Å (CODATA 2018).
COULOMB_CONSTANT = 14.3996454784
#: Amplitudes and decay rates of the universal screening function.
SCREENING = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))

#: Repulsion and levelling begin at this fraction of a distance that atoms are known or expected to reach,
OUTER_FRACTION = 0.95
#: and the repulsion is unswitched below this one: soft, since bonds of ions to oxygen or sulphur are short.
INNER_FRACTION = 0.65
#: Pairs that were never seen as close as a bond may still bond: at this multiple of the sum of their covalent radii.
BOND_FRACTION = 0.9
#: Above that the repulsion adds no more than this, in eV: ten kT at room temperature.
HEIGHT = 0.25


@dataclass(frozen=True)
class CoreRepulsion:
    """Switched ZBL repulsion between the species of one model; arrays are symmetric, shape ``(S, S)``, in Å."""

    species: tuple[int, ...]  # atomic numbers, in the order of ``species_index``
    inner: FloatArray  # below it the pair is unswitched ZBL
    outer: FloatArray  # above it the high part is zero
    scale: FloatArray  # factor on the distance that ZBL is evaluated at; below 1 only in the oldest models
    level: FloatArray  # below it channels level off and the low part acts; ``outer`` or more
    height: float  # most that the low part adds to a pair, in eV; 0 in older models

    def __post_init__(self) -> None:
        """Check shapes, symmetry and order of the radii."""
        shape = (len(self.species), len(self.species))
        for name in ("inner", "outer", "scale", "level"):
            radii = getattr(self, name)
            if radii.shape != shape or not np.array_equal(radii, radii.T):
                raise ModelFileError(
                    f"core repulsion: '{name}' must be a symmetric {shape} array, one row per "
                    f"species {self.species}; received shape {radii.shape}"
                )
        if not (np.all(self.inner > 0.0) and np.all(self.outer > self.inner)):
            raise ModelFileError("core repulsion: every pair needs 0 < inner < outer radius (Å)")
        if not (np.all(self.scale > 0.0) and np.all(self.scale <= 1.0)):
            raise ModelFileError("core repulsion: every pair needs a scale above 0 and up to 1")
        if not (np.all(self.level >= self.outer) and np.isfinite(self.level).all()):
            raise ModelFileError("core repulsion: every pair needs a level of at least its outer radius (Å)")
        if not 0.0 <= self.height < math.inf:
            raise ModelFileError("core repulsion: the height must be an energy (eV), not below 0")

    @classmethod
    def from_shortest_distances(
        cls, species: Sequence[int], shortest: FloatArray, *, cutoff: float = np.inf
    ) -> CoreRepulsion:
        """The repulsion that is zero on every frame whose shortest distances in Å, ``(S, S)``, are given.

        Pairs that were never seen have ``inf``; pairs beyond the cutoff are not listed, so no core may reach it.
        """
        radii = covalent_radii[list(species)]
        covalent = radii[:, None] + radii
        bond = BOND_FRACTION * covalent
        known = np.minimum(np.where(np.isfinite(shortest), shortest, bond), cutoff)
        reach = np.where(known <= covalent, known, np.maximum(2.0 * covalent - known, bond))
        return cls(
            species=tuple(int(z) for z in species),
            inner=INNER_FRACTION * reach,
            outer=OUTER_FRACTION * reach,
            scale=np.ones_like(reach),
            level=OUTER_FRACTION * known,
            height=HEIGHT,
        )

    def evaluate(self, species_index: IntArray, neighbors: NeighborList) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Energies of the centres of a full neighbour list (half of each pair), forces on them, and dE/dstrain."""
        n_atoms = len(neighbors.first) - 1
        # PERF: few pairs are closer than the widest core, and nearly none is in its own.
        pairs = np.flatnonzero(neighbors.distances < self.level.max())
        centers = np.searchsorted(neighbors.first, pairs, side="right") - 1
        a, b = species_index[centers], species_index[neighbors.neighbor[pairs]]
        inside = neighbors.distances[pairs] < self.level[a, b]
        if not inside.any():
            return np.zeros(n_atoms), np.zeros((n_atoms, 3)), np.zeros((3, 3))
        pairs, centers, a, b = pairs[inside], centers[inside], a[inside], b[inside]
        energy, slope = self.pair_energies(a, b, neighbors.distances[pairs])
        vectors = neighbors.vectors[pairs]
        # The full list holds (i, j) and (j, i): each centre collects its own force, and half of the pair's energy.
        pull = (slope / neighbors.distances[pairs])[:, None] * vectors
        energies, forces = np.zeros(n_atoms), np.zeros((n_atoms, 3))
        np.add.at(energies, centers, 0.5 * energy)
        np.add.at(forces, centers, pull)
        return energies, forces, 0.5 * pull.T @ vectors

    def pair_energies(self, a: IntArray, b: IntArray, r: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Energies in eV of pairs of species indices at distances r, and their derivatives in eV/Å."""
        charges, scale = np.asarray(self.species, dtype=np.float64), self.scale[a, b]
        bare, bare_slope = _universal(r, charges[a], charges[b], scale)
        switch, switch_slope = _switch(r, self.inner[a, b], self.outer[a, b])
        energy, slope = bare * switch, bare_slope * switch + bare * switch_slope
        if self.height > 0.0:
            level = self.level[a, b]
            wider, wider_slope = _switch(r, INNER_FRACTION / OUTER_FRACTION * level, level)
            ratio = np.tanh(bare * (wider - switch) / self.height)
            missing_slope = bare_slope * (wider - switch) + bare * (wider_slope - switch_slope)
            energy, slope = energy + self.height * ratio, slope + (1.0 - ratio**2) * missing_slope
        return energy, slope

    def to_dict(self) -> dict[str, Any]:
        """Plain lists for a model file."""
        arrays = {name: getattr(self, name).tolist() for name in ("inner", "outer", "scale", "level")}
        return {"species": list(self.species), **arrays, "height": self.height}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> CoreRepulsion:
        """Read back what :meth:`to_dict` wrote; in older files channels level off where the repulsion begins."""
        document = {"level": document["outer"], "height": 0.0, **document}
        arrays = {name: np.asarray(document[name], dtype=float) for name in ("inner", "outer", "scale", "level")}
        return cls(species=tuple(map(int, document["species"])), height=float(document["height"]), **arrays)


def _universal(
    r: FloatArray, charge: FloatArray, other: FloatArray, scale: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """The unswitched potential in eV and its derivative in eV/Å."""
    rate = scale * (charge**0.23 + other**0.23) / 0.46850
    terms = [(amplitude * np.exp(-decay * rate * r), decay * rate) for amplitude, decay in SCREENING]
    screening, slope = sum(term for term, _ in terms), -sum(term * decay for term, decay in terms)
    coulomb = COULOMB_CONSTANT * charge * other / (scale * r)
    return coulomb * screening, coulomb * (slope - screening / r)


def _switch(r: FloatArray, inner: FloatArray, outer: FloatArray) -> tuple[FloatArray, FloatArray]:
    """S, which is 1 below the inner and 0 above the outer distance, and its derivative in 1/Å."""
    t = np.clip((r - inner) / (outer - inner), 0.0, 1.0)
    return 1.0 + t**3 * (-10.0 + t * (15.0 - 6.0 * t)), -30.0 * t**2 * (1.0 - t) ** 2 / (outer - inner)
