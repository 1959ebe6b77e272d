"""Displacements, diffusivities and conductivities against exact answers; trajectories read from files."""

from dataclasses import replace

import numpy as np
import pytest
from ase import units
from ase.data import atomic_masses
from ase.io import write
from contracts.force_field.lennard_jones import mixed_crystal
from scipy import constants

from qiskit_qff.errors import DataError, MissingDependencyError
from qiskit_qff.simulation.trajectory import Trajectory, follow_across_borders, read_trajectory
from qiskit_qff.simulation.transport import (
    arrhenius_diffusivity,
    conductivity_s_per_cm,
    fit_arrhenius,
    mean_squared_displacements,
    transport,
)


def trajectory(ions, *, heavy=20, spacing_ps=0.1):
    """Li atoms that move as told beside heavy atoms at rest, the framework."""
    n_frames, n_ions, _ = ions.shape
    return Trajectory(
        numbers=np.array([3] * n_ions + [92] * heavy),
        positions=np.concatenate([ions, np.zeros((n_frames, heavy, 3))], axis=1),
        cells=np.tile(10.0 * np.eye(3), (n_frames, 1, 1)),
        pbc=np.ones(3, dtype=bool),
        times_ps=np.arange(n_frames) * spacing_ps,
    )


def brownian(rng, *, n_frames=1000, n_ions=40, step=0.3):
    return np.cumsum(step * rng.standard_normal((n_frames, n_ions, 3)), axis=0)


class TestDisplacements:
    def test_they_equal_the_double_sum(self, rng):
        walk = trajectory(brownian(rng, n_frames=60, n_ions=5), heavy=0)
        masses = atomic_masses[walk.numbers]
        r = walk.positions - (np.einsum("tai,a->ti", walk.positions, masses) / masses.sum())[:, None]
        result = mean_squared_displacements(walk)
        lags = np.rint(result["lag_ps"] / 0.1).astype(int)
        assert lags[0] == 0
        assert lags[-1] == 30
        for lag, found in zip(lags, result["Li"], strict=True):
            slow = ((r[lag:] - r[: len(r) - lag]) ** 2).sum(axis=2).mean()
            assert found == pytest.approx(slow, abs=1e-10)

    def test_drift_of_the_framework_does_not_count(self, rng):
        walk = trajectory(brownian(rng, n_frames=200))
        drifting = replace(walk, positions=walk.positions + 3.0 * rng.standard_normal((200, 1, 3)))
        for name, curve in mean_squared_displacements(walk).items():
            np.testing.assert_allclose(mean_squared_displacements(drifting)[name], curve, atol=1e-8)

    def test_times_must_be_there_and_even(self, rng):
        walk = trajectory(brownian(rng, n_frames=50))
        with pytest.raises(DataError, match="--frame-time"):
            transport(replace(walk, times_ps=None), "Li")
        with pytest.raises(DataError, match="evenly"):
            mean_squared_displacements(replace(walk, times_ps=walk.times_ps**2))


