"""Displacements, diffusivities and conductivities against exact answers; trajectories as streams."""

from dataclasses import replace

import numpy as np
import pytest
from ase import units
from ase.data import atomic_masses
from ase.io import write
from contracts.force_field.lennard_jones import mixed_crystal
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import constants

from qiskit_qff.errors import DataError
from qiskit_qff.simulation.diffusion import BlockedDisplacements, DiffusionBlocks, conductivity_s_per_cm, diffusivity
from qiskit_qff.simulation.displacements import DisplacementCorrelator, mean_squared_displacements
from qiskit_qff.simulation.trajectory import Trajectory, follow_across_borders, read_trajectory, stream_trajectory


def random_walk(rng, *, n_frames=2000, n_atoms=40, step=0.1, heavy=2000):
    """Li atoms that walk at random beside heavy atoms at rest (which fix the centre of mass)."""
    numbers = np.array([3] * n_atoms + ([92] * heavy))
    walk = np.cumsum(step * rng.standard_normal((n_frames, n_atoms, 3)), axis=0)
    positions = np.concatenate([walk, np.zeros((n_frames, len(numbers) - n_atoms, 3))], axis=1)
    return Trajectory(
        numbers=numbers,
        positions=positions,
        cells=np.tile(10.0 * np.eye(3), (n_frames, 1, 1)),
        pbc=np.ones(3, dtype=bool),
        times_ps=np.arange(n_frames) * 0.1,
    )


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
        walk = random_walk(rng, n_frames=60, n_atoms=5, heavy=0)
        masses = atomic_masses[walk.numbers]
        r = walk.positions - (np.einsum("tai,a->ti", walk.positions, masses) / masses.sum())[:, None]
        result = mean_squared_displacements(walk)
        for lag in (0, 1, 7, 29):
            slow = ((r[lag:] - r[: len(r) - lag]) ** 2).sum(axis=2).mean()
            assert result.curves["Li"][lag] == pytest.approx(slow, abs=1e-10)
        assert result.lag_ps[7] == pytest.approx(0.7)

    @settings(max_examples=15, deadline=None)
    @given(n_frames=st.integers(2, 300), seed=st.integers(0, 2**16))
    def test_every_lag_is_the_mean_over_its_origins(self, n_frames, seed):
        walk = np.random.default_rng(seed).standard_normal((n_frames, 4, 3)).cumsum(axis=0)
        correlator = DisplacementCorrelator(np.array([0, 0, 1, 0]))
        for positions in walk:
            correlator.add(positions)
        lags, curves = correlator.result()
        assert lags.tolist() == sorted(set(lags.tolist()))
        assert set(range(min(32, n_frames))) <= set(lags.tolist())
        for lag, found in zip(lags, curves, strict=True):
            stride = 2 ** max(0, int(lag).bit_length() - 5)  # of the level that holds the lag
            squares = ((walk[lag::stride] - walk[: n_frames - lag : stride]) ** 2).sum(axis=2).mean(axis=0)
            np.testing.assert_allclose(found, [squares[[0, 1, 3]].mean(), squares[2]], atol=1e-9)

    def test_intervals_cover_the_diffusivity_of_brownian_motion(self, rng):
        n_walks, n_points, n_frames, step = 300, 4, 300, 0.1
        blocks = BlockedDisplacements(np.repeat(np.arange(n_walks), n_points), n_frames=n_frames, n_blocks=5)
        positions = np.zeros((n_walks * n_points, 3))
        for _ in range(n_frames):
            blocks.add(positions)
            positions = positions + step * rng.standard_normal(positions.shape)
        found = [blocks.result(walk, 0.1) for walk in range(n_walks)]
        exact = step**2 / 0.2
        values = np.array([one.value_ang2_per_ps for one in found])
        errors = np.array([one.error_ang2_per_ps for one in found])
        assert values.mean() == pytest.approx(exact, abs=4 * values.std() / np.sqrt(n_walks))
        # The error bar is the spread over repetitions, and the interval for 95 % holds 95 % of them.
        assert np.sqrt((errors**2).mean()) == pytest.approx(values.std(), rel=0.15)
        covered = [low <= 1e-4 * exact <= high for low, high in (one.interval_cm2_per_s for one in found)]
        assert np.mean(covered) == pytest.approx(0.95, abs=0.04)

    def test_ions_that_move_together(self, rng):
        """Pairs of ions with one walk each: twice the charge diffusivity, a Haven ratio of a half."""
        walk = random_walk(rng, n_frames=8000, n_atoms=20, heavy=50)
        together = walk.positions.copy()
        together[:, 1:20:2] = together[:, 0:20:2]
        found = diffusivity(replace(walk, positions=together), "Li", n_blocks=80)
        assert found.n_ions == 20
        assert found.charge.value_ang2_per_ps == pytest.approx(0.1, abs=4 * found.charge.error_ang2_per_ps)
        assert found.charge.error_ang2_per_ps < 0.03
        assert found.haven_ratio == pytest.approx(0.5, rel=0.3)

    def test_framework_at_rest(self, rng):
        """About the framework, a drift of the framework does not count either."""
        walk = random_walk(rng, n_frames=400, n_atoms=10)
        stream = walk.stream()
        still, drifting = (DiffusionBlocks(stream, "Li", about="framework") for _ in range(2))
        for snapshot in stream.snapshots:
            still.add(snapshot)
            drifting.add(replace(snapshot, positions=snapshot.positions + 3.0 * rng.standard_normal(3)))
        found, expected = drifting.result(), still.result()
        assert found.value_ang2_per_ps == pytest.approx(expected.value_ang2_per_ps, rel=1e-9)
        assert found.charge.value_ang2_per_ps == pytest.approx(expected.charge.value_ang2_per_ps, rel=1e-9)

    def test_conductivity_in_si_units(self):
        # 27 ions in 1162 Å³ at 520 K with 1e-5 cm²/s, computed with scipy's constants.
        density, mobility = 27 / 1162e-30, 1e-9 / (constants.k * 520)
        exact = density * constants.e**2 * mobility / 100  # S/m to S/cm
        found = conductivity_s_per_cm(1e-5 / 1e-4, n_ions=27, volume_ang3=1162.0, temperature_k=520.0)
        assert found == pytest.approx(exact, rel=1e-6)
        assert conductivity_s_per_cm(
            0.1, n_ions=27, volume_ang3=1162.0, temperature_k=520.0, charge=2
        ) == pytest.approx(4 * exact, rel=1e-6)

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

    def test_a_stream_is_the_trajectory_piece_by_piece(self, tmp_path, rng):
        frames = [mixed_crystal(1) for _ in range(40)]
        for k, atoms in enumerate(frames):
            atoms.positions += 0.4 * k
            atoms.wrap()
            atoms.set_momenta(rng.standard_normal(atoms.positions.shape))
            atoms.info |= {"time_fs": 50.0 * k, "temperature_k": 300.0 + k}
        write(tmp_path / "a.extxyz", frames)
        whole = read_trajectory(tmp_path / "a.extxyz").after(0.5)
        stream = stream_trajectory(tmp_path / "a.extxyz", skip_ps=0.5)
        pieces = list(stream.snapshots)
        assert len(pieces) == stream.n_frames == whole.n_frames == 30
        np.testing.assert_array_equal([piece.positions for piece in pieces], whole.positions)
        np.testing.assert_array_equal([piece.time_ps for piece in pieces], whole.times_ps)
        np.testing.assert_allclose(pieces[3].velocities, frames[13].get_velocities() * 1000 * units.fs, atol=1e-6)
        assert pieces[3].temperature_k == 313.0
        with pytest.raises(DataError, match="nothing is left"):
            stream_trajectory(tmp_path / "a.extxyz", skip_ps=5.0)

    def test_other_atoms_are_refused(self, tmp_path):
        write(tmp_path / "a.extxyz", [mixed_crystal(1), mixed_crystal(1, seed=5)])
        with pytest.raises(DataError, match="other atoms"):
            read_trajectory(tmp_path / "a.extxyz")
