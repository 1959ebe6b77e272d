"""Heating and cooling, and what of a run is written: ramps follow their line, restart in the middle, files shrink."""

import gzip
from dataclasses import replace

import numpy as np
import pytest
from ase.io import read
from contracts.force_field.lennard_jones import LennardJones, mixed_crystal

from qiskit_qff.errors import ConfigError
from qiskit_qff.simulation.calculator import QFFCalculator
from qiskit_qff.simulation.checkpoint import read_checkpoint, write_checkpoint
from qiskit_qff.simulation.dynamics import CHECKPOINT, run_dynamics
from qiskit_qff.simulation.integrators import build_integrator
from qiskit_qff.simulation.recording import read_log
from qiskit_qff.simulation.settings import MDSettings
from qiskit_qff.simulation.trajectory import read_trajectory
from qiskit_qff.simulation.velocities import assign_velocities

THERMOSTATS = {
    "bussi": {"thermostat": "bussi"},
    "langevin": {"thermostat": "langevin"},
    "nose-hoover": {"thermostat": "nose-hoover"},
    "npt": {"ensemble": "npt", "pressure_gpa": 0.2},
    "npt-full": {"ensemble": "npt", "barostat": "full", "pressure_gpa": 0.2},
}
RAMP = MDSettings(
    temperature_k=10.0,
    to_temperature_k=30.0,
    ramp_steps=80,
    steps=100,
    timestep_fs=5.0,
    interval=10,
    checkpoint_interval=20,
    seed=3,
)


@pytest.fixture(scope="module")
def crystal():
    return mixed_crystal(2, rattle=0.03)


def stop_after(n_steps):
    remaining = iter(range(n_steps))
    return lambda: next(remaining, None) is None


@pytest.mark.parametrize("name", THERMOSTATS)
def test_temperature_follows_the_ramp_and_the_conserved_quantity_stays(tmp_path, crystal, name):
    settings = replace(RAMP, steps=800, ramp_steps=600, checkpoint_interval=5000, **THERMOSTATS[name])
    log = read_log(run_dynamics(crystal, LennardJones(), settings, tmp_path).log)
    target = np.array([settings.temperature_at(int(step)) for step in log["step"]])
    assert target[[0, 30, 60, 80]].tolist() == [10.0, 20.0, 30.0, 30.0]
    for part in (slice(10, 40), slice(40, 81)):
        assert log["temperature_k"][part].mean() == pytest.approx(target[part].mean(), rel=0.25)
    heat = np.ptp(log["total_ev"])
    assert np.ptp(log["conserved_ev"]) < 0.02 * heat


@pytest.mark.parametrize("name", THERMOSTATS)
def test_restart_inside_a_ramp_is_bit_identical(tmp_path, crystal, name):
    settings = replace(RAMP, **THERMOSTATS[name])
    run_dynamics(crystal, LennardJones(), settings, tmp_path / "whole")
    for n_steps in (7, 45, None):
        stop = None if n_steps is None else stop_after(n_steps)
        run_dynamics(crystal, LennardJones(), settings, tmp_path / "parts", should_stop=stop)
    for file in ("trajectory.extxyz", "log.csv"):
        assert (tmp_path / "parts" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


@pytest.mark.parametrize("name", ["nose-hoover", "npt", "npt-full"])
def test_chains_keep_their_relaxation_times(crystal, name):
    settings = replace(RAMP, to_temperature_k=None, **THERMOSTATS[name])
    atoms = crystal.copy()
    atoms.calc = QFFCalculator(LennardJones())
    assign_velocities(atoms, 10.0, rng=np.random.default_rng(1))
    heated = build_integrator(atoms, settings, rng=np.random.default_rng(1))
    before = heated.conserved_energy()
    heated.set_temperature(30.0)
    assert heated.conserved_energy() == pytest.approx(before, abs=1e-12)
    fresh = build_integrator(atoms, replace(settings, temperature_k=30.0), rng=np.random.default_rng(1)).state()
    for key, value in heated.state().items():
        if key != "ramp_work_ev":
            np.testing.assert_allclose(value, fresh[key], rtol=1e-12, err_msg=key)


def test_cooling_and_extending(tmp_path, crystal):
    settings = replace(RAMP, temperature_k=30.0, to_temperature_k=10.0)
    run_dynamics(crystal, LennardJones(), settings, tmp_path)
    longer = run_dynamics(crystal, LennardJones(), replace(settings, steps=120), tmp_path)
    assert longer.resumed_from_step == 100
    with pytest.raises(ConfigError, match="ramp_steps=80, not 120"):
        run_dynamics(crystal, LennardJones(), replace(settings, steps=120, ramp_steps=120), tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ensemble": "nve"}, "no thermostat"),
        ({"to_temperature_k": -1.0}, "positive"),
        ({"ramp_steps": 0}, "ramp_steps"),
    ],
)
def test_what_is_no_ramp(change, message):
    with pytest.raises(ConfigError, match=message):
        replace(RAMP, **change)


