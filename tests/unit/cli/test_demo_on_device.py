"""The demo's measurement of forces on a fake device: near the exact ones, by its own account of the noise."""

import pytest

from qiskit_qff.cli.demo_on_device import WAYS, measure_forces
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.quantum_cost import circuit_counts
from qiskit_qff.structures.reading import read_frames


@pytest.fixture(scope="module")
def measured(trained):
    field = ForceField.load(trained / "run" / "model.json")
    frame = read_frames(trained / "data.extxyz")[0]
    return field, measure_forces(field, frame, backend="fake_torino", shots=4096, seed=1)


def test_every_way_measures_the_same_forces(measured):
    _, entries = measured
    assert [entry.name for entry in entries] == [name for name, _, _ in WAYS]
    for entry in entries:
        assert abs(entry.exact - entries[0].exact).max() == 0.0
        assert abs(entry.forces - entry.exact).max() > 0.0
        assert entry.cost.shots == 4096 * entry.cost.circuits


def test_knowing_the_spectrum_takes_fewer_circuits_and_leaves_shot_noise(measured, trained):
    field, entries = measured
    plain, spectrum, mitigated = entries
    counted = circuit_counts(field, {}, n_frames=1)["operator"]["once"]
    assert spectrum.cost.circuits == mitigated.cost.circuits == counted < plain.cost.circuits
    for entry in (spectrum, mitigated):
        assert entry.mae < 3.0 * entry.std_error
    assert spectrum.std_error < plain.std_error
    # One draw of the shots says little: the forces share one measured M.
    frame = read_frames(trained / "data.extxyz")[0]
    draws = [entries, *(measure_forces(field, frame, backend="fake_torino", shots=4096, seed=k) for k in (2, 3))]
    assert sum(draw[1].mae for draw in draws) < sum(draw[0].mae for draw in draws)
