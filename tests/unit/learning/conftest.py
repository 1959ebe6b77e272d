"""Copper and gold in small, with a configuration that learns them in seconds."""

import json

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write

CONFIG = {
    "start": "start.extxyz",
    "label": {"calculator": "emt"},
    "md": {"temperatures_k": [1200], "time_ps": 0.6, "timestep_fs": 2.0, "interval": 10, "repeats": 2},
    "select": {"per_round": 4, "held_out": 2, "break_at": 1.1},
    "stop": {"rounds": 2},
    "train": {
        "descriptor": {"r_cut": 4.0, "n_narrow": 4, "n_broad": 2, "powers": [2, 6], "n_radial": 2, "l_max": 1},
        "compression": {"search_rounds": 0},
        "circuit": {"n_qubits": 3},
        "optimizer": {"restarts": 1, "max_iterations": 20},
        "max_parameters": 20,
    },
    "seed": 4,
}


def copper_gold(count, seed=0):
    rng, frames = np.random.default_rng(seed), []
    for _ in range(count):
        atoms = bulk("Cu", cubic=True) * (2, 1, 1)
        atoms.symbols[[1, 4, 6]] = "Au"
        atoms.set_cell(atoms.cell * 1.05, scale_atoms=True)
        atoms.positions += rng.normal(0.0, 0.06, (8, 3))
        frames.append(atoms)
    return frames


@pytest.fixture
def workplace(tmp_path):
    """A directory with ``start.extxyz`` and, written by the call, ``learn.yaml``; gives the path of that."""
    write(tmp_path / "start.extxyz", copper_gold(5))

    def configure(**changes):
        config = json.loads(json.dumps(CONFIG))
        for name, change in changes.items():
            config[name] = config[name] | change if isinstance(config.get(name), dict) else change
        path = tmp_path / "learn.yaml"
        path.write_text(json.dumps(config))  # JSON is YAML
        return path

    return configure
