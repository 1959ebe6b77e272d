"""Hashes of geometries: the same in every file, another where an atom moved."""

from dataclasses import replace

import numpy as np
import pytest

from qiskit_qff.structures.dataset import read_shipped
from qiskit_qff.structures.frame import Frame, frame_hash


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return read_shipped("li6ps5cl")


def test_a_hash_survives_other_versions_of_python_and_numpy():
    square = Frame(numbers=[3, 17], positions=[[0, 0, 0], [0, 0, 2.0]], cell=np.eye(3) * 5.0, pbc=True)
    assert frame_hash(square) == "2811d0e6503c9424"


@pytest.mark.parametrize("pbc", [[True] * 3, [True, True, False], [False, True, False], [False] * 3])
def test_moves_by_lattice_vectors_do_not_count_but_others_do(pbc, rng):
    cell = np.array([[8.0, 0.0, 0.0], [1.0, 9.0, 0.0], [-2.0, 1.0, 10.0]])
    frame = Frame(numbers=rng.integers(1, 20, 30), positions=rng.uniform(0, 8, (30, 3)), cell=cell, pbc=pbc)
    shifts = rng.integers(-2, 3, (30, 3)) * frame.pbc
    assert frame_hash(replace(frame, positions=frame.positions + shifts @ cell)) == frame_hash(frame)
    for axis in range(3):
        elsewhere = frame.positions.copy()
        elsewhere[7, axis] += 0.01
        assert frame_hash(replace(frame, positions=elsewhere)) != frame_hash(frame)
