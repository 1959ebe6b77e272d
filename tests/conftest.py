"""Fixtures shared by all tests."""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write
from blank import RENDER, blank
from fitting import copper_gold
from hypothesis import settings
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from qiskit_qff.cli.main import run
from qiskit_qff.structures import dataset

# `benchmarks/` is no part of the installed package. At the end of the path, so that the package under test stays
# the installed one.
sys.path.append(str(Path(__file__).parents[1]))

# Several processes share the cores; more threads than cores only slow everything down.
if "PYTEST_XDIST_WORKER" in os.environ:
    threadpool_limits(1)

# No deadline: a busy machine is no failure. The same examples in every run: a failure can be repeated.
settings.register_profile("qff", deadline=None, derandomize=True)
settings.load_profile("qff")

SMALL_CONFIG = """
data: {path: data.extxyz, test_fraction: 0.25}
descriptor: {r_cut: 4.0, n_radial: 2, l_max: 1}
circuit: {n_qubits: 3}
max_parameters: 20
"""


def pytest_configure(config):
    """Files are given to processes in the order below, not by their numbers of tests."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    """Files with most slow tests come first: else one process ends with them while the others have nothing left."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session", autouse=True)
def blank_figures() -> Iterator[None]:
    """Figures of runs are not drawn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", blank)
        yield


@pytest.fixture(scope="module")
def drawn_figures() -> Iterator[None]:
    """Figures are drawn: for the modules that look at pages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", RENDER)
        yield


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same in every run."""
    return np.random.default_rng(20240)


@pytest.fixture
def qff(capsys):
    """Run ``qff`` with ``--json`` in this process: gives the JSON, the only line on stdout, and what stderr says."""

    def call(*words, code=0):
        capsys.readouterr()
        found = run([*map(str, words), "--json"])
        output, errors = capsys.readouterr()
        assert found == code, errors
        assert "Traceback" not in errors
        assert output.count("\n") == bool(output)  # one line, or none where the command failed
        # NaN and Infinity are no JSON.
        return json.loads(output, parse_constant=pytest.fail) if output else None, errors

    return call


@pytest.fixture(scope="session")
def alloy_frames() -> list[Atoms]:
    """Twelve rattled eight-atom cells of copper and gold, labelled by ASE's effective medium theory."""
    return copper_gold(12, seed=3, scale=(1.02, 1.08))


@pytest.fixture(scope="session")
def trained(alloy_frames, tmp_path_factory) -> Path:
    """Directory with ``data.extxyz``, ``config.yaml`` and, in ``run/``, what ``qff train`` made of them."""
    directory = tmp_path_factory.mktemp("trained")
    write(directory / "data.extxyz", alloy_frames)
    (directory / "config.yaml").write_text(SMALL_CONFIG)
    assert run(["train", str(directory / "config.yaml"), "--out", str(directory / "run")]) == 0
    return directory


@pytest.fixture(scope="module")
def fewer_shipped(tmp_path_factory, trained) -> Iterator[None]:  # noqa: ARG001 (trained as ever, not as below)
    """Pages are quick: ``shipped`` stands for every fourth of its frames, too few for products, fits start once.

    Three radial functions instead of five: the pool has two fifths of the channels, its sums take a sixth of the time.
    """
    path = tmp_path_factory.mktemp("shipped") / "limof5.extxyz.xz"
    write(path, read(dataset.shipped_path(), "::4"), format="extxyz")
    original = dataset.shipped_path
    with pytest.MonkeyPatch.context() as patch:
        ours = ("shipped", dataset.DEFAULT)
        patch.setattr(dataset, "shipped_path", lambda name=dataset.DEFAULT: path if name in ours else original(name))
        patch.setattr("qiskit_qff.training.pipeline.PRODUCT_ATOMS", 10**6)
        patch.setattr("qiskit_qff.training.pipeline.N_RADIAL", 3)
        patch.setattr("qiskit_qff.training.objective.RESTARTS", 1)
        patch.setattr("qiskit_qff.training.trainer.SEARCH_RESTARTS", 2)
        yield


@pytest.fixture(scope="session")
def real_data():
    """Path of a measurement data set by name; the test is skipped where it is absent."""

    def find(name: str) -> Path:
        default = Path(__file__).resolve().parents[2] / "shared" / "data"
        path = Path(os.environ.get("QFF_DATA", default)) / f"{name}.extxyz.xz"
        if not path.is_file():
            pytest.skip(f"measurement data {path.name} is not here")
        return path

    return find
