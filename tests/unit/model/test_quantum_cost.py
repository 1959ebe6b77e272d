"""Estimated time; test_calibrate.py and test_tiling.py compare circuits and executions with those that are run."""

import pytest
from qiskit_ibm_runtime.fake_provider import FakeMiami

from qiskit_qff.evaluators.backends import Settings
from qiskit_qff.evaluators.protocol import TimingModel
from qiskit_qff.model.calibration import estimate
from qiskit_qff.model.force_field import ForceField


def test_a_device_with_long_delays(trained) -> None:
    """A square lattice that waits 4 ms between shots, 16 times as long as heavy-hex ones."""
    field, delay = ForceField.load(trained / "run" / "model.json"), FakeMiami().default_rep_delay
    found, words = estimate(field, Settings("fake_miami", 1000))
    assert delay == 0.004
    assert found["qpu_seconds"] == pytest.approx(delay * found["n_shots"] + TimingModel().job_overhead, rel=0.1)
    assert f"{found['qpu_seconds']:.0f} s" in words
