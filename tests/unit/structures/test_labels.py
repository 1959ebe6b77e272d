"""The names and forms under which energies, forces and stresses come."""

import numpy as np
import pytest
from ase import Atoms

from qiskit_qff.errors import DataError
from qiskit_qff.structures.frame import Frame, symmetric_tensor


def labels(values=None, arrays=None, volume=10.0):
    atoms = Atoms("H", cell=np.eye(3) * np.cbrt(volume), pbc=np.isfinite(volume)) if np.isfinite(volume) else Atoms("H")
    atoms.info.update(values or {})
    atoms.arrays.update({name: np.array(value, dtype=float) for name, value in (arrays or {}).items()})
    return Frame.from_atoms(atoms, source="x.xyz")


@pytest.mark.parametrize("name", ["energy", "Energy", "REF_energy", "dft_energy", "free_energy"])
def test_energy_names(name):
    assert labels({name: -1.5}).energy == -1.5
    assert labels({name: np.array([-1.5])}).energy == -1.5


@pytest.mark.parametrize("name", ["forces", "force", "REF_forces", "dft_force"])
def test_force_names(name):
    assert labels(arrays={name: [[1, 2, 3]]}).forces.tolist() == [[1, 2, 3]]


def test_virial_is_turned_into_a_stress():
    virial = np.diag([1.0, 2.0, 3.0])
    np.testing.assert_allclose(labels({"virial": virial}).stress, -virial / 10.0)
    np.testing.assert_allclose(labels({"stress": virial, "virial": virial}).stress, virial)


def test_voigt_and_skew_tensors_become_symmetric():
    tensor = symmetric_tensor(np.arange(6.0), name="stress", where="x")
    assert tensor.tolist() == [[0, 5, 4], [5, 1, 3], [4, 3, 2]]
    tensor = symmetric_tensor([0, 1, 0, 3, 0, 0, 0, 0, 0], name="stress", where="x")
    assert tensor[0, 1] == tensor[1, 0] == 2.0


@pytest.mark.parametrize("values", [{"energy": "low"}, {"energy": [1.0, 2.0]}, {"stress": [1, 2]}, {"stress": "a"}])
def test_labels_of_wrong_form_are_refused(values):
    with pytest.raises(DataError, match=r"x\.xyz, frame 0: '(energy|stress)' should be"):
        labels(values)
