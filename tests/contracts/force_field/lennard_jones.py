"""A smooth Lennard-Jones mixture with the interface of a force field: a reference for calculators and MD."""

from dataclasses import dataclass

import numpy as np
from ase.build import bulk

# Argon and krypton, roughly: well depth in eV and diameter in Å.
WELL_DEPTH = {18: 0.0104, 36: 0.0140}
DIAMETER = {18: 3.40, 36: 3.65}


@dataclass(frozen=True)
class PairPrediction:
    energy: float
    energies: np.ndarray
    forces: np.ndarray
    virial: np.ndarray


@dataclass(frozen=True)
class LennardJones:
    """E = 1/2 sum_ij 4 eps ((s/r)^12 - (s/r)^6) S(r), with S as in the force field's cutoff."""

    cutoff: float = 7.0
    species: tuple = (18, 36)

    def evaluate(self, numbers, neighbors):
        epsilon, sigma = np.zeros(100), np.zeros(100)
        epsilon[list(WELL_DEPTH)] = list(WELL_DEPTH.values())
        sigma[list(DIAMETER)] = list(DIAMETER.values())
        center = np.repeat(np.arange(len(numbers)), np.diff(neighbors.first))
        a, b = numbers[center], numbers[neighbors.neighbor]
        depth, diameter = np.sqrt(epsilon[a] * epsilon[b]), 0.5 * (sigma[a] + sigma[b])
        r = neighbors.distances
        power = (diameter / r) ** 6
        bare, slope = 4 * depth * (power**2 - power), 4 * depth * (-12 * power**2 + 6 * power) / r
        u = r / self.cutoff
        switch = 1 - 10 * u**3 + 15 * u**4 - 6 * u**5
        switch_slope = -30 * u**2 * (1 - u) ** 2 / self.cutoff
        pull = ((slope * switch + bare * switch_slope) / r)[:, None] * neighbors.vectors
        energies = 0.5 * np.bincount(center, weights=bare * switch, minlength=len(numbers))
        forces = np.stack([np.bincount(center, weights=pull[:, k], minlength=len(numbers)) for k in range(3)], axis=1)
        virial = 0.5 * pull.T @ neighbors.vectors
        return PairPrediction(energies.sum(), energies, forces, virial)


def mixed_crystal(repeat=3, *, seed=0, rattle=0.0):
    """A face-centred cubic Ar-Kr crystal of 4 repeat^3 atoms."""
    atoms = bulk("Ar", a=5.4, cubic=True) * repeat
    rng = np.random.default_rng(seed)
    atoms.numbers[rng.random(len(atoms)) < 0.4] = 36
    atoms.positions += rattle * rng.standard_normal(atoms.positions.shape)
    return atoms
