"""Many structures at a time: the predictions of one at a time, in order, and errors that reach the caller."""

import numpy as np
import pytest
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
