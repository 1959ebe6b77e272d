"""Splits: complete, disjoint, reproducible, in the promised proportions."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qiskit_qff.structures.dataset import balanced_split, block_split, is_time_ordered, near_copies, random_split


def rng(seed=0):
    return np.random.default_rng(seed)


def assert_divides(split, n_frames):
    both = np.concatenate([split.train, split.test])
    assert sorted(both.tolist()) == list(range(n_frames))
    for side in (split.train, split.test):
        assert all(a < b for a, b in pairwise(side.tolist()))


@given(st.integers(2, 200), st.floats(0.01, 0.99), st.integers(0, 9))
def test_random_and_block_splits_divide_and_repeat(n_frames, fraction, seed):
    split = random_split(n_frames, fraction, rng(seed))
    assert_divides(split, n_frames)
    assert len(split.test) == min(max(round(fraction * n_frames), 1), n_frames - 1)
    assert np.array_equal(split.test, random_split(n_frames, fraction, rng(seed)).test)
    block = block_split(n_frames, fraction)
    assert_divides(block, n_frames)
    assert block.train[-1] < block.test[0]


@given(st.lists(st.sampled_from("ABC"), min_size=4, max_size=60), st.floats(0.1, 0.5), st.integers(0, 9))
def test_balanced_split_takes_equal_shares(groups, fraction, seed):
    sizes = Counter(groups)
    if max(sizes.values()) < 2:
        return
    split = balanced_split(groups, fraction, rng(seed))
    assert_divides(split, len(groups))
    held_out = Counter(groups[index] for index in split.test)
    total = min(max(round(fraction * len(groups)), 1), len(groups) - 1)
    divisible = sum(size for size in sizes.values() if size > 1)
    for group, size in sizes.items():
        exact = total * size / divisible if size > 1 else 0.0
        assert abs(held_out[group] - min(exact, size - 1)) < 1 + 1e-6


@given(st.integers(0, 99))
def test_units_are_never_parted(seed):
    groups = ["A"] * 12 + ["B"] * 8
    units = [index // 3 for index in range(12)] + [9, 9, 9, 9, 10, 10, 11, 12]
    split = balanced_split(groups, 0.3, rng(seed), units=units)
    assert_divides(split, 20)
    test_units = {units[index] for index in split.test}
    assert not test_units & {units[index] for index in split.train}
    assert 4 <= len(split.test) <= 8


def test_near_copies_share_a_unit(salts, make_salt):
    noise = rng().normal(0, 0.03, (8, 3))
    copies = [replace(frame, positions=frame.positions + noise) for frame in salts[:2]]
    swapped = replace(salts[0], numbers=salts[0].numbers[::-1])
    units = near_copies([*salts, *copies, swapped, make_salt(seed=50)])
    assert units[6:8] == units[:2]
    assert len(set(units)) == 8


def walk(frame, steps, size, seed=0):
    rng = np.random.default_rng(seed)
    moves = np.cumsum(rng.normal(0, size, (steps, *frame.positions.shape)), axis=0)
    return [replace(frame, positions=frame.positions + move, index=k) for k, move in enumerate(moves)]


def test_a_trajectory_is_recognised_and_its_shuffled_copy_is_not(make_salt):
    frames = walk(make_salt(), 60, 0.02)
    assert is_time_ordered(frames)
    order = np.random.default_rng(3).permutation(60)
    assert not is_time_ordered([frames[k] for k in order])
    assert not is_time_ordered(frames[:4])
