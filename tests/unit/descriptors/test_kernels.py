"""Channels, design rows and the sweep of dynamics against direct sums and finite differences of a rattled salt."""

import numba
import numpy as np
import pytest
from ase.build import bulk
from hypothesis import given
from hypothesis import strategies as st
from numpy.polynomial import legendre

from qiskit_qff.descriptors import derivatives
from qiskit_qff.descriptors.blocks import Surroundings, channel_values
from qiskit_qff.descriptors.channels import (
    ChannelSet,
    PoolSettings,
    build_channels,
    make_tables,
    with_angular_functions,
)
from qiskit_qff.descriptors.derivatives import (
    DesignRows,
    QuadraticForms,
    RegisterMaps,
    linear_design,
    no_fence,
    quadratic_design,
    quadratic_forces,
)
from qiskit_qff.structures.neighbors import neighbor_list

SPECIES, CUTOFF = (11, 17), 4.0
SHORTEST = {11: {11: 3.4, 17: 2.4}, 17: {11: 2.4, 17: 3.5}}
STRAINS = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
STEP = 1e-5


def channel_set(center, l_max=3, *, cosine_powers=False):
    """A small pool and products: of a two- and a three-body channel, a square, of three, of a product with itself."""
    settings = PoolSettings(r_cut=CUTOFF, n_narrow=3, n_broad=2, powers=(2.0, 6.0), n_radial=2, l_max=l_max)
    channels = build_channels(center, SHORTEST[center], settings)
    if cosine_powers:
        channels = with_angular_functions(channels, settings)
    n, rng = channels.n_channels, np.random.default_rng(center)
    pairs = np.array([(0, n - 2), (n - 1, n - 1), (2, n), (n + 2, n + 2)])
    return channels.with_products(pairs, rng.normal(scale=0.3, size=pairs.shape), rng.uniform(0.2, 2.0, pairs.shape))


def tables_of(l_max=3, *, core_start=None, cosine_powers=False):
    sets = {z: channel_set(z, l_max, cosine_powers=cosine_powers) for z in SPECIES}
    return make_tables(sets, CUTOFF, core_start=core_start)


def salt(repeat=(2, 1, 1)):
    atoms = bulk("NaCl", "rocksalt", a=5.6).repeat(repeat)
    atoms.rattle(0.15, seed=1)
    return atoms


def inputs(atoms):
    kinds = np.searchsorted(SPECIES, atoms.numbers).astype(np.int64)
    return Surroundings.of(kinds, neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, CUTOFF))


def moved(atoms, atom, axis, step):
    other = atoms.copy()
    other.positions[atom, axis] += step
    return other


def strained(atoms, row, column, step):
    strain = np.eye(3)
    strain[row, column] += step
    other = atoms.copy()
    other.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    return other


def central(energy, change, atoms, *where):
    """Central difference of an energy, or of several."""
    return (energy(change(atoms, *where, STEP)) - energy(change(atoms, *where, -STEP))) / (2 * STEP)


def direct_channels(channels, vectors, numbers):
    """Channels of an atom by sums over neighbours and pairs of them: no harmonics."""
    r = np.linalg.norm(vectors, axis=1)
    u = r / CUTOFF

    def radial(row, species):
        center, sharpness, length, power = row
        bare = np.exp(-sharpness * (r - center) ** 2) * (length / r) ** power
        return bare * (1 - 10 * u**3 + 15 * u**4 - 6 * u**5) * (numbers == species)

    values = [radial(*pair).sum() for pair in zip(channels.pair_rows, channels.pair_species, strict=True)]
    slots = [radial(*slot) for slot in zip(channels.slot_rows, channels.slot_species, strict=True)]
    cosines = np.clip(vectors @ vectors.T / np.outer(r, r), -1.0, 1.0)
    for (a, b, _), row in zip(channels.triples, channels.angular_coefficients(channels.l_max), strict=True):
        values.append(slots[a] @ legendre.legval(cosines, row) @ slots[b])
    for factors, offsets, widths in zip(channels.products, channels.offsets, channels.widths, strict=True):
        v = np.array(values)[factors] - offsets
        values.append(np.prod(v / np.sqrt(1.0 + (v / widths) ** 2)))
    return np.array(values)


