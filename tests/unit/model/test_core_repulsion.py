"""The ZBL core repulsion against an independent scalar formula and finite differences."""

import math
from dataclasses import replace

import numpy as np
import pytest
from ase.data import covalent_radii

from qiskit_qff.model.force_field import COULOMB_CONSTANT, CoreRepulsion

SPECIES = (1, 16, 40)


def from_pairs(species, shortest, **options):
    """A repulsion from the shortest distances of some pairs of atomic numbers."""
    table, place = np.full((len(species),) * 2, np.inf), {z: k for k, z in enumerate(species)}
    for (one, other), distance in shortest.items():
        table[place[one], place[other]] = table[place[other], place[one]] = distance
    return CoreRepulsion.from_shortest_distances(species, table, **options)


def reference_zbl(r, z1, z2):
    """The universal potential, written down once more from LAMMPS ``pair_style zbl``."""
    a = 0.46850 / (z1**0.23 + z2**0.23)
    x = r / a
    phi = (
        0.18175 * math.exp(-3.19980 * x)
        + 0.50986 * math.exp(-0.94229 * x)
        + 0.28022 * math.exp(-0.40290 * x)
        + 0.02817 * math.exp(-0.20162 * x)
    )
    return 14.399645 * z1 * z2 / r * phi


def along(repulsion, first, second, r):
    """Energies of one pair of atomic numbers at some distances, and their slopes."""
    a, b = (np.full(len(r), repulsion.species.index(z)) for z in (first, second))
    return repulsion.pair_energies(a, b, np.asarray(r))


@pytest.fixture
def repulsion():
    shortest = {(1, 1): 1.8, (16, 1): 1.3, (16, 16): 3.0, (40, 16): 2.4}
    return from_pairs(SPECIES, shortest)


def test_unswitched_core_is_the_universal_potential(repulsion):
    for pair, distances in (((1, 16), [0.05, 0.2, 0.6, 0.7]), ((16, 16), [0.3, 1.0, 1.2]), ((1, 40), [0.2, 1.2])):
        expected = [reference_zbl(r, *pair) for r in distances]
        np.testing.assert_allclose(along(repulsion, *pair, distances)[0], expected, rtol=1e-7)
    assert pytest.approx(14.399645, rel=1e-6) == COULOMB_CONSTANT


def test_an_older_model_has_one_part_of_a_shrunken_universal_potential(repulsion):
    old = replace(repulsion, scale=np.full((3, 3), 0.7), level=repulsion.outer, height=0.0)
    distances = np.array([0.3, 1.0, 1.2, 1.6])
    t = (1.6 - old.inner[1, 1]) / (old.outer[1, 1] - old.inner[1, 1])
    switch = [1.0, 1.0, 1.0, 1 - 10 * t**3 + 15 * t**4 - 6 * t**5]
    expected = [s * reference_zbl(0.7 * r, 16, 16) for r, s in zip(distances, switch, strict=True)]
    np.testing.assert_allclose(along(old, 16, 16, distances)[0], expected, rtol=1e-7)


def test_every_pair_is_positive_monotonic_and_smooth_at_its_end(repulsion):
    for a, first in enumerate(SPECIES):
        for b, second in enumerate(SPECIES):
            level = repulsion.level[a, b]
            r = np.linspace(0.1, level, 2000)
            energy = along(repulsion, first, second, r)[0]
            assert np.all(np.diff(energy) <= 0)
            assert np.all(np.diff(energy[r < repulsion.outer[a, b]]) < 0)
            assert np.all(energy[:-1] > 0)
            assert energy[-1] == 0.0
            depth = level * np.array([0.012, 0.006, 0.003])
            tail = along(repulsion, first, second, level - depth)[0]
            assert np.all(tail[1:] < tail[:-1] / 7.0)  # like depth cubed: no jump in two derivatives


def test_slopes_are_derivatives_and_curvatures_do_not_jump(repulsion):
    """On a pair whose low and high parts are apart, over where each of them begins and is whole."""
    jumps = []
    for count in (18001, 36001):
        r = np.linspace(1.1, 2.9, count)
        energy, slope = along(repulsion, 16, 16, r)
        step = r[1] - r[0]
        np.testing.assert_allclose((energy[2:] - energy[:-2]) / (2 * step), slope[1:-1], rtol=1e-5, atol=1e-5)
        jumps.append(np.abs(np.diff(slope, 2) / step).max())
    assert jumps[1] < 0.55 * jumps[0]


@pytest.mark.parametrize(("first", "second"), [(16, 16), (15, 15), (3, 15), (1, 1), (40, 8)])
def test_no_two_atoms_fall_into_each_other(first, second):
    """At half of the sum of their covalent radii atoms are many kT of 3000 K (0.26 eV) up, seen or not."""
    for shortest in (np.inf, 4.0):
        repulsion = from_pairs(sorted({first, second}), {(first, second): shortest})
        half = 0.5 * (covalent_radii[first] + covalent_radii[second])
        assert along(repulsion, first, second, np.array([half]))[0][0] > 4.0
