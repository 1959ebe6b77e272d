"""Molecular dynamics: ensembles, conserved quantities, restarts and the watch over a run."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms, units
from ase.io import read
from contracts.force_field.lennard_jones import LennardJones, mixed_crystal

from qiskit_qff.simulation.dynamics import MDSettings, run_dynamics
from qiskit_qff.simulation.recording import read_log

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


def in_parts(crystal, settings, directory, *breaks):
    """Run, stopped after so many steps each time, to the end."""
    for n_steps in breaks:
        remaining = iter(range(n_steps))
        stop = lambda left=remaining: next(left, None) is None  # noqa: E731
        run_dynamics(crystal, LennardJones(), settings, directory, should_stop=stop)
    return run_dynamics(crystal, LennardJones(), settings, directory)


@pytest.mark.parametrize("name", ["nve", "bussi", "langevin"])
def test_restart_is_bit_identical(tmp_path, crystal, name):
    settings = replace(BASE, **ENSEMBLES[name])
    run_dynamics(crystal, LennardJones(), settings, tmp_path / "whole")
    parts = in_parts(crystal, settings, tmp_path / "parts", 7, 25)
    assert parts.completed
    assert parts.resumed_from_step is not None
    for file in ("trajectory.extxyz", "log.csv"):
        assert (tmp_path / "parts" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    longer = replace(settings, steps=120)
    assert run_dynamics(crystal, LennardJones(), longer, tmp_path / "parts").steps == 120


@pytest.mark.parametrize("name", ["nose-hoover", "npt"])
def test_chains_begin_at_rest_after_a_restart_and_the_conserved_quantity_continues(tmp_path, crystal, name):
    summary = in_parts(crystal, replace(BASE, steps=600, **ENSEMBLES[name]), tmp_path, 150, 200)
    log = read_log(summary.log)
    assert log["step"].tolist() == list(range(0, 601, 10))
    assert np.ptp(log["conserved_ev"]) < 0.1 * np.ptp(log["total_ev"])


@pytest.mark.parametrize("name", ENSEMBLES)
def test_conserved_quantity_temperature_and_centre_of_mass(tmp_path, crystal, name):
    relaxed = replace(BASE, steps=1000, checkpoint_interval=5000, thermostat_time_fs=200.0, **ENSEMBLES[name])
    summary = run_dynamics(crystal, LennardJones(), relaxed, tmp_path)
    log = read_log(summary.log)
    conserved = log["conserved_ev"] / len(crystal)
    if name == "langevin":  # which conserves nothing
        assert np.isnan(conserved).all()
        assert np.isnan(summary.drift_mev_per_atom_per_ps)
    else:
        assert np.abs(conserved - conserved[0]).max() < 0.1 * log["kinetic_ev"].std() / len(crystal)
        assert abs(summary.drift_mev_per_atom_per_ps) < 0.02
    if name != "nve":
        assert log["temperature_k"][30:].mean() == pytest.approx(40.0, rel=0.15)
    assert np.abs(read(summary.trajectory, index=-1).get_momenta().sum(axis=0)).max() < 1e-5


def test_langevin_kinetic_energy_is_maxwell_boltzmann(tmp_path):
    dimer = Atoms("ArKr", positions=[[0, 0, 0], [3.9, 0, 0]])
    slow = {"timestep_fs": 8.0, "thermostat_time_fs": 60.0, "interval": 5, "checkpoint_interval": 20000}
    settings = replace(BASE, **ENSEMBLES["langevin"], temperature_k=20.0, steps=6000, **slow)
    log = read_log(run_dynamics(dimer, LennardJones(), settings, tmp_path).log)
    kinetic = log["kinetic_ev"] / (units.kB * 20.0)
    # Gamma distribution of 3N - 3 = 3 degrees of freedom: mean 3/2, variance 3/2.
    assert kinetic.mean() == pytest.approx(1.5, rel=0.1)
    assert kinetic.var() == pytest.approx(1.5, rel=0.25)


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
