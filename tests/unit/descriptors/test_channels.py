"""Channel sets, tables and design rows against a slow direct evaluation and finite differences."""

import numpy as np
import pytest
from ase.build import bulk
from scipy.special import eval_legendre

from qiskit_qff.descriptors.blocks import channel_values
from qiskit_qff.descriptors.channels import ChannelSet, make_tables
from qiskit_qff.descriptors.design_rows import linear_design, quadratic_design
from qiskit_qff.descriptors.pool import PoolSettings, build_channels
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


def radial(r, row):
    """A radial function with its switch."""
    center, sharpness, length, power = row
    u = r / SETTINGS.r_cut
    switch = 1 - 10 * u**3 + 15 * u**4 - 6 * u**5
    return np.exp(-sharpness * (r - center) ** 2) * (length / r) ** power * switch


def direct_channels(channel_set, vectors, kinds_z):
    """Sums over neighbours and neighbour pairs with Legendre polynomials: no spherical harmonics."""
    r = np.linalg.norm(vectors, axis=1)
    out = []
    for z, row in zip(channel_set.pair_species, channel_set.pair_rows, strict=True):
        out.append(radial(r[kinds_z == z], row).sum())
    cosines = vectors @ vectors.T / np.outer(r, r)
    for a, b, degree in channel_set.triples:
        ga, gb = (radial(r, channel_set.slot_rows[s]) * (kinds_z == channel_set.slot_species[s]) for s in (a, b))
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


class Quadratic:
    """Random features of the channels, spread over registers."""

    def __init__(self, tables, registers, rng):
        self.tables, self.widths = tables, np.diff(tables.channel_start)
        self.registers = [(s, sum(held[:k]), d) for s, held in enumerate(registers) for k, d in enumerate(held)]
        self.sizes = np.array([sum(held) for held in registers])
        self.maps = [rng.normal(size=(d, k)) for d, k in zip(self.sizes, self.widths, strict=True)]
        self.means = rng.normal(size=int(tables.channel_start[-1]))

    def starts(self):
        return np.concatenate([[0], np.cumsum([(d + 1) * (d + 2) // 2 for _, _, d in self.registers])])

    def rows(self, atoms, n_strains=6):
        """Design rows of energy, forces and virial."""
        starts = self.starts()
        energy, virial = np.empty(starts[-1]), np.empty((n_strains, starts[-1]))
        force = np.empty((3 * len(atoms), starts[-1]))
        flat = np.concatenate([m.ravel() for m in self.maps])
        map_start = np.concatenate([[0], np.cumsum([m.size for m in self.maps])])
        quadratic_design(
            self.tables, self.means, flat, map_start, self.sizes, np.array(self.registers), starts, *inputs(atoms),
            energy, force, virial,
        )  # fmt: skip
        return energy, force, virial

    def together(self):
        """The same features with one register per species."""
        other = object.__new__(Quadratic)
        other.__dict__ = self.__dict__ | {"registers": [(s, 0, d) for s, d in enumerate(self.sizes)]}
        return other

    def columns_in_whole_triangles(self):
        """Where the columns of the registers are among those of one register per species."""
        whole = self.together().starts()
        found = []
        for s, begin, count in self.registers:
            size = self.sizes[s] + 1
            place = np.zeros((size, size), dtype=np.int64)
            place[np.triu_indices(size)] = np.arange(size * (size + 1) // 2)
            used = np.concatenate([[0], 1 + begin + np.arange(count)])
            rows, columns = np.triu_indices(count + 1)
            found.append(whole[s] + place[used[rows], used[columns]])
        return np.concatenate(found)


@pytest.fixture(params=[((3,), (4,)), ((3, 3, 1), (2, 1))], ids=["one register", "several"])
def quadratic(tables, rng, request):
    return Quadratic(tables, request.param, rng)


def test_quadratic_design_equals_the_form(structure, tables, quadratic, rng):
    """Contracted with the triangles of any M_r it is the energy, its gradient and its derivative by strain."""
    energy, force, virial = quadratic.rows(structure)
    values = channel_values(tables, *inputs(structure))
    kinds = inputs(structure)[-1]
    forms = [0.5 * (m + m.T) for m in (rng.normal(size=(d + 1, d + 1)) for _, _, d in quadratic.registers)]
    expected = 0.0
    for i, s in enumerate(kinds):
        own = slice(tables.channel_start[s], tables.channel_start[s + 1])
        y = quadratic.maps[s] @ (values[i, : quadratic.widths[s]] - quadratic.means[own])
        for (owner, begin, count), form in zip(quadratic.registers, forms, strict=True):
            x = np.concatenate([[1.0], y[begin : begin + count]])
            expected += x @ form @ x if owner == s else 0.0
    upper = np.concatenate([m[np.triu_indices(len(m))] for m in forms])
    assert energy @ upper == pytest.approx(expected, rel=1e-12)
    for atom, axis in ((1, 2), (2, 0)):
        there, back = (quadratic.rows(moved(structure, atom, axis, side * 1e-5))[0] for side in (1, -1))
        np.testing.assert_allclose(force[3 * atom + axis], (back - there) / 2e-5, atol=1e-6 * np.abs(force).max())
    check_virial(quadratic.rows, structure, virial)
    np.testing.assert_array_equal(quadratic.rows(structure, n_strains=0)[1], force)


def test_columns_of_registers_are_some_of_the_whole_triangle(structure, quadratic):
    chosen = quadratic.columns_in_whole_triangles()
    for own, whole in zip(quadratic.rows(structure), quadratic.together().rows(structure), strict=True):
        np.testing.assert_allclose(own, whole[..., chosen], rtol=1e-12, atol=1e-12 * np.abs(whole).max())


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
