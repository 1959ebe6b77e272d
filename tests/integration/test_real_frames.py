"""On real frames: circuits on a StatevectorEstimator give what the kernels give."""

from itertools import islice

import numpy as np
import pytest
from fitting import DESCRIPTOR, fitted
from qiskit.primitives import StatevectorEstimator

from qiskit_qff.evaluators.primitive import PrimitiveEvaluator
from qiskit_qff.model.config import TrainConfig
from qiskit_qff.model.measured import predict_measured
from qiskit_qff.structures.reading import iter_frames

pytestmark = pytest.mark.data

SMALL = {
    "descriptor": DESCRIPTOR,
}


@pytest.fixture(scope="module", params=["lips83", "uio66"])
def trained_on(request, real_data):
    """A small model trained on four frames of a data set, and the fifth frame."""
    *training, unseen = islice(iter_frames(real_data(request.param)), 5)
    return fitted(training, TrainConfig.model_validate(SMALL), rng=np.random.default_rng(0)).force_field, unseen


@pytest.mark.parametrize("strategy", ["environment", "density", "operator"])
def test_energies_forces_and_stresses_are_exact(trained_on, strategy) -> None:
    field, frame = trained_on
    evaluator = PrimitiveEvaluator(StatevectorEstimator())
    measured = predict_measured(field, [frame], evaluator_for=lambda *_: evaluator, strategy=strategy)
    exact = field.predict(frame)
    assert measured.frames[0].energy == pytest.approx(exact.energy, rel=0, abs=1e-8)
    assert np.abs(measured.frames[0].forces - exact.forces).max() < 1e-8
    # The stress is a sum over all pairs: compared on the scale of the virial, which is that of the energy.
    tolerance = 1e-8 * max(1.0, np.abs(exact.virial).max())
    assert np.abs(measured.frames[0].stress * frame.volume - exact.virial).max() < tolerance
    assert not measured.frames[0].stress_std.any()
