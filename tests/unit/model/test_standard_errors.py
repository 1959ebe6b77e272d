"""Over 200 repetitions with shots, energies, forces and stresses scatter by the standard errors that are reported."""

import numpy as np
import pytest
from fitting import DESCRIPTOR, fitted

from qiskit_qff.evaluators.exact import ExactEvaluator
from qiskit_qff.evaluators.measured_operator import Provenance
from qiskit_qff.model.calibration import calibrate, calibration_errors
from qiskit_qff.model.config import TrainConfig
from qiskit_qff.structures.frame import Frame

REPETITIONS = 200
SHOTS = 400
SMALL = {
    "descriptor": DESCRIPTOR,
    "circuit": {"n_qubits": 2},
    "max_parameters": 8,
}


@pytest.fixture(scope="module")
def field(alloy_frames):
    frames = [Frame.from_atoms(atoms) for atoms in alloy_frames]
    return fitted(frames, TrainConfig.model_validate(SMALL), rng=np.random.default_rng(0)).force_field


@pytest.fixture(scope="module")
def frame():
    """One copper and one gold atom in a skewed cell, so that few circuits give all components."""
    cell = 2.7 * np.eye(3) + np.array([[0, 0.2, -0.1], [0.1, 0.4, 0.2], [-0.3, 0, 1.5]])
    return Frame(np.array([29, 79]), np.array([[0, 0, 0], [1.5, 1.3, 2.2]]), cell, np.ones(3, dtype=bool))


def test_standard_errors_are_right(field, frame) -> None:
    """Those of backends are tried in the contract of evaluators."""
    evaluator = ExactEvaluator(np.random.default_rng(5), shots=SHOTS)
    exact = field.predict(frame)
    scores = {"energy": [], "forces": [], "stress": []}
    for _ in range(REPETITIONS):
        model, _ = calibrate(field, lambda *_: evaluator, provenance=Provenance("exact", SHOTS))
        found, (errors,) = model.predict(frame), calibration_errors(model, [frame])
        scores["energy"].append((found.energy - exact.energy) / errors.energy_std)
        scores["forces"].append((found.forces - exact.forces) / errors.force_std)
        scores["stress"].append((found.virial - exact.virial) / frame.volume / errors.stress_std)
    for quantity, values in scores.items():
        assert np.std(values) == pytest.approx(1.0, abs=0.15), quantity
        assert np.abs(np.mean(values, axis=0)).max() < 4 / np.sqrt(REPETITIONS), quantity
