"""Validation as a whole: each defect in its place, the gates, and real data without false alarms."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from qiskit_qff.errors import DataError
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.framework import shortest_bonds
from qiskit_qff.structures.reading import read_frames
from qiskit_qff.structures.shipped import read_shipped
from qiskit_qff.structures.validation import (
    check_distances,
    check_geometry,
    ensure_sound,
    ensure_trainable,
    formula,
    is_sound,
    nearest_shares,
    summarize,
    validate_frames,
)
from qiskit_qff.training.label_consistency import label_consistency


@pytest.fixture
def many(make_salt):
    return [make_salt(seed=seed, index=seed, tags={"run": "AB"[seed % 2], "step": seed}) for seed in range(12)]


def test_good_data(many):
    assert validate_frames(many) == []
    summary = summarize(many)
    assert summary.n_frames == 12
    assert summary.n_labelled == {"energy": 12, "forces": 12, "stress": 12}
    assert summary.compositions == {"Na4Cl4": 12}
    assert summary.elements == {"Na": 12, "Cl": 12}
    assert summary.files == {"salt.extxyz": 12}
    assert summary.ranges["atoms"] == (8, 8, 8)
    assert summary.ranges["volume, Å³/atom"][1] == pytest.approx(5.64**3 / 8, rel=0.1)
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
    defects = validate_frames(many)
    assert [defect.severity for defect in defects] == ["error"] * 7 + ["warning"] * 3
    places = {(defect.code, defect.where.split()[-1], defect.atom) for defect in defects[:7]}
    assert places == {
        ("same-site", "2", 3),
        ("not-finite", "3", 7),
        ("missing-energy", "4", None),
        ("missing-forces", "5", None),
        ("no-volume", "6", None),
        ("energy-outlier", "7", None),
        ("contradiction", "14", None),
    }
    assert {(defect.code, defect.where.split()[-1]) for defect in defects[7:]} == {
        ("duplicate", "12"),
        ("contradiction", "13"),
        ("energy-outlier", "14"),
    }
    assert all(str(defect).startswith(defect.where) for defect in defects)


def test_files_are_judged_apart(many):
    wrong = [replace(frame, source="b.xyz", positions=frame.positions / 0.53, cell=frame.cell / 0.53) for frame in many]
    (defect,) = validate_frames([*many, *wrong])
    assert (defect.code, defect.severity, defect.where) == ("position-units", "error", "b.xyz")
    assert "in bohr" in defect.remedy


@pytest.mark.parametrize(("factor", "severity"), [(1 / 51.4, "warning"), (50.0, "error")])
def test_forces_of_an_unusual_size(many, factor, severity):
    (defect,) = validate_frames([replace(frame, forces=frame.forces * factor) for frame in many])
    assert (defect.code, defect.severity, defect.where) == ("force-units", severity, "salt.extxyz")


def test_fractional_coordinates_stored_as_positions(many):
    inside = [replace(frame, positions=frame.positions @ np.linalg.inv(frame.cell)) for frame in many]
    assert "fractional" in next(d.remedy for d in validate_frames(inside) if d.code == "position-units")


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_frames(many, count):
    assert [defect.code for defect in validate_frames(many[:count])] == ["too-few-frames"]
    with pytest.raises(DataError, match=r"not fit for training: .* too few frames .*one to train on"):
        ensure_trainable(many[:count])


def test_all_frames_broken_still_gives_a_report(many):
    nowhere = [replace(frame, positions=frame.positions * np.nan, energy=np.nan) for frame in many]
    assert Counter(defect.code for defect in validate_frames(nowhere)) == {"not-finite": 12 * 9}
    assert set(summarize(nowhere).ranges) == {"atoms"}


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
    frames = read_shipped()
    assert validate_frames(frames) == []
    assert summarize(frames).group_tag == "replica"


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
    assert validate_frames(frames) == []
    assert summarize(frames).is_time_ordered is is_ordered
    (labels,) = label_consistency(frames)
    assert not labels.problem + labels.stress_problem
    assert labels.energy.value == pytest.approx(1.0, abs=0.3)


# Labels.


def codes(frames):
    return [(defect.code, defect.severity, defect.atom) for defect in validate_frames(frames)]


def test_labels_that_are_no_numbers(many):
    forces = many[0].forces
    forces[[1, 6]] = np.nan
    bad = replace(many[0], energy=np.inf, forces=forces, stress=np.full((3, 3), np.nan))
    assert codes([bad, *many[1:]]) == [("not-finite", "error", atom) for atom in (None, None, 1, 6)]


def test_labels_of_zero_are_suspicious_except_for_one_atom(many):
    zeros = replace(many[0], forces=np.zeros((8, 3)), stress=np.zeros((3, 3)))
    assert codes([zeros, *many[1:]]) == [("zero-forces", "warning", None)]
    lonely = Frame(
        numbers=[3], positions=np.zeros((1, 3)), cell=9 * np.eye(3), pbc=True, energy=-1.0, forces=np.zeros((1, 3))
    )
    assert codes([*many, lonely]) == []


def test_large_forces_are_named_by_atom(many):
    forces = many[0].forces
    forces[3] += 40.0
    forces[4] -= 40.0
    assert codes([replace(many[0], forces=forces), *many[1:]]) == [
        ("large-force", "warning", 3),
        ("large-force", "warning", 4),
    ]


def test_net_force(many):
    (defect,) = validate_frames([replace(many[0], forces=many[0].forces + np.array([0.05, 0, 0])), *many[1:]])
    assert defect.code == "net-force"
    assert "0.40 eV/Å (0.050 per atom)" in defect.message
    assert codes([replace(many[0], forces=many[0].forces + np.array([0.002, 0, 0])), *many[1:]]) == []


@pytest.mark.parametrize(("offset", "severity"), [(0.7, "warning"), (-0.7, "warning"), (6.0, "error")])
def test_energy_outliers(many, offset, severity):
    many[4] = replace(many[4], energy=many[4].energy + offset * 8)
    (defect,) = validate_frames(many)
    assert (defect.code, defect.severity, defect.where) == ("energy-outlier", severity, "salt.extxyz, frame 4")
    assert codes(many[:7]) == []  # too few to know


def test_two_distinct_groups_are_no_outliers(many, make_salt):
    shifted = [make_salt(seed=seed, index=seed, energy=-26.2) for seed in range(12, 24)]
    assert codes([*many, *(replace(frame, energy=frame.energy + 0.01 * k) for k, frame in enumerate(shifted))]) == []


def test_equal_energies_are_placeholders(many):
    assert codes([replace(frame, energy=0.0) for frame in many]) == [("equal-energies", "error", None)]


# Geometry.


def pair(distance):
    return Frame(numbers=[6, 6], positions=[[0, 0, 0], [0, 0, distance]], cell=np.zeros((3, 3)), pbc=False)


def test_sound_frames_have_no_defects(salts):
    for frame in salts:
        assert is_sound(frame)
        assert not [*check_geometry(frame), *check_distances(frame)]


def test_every_bad_position_is_reported_with_its_atom(make_salt):
    positions = make_salt().positions
    positions[[2, 5], [0, 1]] = np.nan, np.inf
    defects = list(check_geometry(make_salt(positions=positions)))
    assert [(defect.code, defect.atom) for defect in defects] == [("not-finite", 2), ("not-finite", 5)]
    assert not is_sound(make_salt(positions=positions))


@pytest.mark.parametrize(
    ("cell", "code"),
    [
        (np.full((3, 3), np.nan), "not-finite"),
        (np.ones((3, 3)), "no-volume"),
        (0.1 * np.eye(3), "no-room"),
    ],
)
def test_bad_cells(make_salt, cell, code):
    frame = make_salt(cell=cell)
    assert [defect.code for defect in check_geometry(frame)] == [code]
    assert not is_sound(frame)


def test_a_slab_needs_only_two_cell_vectors(make_salt):
    frame = make_salt(cell=np.diag([5.6, 5.6, 0.0]), pbc=[True, True, False])
    assert is_sound(frame)
    assert not list(check_geometry(frame))


@pytest.mark.parametrize(
    ("distance", "code", "severity"),
    [(0.0, "same-site", "error"), (0.09, "same-site", "error"), (0.5, "close-atoms", "error"),
     (0.8, "close-atoms", "warning")],
)  # fmt: skip
def test_too_close_pairs(distance, code, severity):
    defects = list(check_distances(pair(distance)))
    assert {(defect.code, defect.severity) for defect in defects} == {(code, severity)}
    assert [defect.atom for defect in defects] == [0]
    assert "C atom 1" in defects[0].message


def test_a_normal_bond_is_fine():
    assert not list(check_distances(pair(1.2)))


def test_the_image_of_an_atom_counts():
    frame = Frame(numbers=[11], positions=[[0, 0, 0]], cell=np.diag([0.9, 9, 9]), pbc=True)
    (defect,) = check_distances(frame)
    assert "its own periodic image" in defect.message


def test_each_atom_is_named_with_its_closest_partner():
    frame = Frame(numbers=[6, 6, 6], positions=[[0, 0, 0], [0, 0, 0.5], [0, 0, 0.9]], cell=np.zeros((3, 3)), pbc=False)
    defects = list(check_distances(frame))
    assert {defect.atom for defect in defects} == {0, 1}
    assert "0.40 Å" in next(defect.message for defect in defects if defect.atom == 1)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(["Li", "Na", "Cs", "Al", "Cu", "Fe", "W", "Si", "C", "Ti", "Mg"]))
def test_nearest_neighbours_of_elements_are_near_their_covalent_radii(symbol):
    share = np.median(nearest_shares(Frame.from_atoms(bulk(symbol))))
    assert 0.8 < share < 1.35


def test_nearest_shares_in_bohr_and_of_noble_gases(make_salt):
    frame = make_salt()
    in_bohr = replace(frame, positions=frame.positions / 0.529177, cell=frame.cell / 0.529177)
    assert np.median(nearest_shares(in_bohr)) / np.median(nearest_shares(frame)) == pytest.approx(1.89, abs=0.01)
    assert not len(nearest_shares(Frame.from_atoms(bulk("Ar"))))
    assert not len(nearest_shares(Frame(numbers=[6], positions=[[0, 0, 0]], cell=np.zeros((3, 3)), pbc=False)))


def test_shortest_bonds_per_pair_of_elements():
    found = shortest_bonds(Frame.from_atoms(molecule("CH3OH")))
    assert set(found) == {(1, 6), (1, 8), (6, 8)}
    assert found[1, 8] == pytest.approx(0.97, abs=0.01)
