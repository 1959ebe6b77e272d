"""Calibrated models: exact without noise, honest error bars with it, conservative, and kept in the model file."""

import numpy as np
import pytest
from contracts.force_field import contract

from qiskit_qff.evaluators.exact import ExactEvaluator
from qiskit_qff.evaluators.measured_operator import Provenance
from qiskit_qff.model.calibration import calibrate, calibration_errors, is_calibrated
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.structures.dataset import read_frames


@pytest.fixture(scope="module")
def field(trained) -> ForceField:
    return ForceField.load(trained / "run" / "model.json")


@pytest.fixture(scope="module")
def frame(trained):
    return read_frames(trained / "data.extxyz")[0]


def sampled(field, rng, shots=2000) -> ForceField:
    provenance = Provenance("exact", shots, "none", "2025-01-01T00:00:00+00:00", 1)
    return calibrate(field, lambda *_: ExactEvaluator(rng, shots=shots), provenance=provenance)[0]


def test_noiseless_calibration_changes_nothing(field, frame) -> None:
    provenance = Provenance("exact", None, "none", "2025-01-01T00:00:00+00:00")
    same, cost = calibrate(field, lambda *_: ExactEvaluator(), provenance=provenance)
    assert cost.circuits == field.n_qubits + 1
    assert same.predict(frame).energy == pytest.approx(field.predict(frame).energy, abs=1e-8)
    assert same.predict(frame).forces == pytest.approx(field.predict(frame).forces, abs=1e-8)
    (errors,) = calibration_errors(same, [frame])
    assert errors.energy_std == 0.0
    assert not errors.force_std.any()
    assert not errors.stress_std.any()


def test_forces_are_the_slopes_of_the_measured_energy(field, frame, rng) -> None:
    noisy = sampled(field, rng)
    assert np.abs(noisy.predict(frame).forces - field.predict(frame).forces).max() > 1e-4
    contract.check_forces(noisy, frame.to_atoms(), indices=(0, 4, 7))


def test_model_file_keeps_the_measurement(field, frame, rng, tmp_path) -> None:
    noisy = sampled(field, rng)
    noisy.save(tmp_path / "noisy.json")
    again = ForceField.load(tmp_path / "noisy.json")
    assert is_calibrated(again)
    assert not is_calibrated(field)
    assert np.array_equal(again.predict(frame).forces, noisy.predict(frame).forces)
    first, second = (calibration_errors(model, [frame])[0].force_std for model in (noisy, again))
    assert first == pytest.approx(second, rel=1e-9)
    for key, register in noisy.registers.items():
        assert again.registers[key].measured.provenance == register.measured.provenance
