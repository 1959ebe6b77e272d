"""Channel sets, tables and design rows against a slow direct evaluation and finite differences."""

import numpy as np
import pytest
from ase.build import bulk
from scipy.special import eval_legendre

from qiskit_qff.descriptors.channels import ChannelSet
from qiskit_qff.descriptors.kernels import channel_values, linear_design, quadratic_design
from qiskit_qff.descriptors.pool import PoolSettings, build_channels
from qiskit_qff.descriptors.radial import radial_values
from qiskit_qff.descriptors.tables import make_tables
from qiskit_qff.structures.neighbors import neighbor_list

SETTINGS = PoolSettings(r_cut=4.0, n_narrow=3, n_broad=2, powers=(2.0, 6.0), n_radial=2, l_max=3)
SPECIES = (11, 17)


@pytest.fixture
def structure():
    atoms = bulk("NaCl", "rocksalt", a=5.6).repeat((2, 1, 1))
    atoms.rattle(0.15, seed=1)
    return atoms


@pytest.fixture
def tables():
    return make_tables(
        {z: build_channels(z, {11: 2.4 if z == 17 else 3.4, 17: 2.4 if z == 11 else 3.5}, SETTINGS) for z in SPECIES},
        4.0,
    )


def inputs(atoms, positions=None):
    nl = neighbor_list(atoms.positions if positions is None else positions, atoms.cell.array, atoms.pbc, 4.0)
    kinds = np.searchsorted(SPECIES, atoms.numbers).astype(np.int64)
    return nl.first, nl.neighbor, nl.vectors, nl.distances, kinds


def direct_channels(channel_set, vectors, kinds_z):
    """Sums over neighbours and neighbour pairs with Legendre polynomials: no spherical harmonics."""
    r = np.linalg.norm(vectors, axis=1)
    out = []
    for z, row in zip(channel_set.pair_species, channel_set.pair_rows, strict=True):
        out.append(sum(radial_values(d, row[None], 4.0)[0, 0] for d, k in zip(r, kinds_z, strict=True) if k == z))
    cosines = vectors @ vectors.T / np.outer(r, r)
    for a, b, degree in channel_set.triples:
        ga, gb = (
            np.array([radial_values(d, channel_set.slot_rows[s][None], 4.0)[0, 0] for d in r])
            * (kinds_z == channel_set.slot_species[s])
            for s in (a, b)
        )
        out.append(ga @ eval_legendre(int(degree), cosines) @ gb)
    return np.array(out)


def test_channels_match_direct_sums(structure, tables):
    first, neighbor, vectors, distances, kinds = inputs(structure)
    values = channel_values(tables, first, neighbor, vectors, distances, kinds)
    for i in (0, 1):
        z = int(structure.numbers[i])
        channel_set = build_channels(z, {11: 2.4 if z == 17 else 3.4, 17: 2.4 if z == 11 else 3.5}, SETTINGS)
        own = slice(first[i], first[i + 1])
        expected = direct_channels(channel_set, vectors[own], structure.numbers[neighbor[own]])
        np.testing.assert_allclose(values[i, : channel_set.n_channels], expected, rtol=1e-10, atol=1e-12)


STRAINS = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def strained(atoms, strain):
    """The structure in its cell, both strained."""
    other = atoms.copy()
    other.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return other


def check_virial(rows, structure, virial):
    """Rows of virials against energies of strained cells; a function of invariants has a symmetric virial."""
    for k, (a, b) in enumerate(STRAINS):
        strain = np.zeros((3, 3))
        strain[a, b] = 1e-6
        numeric = (rows(strained(structure, strain))[0] - rows(strained(structure, -strain))[0]) / 2e-6
        np.testing.assert_allclose(virial[k], numeric, atol=3e-7 * np.abs(virial).max())
        numeric = (rows(strained(structure, strain.T))[0] - rows(strained(structure, -strain.T))[0]) / 2e-6
        np.testing.assert_allclose(virial[k], numeric, atol=3e-7 * np.abs(virial).max())