class TestTransport:
    def test_brownian_motion(self, rng):
        state = np.random.get_state()  # noqa: NPY002
        walk = trajectory(brownian(rng))
        found, exact = transport(walk, "Li"), 0.3**2 / (2 * 0.1) * 1e-4
        np.testing.assert_array_equal(np.random.get_state()[1], state[1])  # noqa: NPY002
        value, error = found["diffusivity_cm2_per_s"], found["diffusivity_error_cm2_per_s"]
        assert not found["is_caged"]
        assert found["msd_exponent"] == pytest.approx(1.0, abs=0.25)
        assert value == pytest.approx(exact, abs=4 * error)
        assert 0.02 * exact < error < 0.2 * exact
        low, high = found["diffusivity_interval95_cm2_per_s"]
        assert low < value < high
        assert found["n_hops"] == pytest.approx(6e4 * exact * 40 * 100 / 9, rel=0.3)
        # The same numbers from the same trajectory.
        assert transport(walk, "Li") == found

    @pytest.mark.parametrize("n_ions", [1, 40])
    def test_an_ion_in_a_cage_has_a_bound_and_no_diffusivity(self, rng, n_ions):
        rattling = 10 * rng.random((1, n_ions, 3)) + 0.3 * rng.standard_normal((1000, n_ions, 3))
        found = transport(trajectory(rattling), "Li")
        assert found["is_caged"]
        assert found["diffusivity_cm2_per_s"] is None
        (caution,) = found["cautions"]
        assert "stays in its cages" in caution
        assert "no conductivity" in caution
        # A hop of every ion within the time would be 9 Å² in 100 ps; the bound is of the size of what was ruled out.
        upper = 1e4 * found["diffusivity_upper_cm2_per_s"]
        assert 3 * 9 / (6 * n_ions * 100) < upper < 0.05 / n_ions + 0.002

    def test_free_flight_is_no_diffusion(self, rng):
        flight = np.arange(400)[:, None, None] * 0.1 * rng.standard_normal((1, 10, 3))
        found = transport(trajectory(flight), "Li")
        assert found["msd_exponent"] == pytest.approx(2.0, abs=1e-6)
        assert not found["is_caged"]
        assert (found["diffusivity_cm2_per_s"], found["diffusivity_upper_cm2_per_s"]) == (None, None)
        assert "faster than diffusion" in found["cautions"][0]

    def test_without_kinisi_only_what_diffuses_lacks_a_number(self, rng, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "kinisi.analyze", None)
        with pytest.raises(MissingDependencyError, match=r"qiskit_qff\[analysis\]"):
            transport(trajectory(brownian(rng)), "Li")
        assert transport(trajectory(0.1 * rng.standard_normal((100, 3, 3))), "Li")["is_caged"]

    @pytest.mark.parametrize(
        ("element", "n_frames", "message"), [("Na", 100, "no 'Na'"), ("Xx", 100, "no 'Xx'"), ("Li", 39, "at least 40")]
    )
    def test_what_cannot_be_fitted(self, rng, element, n_frames, message):
        with pytest.raises(DataError, match=message):
            transport(trajectory(brownian(rng, n_frames=n_frames)), element)

    def test_conductivity_in_si_units(self):
        # 27 ions in 1162 Å³ at 520 K with 1e-5 cm²/s, computed with scipy's constants.
        density, mobility = 27 / 1162e-30, 1e-9 / (constants.k * 520)
        exact = density * constants.e**2 * mobility / 100  # S/m to S/cm
        for charge in (1, 2):
            found = conductivity_s_per_cm(1e-5, n_ions=27, volume_ang3=1162.0, temperature_k=520.0, charge=charge)
            assert found == pytest.approx(charge**2 * exact, rel=1e-6)


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

    def test_reads_times_and_temperatures_and_skips(self, tmp_path):
        frames = [mixed_crystal(1) for _ in range(40)]
        for k, atoms in enumerate(frames):
            atoms.positions += 0.4 * k
            atoms.wrap()
            atoms.info |= {"time_fs": 50.0 * k, "temperature_k": 300.0 + k}
        write(tmp_path / "a.extxyz", frames)
        found = read_trajectory(tmp_path / "a.extxyz", skip_ps=0.5)
        np.testing.assert_allclose(found.times_ps, 0.05 * np.arange(10, 40))
        np.testing.assert_allclose(np.diff(found.positions, axis=0), 0.4, atol=1e-7)
        assert found.temperatures_k[3] == 313.0
        assert read_trajectory(tmp_path / "a.extxyz", frame_time_fs=2.0).times_ps[-1] == pytest.approx(0.078)
        with pytest.raises(DataError, match="nothing is left"):
            read_trajectory(tmp_path / "a.extxyz", skip_ps=5.0)


TEMPERATURES = np.array([500.0, 600.0, 750.0, 900.0])


def exact(temperatures, activation=0.25, prefactor=3e-3):
    return prefactor * np.exp(-activation / (units.kB * temperatures))


class TestArrhenius:
    @pytest.mark.parametrize("n_points", [2, 4])
    def test_an_exact_line_is_found_again(self, n_points):
        values = exact(TEMPERATURES, 0.4, 0.02)
        line = fit_arrhenius([*zip(TEMPERATURES, values, 0.1 * values, strict=True)][:n_points])
        assert line["activation_ev"] == pytest.approx(0.4)
        assert line["prefactor_cm2_per_s"] == pytest.approx(0.02)
        assert arrhenius_diffusivity(line, 400.0)[0] == pytest.approx(exact(400.0, 0.4, 0.02))

    def test_error_bars_cover_the_truth(self, rng):
        """Each D with an error bar that is itself estimated from ten blocks, as in practice."""
        activation, at_300 = [], []
        for _ in range(600):
            blocks = exact(TEMPERATURES)[:, None] * (1 + 0.3 * rng.standard_normal((4, 10)))
            errors = blocks.std(axis=1, ddof=1) / np.sqrt(10)
            line = fit_arrhenius([*zip(TEMPERATURES, blocks.mean(axis=1), errors, strict=True)])
            activation.append((line["activation_ev"] - 0.25) / line["activation_error_ev"])
            at_300.append(np.log(line["extrapolated_cm2_per_s"] / exact(300.0)) / line["extrapolated_log_error"])
        for scaled in (activation, at_300):
            assert abs(np.mean(scaled)) < 0.15
            assert 0.90 < np.mean(np.abs(scaled) < 2.0) < 0.99
