"""A small labelled data set from a Lennard-Jones mixture: cheap, smooth, two species."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.lj import LennardJones

from qiskit_qff.structures.frame import Frame


def lennard_jones_frames(count, *, seed=0, species=("Ar", "Ne")):
    rng = np.random.default_rng(seed)
    frames = []
    for k in range(count):
        atoms = bulk("NaCl", "rocksalt", a=5.4).repeat((2, 2, 1))
        atoms.symbols = [species[0] if s == "Na" else species[1] for s in atoms.get_chemical_symbols()]
        atoms.positions += rng.normal(0, 0.12, atoms.positions.shape)
        atoms.calc = LennardJones(sigma=2.4, epsilon=0.05, rc=6.0, smooth=True)
        frames.append(
            Frame(
                atoms.numbers,
                atoms.positions,
                atoms.cell.array,
                atoms.pbc,
                energy=atoms.get_potential_energy(),
                forces=atoms.get_forces(),
                stress=atoms.get_stress(voigt=False),
                source="lj",
                index=k,
            )
        )
    return frames


@pytest.fixture(scope="session")
def frames():
    return lennard_jones_frames(10)
