"""The sweep that dynamics runs: against channels computed another way, finite differences, and itself in threads."""

import numba
import numpy as np
import pytest
from ase.build import bulk

from qiskit_qff.descriptors import quadratic
from qiskit_qff.descriptors.blocks import channel_values
from qiskit_qff.descriptors.channels import make_tables
from qiskit_qff.descriptors.pool import PoolSettings, build_channels, with_angular_functions
from qiskit_qff.descriptors.quadratic import no_fence, quadratic_forces
from qiskit_qff.structures.neighbors import neighbor_list

SPECIES = (11, 17)
CORE = np.array([[3.4, 2.6], [2.6, 3.5]])  # so far out that some pairs are inside


class Case:
    """A rattled salt, all channels of a small pool, and random symmetric forms."""

    def __init__(self, l_max, repeat=(2, 1, 1), angular="legendre"):
        settings = PoolSettings(
            r_cut=4.0, n_narrow=3, n_broad=3, powers=(2.0, 6.0), n_radial=2, l_max=l_max, angular=angular
        )  # two rows of lanes
        rng = np.random.default_rng(1)
        self.atoms = bulk("NaCl", "rocksalt", a=5.6).repeat(repeat)
        self.atoms.rattle(0.15, seed=1)
        self.kinds = np.searchsorted(SPECIES, self.atoms.numbers).astype(np.int64)
        shortest = {11: {11: 3.4, 17: 2.4}, 17: {11: 2.4, 17: 3.5}}
        sets = {z: with_angular_functions(build_channels(z, shortest[z], settings), settings) for z in SPECIES}
        self.tables = make_tables(sets, 4.0, core_start=CORE)
        widths = np.diff(self.tables.channel_start)
        self.means = rng.normal(size=int(widths.sum()))
        squares = [rng.normal(size=(w + 1, w + 1)) for w in widths]
        self.forms = [0.05 * (square + square.T) for square in squares]

    def neighbors(self, positions=None, cell=None):
        positions = self.atoms.positions if positions is None else positions
        return neighbor_list(positions, self.atoms.cell.array if cell is None else cell, self.atoms.pbc, 4.0)

    def energies(self, neighbors):
        """From the channels of the training code."""
        lists = (neighbors.first, neighbors.neighbor, neighbors.vectors, neighbors.distances)
        values = channel_values(self.tables, *lists, self.kinds)
        energies = []
        for row, s in zip(values, self.kinds, strict=True):
            start, stop = self.tables.channel_start[s : s + 2]
            z = np.concatenate([[1.0], row[: stop - start] - self.means[start:stop]])
            energies.append(z @ self.forms[s] @ z)
        return np.array(energies)

    def sweep(self, neighbors):
        return quadratic_forces(
            self.tables, self.means, np.concatenate([form.ravel() for form in self.forms]),
            np.concatenate([[0], np.cumsum([form.size for form in self.forms])]), no_fence(len(SPECIES)),
            neighbors.first, neighbors.neighbor, neighbors.vectors, neighbors.distances, self.kinds,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("l_max", "angular"), [*[(degree, "legendre") for degree in range(6)], (3, "cosine_powers"), (4, "cosine_powers")]
)
def test_energies_forces_and_virial(l_max, angular):
    case = Case(l_max, angular=angular)
    neighbors = case.neighbors()
    assert neighbors.distances.min() < CORE.max()
    energies, forces, virial = case.sweep(neighbors)
    np.testing.assert_allclose(energies, case.energies(neighbors), rtol=1e-11, atol=1e-11)
    for atom, axis in ((0, 0), (1, 1), (3, 2)):
        step = np.zeros_like(forces)
        step[atom, axis] = 1e-5
        higher, lower = (case.energies(case.neighbors(case.atoms.positions + sign * step)).sum() for sign in (1, -1))
        assert forces[atom, axis] == pytest.approx((lower - higher) / 2e-5, rel=1e-6, abs=1e-6 * np.abs(forces).max())
    for row, column in ((0, 0), (1, 2)):
        strain = np.zeros((3, 3))
        strain[row, column] = 1e-5
        higher, lower = (
            case.energies(case.neighbors(case.atoms.positions @ f, case.atoms.cell.array @ f)).sum()
            for f in (np.eye(3) + strain, np.eye(3) - strain)
        )
        assert virial[row, column] == pytest.approx((higher - lower) / 2e-5, rel=1e-6, abs=1e-6 * np.abs(virial).max())


def test_threads_do_not_change_a_bit(monkeypatch):
    case = Case(2, repeat=(8, 8, 5))
    order = np.random.default_rng(5).permutation(len(case.kinds))  # neighbours all over the list
    case.atoms, case.kinds = case.atoms[order], case.kinds[order]
    neighbors = case.neighbors()
    results = []
    for threads in (1, 3):
        monkeypatch.setattr(numba, "get_num_threads", lambda count=threads: count)
        results.append(case.sweep(neighbors))
    monkeypatch.setattr(quadratic, "LEAST_CENTERS", len(case.kinds) + 1)
    serial = case.sweep(neighbors)
    for one, many, expected in zip(*results, serial, strict=True):
        np.testing.assert_array_equal(one, many)
        np.testing.assert_allclose(one, expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max())
