"""Heating, cooling and annealing: ramps follow their line, restart in the middle, and runs continue each other."""

from dataclasses import replace

import numpy as np
import pytest
from ase.io import read
from contracts.force_field.lennard_jones import LennardJones, mixed_crystal

from qiskit_qff.errors import ConfigError
from qiskit_qff.simulation.dynamics import run_dynamics
from qiskit_qff.simulation.recording import read_log
from qiskit_qff.simulation.settings import MDSettings

RAMP = MDSettings(
    temperature_k=10.0, to_temperature_k=30.0, steps=100, timestep_fs=5.0, interval=10, checkpoint_interval=20, seed=3
)


@pytest.fixture(scope="module")
def crystal():
    return mixed_crystal(2, rattle=0.03)


def stop_after(n_steps):
    remaining = iter(range(n_steps))
    return lambda: next(remaining, None) is None


@pytest.mark.parametrize("thermostat", ["bussi", "langevin"])
def test_temperature_follows_the_ramp(tmp_path, crystal, thermostat):
    settings = replace(RAMP, steps=800, checkpoint_interval=5000, thermostat=thermostat)
    log = read_log(run_dynamics(crystal, LennardJones(), settings, tmp_path).log)
    target = np.array([settings.temperature_at(int(step)) for step in log["step"]])
    assert target[[0, 40, 80]].tolist() == [10.0, 20.0, 30.0]
    for part in (slice(10, 40), slice(40, 81)):
        assert log["temperature_k"][part].mean() == pytest.approx(target[part].mean(), rel=0.25)
    if thermostat == "bussi":
        assert np.ptp(log["conserved_ev"]) < 0.02 * np.ptp(log["total_ev"])


@pytest.mark.parametrize("thermostat", ["bussi", "langevin"])
def test_restart_inside_a_ramp_is_bit_identical(tmp_path, crystal, thermostat):
    settings = replace(RAMP, thermostat=thermostat)
    run_dynamics(crystal, LennardJones(), settings, tmp_path / "whole")
    for n_steps in (7, 45, None):
        stop = {} if n_steps is None else {"should_stop": stop_after(n_steps)}
        run_dynamics(crystal, LennardJones(), settings, tmp_path / "parts", **stop)
    for file in ("trajectory.extxyz", "log.csv"):
        assert (tmp_path / "parts" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    with pytest.raises(ConfigError, match="steps=100, not 120"):  # the ramp would be another one
        run_dynamics(crystal, LennardJones(), replace(settings, steps=120), tmp_path / "parts")


def test_runs_that_keep_velocities_are_one_run_in_parts(tmp_path, crystal):
    nve = replace(RAMP, ensemble="nve", to_temperature_k=None, interval=10)
    whole = read(run_dynamics(crystal, LennardJones(), nve, tmp_path / "whole").trajectory, index=":")
    first = read(run_dynamics(crystal, LennardJones(), replace(nve, steps=40), tmp_path / "a").trajectory, index=-1)
    rest = replace(nve, steps=60, seed=1, keep_velocities=True)
    second = read(run_dynamics(first, LennardJones(), rest, tmp_path / "b").trajectory, index=":")
    for part, expected in zip(second, whole[4:], strict=True):
        np.testing.assert_allclose(part.positions, expected.positions, atol=1e-6)
        np.testing.assert_allclose(part.get_momenta(), expected.get_momenta(), atol=1e-6)
    # Hot atoms are no explosion if they were hot from the start.
    hot = first.copy()
    hot.set_momenta(first.get_momenta() * np.sqrt(3000.0 / first.get_temperature()))
    found = run_dynamics(hot, LennardJones(), replace(rest, timestep_fs=0.5, steps=5, interval=5), tmp_path / "hot")
    assert found.temperature_mean_k > 2000.0
    # Other velocities make another run, whose checkpoint is not this one's.
    first.set_momenta(0.5 * first.get_momenta())
    with pytest.raises(ConfigError, match="another structure"):
        run_dynamics(first, LennardJones(), rest, tmp_path / "b")
    with pytest.raises(ConfigError, match="no velocities"):
        run_dynamics(crystal, LennardJones(), rest, tmp_path / "c")