def test_compact_trajectory_is_the_same_rounded_and_restarts(tmp_path, crystal):
    full = run_dynamics(crystal, LennardJones(), RAMP, tmp_path / "full")
    small = replace(RAMP, compact=True)
    whole = run_dynamics(crystal, LennardJones(), small, tmp_path / "whole")
    for n_steps in (7, 45, None):
        stop = None if n_steps is None else stop_after(n_steps)
        parts = run_dynamics(crystal, LennardJones(), small, tmp_path / "parts", should_stop=stop)
    assert gzip.decompress(parts.trajectory.read_bytes()) == gzip.decompress(whole.trajectory.read_bytes())
    assert whole.trajectory.stat().st_size < 0.5 * full.trajectory.stat().st_size
    exact, rounded = read_trajectory(full.trajectory), read_trajectory(whole.trajectory)
    np.testing.assert_allclose(rounded.positions, exact.positions, atol=6e-6)
    np.testing.assert_array_equal(rounded.times_ps, exact.times_ps)
    # A run begun anew in the other form leaves no old trajectory behind.
    run_dynamics(crystal, LennardJones(), RAMP, tmp_path / "whole", restart=True)
    assert not whole.trajectory.exists()


def test_runs_that_keep_velocities_are_one_run_in_parts(tmp_path, crystal):
    nve = replace(RAMP, ensemble="nve", to_temperature_k=None, ramp_steps=0, interval=10)
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
    assert found.temperature_mean_k > 2000.0 > rest.temperature_limit_k
    # Other velocities make another run, whose checkpoint is not this one's.
    first.set_momenta(0.5 * first.get_momenta())
    with pytest.raises(ConfigError, match="another structure"):
        run_dynamics(first, LennardJones(), rest, tmp_path / "b")
    with pytest.raises(ConfigError, match="no velocities"):
        run_dynamics(crystal, LennardJones(), rest, tmp_path / "c")


def test_velocities_are_written_on_demand(tmp_path, crystal):
    without = run_dynamics(crystal, LennardJones(), replace(RAMP, velocities=False), tmp_path / "a")
    assert not read(without.trajectory, index=-1).has("momenta")
    with_them = run_dynamics(crystal, LennardJones(), RAMP, tmp_path / "b")
    assert read(with_them.trajectory, index=-1).has("momenta")


def test_checkpoint_of_an_older_version_is_taken_up(tmp_path, crystal):
    settings = replace(RAMP, to_temperature_k=None, ramp_steps=0, thermostat="nose-hoover")
    run_dynamics(crystal, LennardJones(), settings, tmp_path, should_stop=stop_after(30))
    now = read_checkpoint(tmp_path / CHECKPOINT)
    new = ("to_temperature_k", "ramp_steps", "velocities", "compact")
    known = {name: value for name, value in now.identity["settings"].items() if name not in new}
    numbers = {name: value for name, value in now.integrator.items() if name != "ramp_work_ev"}
    write_checkpoint(
        tmp_path / CHECKPOINT, replace(now, integrator=numbers, identity={**now.identity, "settings": known})
    )
    assert run_dynamics(crystal, LennardJones(), settings, tmp_path).resumed_from_step == now.step
