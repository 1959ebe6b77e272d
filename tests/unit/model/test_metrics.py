"""Energy and force errors against numbers worked out by hand."""

import math

import numpy as np
import pytest

from qiskit_qff.model.force_field import Prediction
from qiskit_qff.model.metrics import compare, measure
from qiskit_qff.structures.frame import Frame


def water(energy: float | None, forces: np.ndarray | None) -> Frame:
    return Frame(
        numbers=np.array([8, 1, 1]),
        positions=np.array([[0, 0, 0], [0.96, 0, 0], [0, 0.96, 0.0]]),
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, dtype=bool),
        energy=energy,
        forces=forces,
        source="water.extxyz",
    )


def predicted(energy: float, forces: np.ndarray | None = None, virial: np.ndarray | None = None) -> Prediction:
    nothing = np.zeros((3, 3))
    return Prediction(np.array([energy]), nothing if forces is None else forces, nothing if virial is None else virial)


def test_errors_by_hand() -> None:
    frames = [water(-3.0, np.zeros((3, 3))), water(-6.0, np.zeros((3, 3)))]
    forces = np.zeros((3, 3))
    forces[0, 0] = 0.3
    metrics = measure(compare(frames, [predicted(-2.97, forces), predicted(-6.06)]))
    assert metrics.n_frames == 2
    assert metrics.n_atoms == 6
    assert metrics.energy_mae_mev_per_atom == pytest.approx(15.0)
    assert metrics.energy_rmse_mev_per_atom == pytest.approx(math.sqrt(250.0))
    assert metrics.force_mae_mev_per_ang == pytest.approx(300 / 18)
    assert metrics.force_rmse_mev_per_ang == pytest.approx(300 / math.sqrt(18))
    assert metrics.species["O"]["force_rmse_mev_per_ang"] == pytest.approx(300 / math.sqrt(6))
    assert metrics.species["H"]["force_mae_mev_per_ang"] == 0.0


def test_stress_errors_by_hand() -> None:
    label = np.diag([0.01, 0.02, 0.03])
    frame = Frame(np.array([1]), np.zeros((1, 3)), np.eye(3) * 4.0, np.ones(3, dtype=bool), energy=-1.0, stress=label)
    found = label + np.array([[0, 0.003, 0], [0.003, 0, 0], [0, 0, -0.006]])
    water_frame, energy = water(-3.0, None), predicted(-3.0)
    metrics = measure(compare([frame, water_frame], [predicted(-1.0, virial=64.0 * found), energy]))
    assert metrics.stress_mae_mev_per_ang3 == pytest.approx(9 / 6)
    assert metrics.stress_rmse_mev_per_ang3 == pytest.approx(math.sqrt(45 / 6))
    without = measure(compare([water_frame], [energy]))
    assert not [key for key in without.to_dict() if key.startswith("stress")]
