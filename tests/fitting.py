"""The fit alone, on all frames given: what tests of the trainer need of a training run."""

import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT

from qiskit_qff.training import trainer
from qiskit_qff.training.pipeline import resolve_config
from qiskit_qff.training.trainer import PreparedTraining, TrainingResult, fit

DESCRIPTOR = {"r_cut": 4.0, "n_radial": 2, "l_max": 1}
"""A pool of few channels."""


def prepare(frames, config, **options) -> PreparedTraining:
    """The data summed up, with the settings that they decide."""
    return trainer.prepare(frames, resolve_config(config, frames)[0], **options)


def fitted(frames, config, *, rng) -> TrainingResult:
    """Channels, circuit and parameters fitted to the frames; none is held out."""
    return fit(prepare(frames, config), rng=rng)


def silent(*_):
    """Report nothing."""


def copper_gold(count, *, seed=0, sigma=0.08, scale=(1.05, 1.05)):
    """Rattled eight-atom cells of copper and gold, labelled by ASE's effective medium theory."""
    rng, frames = np.random.default_rng(seed), []
    for _ in range(count):
        atoms = bulk("Cu", cubic=True) * (2, 1, 1)
        atoms.symbols[[1, 4, 6]] = "Au"
        atoms.set_cell(atoms.cell * rng.uniform(*scale), scale_atoms=True)
        atoms.positions += rng.normal(0.0, sigma, (8, 3))
        atoms.calc = EMT()
        atoms.get_forces()
        frames.append(atoms)
    return frames
