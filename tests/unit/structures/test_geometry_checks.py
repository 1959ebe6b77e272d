"""Geometry: what is impossible, what is suspicious, and what is fine."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.geometry_checks import (
    check_distances,
    check_geometry,
    is_sound,
    nearest_shares,
    shortest_distances,
)


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


def test_shortest_distances_per_pair_of_elements():
    found = shortest_distances(Frame.from_atoms(molecule("CH3OH")))
    assert set(found) == {(1, 6), (1, 8), (6, 8)}
    assert found[1, 8] == pytest.approx(0.97, abs=0.01)
