"""Radial distributions, ion density and bonds against independent implementations and exact answers."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.geometry.analysis import get_rdf
from contracts.force_field.lennard_jones import mixed_crystal

from qiskit_qff.simulation.analysis import analyse, bond_report, coordination_shells, radial_distribution
from qiskit_qff.simulation.trajectory import Trajectory, follow_across_borders


def trajectory_of(frames, *, spacing_ps=0.1):
    return Trajectory(
        numbers=frames[0].numbers.astype(np.int64),
        positions=np.array([atoms.positions for atoms in frames]),
        cells=np.array([atoms.cell.array for atoms in frames]),
        pbc=frames[0].pbc,
        times_ps=np.arange(len(frames)) * spacing_ps,
    )


class TestRadialDistribution:
    def test_agrees_with_ase(self):
        atoms = mixed_crystal(4, rattle=0.15)
        ours, _ = radial_distribution(trajectory_of([atoms]), r_max=8.0, n_bins=80)
        n = len(atoms)
        reference, r = get_rdf(atoms, 8.0, 80)
        np.testing.assert_allclose(r, ours["r_ang"])
        np.testing.assert_allclose(ours["all"] * (n - 1) / n, reference, atol=0.02)
        reference, _ = get_rdf(atoms, 8.0, 80, elements=[18, 36])
        partial = ours["Ar-Kr"]
        np.testing.assert_allclose(partial, reference * partial.sum() / reference.sum(), atol=0.02)

    def test_coordination_of_a_warm_crystal(self):
        """Rock salt: 6 unlike neighbours within the first shell, counted by ordered pair also where numbers differ."""
        atoms = bulk("LiF", "rocksalt", a=4.0, cubic=True) * 3
        del atoms[[int(np.flatnonzero(atoms.numbers == 3)[0])]]
        n_li = int((atoms.numbers == 3).sum())
        generator = np.random.default_rng(5)
        frames = [atoms.copy() for _ in range(5)]
        for frame in frames:
            frame.positions += 0.1 * generator.standard_normal(frame.positions.shape)
        curves, neighbors = radial_distribution(trajectory_of(frames), r_max=5.0, n_bins=100)
        shells = coordination_shells(curves, neighbors)
        assert shells["Li-F"]["peak_ang"] == pytest.approx(2.0, abs=0.1)
        assert 2.3 < shells["Li-F"]["end_ang"] < 3.2
        assert shells["Li-F"]["neighbors"] == pytest.approx(6.0, rel=0.01)
        assert shells["F-Li"]["neighbors"] == pytest.approx(6.0 * n_li / 108, rel=0.01)
        assert neighbors["Li-F"][-1] * n_li == pytest.approx(neighbors["F-Li"][-1] * 108)


class TestDensity:
    def test_density_of_harmonic_ions(self, rng):
        atoms = Atoms("Li2U4", positions=12 * rng.random((6, 3)), cell=np.diag([12.0, 9.0, 10.0]), pbc=True)
        frames = [atoms.copy() for _ in range(3000)]
        for frame in frames:
            frame.positions[:2] += 0.4 * rng.standard_normal((2, 3))
            frame.wrap()
        positions = np.array([frame.positions for frame in frames])
        followed = follow_across_borders(positions, np.tile(atoms.cell.array, (3000, 1, 1)), atoms.pbc)
        found = analyse(replace(trajectory_of(frames), positions=followed), r_max=2.0)
        values, framework = found.density
        cell = framework.cell.array
        assert values.mean() * np.linalg.det(cell) == pytest.approx(2.0)
        # A Gaussian of 0.4 Å smeared by another of 0.3 Å, at the grid point next to the site.
        nearest = np.rint(atoms.get_scaled_positions()[:2] * values.shape).astype(int) % values.shape
        peak = (2 * np.pi * 0.25) ** -1.5
        np.testing.assert_allclose([values[tuple(place)] for place in nearest], peak, rtol=0.12)


class TestBonds:
    def test_broken_bond_and_lost_atom(self):
        before = molecule("CH3CH2OH")
        before.set_cell([12, 12, 12])
        before.pbc = True
        before += Atoms("Li", positions=[[2.0, 2.0, 0.0]])
        after = before.copy()
        after.positions[before.numbers == 8, 0] += 2.0
        after.positions[-1] = [6.0, 6.0, 6.0]
        report = bond_report(trajectory_of([before, after]), reach=4.0)
        assert (report["n_bonds"], report["lost_atoms"]) == (8, 1)
        assert report["broken_bonds"] == 1
        assert report["bond_persistence_min"] == pytest.approx(7 / 8)
