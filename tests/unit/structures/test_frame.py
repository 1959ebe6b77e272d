"""A frame and its way in from ASE and back."""

import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from qiskit_qff.structures.frame import Frame


def test_round_trip_through_ase_keeps_everything(make_salt):
    frame = make_salt(tags={"replica": "A", "temperature_K": 300.0, "step": 4, "good": True})
    back = Frame.from_atoms(frame.to_atoms(), source="salt.extxyz")
    for name in ("numbers", "positions", "cell", "pbc", "forces"):
        np.testing.assert_array_equal(getattr(back, name), getattr(frame, name))
    np.testing.assert_allclose(back.stress, frame.stress, atol=1e-15)
    assert back.energy == frame.energy
    assert back.tags == frame.tags
    assert back.where == "salt.extxyz, frame 0"


def test_labels_of_moved_atoms_are_not_believed():
    atoms = bulk("Cu", cubic=True)
    atoms.calc = EMT()
    atoms.get_forces()
    assert Frame.from_atoms(atoms).energy is not None
    atoms.rattle(0.1)
    moved = Frame.from_atoms(atoms)
    assert moved.energy is None
    assert moved.forces is None


def test_forces_are_those_calculated_not_those_of_constrained_atoms():
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.set_constraint(FixAtoms([0, 1]))
    atoms.calc = EMT()
    atoms.get_forces()
    assert np.abs(Frame.from_atoms(atoms).forces[0]).max() > 0.01
