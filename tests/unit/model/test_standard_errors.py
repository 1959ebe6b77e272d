"""Over 200 repetitions with shots, energies, forces and stresses scatter by the standard errors that are reported."""

import numpy as np
import pytest
from fitting import DESCRIPTOR, fitted
from standard_errors import Repeated, entry_scores

from qiskit_qff.evaluators.backends import Settings, build_evaluator
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


@pytest.mark.slow
def test_errors_of_a_library_circuit_are_right_on_a_noisy_device(alloy_frames) -> None:
    """All entries of M of an ``efficient_su2(3, reps=2)`` on fake_kingston: 72 a repetition."""
    repetitions, shots, rng = 14, 200, np.random.default_rng(0)
    circuit = {"family": "efficient_su2", "n_qubits": 3, "layers": 2, "readout": ["III", "IIZ", "ZZI"]}
    config = TrainConfig.model_validate(SMALL | {"circuit": circuit, "max_parameters": 45})
    frames = [Frame.from_atoms(atoms) for atoms in alloy_frames]
    field = fitted(frames, config, rng=rng).force_field
    sizes = [register.n_qubits for register in field.registers.values()]
    device = Repeated(build_evaluator(Settings("fake_kingston", shots), sizes, rng=rng), repetitions)
    found = [
        entry_scores(field, calibrate(field, lambda *_: device, provenance=Provenance("", shots))[0])
        for _ in range(repetitions)
    ]
    spread = np.sqrt(np.mean(np.var(found, axis=0, ddof=1)))
    assert spread == pytest.approx(1.0, abs=0.1)  # known to 2.6 %; benchmarks/standard_errors.py knows it to 1 %