@pytest.mark.parametrize(("l_max", "cosine_powers"), [(3, False), (3, True), (6, False)])
def test_channels_are_sums_over_neighbours_and_pairs_of_them(l_max, cosine_powers):
    atoms = salt()
    near = inputs(atoms)
    values = channel_values(tables_of(l_max, cosine_powers=cosine_powers), near)
    for i in (0, 1):
        channels = channel_set(int(atoms.numbers[i]), l_max, cosine_powers=cosine_powers)
        own = slice(near.first[i], near.first[i + 1])
        expected = direct_channels(channels, near.vectors[own], atoms.numbers[near.neighbor[own]])
        np.testing.assert_allclose(values[i, : channels.n_channels], expected, rtol=1e-10, atol=1e-12)


def check_rows(rows, atoms):
    """Design rows of forces and virials against energies; a function of invariants has a symmetric virial."""

    def energy(other):
        return rows(other)[0]

    _, force, virial = rows(atoms)
    size = np.abs(force).max(axis=0) + 1e-12
    for atom, axis in ((0, 0), (2, 1), (3, 2)):
        numeric = -central(energy, moved, atoms, atom, axis)
        np.testing.assert_allclose(force[3 * atom + axis] / size, numeric / size, atol=2e-5)
    for k, (a, b) in enumerate(STRAINS):
        for strain in ((a, b), (b, a)):
            np.testing.assert_allclose(
                virial[k], central(energy, strained, atoms, *strain), atol=1e-5 * np.abs(virial).max()
            )
    np.testing.assert_allclose(force.reshape(-1, 3, force.shape[1]).sum(axis=0), 0.0, atol=1e-10 * size.max())
    np.testing.assert_array_equal(rows(atoms, n_strains=0)[1], force)


def empty_rows(atoms, count, n_strains):
    return DesignRows.of(np.empty(count), np.empty((3 * len(atoms) + n_strains, count)), len(atoms))


def test_linear_design():
    tables = tables_of()
    total = int(tables.channel_start[-1])

    def rows(atoms, n_strains=6):
        found = empty_rows(atoms, total, n_strains)
        linear_design(tables, inputs(atoms), found, np.empty((len(atoms), total)))
        return found

    check_rows(rows, salt())


