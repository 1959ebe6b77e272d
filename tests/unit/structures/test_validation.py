"""Validation as a whole: each defect in its place, and real data without false alarms."""

from dataclasses import replace

import numpy as np
import pytest

from qiskit_qff.structures.dataset import is_time_ordered, read_frames
from qiskit_qff.structures.validation import validate_frames
from qiskit_qff.training.label_consistency import label_consistency


@pytest.fixture
def many(make_salt):
    return [make_salt(seed=seed, index=seed, tags={"run": "AB"[seed % 2], "step": seed}) for seed in range(12)]


def test_every_defect_in_its_place(many):
    positions = many[2].positions
    positions[5] = positions[3]
    bad_forces = many[3].forces
    bad_forces[7, 2] = np.nan
    many[2] = replace(many[2], positions=positions)
    many[3] = replace(many[3], forces=bad_forces)
    many[4] = replace(many[4], energy=None)
    many[5] = replace(many[5], forces=None)
    many[6] = replace(many[6], cell=np.ones((3, 3)))
    many[7] = replace(many[7], energy=many[7].energy + 80.0)
    many.append(replace(many[0], index=12))
    many.append(replace(many[1], index=13, energy=many[1].energy + 0.001))
    many.append(replace(many[1], index=14, energy=many[1].energy + 1.0))
    defects = validate_frames(many)
    assert [defect.severity for defect in defects] == ["error"] * 7 + ["warning"] * 3
    places = {(defect.code, defect.where.split()[-1], defect.atom) for defect in defects[:7]}
    assert places == {
        ("same-site", "2", 3),
        ("not-finite", "3", 7),
        ("missing-energy", "4", None),
        ("missing-forces", "5", None),
        ("not-finite", "6", None),
        ("energy-outlier", "7", None),
        ("contradiction", "14", None),
    }
    assert {(defect.code, defect.where.split()[-1]) for defect in defects[7:]} == {
        ("duplicate", "12"),
        ("duplicate", "13"),
        ("energy-outlier", "14"),
    }


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "is_ordered"),
    [
        ("lips83", False), ("li7p3s11_melt", True), ("li4p2s6_melt", True), ("lgps50", True), ("uio66", False),
        ("limof5", True),
    ],
)  # fmt: skip
def test_real_data_raises_no_false_alarm(real_data, name, is_ordered):
    frames = read_frames(real_data(name), strict=False)
    assert is_time_ordered(frames) is is_ordered
    frames = frames[:80]
    assert validate_frames(frames) == []
    (labels,) = label_consistency(frames)
    assert not labels.problem
    assert labels.energy_factor == pytest.approx(1.0, abs=0.3)
