"""Estimated costs; that they are what is executed is tried with the tiles."""

import pytest

from qiskit_qff.evaluators.backends import Settings
from qiskit_qff.evaluators.protocol import TimingModel
from qiskit_qff.model.calibration import estimate
from qiskit_qff.model.force_field import ForceField


@pytest.fixture(scope="module")
def field(trained) -> ForceField:
    return ForceField.load(trained / "run" / "model.json")


def test_time_and_depth_on_a_fake_device(field) -> None:
    once, _ = estimate(field, Settings("fake_torino", 1000))
    assert once["two_qubit_depth"] > 0
    assert once["n_shots"] == 1000 * (field.n_qubits + 1)
    assert once["qpu_seconds"] == TimingModel().seconds(shots=once["n_shots"], jobs=1)
    assert estimate(field, Settings("fake_torino", 1000, "zne"))[0]["qpu_seconds"] > once["qpu_seconds"] > 0
    # Registers that find no room on a small device take another round.
    rounds = len(field.registers)
    assert estimate(field, Settings("fake_manila", 1000))[0]["n_circuits"] == rounds * (field.n_qubits + 1)
