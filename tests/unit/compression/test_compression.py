"""Normal equations, forward selection and swaps against dense linear algebra."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qiskit_qff.compression.least_squares import (
    ColumnProblem,
    NormalEquations,
    SizeLimits,
    select_columns,
    swap_columns,
)
from qiskit_qff.compression.selection import (
    LEAST_DEVIATION,
    LinearMap,
    PoolStatistics,
    decorrelated,
    eligible_columns,
    select_channels,
)
from qiskit_qff.descriptors.channels import PoolSettings, build_channels, make_tables
from qiskit_qff.errors import DataError

SMALL = PoolSettings(n_narrow=2, n_broad=2, powers=(1.0,), n_radial=2, l_max=0)


def accumulate(rows, labels, weights, parts=1):
    """Sums of parts, each made on its own and then merged."""
    equations = NormalEquations.empty(rows.shape[1])
    for index in np.array_split(np.arange(len(rows)), parts):
        own = NormalEquations.empty(rows.shape[1])
        for half in np.array_split(index, 2):
            own.add(rows[half].copy(), labels[half], weights[half])
        equations.merge(own)
    equations.symmetric()
    return equations


def problem_of(equations, owner, limits):
    """Least squares in which every column may be chosen."""
    eligible = np.ones(len(owner), dtype=np.bool_)
    return ColumnProblem(equations.gram, equations.moment, equations.constant, owner, eligible, limits)


def test_each_step_takes_the_largest_exact_drop(rng):
    rows = rng.normal(size=(60, 12)) @ rng.normal(size=(12, 12))  # correlated columns
    labels = rng.normal(size=60)
    equations = accumulate(rows, labels, np.ones(60))
    path = select_columns(problem_of(equations, np.zeros(12, dtype=int), SizeLimits(5, 99)))
    chosen: list[int] = []
    for column in path:

        def residual(candidate, taken=tuple(chosen)):
            part = rows[:, [*taken, candidate]]
            return float(np.sum((labels - part @ np.linalg.lstsq(part, labels, rcond=None)[0]) ** 2))

        scores = [residual(c) if c not in chosen else np.inf for c in range(12)]
        assert column == int(np.argmin(scores))
        chosen.append(int(column))


def test_folded_forms_and_files(rng):
    channels = build_channels(1, {1: 0.7}, SMALL)
    size = channels.n_channels
    linear_map = LinearMap(channels, rng.normal(size=size), rng.normal(size=(3, size)))
    form, values = rng.normal(size=(4, 4)), rng.normal(size=(5, size))
    x = np.column_stack([np.ones(5), linear_map.apply(values)])
    z = np.column_stack([np.ones(5), values - linear_map.mean])
    energies = np.einsum("ia,ab,ib->i", x, form, x)
    np.testing.assert_allclose(np.einsum("ia,ab,ib->i", z, linear_map.fold(form + form.T), z), 2 * energies, rtol=1e-10)
    for one in (linear_map, LinearMap(channels, linear_map.mean, np.diag(rng.uniform(1, 2, size)))):
        np.testing.assert_array_equal(LinearMap.from_dict(one.to_dict()).matrix, one.matrix)


@given(seed=st.integers(0, 1000))
def test_swaps_only_improve_and_keeps_the_limits(seed):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(60, 20)) @ rng.normal(size=(20, 20))
    labels = rng.normal(size=60)
    equations = accumulate(rows, labels, np.ones(60))
    owner = np.repeat([0, 1], 10)
    problem = problem_of(equations, owner, SizeLimits(6, 5))
    greedy = select_columns(problem)

    def error(columns):
        part = rows[:, columns]
        return float(np.sum((labels - part @ np.linalg.lstsq(part, labels, rcond=None)[0]) ** 2))

    better = swap_columns(problem, greedy)
    best = swap_columns(problem, greedy, restarts=5, rng=np.random.default_rng(seed))
    assert error(best) <= error(better) * (1 + 1e-9) <= error(greedy) * (1 + 2e-9)
    for chosen in (better, best):
        assert len(set(chosen.tolist())) == 6
        counts = np.bincount(owner[chosen], minlength=2)
        assert counts.min() >= 1
        assert counts.max() <= 5
        # No swap of any column for any other improves it further.
        for k in range(6):
            rest = np.delete(chosen, k)
            allowed = [
                c
                for c in range(20)
                if c not in chosen and set(np.bincount(owner[[*rest, c]], minlength=2)) <= set(range(1, 6))
            ]
            assert all(error(np.append(rest, c)) >= error(chosen) * (1 - 1e-6) for c in allowed)


@given(seed=st.integers(0, 1000))
def test_decorrelated_features_span_the_same_space(seed):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(60, 6)) @ rng.normal(size=(6, 6))  # correlated channels
    gram = rows.T @ rows
    matrix = np.diag(1.0 / np.sqrt(np.diagonal(gram)))
    new = decorrelated(matrix, gram)
    # What is left of the second moments is their fourth root.
    left = new @ gram @ new.T
    np.testing.assert_allclose(left @ left @ left @ left, matrix @ gram @ matrix.T, atol=1e-6)
    # Symmetric root: every feature goes mostly along its own channel, and none is mirrored.
    turn = new @ np.linalg.inv(matrix)
    np.testing.assert_allclose(turn, turn.T, atol=1e-6 * np.abs(turn).max())
    assert (np.diagonal(turn) > 0.0).all()


def statistics(deviations):
    """One species whose channels have given deviations; the label is the channel that varies least."""
    channels = build_channels(18, {18: 3.0}, SMALL)
    deviations, rng = deviations[: channels.n_channels], np.random.default_rng(0)
    rows = rng.normal(size=(50, channels.n_channels)) * deviations
    labels = rows[:, int(np.argmin(deviations))] / deviations.min() + 0.1 * rng.normal(size=50)
    covariance, tables = {18: np.diag(deviations**2)}, make_tables({18: channels}, 5.0)
    equations = accumulate(rows, labels, np.ones(50))
    return PoolStatistics({18: channels}, tables, np.zeros(channels.n_channels), covariance, equations)


def test_channels_that_hardly_vary_are_not_chosen_however_well_they_would_fit():
    deviations = np.full(20, 0.5)
    deviations[3] = 0.2 * LEAST_DEVIATION
    path = select_channels(statistics(deviations), SizeLimits(4, 7))
    assert 3 not in path
    assert len(path) == 4
    # A species where nothing varies much keeps what it has.
    assert eligible_columns(statistics(np.where(deviations == 0.5, 0.1, 0.05) * LEAST_DEVIATION)).all()


def test_a_species_whose_surroundings_never_differ_is_refused():
    """Rounding is no variation."""
    with pytest.raises(DataError, match="same surroundings"):
        eligible_columns(statistics(np.full(20, 1e-14)))
