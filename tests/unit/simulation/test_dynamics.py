"""Molecular dynamics: ensembles, conserved quantities, restarts and the watch over a run."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms, units
from ase.io import read
from contracts.force_field.lennard_jones import LennardJones, mixed_crystal

from qiskit_qff.errors import ConfigError, SimulationError
from qiskit_qff.simulation.dynamics import run_dynamics
from qiskit_qff.simulation.recording import CHECKPOINT, read_log
from qiskit_qff.simulation.settings import MDSettings

ENSEMBLES = {
    "nve": {"ensemble": "nve"},
    "bussi": {"ensemble": "nvt", "thermostat": "bussi"},
    "langevin": {"ensemble": "nvt", "thermostat": "langevin"},
    "nose-hoover": {"ensemble": "nvt", "thermostat": "nose-hoover"},
    "npt": {"ensemble": "npt", "pressure_gpa": 0.1},
    "npt-full": {"ensemble": "npt", "barostat": "full", "pressure_gpa": 0.1},
}

BASE = MDSettings(temperature_k=40.0, steps=60, timestep_fs=5.0, interval=10, checkpoint_interval=20, seed=3)


@pytest.fixture(scope="module")
def crystal():
    return mixed_crystal(2, rattle=0.05)


def stop_after(n_steps):
    remaining = iter(range(n_steps))
    return lambda: next(remaining, None) is None


@pytest.mark.parametrize("name", ["nve", "bussi", "langevin"])
def test_restart_is_bit_identical(tmp_path, crystal, name):
    settings = replace(BASE, **ENSEMBLES[name])
    whole = run_dynamics(crystal, LennardJones(), settings, tmp_path / "whole")
    for n_steps in (7, 25, None):
        stop = {} if n_steps is None else {"should_stop": stop_after(n_steps)}
        parts = run_dynamics(crystal, LennardJones(), settings, tmp_path / "parts", **stop)
    assert whole.completed
    assert parts.completed
    assert parts.resumed_from_step is not None
    for file in ("trajectory.extxyz", "log.csv"):
        assert (tmp_path / "parts" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


@pytest.mark.parametrize("name", ["nose-hoover", "npt", "npt-full"])
def test_chains_begin_at_rest_after_a_restart_and_the_conserved_quantity_continues(tmp_path, crystal, name):
    settings = replace(BASE, steps=600, **ENSEMBLES[name])
    for n_steps in (150, 200, None):
        stop = {} if n_steps is None else {"should_stop": stop_after(n_steps)}
        summary = run_dynamics(crystal, LennardJones(), settings, tmp_path, **stop)
    log = read_log(summary.log)
    assert log["step"].tolist() == list(range(0, 601, 10))
    assert np.ptp(log["conserved_ev"]) < 0.1 * np.ptp(log["total_ev"])


@pytest.mark.parametrize("name", ENSEMBLES)
def test_conserved_quantity_and_temperature(tmp_path, crystal, name):
    relaxed = replace(BASE, steps=1000, checkpoint_interval=5000, thermostat_time_fs=200.0, **ENSEMBLES[name])
    summary = run_dynamics(crystal, LennardJones(), relaxed, tmp_path)
    log = read_log(summary.log)
    kinetic_noise = log["kinetic_ev"].std() / len(crystal)
    conserved = log["conserved_ev"] / len(crystal)
    if name == "langevin":  # which conserves nothing
        assert np.isnan(conserved).all()
        assert np.isnan(summary.drift_mev_per_atom_per_ps)
    else:
        assert np.abs(conserved - conserved[0]).max() < 0.1 * kinetic_noise
        assert abs(summary.drift_mev_per_atom_per_ps) < 0.02
    if name != "nve":
        settled = log["temperature_k"][30:]
        assert settled.mean() == pytest.approx(40.0, rel=0.15)
    assert summary.time_ps == pytest.approx(5.0)
    assert np.isfinite(summary.pressure_mean_gpa)


@pytest.mark.parametrize("name", ["langevin", "bussi", "nose-hoover"])
def test_centre_of_mass_stays_at_rest(tmp_path, crystal, name):
    summary = run_dynamics(crystal, LennardJones(), replace(BASE, **ENSEMBLES[name]), tmp_path)
    last = read(summary.trajectory, index=-1)
    assert np.abs(last.get_momenta().sum(axis=0)).max() < 1e-5


def test_langevin_kinetic_energy_is_maxwell_boltzmann(tmp_path):
    dimer = Atoms("ArKr", positions=[[0, 0, 0], [3.9, 0, 0]])
    settings = replace(
        BASE,
        ensemble="nvt",
        thermostat="langevin",
        temperature_k=20.0,
        steps=6000,
        timestep_fs=8.0,
        interval=5,
        thermostat_time_fs=60.0,
        checkpoint_interval=20000,
    )
    log = read_log(run_dynamics(dimer, LennardJones(), settings, tmp_path).log)
    kinetic = log["kinetic_ev"] / (units.kB * 20.0)
    # Gamma distribution of 3N - 3 = 3 degrees of freedom: mean 3/2, variance 3/2.
    assert kinetic.mean() == pytest.approx(1.5, rel=0.1)
    assert kinetic.var() == pytest.approx(1.5, rel=0.25)


def test_trajectory_and_log_agree(tmp_path, crystal):
    summary = run_dynamics(crystal, LennardJones(), replace(BASE, ensemble="nve"), tmp_path)
    frames = read(summary.trajectory, index=":")
    with summary.log.open() as stream:
        rows = list(csv.DictReader(stream))
    assert [frame.info["step"] for frame in frames] == [int(row["step"]) for row in rows] == list(range(0, 61, 10))
    for frame, row in zip(frames, rows, strict=True):
        assert frame.get_potential_energy() == pytest.approx(float(row["potential_ev"]))
        assert frame.get_kinetic_energy() == pytest.approx(float(row["kinetic_ev"]), rel=1e-5)
        assert frame.pbc.all()
    np.testing.assert_allclose(frames[0].positions, crystal.positions, atol=1e-7)


def test_finished_run_can_be_extended_and_repeated(tmp_path, crystal):
    short, long = replace(BASE, steps=40), replace(BASE, steps=80)
    run_dynamics(crystal, LennardJones(), short, tmp_path / "a")
    again = run_dynamics(crystal, LennardJones(), short, tmp_path / "a")
    assert (again.resumed_from_step, again.steps) == (40, 40)
    assert np.isnan(again.ms_per_step)
    run_dynamics(crystal, LennardJones(), long, tmp_path / "a")
    run_dynamics(crystal, LennardJones(), long, tmp_path / "b")
    assert (tmp_path / "a/log.csv").read_bytes() == (tmp_path / "b/log.csv").read_bytes()


def test_another_model_or_structure_is_not_continued(tmp_path, crystal):
    run_dynamics(crystal, LennardJones(), BASE, tmp_path, model_digest="a")
    with pytest.raises(ConfigError, match="another model"):
        run_dynamics(crystal, LennardJones(), BASE, tmp_path, model_digest="b")
    moved = crystal.copy()
    moved.positions[0] += 0.1
    with pytest.raises(ConfigError, match="another structure"):
        run_dynamics(moved, LennardJones(), BASE, tmp_path, model_digest="a")


def test_explosion_stops_the_run_and_keeps_the_checkpoint(tmp_path, crystal):
    hot = replace(BASE, ensemble="nve", timestep_fs=100.0, temperature_k=300.0, steps=500)
    with pytest.raises(SimulationError, match=r"step \d+: the simulation exploded"):
        run_dynamics(crystal, LennardJones(), hot, tmp_path)
    assert (tmp_path / CHECKPOINT).exists()
    assert (tmp_path / "log.csv").stat().st_size > 0


def test_lost_atom_stops_the_run(tmp_path):
    dimer = Atoms("ArKr", positions=[[0, 0, 0], [3.9, 0, 0]])
    flying = MDSettings(temperature_k=2000.0, steps=4000, timestep_fs=2.0, ensemble="nve", interval=10)
    with pytest.raises(SimulationError, match=r"lost atom 0 \(Ar\)"):
        run_dynamics(dimer, LennardJones(), flying, tmp_path)


def test_constant_pressure_agrees_with_constant_volume(tmp_path, crystal):
    """Mean pressure as set whatever the barostat; the mean volume has that pressure at constant volume too."""
    cold = replace(BASE, temperature_k=20.0, pressure_gpa=0.2, steps=1200, checkpoint_interval=5000)
    volumes = []
    for barostat, coupling in (("isotropic", 300.0), ("full", 1000.0)):
        settings = replace(cold, ensemble="npt", barostat=barostat, barostat_time_fs=coupling)
        log = read_log(run_dynamics(crystal, LennardJones(), settings, tmp_path / barostat).log)
        assert log["pressure_gpa"][40:].mean() == pytest.approx(0.2, abs=0.03)
        assert 0.001 < log["volume_ang3"][40:].std() / log["volume_ang3"][40:].mean() < 0.03
        volumes.append(log["volume_ang3"][40:].mean())
    assert volumes[0] == pytest.approx(volumes[1], rel=0.01)
    still = crystal.copy()
    still.set_cell(crystal.cell * (np.mean(volumes) / crystal.get_volume()) ** (1 / 3), scale_atoms=True)
    log = read_log(run_dynamics(still, LennardJones(), replace(cold, ensemble="nvt"), tmp_path / "nvt").log)
    assert log["pressure_gpa"][40:].mean() == pytest.approx(0.2, abs=0.03)
