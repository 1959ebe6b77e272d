"""Radial distributions, displacements and bonds against independent implementations and exact answers."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.geometry.analysis import get_rdf
from ase.io import write
from contracts.force_field.lennard_jones import mixed_crystal

from qiskit_qff.errors import DataError
from qiskit_qff.simulation.bonds import bond_report
from qiskit_qff.simulation.diffusion import diffusivity, mean_squared_displacements
from qiskit_qff.simulation.radial_distribution import radial_distribution, radial_distribution_errors
from qiskit_qff.simulation.trajectory import Trajectory, follow_across_borders, read_trajectory


def trajectory_of(frames, *, spacing_ps=0.1):
    return Trajectory(
        numbers=frames[0].numbers.astype(np.int64),
        positions=np.array([atoms.positions for atoms in frames]),
        cells=np.array([atoms.cell.array for atoms in frames]),
        pbc=frames[0].pbc,
        times_ps=np.arange(len(frames)) * spacing_ps,
    )


def random_walk(rng, *, n_frames=2000, n_atoms=40, step=0.1, heavy=True):
    """Li atoms that walk at random beside heavy atoms at rest (which fix the centre of mass)."""
    numbers = np.array([3] * n_atoms + ([92] * 2000 if heavy else []))
    walk = np.cumsum(step * rng.standard_normal((n_frames, n_atoms, 3)), axis=0)
    positions = np.concatenate([walk, np.zeros((n_frames, len(numbers) - n_atoms, 3))], axis=1)
    return Trajectory(
        numbers=numbers,
        positions=positions,
        cells=np.tile(10.0 * np.eye(3), (n_frames, 1, 1)),
        pbc=np.ones(3, dtype=bool),
        times_ps=np.arange(n_frames) * 0.1,
    )


class TestRadialDistribution:
    def test_agrees_with_ase(self):
        atoms = mixed_crystal(4, rattle=0.15)
        ours = radial_distribution(trajectory_of([atoms]), r_max=8.0, n_bins=80)
        n = len(atoms)
        reference, r = get_rdf(atoms, 8.0, 80)
        np.testing.assert_allclose(r, ours.r)
        np.testing.assert_allclose(ours.curves["all"] * (n - 1) / n, reference, atol=0.02)
        reference, _ = get_rdf(atoms, 8.0, 80, elements=[18, 36])
        partial = ours.curves["Ar-Kr"]
        np.testing.assert_allclose(partial, reference * partial.sum() / reference.sum(), atol=0.02)

    def test_ideal_gas_is_one_beyond_half_the_cell(self, rng):
        frames = [
            Atoms("Li20S12", positions=rng.random((32, 3)) @ np.diag([6.0, 7.0, 8.0]), cell=[6, 7, 8], pbc=True)
            for _ in range(400)
        ]
        result = radial_distribution(trajectory_of(frames), r_max=6.0, n_bins=12)
        assert set(result.curves) == {"Li-Li", "Li-S", "S-S", "all"}
        for curve in result.curves.values():
            np.testing.assert_allclose(curve[3:], 1.0, atol=0.05)

    def test_crystal_shells_hold_the_coordination_number(self):
        atoms = bulk("Cu", a=3.6, cubic=True) * 2
        result = radial_distribution(trajectory_of([atoms]), r_max=3.0, n_bins=30)
        density = (len(atoms) - 1) / atoms.get_volume()
        shells = 4 / 3 * np.pi * ((result.r + 0.05) ** 3 - (result.r - 0.05) ** 3)
        assert (result.curves["Cu-Cu"] * density * shells).sum() == pytest.approx(12.0)

    def test_errors_between_two(self):
        a, b = (radial_distribution(trajectory_of([mixed_crystal(3, rattle=x)])) for x in (0.1, 0.3))
        assert set(radial_distribution_errors(a, a).values()) == {0.0}
        errors = radial_distribution_errors(a, b)
        assert errors["all"] == pytest.approx(np.abs(a.curves["all"] - b.curves["all"]).mean())
        with pytest.raises(DataError, match="r_max"):
            radial_distribution_errors(a, radial_distribution(trajectory_of([mixed_crystal(3)]), r_max=5.0))

    def test_molecule_has_no_density(self):
        with pytest.raises(DataError, match="periodic"):
            radial_distribution(trajectory_of([molecule("H2O")]))


class TestDiffusion:
    def test_random_walk(self, rng):
        step, spacing = 0.1, 0.1
        result = diffusivity(random_walk(rng, step=step), "Li")
        exact = step**2 / (2 * spacing)
        assert result.value_ang2_per_ps == pytest.approx(exact, rel=0.15)
        assert abs(result.value_ang2_per_ps - exact) < 4 * result.error_ang2_per_ps
        assert 0 < result.error_ang2_per_ps < 0.2 * exact
        assert result.value_cm2_per_s == pytest.approx(1e-4 * result.value_ang2_per_ps)
        assert result.fit_range_ps == pytest.approx((4.0, 20.0))

    def test_displacements_equal_the_double_sum(self, rng):
        walk = random_walk(rng, n_frames=60, n_atoms=5, heavy=False)
        from ase.data import atomic_masses

        masses = atomic_masses[walk.numbers]
        r = walk.positions - (np.einsum("tai,a->ti", walk.positions, masses) / masses.sum())[:, None]
        result = mean_squared_displacements(walk)
        for lag in (0, 1, 7, 29):
            slow = ((r[lag:] - r[: len(r) - lag]) ** 2).sum(axis=2).mean()
            assert result.curves["Li"][lag] == pytest.approx(slow, abs=1e-10)
        assert result.lag_ps[7] == pytest.approx(0.7)

    def test_drift_of_the_whole_does_not_count(self, rng):
        walk = random_walk(rng, n_frames=200, n_atoms=5)
        moving = replace(walk, positions=walk.positions + np.linspace(0, 50, 200)[:, None, None])
        np.testing.assert_allclose(
            mean_squared_displacements(moving).curves["Li"],
            mean_squared_displacements(walk).curves["Li"],
            atol=1e-8,
        )

    @pytest.mark.parametrize(
        ("element", "n_blocks", "message"),
        [
            ("Na", 5, "no 'Na'"),
            ("Xx", 5, "no 'Xx'"),
            ("Li", 500, "at least 2 blocks"),
            ("Li", 1, "at least 2 blocks"),
        ],
    )
    def test_what_cannot_be_fitted(self, rng, element, n_blocks, message):
        with pytest.raises(DataError, match=message):
            diffusivity(random_walk(rng), element, n_blocks=n_blocks)

    def test_times_must_be_there_and_even(self, rng):
        walk = random_walk(rng, n_frames=50)
        with pytest.raises(DataError, match="--frame-time"):
            diffusivity(replace(walk, times_ps=None), "Li")
        with pytest.raises(DataError, match="evenly"):
            mean_squared_displacements(replace(walk, times_ps=walk.times_ps**2))


class TestTrajectory:
    def test_follows_atoms_across_borders_of_a_breathing_triclinic_cell(self, rng):
        cell = np.array([[5.0, 0, 0], [1.5, 6.0, 0], [0.5, -1.0, 7.0]])
        walk = np.cumsum(0.3 * rng.standard_normal((200, 6, 3)), axis=0)
        cells = cell * (1 + 0.02 * np.sin(np.arange(200) / 20))[:, None, None]
        fractional = np.einsum("tai,tij->taj", walk, np.linalg.inv(cells))
        pbc = np.array([True, True, False])
        wrapped = np.where(pbc, fractional % 1.0, fractional)
        followed = follow_across_borders(np.einsum("tai,tij->taj", wrapped, cells), cells, pbc)
        start = np.where(pbc, np.floor(fractional[0]), 0.0)
        np.testing.assert_allclose(followed + np.einsum("ai,tij->taj", start, cells), walk, atol=1e-9)

    def test_reads_times_and_leaves_out_the_beginning(self, tmp_path):
        frames = [mixed_crystal(1) for _ in range(5)]
        for k, atoms in enumerate(frames):
            atoms.info["time_fs"] = 100.0 * k
        write(tmp_path / "a.extxyz", frames)
        trajectory = read_trajectory(tmp_path / "a.extxyz")
        np.testing.assert_allclose(trajectory.times_ps, [0, 0.1, 0.2, 0.3, 0.4])
        assert trajectory.after(0.2).n_frames == 3
        assert read_trajectory(tmp_path / "a.extxyz", frame_time_fs=2.0).times_ps[-1] == pytest.approx(0.008)
        with pytest.raises(DataError, match="nothing is left"):
            trajectory.after(1.0)

    def test_other_atoms_are_refused(self, tmp_path):
        write(tmp_path / "a.extxyz", [mixed_crystal(1), mixed_crystal(1, seed=5)])
        with pytest.raises(DataError, match="other atoms"):
            read_trajectory(tmp_path / "a.extxyz")


class TestBonds:
    def test_broken_bond_and_lost_atom(self):
        before = molecule("CH3CH2OH")
        before.set_cell([12, 12, 12])
        before.pbc = True
        before += Atoms("Li", positions=[[2.0, 2.0, 0.0]])
        oxygen = int(np.flatnonzero(before.numbers == 8)[0])
        after = before.copy()
        after.positions[oxygen, 0] += 2.0
        after.positions[-1] = [6.0, 6.0, 6.0]
        report = bond_report(trajectory_of([before, after]), reach=4.0)
        assert report.n_bonds == 8
        assert report.persistence[0] == 1.0
        assert report.persistence[1] < 1.0
        assert all(oxygen in pair for pair in report.broken)
        assert report.lost == (len(before) - 1,)

    def test_bonds_across_the_border_last(self):
        atoms = bulk("Cu", a=3.6, cubic=True)
        still = trajectory_of([atoms, atoms])
        report = bond_report(still)
        assert report.n_bonds == 24
        assert report.broken == ()
        assert report.persistence.tolist() == [1.0, 1.0]
