"""A small quantum force field of argon and krypton, trained in a second on Lennard-Jones labels."""

from functools import cache

import numpy as np
from contracts.force_field.contract import evaluate
from contracts.force_field.lennard_jones import LennardJones, mixed_crystal
from fitting import fitted

from qiskit_qff.model.config import TrainConfig
from qiskit_qff.structures.frame import Frame

SMALL = {
    "descriptor": {"r_cut": 5.0, "n_radial": 2, "l_max": 2},
    "circuit": {"n_qubits": 3},
}


def labelled_frames(n_frames=12):
    reference = LennardJones(cutoff=5.0)
    frames = []
    for seed in range(n_frames):
        atoms = mixed_crystal(2, seed=seed, rattle=0.15)
        label = evaluate(reference, atoms)
        frames.append(
            Frame(
                numbers=atoms.numbers,
                positions=atoms.positions,
                cell=atoms.cell.array,
                pbc=atoms.pbc,
                energy=label.energy,
                forces=label.forces,
            )
        )
    return frames


@cache
def small_quantum_model():
    config = TrainConfig.model_validate(SMALL)
    return fitted(labelled_frames(), config, rng=np.random.default_rng(0)).force_field
