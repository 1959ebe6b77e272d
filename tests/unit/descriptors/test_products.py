"""Products of channels: values, derivatives in every kernel, subsets and files."""

import numpy as np
import pytest
from ase.build import bulk
from hypothesis import given
from hypothesis import strategies as st

from qiskit_qff.descriptors.blocks import channel_values
from qiskit_qff.descriptors.channels import ChannelSet, make_tables
from qiskit_qff.descriptors.design_rows import linear_design
from qiskit_qff.descriptors.pool import PoolSettings, build_channels
from qiskit_qff.descriptors.quadratic import no_fence, quadratic_forces
from qiskit_qff.structures.neighbors import neighbor_list

SPECIES = (11, 17)
SETTINGS = PoolSettings(r_cut=4.0, n_narrow=3, n_broad=2, powers=(2.0,), n_radial=2, l_max=2, bonds=False)


def plain(center):
    return build_channels(center, {11: 3.4 if center == 11 else 2.4, 17: 2.4 if center == 11 else 3.5}, SETTINGS)


def with_some_products(center):
    """Of two- and three-body channels, a square, a product of three, one of a product with itself."""
    channels, n = plain(center), plain(center).n_channels
    pairs = np.array([(0, 7), (n - 1, n - 1), (2, n), (n + 2, n + 2)])
    rng = np.random.default_rng(center)
    return channels.with_products(pairs, rng.normal(scale=0.3, size=pairs.shape), rng.uniform(0.2, 2.0, pairs.shape))


@pytest.fixture
def sets():
    return {z: with_some_products(z) for z in SPECIES}


@pytest.fixture
def atoms():
    structure = bulk("NaCl", "rocksalt", a=5.6).repeat((2, 1, 1))
    structure.rattle(0.15, seed=1)
    return structure


def inputs(atoms, positions=None):
    nl = neighbor_list(atoms.positions if positions is None else positions, atoms.cell.array, atoms.pbc, 4.0)
    return nl.first, nl.neighbor, nl.vectors, nl.distances, np.searchsorted(SPECIES, atoms.numbers).astype(np.int64)


def expected_products(channels, simple):
    """One by one, from the simple channels of some atoms, shape ``(n, n_simple)``."""
    values = [*simple.T]
    for factors, offsets, widths in zip(channels.products, channels.offsets, channels.widths, strict=True):
        v = [values[k] - c for k, c in zip(factors, offsets, strict=True)]
        values.append(np.prod([x / np.sqrt(1 + (x / w) ** 2) for x, w in zip(v, widths, strict=True)], axis=0))
    return np.array(values).T


def test_values_are_those_of_the_definition(atoms, sets):
    simple = channel_values(make_tables({z: plain(z) for z in SPECIES}, 4.0), *inputs(atoms))
    tables = make_tables(sets, 4.0)
    found = channel_values(tables, *inputs(atoms))
    for z in SPECIES:
        mine = atoms.numbers == z
        expected = expected_products(sets[z], simple[mine, : sets[z].n_simple])
        np.testing.assert_allclose(found[mine, : sets[z].n_channels], expected, rtol=1e-10, atol=1e-13)


def test_design_rows_are_minus_the_gradient(atoms, sets):
    tables = make_tables(sets, 4.0)
    total = int(tables.channel_start[-1])

    def rows(positions):
        energy, force, values = np.empty(total), np.empty((3 * len(atoms), total)), np.empty((len(atoms), total))
        linear_design(tables, *inputs(atoms, positions), energy, force, np.empty((0, total)), values)
        return energy, force

    force = rows(atoms.positions)[1]
    size = np.abs(force).max(axis=0)
    for atom, axis in ((0, 0), (3, 2)):
        step = np.zeros_like(atoms.positions)
        step[atom, axis] = 1e-5
        numeric = -(rows(atoms.positions + step)[0] - rows(atoms.positions - step)[0]) / 2e-5
        np.testing.assert_allclose(force[3 * atom + axis] / size, numeric / size, atol=1e-6)


def test_sweep_of_dynamics(atoms, sets, rng):
    """Energies of random quadratic forms, forces and virial, from finite differences of the channel values."""
    tables = make_tables(sets, 4.0)
    widths = np.diff(tables.channel_start)
    means = rng.normal(size=int(widths.sum()))
    forms = [0.05 * (m + m.T) for m in (rng.normal(size=(w + 1, w + 1)) for w in widths)]

    def energy(positions):
        lists = inputs(atoms, positions)
        found = 0.0
        for row, s in zip(channel_values(tables, *lists), lists[-1], strict=True):
            own = slice(*tables.channel_start[s : s + 2])
            z = np.concatenate([[1.0], row[: widths[s]] - means[own]])
            found += z @ forms[s] @ z
        return found

    energies, forces, _ = quadratic_forces(
        tables, means, np.concatenate([f.ravel() for f in forms]),
        np.concatenate([[0], np.cumsum([f.size for f in forms])]), no_fence(2),
        *inputs(atoms),
    )  # fmt: skip
    assert energies.sum() == pytest.approx(energy(atoms.positions), rel=1e-11)
    np.testing.assert_allclose(forces.sum(axis=0), 0.0, atol=1e-9 * np.abs(forces).max())
    for atom, axis in ((0, 0), (1, 1), (3, 2)):
        step = np.zeros_like(atoms.positions)
        step[atom, axis] = 1e-5
        numeric = -(energy(atoms.positions + step) - energy(atoms.positions - step)) / 2e-5
        assert forces[atom, axis] == pytest.approx(numeric, rel=1e-6, abs=1e-6 * np.abs(forces).max())


@st.composite
def channel_sets(draw):
    channels = plain(11)
    count = draw(st.integers(0, 6))
    pairs = [draw(st.tuples(*[st.integers(0, channels.n_channels + k - 1)] * 2)) for k in range(count)]
    numbers = np.full((count, 2), 0.1)
    return channels.with_products(np.array(pairs, dtype=np.int64).reshape(-1, 2), numbers, numbers)


@given(channels=channel_sets(), data=st.data())
def test_subsets_keep_factors_and_survive_files(channels, data):
    chosen = data.draw(st.lists(st.integers(0, channels.n_channels - 1), min_size=1, max_size=6, unique=True))
    small, kept = channels.subset(np.array(chosen))
    assert set(chosen) <= set(kept.tolist())
    needed = set(chosen) | set().union(*(channels.factors(c) for c in chosen))
    assert {c for c in kept.tolist() if c < channels.n_simple} == {c for c in needed if c < channels.n_simple}
    again = ChannelSet.from_dict(small.to_dict())
    for new, old in enumerate(kept.tolist()):
        assert again.describe(new) == channels.describe(old)
