"""Labels: missing, broken, or out of line with the others."""

from dataclasses import replace

import numpy as np
import pytest

from qiskit_qff.structures.label_checks import check_energies, check_forces, check_labels


def codes(defects):
    return [(defect.code, defect.severity, defect.atom) for defect in defects]


@pytest.fixture
def many(make_salt):
    return [make_salt(seed=seed, index=seed) for seed in range(20)]


def test_good_labels_have_no_defects(many):
    for frame in many:
        assert not [*check_labels(frame), *check_forces(frame, typical=0.5)]
    assert not list(check_energies(many))


def test_missing_labels(make_salt):
    frame = make_salt(energy=None, forces=None, stress=None)
    assert codes(check_labels(frame)) == [("missing-energy", "error", None), ("missing-forces", "error", None)]


def test_labels_that_are_no_numbers(make_salt):
    forces = make_salt().forces
    forces[[1, 6]] = np.nan
    frame = make_salt(energy=np.inf, forces=forces, stress=np.full((3, 3), np.nan))
    assert codes(check_labels(frame)) == [
        ("not-finite", "error", None),
        ("not-finite", "error", None),
        ("not-finite", "error", 1),
        ("not-finite", "error", 6),
    ]


def test_forces_of_zero_are_suspicious_except_for_one_atom(make_salt):
    assert codes(check_labels(make_salt(forces=np.zeros((8, 3))))) == [("zero-forces", "warning", None)]
    lonely = make_salt(numbers=[3], positions=np.zeros((1, 3)), forces=np.zeros((1, 3)))
    assert not list(check_labels(lonely))


def test_large_forces_are_named_by_atom(make_salt):
    forces = make_salt().forces
    forces[3] += 40.0
    forces[4] -= 40.0
    frame = make_salt(forces=forces)
    assert codes(check_forces(frame, typical=0.5)) == [("large-force", "warning", 3), ("large-force", "warning", 4)]
    assert not list(check_forces(frame, typical=10.0))


def test_net_force(make_salt):
    shifted = make_salt(forces=make_salt().forces + np.array([0.05, 0, 0]))
    (defect,) = check_forces(shifted, typical=0.5)
    assert defect.code == "net-force"
    assert "0.40 eV/Å (0.050 per atom)" in defect.message
    assert not list(check_forces(make_salt(forces=make_salt().forces + np.array([0.002, 0, 0])), typical=0.5))


@pytest.mark.parametrize(("offset", "severity"), [(0.7, "warning"), (-0.7, "warning"), (6.0, "error")])
def test_energy_outliers(many, offset, severity):
    many[4] = replace(many[4], energy=many[4].energy + offset * 8)
    (defect,) = check_energies(many)
    assert (defect.code, defect.severity, defect.where) == ("energy-outlier", severity, "salt.extxyz, frame 4")


def test_few_frames_have_no_outliers(many):
    many[4] = replace(many[4], energy=many[4].energy + 8.0)
    assert not list(check_energies(many[:7]))


def test_two_distinct_groups_are_no_outliers(many):
    shifted = [replace(frame, energy=frame.energy + 0.8) for frame in many]
    assert not list(check_energies([*many, *shifted]))


def test_equal_energies_are_placeholders(many):
    (defect,) = check_energies([replace(frame, energy=0.0) for frame in many])
    assert (defect.code, defect.severity) == ("equal-energies", "error")


def test_another_reference_for_nearly_the_same_composition(many, make_salt):
    numbers = make_salt().numbers.repeat(8)
    big = make_salt(numbers=numbers, positions=np.zeros((64, 3)), forces=None, energy=-27.0 * 8, source="b.xyz")
    changed = replace(big, numbers=np.where(np.arange(64) == 0, 17, numbers))
    assert not list(check_energies([*many, changed]))
    (defect,) = check_energies([*many, replace(changed, energy=-27.0 * 8 * 30)])
    assert (defect.code, defect.where) == ("energy-reference", "b.xyz, frame 0")
    assert "salt.extxyz, frame 0" in defect.message
