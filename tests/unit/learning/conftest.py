"""Copper and gold in small, with a configuration that learns them in seconds."""

import json

import pytest
from ase.io import write
from fitting import DESCRIPTOR, copper_gold

from qiskit_qff.training import objective, trainer

CONFIG = {
    "start": "start.extxyz",
    "label": {"calculator": "emt"},
    "md": {"temperatures_k": [1200], "time_ps": 0.6, "timestep_fs": 2.0, "interval": 10, "repeats": 2},
    "select": {"per_round": 4, "held_out": 2, "break_at": 1.1},
    "stop": {"rounds": 2},
    "train": {
        "descriptor": DESCRIPTOR,
        "circuit": {"n_qubits": 3},
        "max_parameters": 20,
    },
    "seed": 4,
}


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A directory with ``start.extxyz`` and, written by the call, ``learn.yaml``; gives the path of that."""
    monkeypatch.setattr(objective, "RESTARTS", 1)
    monkeypatch.setattr(trainer, "SEARCH_RESTARTS", 2)
    write(tmp_path / "start.extxyz", [atoms.copy() for atoms in copper_gold(5, sigma=0.06)])

    def configure(**changes):
        config = json.loads(json.dumps(CONFIG))
        for name, change in changes.items():
            config[name] = config[name] | change if isinstance(config.get(name), dict) else change
        path = tmp_path / "learn.yaml"
        path.write_text(json.dumps(config))  # JSON is YAML
        return path

    return configure
