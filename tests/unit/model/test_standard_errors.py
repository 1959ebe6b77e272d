"""Over 200 repetitions with shots, energies, forces and stresses scatter by the standard errors that are reported."""

import numpy as np
import pytest
from fitting import DESCRIPTOR, fitted

from qiskit_qff.evaluators.backends import Settings, build_evaluator
from qiskit_qff.evaluators.measured_operator import Provenance
from qiskit_qff.evaluators.protocol import Evaluation, Request
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


class Prefetched:
    """All repetitions of a request in one job, because a job of Aer costs far more than its circuits."""

    def __init__(self, evaluator):
        self._evaluator = evaluator
        self._answers = {}

    def evaluate(self, requests, *, shots=None):
        key = tuple((id(item.task), item.parameters.tobytes(), shots) for item in requests)
        if key not in self._answers:
            many = [Request(item.task, np.tile(item.parameters, (REPETITIONS, 1))) for item in requests]
            results = self._evaluator.evaluate(many, shots=shots)
            self._answers[key] = iter([self._cut(results, requests, turn) for turn in range(REPETITIONS)])
        return next(self._answers[key])

    def cost(self, requests, *, shots=None):
        return self._evaluator.cost(requests, shots=shots)

    @staticmethod
    def _cut(results, requests, turn):
        sizes = [len(item.parameters) for item in requests]
        rows = [slice(turn * size, (turn + 1) * size) for size in sizes]
        return [Evaluation(r.values[s], r.covariances[s]) for r, s in zip(results, rows, strict=True)]


@pytest.fixture(scope="module")
def field(alloy_frames):
    frames = [Frame.from_atoms(atoms) for atoms in alloy_frames]
    return fitted(frames, TrainConfig.model_validate(SMALL), rng=np.random.default_rng(0)).force_field


@pytest.fixture(scope="module")
def frame():
    """One copper and one gold atom in a skewed cell, so that few circuits give all components."""
    cell = 2.7 * np.eye(3) + np.array([[0, 0.2, -0.1], [0.1, 0.4, 0.2], [-0.3, 0, 1.5]])
    return Frame(np.array([29, 79]), np.array([[0, 0, 0], [1.5, 1.3, 2.2]]), cell, np.ones(3, dtype=bool))


@pytest.mark.parametrize("backend", ["exact", "aer"])
def test_standard_errors_are_right(field, frame, backend) -> None:
    """Aer's own errors are tried in the contract of evaluators."""
    evaluator = build_evaluator(Settings(backend, SHOTS), [2], rng=np.random.default_rng(5))
    used = Prefetched(evaluator) if backend == "aer" else evaluator
    exact = field.predict(frame)
    scores = {"energy": [], "forces": [], "stress": []}
    for _ in range(REPETITIONS):
        model, _ = calibrate(field, lambda *_: used, provenance=Provenance(backend, SHOTS))
        found, (errors,) = model.predict(frame), calibration_errors(model, [frame])
        scores["energy"].append((found.energy - exact.energy) / errors.energy_std)
        scores["forces"].append((found.forces - exact.forces) / errors.force_std)
        scores["stress"].append((found.virial - exact.virial) / frame.volume / errors.stress_std)
    for quantity, values in scores.items():
        assert np.std(values) == pytest.approx(1.0, abs=0.15), quantity
        assert np.abs(np.mean(values, axis=0)).max() < 4 / np.sqrt(REPETITIONS), quantity
