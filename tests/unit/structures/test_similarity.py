"""Similar frames: found where they are, in any order, and told from a trajectory's neighbours."""

from dataclasses import replace

import numpy as np

from qiskit_qff.structures.similarity import (
    comparable_points,
    distance_rows,
    is_time_ordered,
    same_atoms,
    similar_pairs,
)


def walk(frame, steps, size, seed=0):
    rng = np.random.default_rng(seed)
    moves = np.cumsum(rng.normal(0, size, (steps, *frame.positions.shape)), axis=0)
    return [replace(frame, positions=frame.positions + move, index=k) for k, move in enumerate(moves)]


def test_same_atoms_groups_by_order_and_periods(salts):
    swapped = replace(salts[0], numbers=salts[0].numbers[::-1])
    molecule = replace(salts[0], pbc=[False] * 3)
    assert same_atoms([*salts, swapped, molecule]) == [[0, 1, 2, 3, 4, 5], [6], [7]]


def test_distances_are_root_mean_squares_in_one_cell(salts):
    strained = replace(salts[0], cell=1.1 * salts[0].cell, positions=1.1 * salts[0].positions)
    moved = replace(salts[0], positions=salts[0].positions + np.array([0.0, 0.3, 0.4]))
    points = comparable_points([salts[0], strained, moved], [0, 1, 2])
    ((_, block),) = distance_rows(points)
    np.testing.assert_allclose(block[0], [0.0, 0.0, 0.5], atol=1e-6)


def test_pairs_are_found_wherever_they_stand(salts):
    copy = replace(salts[1], positions=salts[1].positions + 0.01)
    closer = replace(salts[4], positions=salts[4].positions + 0.001)
    pairs = similar_pairs([*salts, copy, closer], tolerance=0.1)
    assert [(pair.first, pair.second) for pair in pairs] == [(4, 7), (1, 6)]
    assert abs(pairs[1].distance - 0.01 * np.sqrt(3)) < 1e-4
    assert not similar_pairs(salts, tolerance=0.01)


def test_large_sets_are_looked_at_in_stretches(make_salt):
    frames = walk(make_salt(), 90, 0.01)
    pairs = similar_pairs(frames, tolerance=0.1, limit=40)
    assert 20 <= len(pairs) <= 40
    assert all(pair.second - pair.first <= 3 for pair in pairs)


def test_a_trajectory_is_recognised_and_its_shuffled_copy_is_not(make_salt):
    frames = walk(make_salt(), 60, 0.02)
    assert is_time_ordered(frames)
    order = np.random.default_rng(3).permutation(60)
    assert not is_time_ordered([frames[k] for k in order])
    assert not is_time_ordered(frames[:4])


def test_frames_of_different_atoms_have_no_order(make_salt):
    frames = [make_salt(numbers=np.roll(make_salt().numbers, k)) for k in range(2)] * 5
    assert not is_time_ordered(frames)
