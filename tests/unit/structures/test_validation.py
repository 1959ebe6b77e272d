"""Validation as a whole: each defect in its place, the gates, and real data without false alarms."""

from dataclasses import replace

import numpy as np
import pytest

from qiskit_qff.errors import DataError
from qiskit_qff.structures.reading import read_frames
from qiskit_qff.structures.shipped import read_shipped
from qiskit_qff.structures.summary import formula
from qiskit_qff.structures.validation import ensure_sound, ensure_trainable, validate_frames


@pytest.fixture
def many(make_salt):
    return [make_salt(seed=seed, index=seed, tags={"run": "AB"[seed % 2], "step": seed}) for seed in range(12)]


def test_good_data(many):
    report = validate_frames(many)
    assert report.is_trainable
    assert report.defects == ()
    summary = report.summary
    assert summary.n_frames == summary.n_with_energy == summary.n_with_forces == summary.n_with_stress == 12
    assert summary.compositions == {"Na4Cl4": 12}
    assert summary.elements == {"Na": 12, "Cl": 12}
    assert summary.periodicity == {"TTT": 12}
    assert summary.files == {"salt.extxyz": 12}
    assert summary.tags == {"run": 2}
    assert summary.atoms.low == summary.atoms.high == 8
    assert summary.volume_ang3_per_atom.middle == pytest.approx(5.64**3 / 8, rel=0.1)
    assert summary.energy_std_mev_per_atom == pytest.approx(50 / 8, rel=0.5)
    assert summary.force_std_mev_per_ang == pytest.approx(500, rel=0.2)
    assert 2.0 < summary.shortest_distances_ang["Na-Cl"] < 2.9
    assert not summary.is_time_ordered


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
    report = validate_frames(many)
    places = {(defect.code, defect.where.split()[-1], defect.atom) for defect in report.errors}
    assert places == {
        ("same-site", "2", 3),
        ("not-finite", "3", 7),
        ("missing-energy", "4", None),
        ("missing-forces", "5", None),
        ("no-volume", "6", None),
        ("energy-outlier", "7", None),
        ("contradiction", "14", None),
    }
    assert {(defect.code, defect.where.split()[-1]) for defect in report.warnings} == {
        ("duplicate", "12"),
        ("contradiction", "13"),
        ("energy-outlier", "14"),
    }
    assert not report.is_trainable
    assert sum(report.counts().values()) == 10
    assert [defect.severity for defect in report.defects] == ["error"] * 7 + ["warning"] * 3
    assert all(str(defect).startswith(defect.where) for defect in report.defects)


def test_files_are_judged_apart(many):
    wrong = [replace(frame, source="b.xyz", positions=frame.positions / 0.53, cell=frame.cell / 0.53) for frame in many]
    report = validate_frames([*many, *wrong])
    assert [(defect.code, defect.where) for defect in report.errors] == [("position-units", "b.xyz")]


def test_a_run_cut_short_is_mentioned(many):
    report = validate_frames([replace(frame, tags={"cut_short": True}) for frame in many])
    assert [(defect.code, defect.where) for defect in report.defects] == [("cut-short", "salt.extxyz")]
    assert report.is_trainable


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_frames(many, count):
    report = validate_frames(many[:count])
    assert [defect.code for defect in report.errors] == ["too-few-frames"]
    with pytest.raises(DataError, match=r"not fit for training: .* too few frames .*one to train on"):
        ensure_trainable(many[:count])


def test_all_frames_broken_still_gives_a_report(many):
    nowhere = [replace(frame, positions=frame.positions * np.nan, energy=np.nan) for frame in many]
    report = validate_frames(nowhere)
    assert report.counts() == {"not-finite": 12 * 9}
    assert report.summary.energy_ev_per_atom is None


def test_gate_of_training_lists_the_first_errors(many):
    ensure_trainable(many)
    unlabelled = [replace(frame, energy=None, forces=None) for frame in many]
    with pytest.raises(DataError) as caught:
        ensure_trainable(unlabelled)
    message = str(caught.value)
    assert "salt.extxyz, frame 0: no energy found" in message
    assert "and 19 more" in message
    assert "\n" not in message


def test_gate_of_training_does_not_judge_by_heuristics(many):
    ensure_trainable([replace(frame, energy=frame.energy * 1e3) for frame in many])


def test_gate_of_evaluation_needs_no_labels(many):
    bare = [replace(frame, energy=None, forces=None, stress=None) for frame in many]
    ensure_sound(bare[:1])
    positions = bare[3].positions
    positions[5] = positions[3]
    with pytest.raises(DataError, match=r"not fit for evaluation: salt\.extxyz, frame 3, atom 3: \w+ sits on"):
        ensure_sound([*bare, replace(bare[3], positions=positions)])
    with pytest.raises(DataError, match="enclose no volume"):
        ensure_sound([replace(bare[0], cell=np.ones((3, 3)))])


def test_formula():
    assert formula(np.array([3, 3, 16, 15])) == "Li2PS"


def test_shipped_data_has_no_defect():
    report = validate_frames(read_shipped())
    assert report.defects == ()
    assert report.summary.tags["replica"] == 6
    assert report.summary.energy_force_ratio == pytest.approx(1.0, abs=0.02)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "is_ordered", "is_told"),
    [
        ("lips83", False, True),
        ("li7p3s11_melt", True, True),
        ("li4p2s6_melt", True, True),
        ("lgps50", True, False),
        ("uio66", False, False),
        ("limof5", True, True),
    ],
)
def test_real_data_raises_no_false_alarm(real_data, name, is_ordered, is_told):
    report = validate_frames(read_frames(real_data(name), strict=False))
    assert report.defects == ()
    assert report.summary.is_time_ordered is is_ordered
    if is_told:
        assert report.summary.energy_force_ratio == pytest.approx(1.0, abs=0.02)
    else:
        assert report.summary.energy_force_ratio is None


@pytest.mark.data
def test_two_energy_references_in_one_set_are_told(real_data):
    frames = [*read_frames(real_data("lips83"))[:20], *read_frames(real_data("li7p3s11_melt"))[:20]]
    assert "energy-reference" in validate_frames(frames).counts()
