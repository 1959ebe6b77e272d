"""The physics contract, on the quantum force field and the Lennard-Jones reference."""

import numpy as np
import pytest
from ase.build import bulk
from contracts.force_field import contract
from contracts.force_field.lennard_jones import LennardJones, mixed_crystal
from contracts.force_field.quantum_model import small_quantum_model
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

POTENTIALS = ("lennard-jones", "quantum")
few = settings(max_examples=15, deadline=None)


@pytest.fixture(scope="module")
def quantum():
    return small_quantum_model()


@pytest.fixture(params=POTENTIALS, scope="module")
def potential(request):
    return LennardJones(cutoff=5.0) if request.param == "lennard-jones" else request.getfixturevalue(request.param)


def triclinic():
    """Two atoms in a skewed cell smaller than the cutoff."""
    atoms = bulk("Ar", a=5.5) * (1, 1, 2)
    atoms.numbers[1] = 36
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.03 * np.arange(9).reshape(3, 3) / 8), scale_atoms=True)
    atoms.positions[1] += [0.2, -0.1, 0.15]
    return atoms


def slab():
    atoms = triclinic()
    atoms.pbc = (True, True, False)
    return atoms


def cluster():
    atoms = mixed_crystal(2, rattle=0.2)[:9]
    atoms.cell, atoms.pbc = None, False
    return atoms


def squeezed(distance):
    """Two atoms closer than in any training frame."""
    atoms = cluster()
    atoms.positions[1] = atoms.positions[0] + distance * np.array([2.5, 1.0, 0.9]) / np.sqrt(8.06)
    return atoms


STRUCTURES = {"triclinic": triclinic, "slab": slab, "cluster": cluster}


@pytest.mark.parametrize("structure", ["triclinic", "slab", "cluster"])
def test_forces(potential, structure):
    contract.check_forces(potential, STRUCTURES[structure]())


def test_forces_with_core_repulsion(quantum):
    """In the high part, and in the low one, where channels have levelled off."""
    for distance in (1.5, 2.5):
        contract.check_forces(quantum, squeezed(distance))
    contract.check_virial(quantum, squeezed(1.5))
    assert 1.5 < quantum.repulsion.outer.min() < 2.5 < quantum.repulsion.level.min()


def test_forces_where_channels_level_off(quantum):
    """Within the levelling, and astride of where it begins."""
    a, b = (quantum.species.index(z) for z in cluster().numbers[:2])
    start = quantum.repulsion.level[a, b]
    for distance in (0.97 * start, start - 1e-6, start + 1e-6):
        contract.check_forces(quantum, squeezed(distance))


@pytest.mark.parametrize("structure", ["triclinic", "cluster"])
def test_virial(potential, structure):
    contract.check_virial(potential, STRUCTURES[structure]())


@pytest.mark.parametrize("structure", ["triclinic", "slab", "cluster"])
def test_sums(potential, structure):
    contract.check_sums(potential, STRUCTURES[structure]())


@few
@given(seed=st.integers(0, 2**31), structure=st.sampled_from(["triclinic", "cluster"]))
def test_rotation(potential, seed, structure):
    rotation = Rotation.random(rng=np.random.default_rng(seed)).as_matrix()
    contract.check_rotation(potential, STRUCTURES[structure](), rotation)


@few
@given(shift=st.tuples(*[st.floats(-20.0, 20.0)] * 3), structure=st.sampled_from(["triclinic", "slab", "cluster"]))
def test_translation(potential, shift, structure):
    contract.check_translation(potential, STRUCTURES[structure](), np.array(shift))


@few
@given(order=st.permutations(range(9)))
def test_permutation(potential, order):
    contract.check_permutation(potential, cluster(), list(order))


def test_isolated_atoms(potential):
    contract.check_isolated_atoms(potential)


def test_cutoff_crossing(potential):
    contract.check_cutoff_crossing(potential)


@pytest.mark.parametrize("structure", ["triclinic", "slab"])
def test_supercell(potential, structure):
    contract.check_supercell(potential, STRUCTURES[structure]())


def test_energy_conservation(potential, tmp_path):
    atoms = mixed_crystal(2, rattle=0.05)
    contract.check_energy_conservation(potential, atoms, tmp_path, temperature_k=40.0, timestep_fs=5.0)
