"""Small labelled structures, a writer for VASP's XML, and the real data where it is at hand."""

import os
from pathlib import Path

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


def _varray(name, rows):
    lines = "".join(f"<v> {' '.join(f'{x:.10f}' for x in row)} </v>\n" for row in rows)
    return f'<varray name="{name}">\n{lines}</varray>\n'


def _structure(frame, name=""):
    scaled = frame.positions @ np.linalg.inv(frame.cell)
    crystal = _varray("basis", frame.cell) + _varray("rec_basis", np.linalg.inv(frame.cell).T)
    volume = f'<i name="volume"> {frame.volume} </i>'
    return f"<structure{name}><crystal>{crystal}{volume}</crystal>{_varray('positions', scaled)}</structure>\n"


def vasprun_text(frames):
    """What VASP 6 would write in vasprun.xml for these steps, as far as readers look at it."""
    kbar = 1602.176634
    atoms = "".join(f"<rc><c>{symbol:2s}</c><c>1</c></rc>" for symbol in frames[0].symbols)
    steps = []
    for frame in frames:
        entries = (("e_fr_energy", -0.1), ("e_wo_entrp", 0.1), ("e_0_energy", 0.0))
        values = "".join(f'<i name="{name}"> {frame.energy + shift:.10f} </i>' for name, shift in entries)
        energy = f"<energy>{values}</energy>\n"
        labels = _varray("forces", frame.forces) + _varray("stress", -kbar * frame.stress)
        steps.append(f"<calculation><scstep>{energy}</scstep>{_structure(frame)}{labels}{energy}</calculation>\n")
    initial, final = _structure(frames[0], ' name="initialpos"'), _structure(frames[-1], ' name="finalpos"')
    return (
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n<modeling>\n'
        '<generator><i name="version" type="string">6.3.0</i></generator>'
        '<incar><i type="int" name="NSW">9</i></incar>\n'
        f"<kpoints>{_varray('kpointlist', [[0, 0, 0]])}{_varray('weights', [[1]])}</kpoints>\n"
        '<parameters><separator name="electronic"><i name="ENMAX">400.0</i>'
        '<i type="int" name="NELM">60</i><i type="int" name="IBRION">0</i></separator></parameters>\n'
        f'<atominfo><array name="atoms"><set>{atoms}</set></array></atominfo>\n'
        f"{initial}{''.join(steps)}{final}</modeling>\n"
    )


@pytest.fixture
def vasprun():
    return vasprun_text


@pytest.fixture
def real_data():
    """Path of a measurement data set by name; the test is skipped where it is absent."""

    def find(name: str) -> Path:
        default = Path(__file__).resolve().parents[3].parent / "shared" / "data"
        path = Path(os.environ.get("QFF_DATA", default)) / f"{name}.extxyz.xz"
        if not path.is_file():
            pytest.skip(f"measurement data {path.name} is not here")
        return path

    return find
