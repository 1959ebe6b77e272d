"""Small labelled structures and VASP's XML."""

from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from qiskit_qff.structures.frame import Frame


def salt(*, seed=0, index=0, **changes):
    """Eight atoms of rattled, strained rock salt with invented labels; changes replace fields."""
    rng = np.random.default_rng(seed)
    sites = np.array([(x, y, z) for x in range(2) for y in range(2) for z in range(2)])
    numbers = np.where(sites.sum(axis=1) % 2, 17, 11)
    cell = 5.64 * (np.eye(3) + rng.normal(0, 0.01, (3, 3)))
    forces = rng.normal(0.0, 0.5, (8, 3))
    fields = {
        "numbers": numbers,
        "positions": sites / 2 @ cell + rng.normal(0, 0.1, (8, 3)),
        "cell": cell,
        "pbc": [True] * 3,
        "energy": -27.0 + 0.05 * rng.normal(),
        "forces": forces - forces.mean(axis=0),
        "stress": 0.01 * rng.normal(size=(3, 3)),
        "source": "salt.extxyz",
        "index": index,
    }
    return Frame(**(fields | changes))


@pytest.fixture
def make_salt():
    return salt


@pytest.fixture
def salts():
    return [salt(seed=seed, index=seed) for seed in range(6)]


@pytest.fixture
def vasprun():
    """The writer of VASP's XML that the documentation gives to those who have no VASP data."""
    path = Path(__file__).parents[3] / "docs" / "tutorials" / "example_vasp.py"
    return run_path(str(path))["vasprun_text"]
