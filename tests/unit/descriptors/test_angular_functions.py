"""Functions of the angle: the basis, its words, sums over pairs of neighbours done by hand, files."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from numpy.polynomial import legendre

from qiskit_qff.descriptors.blocks import channel_values
from qiskit_qff.descriptors.channels import make_tables
from qiskit_qff.descriptors.functions import cosine_power, cosine_powers, describe_angular
from qiskit_qff.descriptors.pool import PoolSettings, build_channels, with_angular_functions
from qiskit_qff.structures.neighbors import neighbor_list

SETTINGS = PoolSettings(r_cut=3.6, n_narrow=2, n_broad=2, powers=(2.0,), n_radial=2, l_max=4)
X = np.linspace(-1.0, 1.0, 11)


def silicon():
    channels = with_angular_functions(build_channels(14, {14: 2.2}, SETTINGS), SETTINGS)
    atoms = bulk("Si").repeat(2)
    atoms.rattle(0.1, seed=2)
    return channels, neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, SETTINGS.r_cut), len(atoms)


@pytest.mark.parametrize("l_max", range(7))
def test_a_basis_of_polynomials(l_max):
    rows = cosine_powers(l_max)
    assert rows.shape == (l_max + 1, l_max + 1)
    assert np.linalg.matrix_rank(rows) == l_max + 1


@pytest.mark.parametrize(("sign", "exponent"), [(1, 2), (-1, 2), (1, 4), (-1, 4), (1, 3)])
def test_powers_of_the_cosine(sign, exponent):
    row = cosine_power(sign, exponent)
    np.testing.assert_allclose(legendre.legval(X, row), ((1.0 + sign * X) / 2.0) ** exponent, atol=1e-14)
    assert describe_angular(row) == f"((1 {'+' if sign > 0 else '-'} cos θ)/2)^{exponent}"


def test_channels_are_sums_over_pairs_of_neighbours():
    """Densities and harmonics give what a double loop over neighbours gives."""
    channels, near, n_atoms = silicon()
    tables, kinds = make_tables({14: channels}, SETTINGS.r_cut), np.zeros(n_atoms, dtype=np.int64)
    lists = (near.first, near.neighbor, near.vectors, near.distances, kinds)
    found = channel_values(tables, *lists)
    own = slice(near.first[3], near.first[4])
    unit, r = near.vectors[own] / near.distances[own, None], near.distances[own]
    cosines = np.clip(unit @ unit.T, -1.0, 1.0)
    for k, (a, b, _) in enumerate(channels.triples):
        u = r / SETTINGS.r_cut
        one, other = (
            np.exp(-sharpness * (r - center) ** 2) * (1 - 10 * u**3 + 15 * u**4 - 6 * u**5)
            for center, sharpness, _, _ in channels.slot_rows[[a, b]]
        )
        expected = one @ legendre.legval(cosines, channels.angular[k]) @ other
        assert found[3, len(channels.pair_species) + k] == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_bonded_neighbours_keep_to_themselves():
    """Narrow functions of bonds make channels with each other, wide ones with each other."""
    channels, _, _ = silicon()
    wide = np.isclose(channels.slot_rows[:, 1], 0.5 / 0.75**2)
    assert wide.sum() == SETTINGS.n_radial
    assert (wide[channels.triples[:, 0]] == wide[channels.triples[:, 1]]).all()
    assert channels.n_channels == SETTINGS.n_channels(1)
    without = build_channels(14, {14: 2.2}, replace(SETTINGS, bonds=False))
    assert without.n_channels == replace(SETTINGS, bonds=False).n_channels(1) < channels.n_channels
