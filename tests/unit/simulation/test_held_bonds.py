"""Walls on bonds: derivatives, no effect where bonds are sound, and bonds that last where they would break."""

from dataclasses import dataclass

import numpy as np
import pytest
from ase import Atoms
from contracts.force_field.lennard_jones import LennardJones, mixed_crystal
from hypothesis import given
from hypothesis import strategies as st

from qiskit_qff.errors import ConfigError
from qiskit_qff.model.prediction import Prediction
from qiskit_qff.simulation.bonds import bond_report, first_bonds
from qiskit_qff.simulation.calculator import QFFCalculator
from qiskit_qff.simulation.dynamics import run_dynamics
from qiskit_qff.simulation.held_bonds import REST, HeldBonds
from qiskit_qff.simulation.recording import read_log
from qiskit_qff.simulation.settings import MDSettings
from qiskit_qff.simulation.trajectory import read_trajectory
from qiskit_qff.structures.shipped import read_shipped


@dataclass(frozen=True)
class Apart:
    """A potential that pushes all atoms but lithium away from the middle of the cell."""

    pull: float = 0.4
    species: tuple[int, ...] = (3, 6, 8)
    cutoff: float = 9.0

    def evaluate(self, numbers, positions, cell, _pbc, _neighbors):
        away = np.where(numbers[:, None] == 3, 0.0, positions - 0.5 * cell.sum(axis=0))
        energies = -0.5 * self.pull * (away**2).sum(axis=1)
        return Prediction(energies, self.pull * away, np.zeros((3, 3)))


def molecules() -> Atoms:
    """CO2 across a border of the cell, and a lithium ion beside it that has no bond."""
    atoms = Atoms(
        "CO2Li", positions=[[9.8, 5, 5], [8.6, 5, 5.1], [11.0, 5.1, 5], [9.8, 6.9, 5]], cell=3 * [10], pbc=True
    )
    atoms.wrap()
    return atoms


@given(seed=st.integers(0, 1000), size=st.floats(0.2, 0.8))
def test_forces_and_stress_are_derivatives(seed, size):
    atoms, rng, step = molecules(), np.random.default_rng(seed), 1e-5
    held = HeldBonds.of(Apart(), atoms)
    atoms.positions += size * rng.standard_normal(atoms.positions.shape)
    atoms.calc = QFFCalculator(held)
    forces, stress = atoms.get_forces(), atoms.get_stress(voigt=False)
    push, strain = rng.standard_normal(atoms.positions.shape), rng.standard_normal((3, 3))
    strain += strain.T

    def walls(positions, cell):
        energies = [one.evaluate(atoms.numbers, positions, cell, atoms.pbc, None).energy for one in (held, Apart())]
        return energies[0] - energies[1]

    places, cell = atoms.positions, atoms.cell.array
    wall_forces = forces - Apart().evaluate(atoms.numbers, places, cell, atoms.pbc, None).forces
    slope = (walls(places + step * push, cell) - walls(places - step * push, cell)) / (2 * step)
    assert -slope == pytest.approx((wall_forces * push).sum(), rel=1e-4, abs=1e-4)
    grown, shrunk = np.eye(3) + step * strain, np.eye(3) - step * strain
    slope = (walls(places @ grown, cell @ grown) - walls(places @ shrunk, cell @ shrunk)) / (2 * step)
    assert slope == pytest.approx((stress * strain).sum() * atoms.get_volume(), rel=1e-4, abs=1e-4)
    assert atoms.get_potential_energies().sum() == pytest.approx(atoms.get_potential_energy())


def test_only_bonds_and_only_beyond_their_rest():
    atoms = molecules()
    held = HeldBonds.of(Apart(), atoms)
    bonds = first_bonds(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
    assert {tuple(sorted(pair)) for pair in zip(bonds.first, bonds.second, strict=True)} == {(0, 1), (0, 2)}
    np.testing.assert_allclose(bonds.lengths, 1.2, atol=0.01)
    for stretch, felt in ((1.0, 0.0), (REST - 0.01, 0.0), (REST + 0.1, None)):
        there = atoms.positions.copy()
        there[1, 0] -= (stretch - 1.0) * 1.2
        found = held.evaluate(atoms.numbers, there, atoms.cell.array, atoms.pbc, None)
        bare = Apart().evaluate(atoms.numbers, there, atoms.cell.array, atoms.pbc, None)
        if felt == 0.0:
            assert found.energy == bare.energy
            np.testing.assert_array_equal(found.forces, bare.forces)
        else:
            assert found.energy - bare.energy == pytest.approx(4.0 * 0.5**2, rel=0.05)
            np.testing.assert_allclose((found.forces - bare.forces).sum(axis=0), 0.0, atol=1e-12)
        assert held.walls(there, atoms.cell.array) == pytest.approx(found.energy - bare.energy)


@pytest.mark.parametrize("held", [False, True])
def test_bonds_last_where_they_would_break(tmp_path, held):
    settings = MDSettings(temperature_k=50.0, steps=800, timestep_fs=0.1, ensemble="nve", interval=20,
                          maximum_temperature_k=1e6)  # fmt: skip
    potential = Apart(pull=0.2)
    potential = HeldBonds.of(potential, molecules()) if held else potential
    found = run_dynamics(molecules(), potential, settings, tmp_path / "run")
    report = bond_report(read_trajectory(found.trajectory))
    assert report.n_bonds == 2
    assert (len(report.broken) == 0) == held
    if held:
        frames = read_trajectory(found.trajectory)
        largest = max(potential.walls(*frame) for frame in zip(frames.positions, frames.cells, strict=True))
        assert largest > 0.1
        energies = read_log(tmp_path / "run" / "log.csv")["conserved_ev"]
        assert np.ptp(energies) < 1e-3 * largest


def test_nothing_changes_where_nothing_stretches(tmp_path):
    with pytest.raises(ConfigError, match="no bonds to hold"):
        HeldBonds.of(LennardJones(), mixed_crystal(3))
    settings, still = MDSettings(temperature_k=50.0, steps=20, timestep_fs=0.5, interval=5), Apart(pull=0.0)
    for name, potential in (("free", still), ("held", HeldBonds.of(still, molecules()))):
        run_dynamics(molecules(), potential, settings, tmp_path / name)
    for file in ("trajectory.extxyz", "log.csv"):
        assert (tmp_path / "held" / file).read_bytes() == (tmp_path / "free" / file).read_bytes()


def test_a_hot_snapshot_holds_the_same_bonds_as_one_at_rest():
    frames = [frame.to_atoms() for frame in read_shipped()[:3]]
    whole = {"C-C": 48, "C-H": 24, "C-O": 24, "O-Zn": 32}  # one oxygen in 32 is 2.34 Å from its zinc in the first
    potentials = [HeldBonds.of(Apart(species=(1, 3, 6, 8, 30)), atoms) for atoms in frames]
    assert [held.counts for held in potentials] == [whole] * 3
    doubled = HeldBonds.of(Apart(), frames[0] * (2, 1, 1))
    assert doubled.counts == {pair: 2 * count for pair, count in whole.items()}
    assert doubled.walls((frames[0] * (2, 1, 1)).positions, np.diag([2.0, 1.0, 1.0]) @ frames[0].cell.array) == 0.0
    for held, atoms in zip(potentials, frames, strict=True):
        assert held.walls(atoms.positions, atoms.cell.array) == 0.0
