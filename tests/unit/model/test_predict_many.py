"""Many structures at a time: the predictions of one at a time, in order, and errors that reach the caller."""

import os
import subprocess
import sys

import numpy as np
import pytest
from ase.io import read, write
from contracts.force_field.quantum_model import labelled_frames, small_quantum_model

from qiskit_qff.errors import DataError
from qiskit_qff.structures.frame import Frame


@pytest.mark.parametrize("threads", [None, 1, 3])
def test_same_as_one_by_one(threads):
    field, frames = small_quantum_model(), labelled_frames(4)
    frames = [frames[k % 4] for k in range(20)]
    taken = []

    def stream():
        for k, frame in enumerate(frames):
            taken.append(k)
            yield frame

    predictions = field.predict_many(stream(), threads=threads)
    first = next(predictions)
    assert len(taken) <= 20
    if threads == 3:
        assert len(taken) == 13  # read a few ahead, not all
    for found, frame in zip([first, *predictions], frames, strict=True):
        expected = field.predict(frame)
        np.testing.assert_array_equal(found.forces, expected.forces)
        np.testing.assert_array_equal(found.energies, expected.energies)


def test_errors_reach_the_caller():
    good = labelled_frames(1)[0]
    bad = Frame(numbers=np.full(len(good.numbers), 3), positions=good.positions, cell=good.cell, pbc=good.pbc)
    with pytest.raises(DataError, match="element Li is unknown"):
        list(small_quantum_model().predict_many([good, bad, good], threads=2))


def test_large_structures_with_the_portable_threading_layer(trained, tmp_path):
    """Numba has no other where OpenMP and TBB are missing, and it aborts when threads share parallel kernels."""
    script = """
from concurrent.futures import ThreadPoolExecutor
import numba, numpy as np
from qiskit_qff import ForceField, read_frames
field, frames = ForceField.load("model.json"), read_frames("large.extxyz")
expected = [field.predict(frame) for frame in frames]
with ThreadPoolExecutor(3) as executor:
    found = list(field.predict_many(frames, threads=3)), list(executor.map(field.predict, frames))
for predictions in found:
    for one, other in zip(predictions, expected, strict=True):
        np.testing.assert_array_equal(one.forces, other.forces)
        np.testing.assert_array_equal(one.energies, other.energies)
print(len(frames[0].numbers), numba.threading_layer())
"""
    write(tmp_path / "large.extxyz", [atoms * (4, 4, 4) for atoms in read(trained / "data.extxyz", index=":")])
    (tmp_path / "model.json").write_text((trained / "run" / "model.json").read_text())
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"NUMBA_THREADING_LAYER": "workqueue", "NUMBA_NUM_THREADS": "3"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["512", "workqueue"]
