"""Units and signs, found out from structures whose energies, forces and stresses are known exactly."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.similarity import similar_pairs
from qiskit_qff.structures.unit_checks import check_units, gather_evidence

BOHR, HARTREE, KCAL = 0.529177210903, 27.211386245988, 0.0433641042


def labelled(*, strain, seed=1, count=24):
    """Rattled copper and gold with EMT labels: a walk of small steps, with or without small changes of the cell."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Cu", cubic=True) * (2, 1, 1)
    atoms.numbers[::3] = 79
    atoms.set_cell(atoms.cell * 1.03, scale_atoms=True)
    atoms.calc = EMT()
    frames = []
    for index in range(count):
        atoms.set_cell(atoms.cell @ (np.eye(3) + strain * rng.normal(size=(3, 3))), scale_atoms=True)
        atoms.positions += rng.normal(0, 0.02, (len(atoms), 3)) * (strain == 0)
        atoms.get_forces()
        atoms.get_stress()
        frames.append(Frame.from_atoms(atoms, source="emt.xyz", index=index))
    return frames


def converted(frames, *, energy=1.0, forces=1.0, positions=1.0, stress=1.0):
    return [
        replace(
            frame,
            energy=frame.energy * energy,
            forces=frame.forces * forces,
            positions=frame.positions * positions,
            cell=frame.cell * positions,
            stress=frame.stress * stress,
        )
        for frame in frames
    ]


def evidence_of(frames):
    return gather_evidence(frames, similar_pairs(frames, tolerance=0.15))


def found(frames):
    return [(defect.code, defect.severity) for defect in check_units(evidence_of(frames), "emt.xyz")]


@pytest.fixture(scope="module")
def walk():
    return labelled(strain=0.0)


@pytest.fixture(scope="module")
def strained():
    return labelled(strain=0.003)


def test_right_units(walk, strained):
    evidence = evidence_of(walk)
    assert evidence.force_ratio == pytest.approx(1.0, abs=0.02)
    assert evidence.n_pairs >= 12
    assert 1.0 < evidence.curvature < 20.0
    assert evidence_of(strained).stress_ratio == pytest.approx(1.0, abs=0.05)
    assert found(walk) == found(strained) == []


@pytest.mark.parametrize(
    ("factors", "guess"),
    [
        ({"energy": 1 / HARTREE}, "energies in hartree and forces in eV/Å"),
        ({"forces": BOHR / HARTREE}, "energies in eV and forces in hartree/bohr"),
        ({"forces": BOHR}, "energies in eV and forces in eV/bohr"),
        ({"energy": 1 / HARTREE, "forces": BOHR / HARTREE}, "energies in hartree and forces in hartree/bohr"),
        ({"forces": 1 / KCAL}, "energies in eV and forces in kcal/mol/Å"),
        ({"energy": 1 / KCAL}, "energies in kcal/mol and forces in eV/Å"),
        ({"energy": 1e3}, "energies in meV and forces in eV/Å"),
    ],
)
def test_energies_and_forces_in_different_units_are_named(walk, factors, guess):
    (defect,) = check_units(evidence_of(converted(walk, **factors)), "emt.xyz")
    assert (defect.code, defect.severity) == ("energy-force-units", "error")
    assert guess in defect.remedy


def test_gradients_instead_of_forces(walk):
    assert found(converted(walk, forces=-1.0)) == [("force-sign", "error")]


def test_positions_in_bohr(walk):
    first, second = check_units(evidence_of(converted(walk, positions=1 / BOHR)), "emt.xyz")
    assert (first.code, second.code) == ("position-units", "energy-force-units")
    assert "bohr" in first.remedy
    assert second.remedy == "The unit of length explains it."


def test_everything_in_atomic_units(walk):
    atomic = converted(walk, energy=1 / HARTREE, forces=BOHR / HARTREE, positions=1 / BOHR)
    assert ("position-units", "error") in found(atomic)
    assert ("force-units", "warning") in found(atomic)


def test_everything_in_kcal_per_mol(walk):
    large = converted(walk, energy=20 / KCAL, forces=20 / KCAL)
    assert found(large) == [("force-units", "error")]


def test_fractional_coordinates_stored_as_positions(walk):
    frames = [replace(frame, positions=frame.positions @ np.linalg.inv(frame.cell)) for frame in walk]
    assert "fractional" in next(check_units(evidence_of(frames), "emt.xyz")).remedy


@pytest.mark.parametrize(("factor", "word"), [(160.2, "GPa"), (1602.0, "kbar"), (-1602.0, "kbar and the sign")])
def test_stress_in_other_units_or_sign(strained, factor, word):
    (defect,) = check_units(evidence_of(converted(strained, stress=factor)), "emt.xyz")
    assert (defect.code, defect.severity) == ("stress-units", "warning")
    assert word in defect.remedy


def test_stress_of_the_wrong_sign(strained):
    (defect,) = check_units(evidence_of(converted(strained, stress=-1.0)), "emt.xyz")
    assert "sign" in defect.remedy


def test_stress_is_judged_by_size_where_cells_are_equal(walk):
    (defect,) = check_units(evidence_of(converted(walk, stress=160.2)), "emt.xyz")
    assert defect.code == "stress-units"
    assert "GPa" in defect.message


def test_without_similar_frames_or_labels_nothing_is_claimed(walk):
    evidence = evidence_of([replace(frame, energy=None, forces=None) for frame in walk])
    assert (evidence.force_ratio, evidence.curvature, evidence.force_size) == (None, None, None)
    assert not list(check_units(evidence, "emt.xyz"))
    assert not list(check_units(evidence_of([]), "emt.xyz"))
    assert evidence_of(walk[:1]).force_ratio is None


def test_pairs_that_disagree_prove_nothing(walk):
    rng = np.random.default_rng(0)
    noisy = [replace(frame, energy=frame.energy + rng.normal()) for frame in walk]
    assert not [code for code, _ in found(noisy) if code in {"energy-force-units", "force-sign"}]
