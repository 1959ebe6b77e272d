"""Configurational temperatures: of a canonical sample they are its temperature, of cold bonds they are cold."""

from dataclasses import replace

import numpy as np
import pytest
from ase import units
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta
from contracts.force_field.lennard_jones import mixed_crystal
from contracts.force_field.quantum_model import labelled_frames, small_quantum_model

from qiskit_qff.simulation.calculator import QFFCalculator
from qiskit_qff.structures.frame import Frame
from qiskit_qff.training.temperatures import FRAMES, configurational_temperatures, sampled


@pytest.fixture(scope="module")
def field():
    return small_quantum_model()


def frame_of(atoms):
    return Frame(numbers=atoms.numbers, positions=atoms.positions.copy(), cell=atoms.cell.array, pbc=atoms.pbc)


def test_a_canonical_sample_has_the_temperature_of_its_thermostat(field):
    rng = np.random.default_rng(3)
    atoms = mixed_crystal(2)
    atoms.calc = QFFCalculator(field)
    thermalize_momenta(atoms, temperature_K=30.0, rng=rng)
    dynamics = Langevin(atoms, 5.0 * units.fs, temperature_K=30.0, friction=0.02 / units.fs, rng=rng, fixcm=False)
    dynamics.run(200)
    sample = []
    for _ in range(40):
        dynamics.run(40)
        sample.append(frame_of(atoms))
    found = configurational_temperatures(field, sample, rng=rng)
    # 40 frames of 32 atoms: Langevin's own kinetic temperature is no more certain.
    assert found == {18: pytest.approx(30.0, rel=0.15), 36: pytest.approx(30.0, rel=0.15)}


def test_laplacians_are_those_of_finite_differences(field):
    frame = frame_of(mixed_crystal(1, seed=1, rattle=0.1))
    squares = (field.predict(frame).forces ** 2).sum(axis=1)
    laplacian = np.zeros(frame.n_atoms)
    for atom in range(frame.n_atoms):
        for axis in range(3):
            forces = []
            for step in (-1e-3, 1e-3):
                moved = frame.positions.copy()
                moved[atom, axis] += step
                forces.append(field.predict(replace(frame, positions=moved)).forces[atom, axis])
            laplacian[atom] += (forces[0] - forces[1]) / 2e-3
    found = configurational_temperatures(field, [frame] * 300, rng=np.random.default_rng(0))
    for number, temperature in found.items():
        own = frame.numbers == number
        assert temperature == pytest.approx(squares[own].sum() / laplacian[own].sum() / units.kB, rel=0.03)


def test_a_smaller_rattle_is_colder_and_a_perfect_crystal_has_no_temperature(field):
    rng = np.random.default_rng(0)
    heat = [
        configurational_temperatures(field, [frame_of(mixed_crystal(2, seed=4, rattle=rattle))], rng=rng)[18]
        for rattle in (0.03, 0.15)
    ]
    assert heat[0] < 0.1 * heat[1]


def test_training_writes_them_into_the_model(field):
    assert [m.domain.temperature for m in field.models] == pytest.approx(
        list(configurational_temperatures(field, labelled_frames(), rng=np.random.default_rng(1)).values()), rel=0.1
    )


def test_frames_are_sampled_in_equal_steps():
    assert sampled([*range(5)]) == (0, 1, 2, 3, 4)
    found = sampled([*range(1000)])
    assert (len(found), found[0], found[-1]) == (FRAMES, 0, 999)
    assert np.ptp(np.diff(found)) <= 1
