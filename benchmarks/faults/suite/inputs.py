"""Small inputs of all commands, made anew: twelve cells of copper and gold, labelled by effective medium theory."""

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write

DATA, STRUCTURES, MODEL = "data.extxyz", "bare.extxyz", "model"
CONFIG, BACKEND_CONFIG, LEARN_CONFIG = "exact.yaml", "measured.yaml", "learn.yaml"

_POOL = "descriptor: {r_cut: 4.0, n_narrow: 4, n_broad: 2, powers: [2, 6], n_radial: 2, l_max: 1}"
_EXACT = f"""
data: {{path: {DATA}, test_fraction: 0.25}}
{_POOL}
optimizer: {{restarts: 1, max_iterations: 10}}
max_parameters: 20
"""
_MEASURED = f"""
data: {{path: {DATA}, test_fraction: 0.25}}
{_POOL}
circuit: {{family: brickwork_cz, readout: z_diagonal, n_qubits: 2, layers: 1, n_readouts: 2}}
estimator: {{backend: aer, shots: 64, optimizer: adam, steps: 4}}
max_parameters: 24
"""
_LEARN = f"""
start: {STRUCTURES}
label: {{calculator: emt}}
md: {{temperatures_k: [300], time_ps: 0.2, timestep_fs: 2.0, interval: 10}}
select: {{per_round: 2, held_out: 1}}
stop: {{rounds: 1}}
train:
  {_POOL}
  compression: {{search_rounds: 0}}
  optimizer: {{restarts: 1, max_iterations: 10}}
  max_parameters: 20
"""


def alloy(count: int) -> list[Atoms]:
    """Rattled cells of eight atoms with energies and forces."""
    random, frames = np.random.default_rng(3), []
    for _ in range(count):
        atoms = bulk("Cu", cubic=True) * (2, 1, 1)
        atoms.symbols[[1, 4, 6]] = "Au"
        atoms.set_cell(atoms.cell * random.uniform(1.02, 1.08), scale_atoms=True)
        atoms.positions += random.normal(0.0, 0.08, (8, 3))
        atoms.calc = EMT()
        atoms.get_forces()
        frames.append(atoms)
    return frames


def write_inputs(directory: Path) -> None:
    """Data, configurations and structures without labels; the model is trained from them."""
    frames = alloy(12)
    write(directory / DATA, frames)
    bare = [atoms.copy() for atoms in frames[:6]]
    write(directory / STRUCTURES, bare)
    (directory / CONFIG).write_text(_EXACT)
    (directory / BACKEND_CONFIG).write_text(_MEASURED)
    (directory / LEARN_CONFIG).write_text(_LEARN)
