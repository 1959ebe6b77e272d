"""The demo's measurement of forces on a fake device: near the exact ones, by its own account of the noise."""

import pytest

from qiskit_qff.cli.demo import WAYS, measure_forces
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.structures.dataset import read_frames


@pytest.fixture(scope="module")
def measured(trained):
    field = ForceField.load(trained / "run" / "model.json")
    frame = read_frames(trained / "data.extxyz")[0]
    return field, measure_forces(field, frame, backend="fake_kingston", shots=4096, seed=1)


def test_all_registers_are_measured_side_by_side(measured):
    field, entries = measured
    assert [entry.name for entry in entries] == [name for name, _ in WAYS]
    for entry in entries:
        assert abs(entry.exact - entries[0].exact).max() == 0.0
        assert abs(entry.forces - entry.exact).max() > 0.0
        assert entry.cost.circuits == field.n_qubits + 1
        assert entry.cost.shots == 4096 * entry.cost.circuits


def test_the_reported_errors_are_those_that_are_found(measured):
    _, (_, mitigated) = measured
    assert mitigated.mae < 3.0 * mitigated.std_error
