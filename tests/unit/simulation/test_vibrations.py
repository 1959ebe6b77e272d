"""Velocity autocorrelation and density of states against harmonic crystals with known frequencies."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.data import atomic_masses

from qiskit_qff.errors import DataError
from qiskit_qff.simulation.dynamics import run_dynamics
from qiskit_qff.simulation.settings import MDSettings
from qiskit_qff.simulation.trajectory import Snapshot, SnapshotStream, stream_trajectory
from qiskit_qff.simulation.vibrations import PER_CM, VelocityCorrelator


def spring_crystal():
    """Rock salt with springs between nearest and second neighbours: atoms, and the normal modes in THz."""
    atoms = bulk("LiF", "rocksalt", a=4.0, cubic=True) * 2
    n = len(atoms)
    hessian = np.zeros((n, 3, n, 3))
    vectors = atoms.get_all_distances(mic=True, vector=True)
    distances = np.linalg.norm(vectors, axis=2)
    for reach, stiffness in ((2.0, 4.0), (2.0 * np.sqrt(2.0), 1.0)):
        for i, j in np.argwhere(np.abs(distances - reach) < 0.01):
            along = vectors[i, j] / distances[i, j]
            spring = stiffness * np.outer(along, along)
            hessian[i, :, i, :] += spring
            hessian[i, :, j, :] -= spring
    roots = np.repeat(np.sqrt(atomic_masses[atoms.numbers]), 3)
    squares, modes = np.linalg.eigh(hessian.reshape(3 * n, 3 * n) / np.outer(roots, roots))
    stiffness = hessian.reshape(3 * n, 3 * n)
    return atoms, np.sqrt(np.maximum(squares, 0.0)) / (2 * np.pi) * 1e3 * units.fs, modes, stiffness


@dataclass
class Springs:
    """A harmonic potential about the first positions it sees."""

    stiffness: np.ndarray
    rest: np.ndarray
    species: tuple = (3, 9)
    cutoff: float = 3.0

    def evaluate(self, numbers, positions, cell, pbc, neighbors):
        del numbers, cell, pbc, neighbors
        moves = (positions - self.rest).ravel()
        forces = -self.stiffness @ moves
        energy = -0.5 * float(moves @ forces)
        shape = self.rest.shape
        return SimpleNamespace(
            energy=energy, energies=np.full(shape[0], energy / shape[0]), forces=forces.reshape(shape),
            virial=np.zeros((3, 3)),
        )  # fmt: skip


def motion(atoms, frequencies, modes, *, spacing_ps, n_frames, rng):
    """Snapshots of all modes with the same energy and random phases."""
    roots = np.repeat(np.sqrt(atomic_masses[atoms.numbers]), 3)
    moving = frequencies > 1e-3
    phases = 2 * np.pi * rng.random(moving.sum())
    snapshots = (
        Snapshot(
            positions=atoms.positions,
            cell=atoms.cell.array,
            time_ps=k * spacing_ps,
            velocities=(
                modes[:, moving] @ np.cos(phases + 2 * np.pi * frequencies[moving] * k * spacing_ps) / roots
            ).reshape(-1, 3),
        )
        for k in range(n_frames)
    )
    return SnapshotStream(atoms.numbers.astype(np.int64), atoms.pbc, n_frames, snapshots)


def gather(stream, **options):
    correlator = VelocityCorrelator(stream, **options)
    for snapshot in stream.snapshots:
        correlator.add(snapshot)
    return correlator.result()


@pytest.fixture(scope="module")
def found():
    crystal = spring_crystal()[:3]
    stream = motion(*crystal, spacing_ps=0.005, n_frames=3000, rng=np.random.default_rng(2))
    return *crystal, gather(stream, resolution_thz=0.25)


def test_density_counts_the_modes_of_a_harmonic_crystal(found):
    atoms, frequencies, _, result = found
    total = sum(result.density.values())
    assert np.trapezoid(total, result.frequency_thz) == pytest.approx(3 * len(atoms) - 3)
    counted = np.concatenate([[0.0], np.cumsum(0.5 * (total[1:] + total[:-1]) * np.diff(result.frequency_thz))])
    levels = np.unique(np.round(frequencies[frequencies > 1e-3], 6))
    gaps = np.diff(levels)
    assert (gaps > 1.5).sum() >= 3  # places where the count stands still
    for below, gap in zip(levels[:-1][gaps > 1.5], gaps[gaps > 1.5], strict=True):
        middle = below + 0.5 * gap
        exact = ((frequencies > 1e-3) & (frequencies < middle)).sum()
        assert np.interp(middle, result.frequency_thz, counted) == pytest.approx(exact, rel=0.03)


def test_share_of_elements_is_that_of_the_modes(found):
    atoms, frequencies, modes, result = found
    is_li = np.repeat(atoms.numbers == 3, 3)
    exact = (modes[is_li][:, frequencies > 1e-3] ** 2).sum()
    assert np.trapezoid(result.density["Li"], result.frequency_thz) == pytest.approx(exact, rel=0.02)


def test_correlation_is_the_sum_of_cosines(found):
    atoms, frequencies, modes, result = found
    is_li = np.repeat(atoms.numbers == 3, 3)
    moving = frequencies > 1e-3
    shares = (modes[is_li][:, moving] ** 2).sum(axis=0)
    exact = np.cos(2 * np.pi * np.outer(result.lag_ps, frequencies[moving])) @ shares / shares.sum()
    early = result.lag_ps < 0.5
    assert result.correlation["Li"][0] == 1.0
    np.testing.assert_allclose(result.correlation["Li"][early], exact[early], atol=0.04)


def test_one_frequency_is_found_within_the_resolution(rng):
    atoms = bulk("Cu", cubic=True)
    directions = rng.standard_normal((4, 3))
    directions -= directions.mean(axis=0)
    for frequency in (3.3, 17.05):
        snapshots = (
            Snapshot(atoms.positions, atoms.cell.array, 0.01 * k, directions * np.cos(0.02 * np.pi * frequency * k))
            for k in range(1000)
        )
        stream = SnapshotStream(atoms.numbers.astype(np.int64), atoms.pbc, 1000, snapshots)
        result = gather(stream, resolution_thz=0.2)
        peak = result.frequency_thz[result.density["Cu"].argmax()]
        assert peak == pytest.approx(frequency, abs=result.resolution_thz)
        assert result.highest_thz == pytest.approx(50.0)
    assert pytest.approx(1e12 / 2.99792458e10) == PER_CM


def test_molecular_dynamics_of_springs_has_their_frequencies(tmp_path):
    """From run_dynamics through the file: time steps, units of momenta and the place of every frequency."""
    atoms, frequencies, _, stiffness = spring_crystal()
    springs = Springs(stiffness, atoms.get_positions())
    settings = MDSettings(temperature_k=300.0, steps=2000, timestep_fs=1.0, ensemble="nve", interval=4, compact=True)
    summary = run_dynamics(atoms, springs, settings, tmp_path)
    stream = stream_trajectory(summary.trajectory)
    first = next(stream.snapshots)
    kinetic = 0.5 * (atomic_masses[stream.numbers] * (first.velocities**2).sum(axis=1)).sum()  # u Å²/ps²
    assert kinetic * 1.0364269e-4 == pytest.approx(1.5 * (len(atoms) - 1) * units.kB * 300.0, rel=1e-3)
    result = gather(stream_trajectory(summary.trajectory), resolution_thz=0.4)
    total = sum(result.density.values())
    near = np.abs(result.frequency_thz[:, None] - frequencies[frequencies > 1e-3]).min(axis=1)
    assert total[near < 2.0 * result.resolution_thz].sum() > 0.97 * total.sum()
    assert (near > 2.0 * result.resolution_thz).sum() > 0.5 * len(near)


def test_what_cannot_be_read(rng):
    crystal = spring_crystal()[:3]
    with pytest.raises(DataError, match="too few"):
        gather(motion(*crystal, spacing_ps=0.01, n_frames=10, rng=rng))
    stream = motion(*crystal, spacing_ps=0.01, n_frames=40, rng=rng)
    still = (Snapshot(one.positions, one.cell, one.time_ps) for one in stream.snapshots)
    with pytest.raises(DataError, match="no velocities"):
        gather(SnapshotStream(stream.numbers, stream.pbc, 40, still))
