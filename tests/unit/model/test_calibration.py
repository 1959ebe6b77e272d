"""Calibrated models: exact without noise, honest error bars with it, conservative, and kept in the model file."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from contracts.force_field import contract
from qiskit.primitives import StatevectorEstimator
from qiskit_ibm_runtime.fake_provider import FakeMiami

from qiskit_qff.evaluators.backends import Settings, build_evaluator
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


def test_any_estimator_of_qiskit_measures(field, frame) -> None:
    same, cost = calibrate(field, StatevectorEstimator())
    assert same.predict(frame).forces == pytest.approx(field.predict(frame).forces, abs=1e-8)
    assert cost.shots == 0
    noisy, _ = calibrate(field, StatevectorEstimator(seed=1), provenance=Provenance("mine", 10_000))
    assert next(iter(noisy.registers.values())).measured.provenance.backend == "mine"
    errors = calibration_errors(noisy, [frame])[0].force_std
    assert np.abs(noisy.predict(frame).forces - field.predict(frame).forces).max() < 5 * errors.max()


def test_a_square_lattice_measures(field, frame, rng) -> None:
    evaluators = partial(build_evaluator, Settings("fake_miami", 2000, "readout"), rng=rng)
    measured, _ = calibrate(field, evaluators, provenance=Provenance("fake_miami", 2000))
    bonds = {frozenset(pair) for pair in FakeMiami().coupling_map.get_edges()}
    for register in measured.registers.values():
        qubits = register.measured.provenance.qubits
        assert all(frozenset(pair) in bonds for pair in pairwise(qubits))
    forces = field.predict(frame).forces
    assert np.abs(measured.predict(frame).forces - forces).mean() < 0.2 * np.abs(forces).mean()


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
