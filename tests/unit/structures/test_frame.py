"""A frame and its ways in from ASE and pymatgen and back."""

import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from pymatgen.core import Lattice, Molecule, Structure

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


def test_pymatgen_structure_with_labels():
    structure = Structure(
        Lattice.from_parameters(4.0, 4.1, 4.2, 80, 90, 100),
        ["Na+", "Cl-"],
        [[0, 0, 0], [0.5, 0.5, 0.5]],
        site_properties={"forces": [[0, 0, 1.0], [0, 0, -1.0]]},
        properties={"energy": -3.5, "stress": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "replica": "B"},
    )
    frame = Frame.from_pymatgen(structure, source="x", index=2)
    assert frame.symbols == ["Na", "Cl"]
    assert frame.energy == -3.5
    assert frame.forces[1, 2] == -1.0
    np.testing.assert_array_equal(frame.stress, [[1, 6, 5], [6, 2, 4], [5, 4, 3]])
    np.testing.assert_allclose(frame.positions, structure.cart_coords)
    assert frame.tags == {"replica": "B"}
    assert frame.pbc.all()


def test_pymatgen_molecule_has_no_periods():
    frame = Frame.from_pymatgen(Molecule(["O", "H"], [[0, 0, 0], [0, 0, 0.96]]))
    assert not frame.pbc.any()
    assert np.isnan(frame.volume)
    assert frame.forces is None
