"""On real frames: circuits on a StatevectorEstimator give what the kernels give."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from circuits import loaded
from fitting import DESCRIPTOR, fitted
from qiskit.primitives import StatevectorEstimator

from qiskit_qff.evaluators.measured_operator import Provenance
from qiskit_qff.evaluators.primitive import PrimitiveEvaluator
from qiskit_qff.model.calibration import calibrate
from qiskit_qff.model.config import TrainConfig
from qiskit_qff.structures.dataset import iter_frames

pytestmark = pytest.mark.data

SMALL = {
    "descriptor": DESCRIPTOR,
}


@pytest.fixture(scope="module")
def trained_on(real_data):
    """A small model trained on four frames of a data set, and the fifth frame."""
    *training, unseen = islice(iter_frames(real_data("lips83")), 5)
    return fitted(training, TrainConfig.model_validate(SMALL), rng=np.random.default_rng(0)).force_field, unseen


def test_energies_forces_and_stresses_are_exact(trained_on) -> None:
    field, frame = trained_on
    evaluator, origin = PrimitiveEvaluator(StatevectorEstimator()), Provenance("statevector", None, "none", "")
    measured, _ = calibrate(field, lambda *_: evaluator, provenance=origin)
    exact, found = field.predict(frame), measured.predict(frame)
    assert found.energy == pytest.approx(exact.energy, rel=0, abs=1e-8)
    assert np.abs(found.forces - exact.forces).max() < 1e-8
    # The stress is a sum over all pairs: compared on the scale of the virial, which is that of the energy.
    assert np.abs(found.virial - exact.virial).max() < 1e-8 * max(1.0, np.abs(exact.virial).max())


def test_energies_are_those_of_the_textbook_circuits(trained_on) -> None:
    """Every atom's amplitudes are loaded into each register and read, which nothing in the package does."""
    field, frame = trained_on
    evaluator, total = PrimitiveEvaluator(StatevectorEstimator()), 0.0
    for key, x in field.amplitudes(frame).items():
        bound = field.registers[key].bound_program()
        (found,) = evaluator.evaluate([loaded(bound.program, x, bound.theta)])
        total += np.sum(x**2, axis=1) @ found.values @ bound.weights
    without = field.with_registers({k: replace(r, weights=0.0 * r.weights) for k, r in field.registers.items()})
    assert total == pytest.approx(field.predict(frame).energy - without.predict(frame).energy, abs=1e-8)