def test_linear_design_is_the_gradient(structure, tables):
    total = int(tables.channel_start[-1])

    def rows(atoms, n_strains=6):
        energy, force, virial = np.empty(total), np.empty((3 * len(atoms), total)), np.empty((n_strains, total))
        linear_design(tables, *inputs(atoms), energy, force, virial, np.empty((len(atoms), total)))
        return energy, force, virial

    force, virial = rows(structure)[1:]
    for atom, axis in ((0, 0), (2, 1), (3, 2)):
        numeric = -(rows(moved(structure, atom, axis, 1e-5))[0] - rows(moved(structure, atom, axis, -1e-5))[0]) / 2e-5
        np.testing.assert_allclose(force[3 * atom + axis], numeric, atol=2e-7 * np.abs(force).max())
    np.testing.assert_allclose(force.reshape(-1, 3, total).sum(axis=0), 0.0, atol=1e-10)
    check_virial(rows, structure, virial)
    np.testing.assert_array_equal(rows(structure, n_strains=0)[1], force)


def moved(atoms, atom, axis, step):
    """The structure with one coordinate changed."""
    other = atoms.copy()
    other.positions[atom, axis] += step
    return other


def test_quadratic_design_equals_the_form(structure, tables, rng):
    widths = np.diff(tables.channel_start)
    sizes = np.array([3, 4])
    maps = [rng.normal(size=(d, k)) for d, k in zip(sizes, widths, strict=True)]
    means = rng.normal(size=int(tables.channel_start[-1]))
    starts = np.concatenate([[0], np.cumsum([m.size for m in maps])])
    feature_start = np.concatenate([[0], np.cumsum([(d + 1) * (d + 2) // 2 for d in sizes])])

    def rows(atoms, n_strains=6):
        energy, virial = np.empty(feature_start[-1]), np.empty((n_strains, feature_start[-1]))
        force = np.empty((3 * len(atoms), feature_start[-1]))
        flat = np.concatenate([m.ravel() for m in maps])
        quadratic_design(tables, means, flat, starts, sizes, feature_start, *inputs(atoms), energy, force, virial)
        return energy, force, virial

    energy, force, virial = rows(structure)
    values = channel_values(tables, *inputs(structure))
    kinds = inputs(structure)[-1]
    forms = [0.5 * (m + m.T) for m in (rng.normal(size=(d + 1, d + 1)) for d in sizes)]
    expected = 0.0
    for i, s in enumerate(kinds):
        own = slice(tables.channel_start[s], tables.channel_start[s + 1])
        x = np.concatenate([[1.0], maps[s] @ (values[i, : widths[s]] - means[own])])
        expected += x @ forms[s] @ x
    upper = np.concatenate([m[np.triu_indices(len(m))] for m in forms])
    assert energy @ upper == pytest.approx(expected, rel=1e-12)
    numeric = -(rows(moved(structure, 1, 2, 1e-5))[0] - rows(moved(structure, 1, 2, -1e-5))[0]) / 2e-5
    np.testing.assert_allclose(force[5], numeric, atol=1e-6 * np.abs(force).max())
    check_virial(rows, structure, virial)
    np.testing.assert_array_equal(rows(structure, n_strains=0)[1], force)


def test_subset_keeps_values_and_drops_slots(structure, rng):
    sets = {z: build_channels(z, {11: 3.0, 17: 2.4}, SETTINGS) for z in SPECIES}
    chosen = rng.choice(sets[11].n_channels, 6, replace=False)
    small, kept = sets[11].subset(chosen)
    assert sorted(kept) == sorted(chosen)
    assert small.n_channels == 6
    assert len(small.slot_species) <= 2 * len(small.triples)
    whole = channel_values(make_tables(sets, 4.0), *inputs(structure))
    part = channel_values(make_tables({11: small, 17: sets[17]}, 4.0), *inputs(structure))
    sodium = structure.numbers == 11
    np.testing.assert_allclose(part[sodium, :6], whole[sodium][:, kept], rtol=1e-12)
    for new, old in enumerate(kept):
        assert small.describe(new) == sets[11].describe(int(old))


def test_round_trip_through_plain_lists():
    channel_set = build_channels(3, {3: 2.5, 16: 2.1}, SETTINGS)
    again = ChannelSet.from_dict(channel_set.to_dict())
    assert again.to_dict() == channel_set.to_dict()
    assert channel_set.n_channels == SETTINGS.n_channels(2)


def test_radii_follow_the_bond_without_tuning():
    short, long = (build_channels(6, {z: d}, PoolSettings()).pair_rows[:14, 0] for z, d in ((1, 1.08), (57, 2.5)))
    assert short[0] == pytest.approx(1.03, abs=0.02)
    assert long[0] == pytest.approx(2.38, abs=0.02)
    assert np.all(np.diff(short)[:3] < 0.35)  # resolves the bond


def test_isolated_species_pool_is_empty_but_valid():
    assert build_channels(2, {}, SETTINGS).n_channels == 0