@pytest.mark.parametrize("registers", [((3,), (4,)), ((3, 3, 1), (2, 1))])
def test_quadratic_design_equals_the_form(registers, rng):
    """Contracted with the triangles of any M_r it is the energy, its gradient and its derivative by strain."""
    tables, atoms = tables_of(), salt()
    widths = np.diff(tables.channel_start)
    held = [(s, sum(own[:k]), d) for s, own in enumerate(registers) for k, d in enumerate(own)]
    sizes = np.array([sum(own) for own in registers])
    maps = [rng.normal(size=(d, k)) for d, k in zip(sizes, widths, strict=True)]
    means = rng.normal(size=int(tables.channel_start[-1]))
    starts = np.concatenate([[0], np.cumsum([(d + 1) * (d + 2) // 2 for _, _, d in held])])

    def rows(atoms, n_strains=6):
        found = empty_rows(atoms, starts[-1], n_strains)
        starts_of_maps = np.concatenate([[0], np.cumsum([m.size for m in maps])])
        flat = RegisterMaps(means, np.concatenate([m.ravel() for m in maps]), starts_of_maps, np.array(held), starts)
        quadratic_design(tables, flat, inputs(atoms), found)
        return found

    values, kinds = channel_values(tables, inputs(atoms)), inputs(atoms).kinds
    forms = [m + m.T for m in (rng.normal(size=(d + 1, d + 1)) for _, _, d in held)]
    expected = 0.0
    for i, s in enumerate(kinds):
        own = slice(tables.channel_start[s], tables.channel_start[s + 1])
        y = maps[s] @ (values[i, : widths[s]] - means[own])
        for (owner, begin, count), form in zip(held, forms, strict=True):
            x = np.concatenate([[1.0], y[begin : begin + count]])
            expected += x @ form @ x if owner == s else 0.0
    upper = np.concatenate([m[np.triu_indices(len(m))] for m in forms])
    assert rows(atoms)[0] @ upper == pytest.approx(expected, rel=1e-11)
    check_rows(rows, atoms)


def forms_of(tables):
    """Means and symmetric forms of a quadratic model, and where each form begins."""
    rng, widths = np.random.default_rng(1), np.diff(tables.channel_start)
    forms = [0.05 * (m + m.T) for m in (rng.normal(size=(w + 1, w + 1)) for w in widths)]
    starts = np.concatenate([[0], np.cumsum([form.size for form in forms])])
    return rng.normal(size=int(widths.sum())), forms, starts


@pytest.mark.parametrize(("l_max", "cosine_powers"), [(0, False), (1, False), (3, True), (4, True), (5, False)])
def test_the_sweep_of_dynamics(l_max, cosine_powers):
    core = np.array([[3.4, 2.6], [2.6, 3.5]])  # so far out that some pairs are inside
    atoms, tables = salt(), tables_of(l_max, core_start=core, cosine_powers=cosine_powers)
    means, forms, starts = forms_of(tables)
    assert inputs(atoms).distances.min() < core.max()

    def energies_of(atoms):
        """From the channels of the training code."""
        near, energies = inputs(atoms), []
        for row, s in zip(channel_values(tables, near), near.kinds, strict=True):
            start, stop = tables.channel_start[s : s + 2]
            z = np.concatenate([[1.0], row[: stop - start] - means[start:stop]])
            energies.append(z @ forms[s] @ z)
        return np.array(energies)

    def energy(atoms):
        return energies_of(atoms).sum()

    energies, forces, virial = quadratic_forces(
        tables,
        QuadraticForms(means, np.concatenate([form.ravel() for form in forms]), starts, no_fence(2)),
        inputs(atoms),
    )
    np.testing.assert_allclose(energies, energies_of(atoms), rtol=1e-11, atol=1e-10)
    np.testing.assert_allclose(forces.sum(axis=0), 0.0, atol=1e-9 * np.abs(forces).max())
    for atom, axis in ((0, 0), (1, 1), (3, 2)):
        numeric = -central(energy, moved, atoms, atom, axis)
        assert forces[atom, axis] == pytest.approx(numeric, rel=1e-6, abs=1e-6 * np.abs(forces).max())
    for row, column in ((0, 0), (1, 2)):
        numeric = central(energy, strained, atoms, row, column)
        assert virial[row, column] == pytest.approx(numeric, rel=1e-6, abs=1e-6 * np.abs(virial).max())


def test_threads_do_not_change_a_bit(monkeypatch):
    atoms, tables = salt((8, 8, 5)), tables_of(2)
    atoms = atoms[np.random.default_rng(5).permutation(len(atoms))]  # neighbours all over the list
    means, forms, starts = forms_of(tables)
    flat, results = np.concatenate([form.ravel() for form in forms]), []
    for threads, least in ((1, 500), (3, 500), (1, len(atoms) + 1)):
        monkeypatch.setattr(numba, "get_num_threads", lambda count=threads: count)
        monkeypatch.setattr(derivatives, "LEAST_CENTERS", least)
        results.append(quadratic_forces(tables, QuadraticForms(means, flat, starts, no_fence(2)), inputs(atoms)))
    for one, many, serial in zip(*results, strict=True):
        np.testing.assert_array_equal(one, many)
        np.testing.assert_allclose(one, serial, rtol=1e-12, atol=1e-12 * np.abs(serial).max())


@given(chosen=st.lists(st.integers(0, channel_set(11).n_channels - 1), min_size=1, max_size=6, unique=True))
def test_subsets_and_files_keep_values_and_factors(chosen):
    whole, atoms = channel_set(11, cosine_powers=True), salt()
    small, kept = whole.subset(np.array(chosen))
    needed = set(chosen).union(*(whole.factors(c) for c in chosen))
    assert needed <= set(kept.tolist())
    assert {c for c in kept.tolist() if c < whole.n_simple} == {c for c in needed if c < whole.n_simple}
    again, other = ChannelSet.from_dict(small.to_dict()), channel_set(17, cosine_powers=True)
    assert [again.describe(k) for k in range(len(kept))] == [whole.describe(int(c)) for c in kept]
    before, after = (channel_values(make_tables({11: z, 17: other}, CUTOFF), inputs(atoms)) for z in (whole, again))
    sodium = atoms.numbers == 11
    np.testing.assert_allclose(after[sodium, : len(kept)], before[sodium][:, kept], rtol=1e-12, atol=1e-14)
