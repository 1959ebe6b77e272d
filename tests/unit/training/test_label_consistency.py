"""Energies against forces: wrong signs and units are named, good data and data that can't tell never are."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from qiskit_qff.errors import DataError
from qiskit_qff.structures.dataset import read_shipped
from qiskit_qff.structures.frame import Frame
from qiskit_qff.training.label_consistency import check_label_consistency

BOHR, HARTREE, KCAL = 0.529177210903, 27.211386245988, 0.0433641042


def labelled(count: int, *, seed: int = 1, n_gold: int = 3) -> list[Frame]:
    """Rattled and strained copper and gold with EMT labels."""
    rng, frames = np.random.default_rng(seed), []
    for index in range(count):
        atoms = bulk("Cu", cubic=True) * (2, 1, 1)
        atoms.numbers[rng.permutation(8)[:n_gold]] = 79
        atoms.set_cell(1.03 * atoms.cell @ (np.eye(3) + 0.02 * rng.normal(size=(3, 3))), scale_atoms=True)
        atoms.positions += rng.normal(0, 0.12, (8, 3))
        atoms.calc = EMT()
        atoms.get_stress()
        frames.append(Frame.from_atoms(atoms, source="emt.xyz", index=index))
    return frames


def converted(frames, *, energy=1.0, forces=1.0):
    return [replace(frame, energy=frame.energy * energy, forces=frame.forces * forces) for frame in frames]


@pytest.fixture(scope="module")
def alloys() -> list[Frame]:
    return labelled(60)


def test_good_labels_are_near_one(alloys) -> None:
    (found,) = check_label_consistency(alloys)
    assert found.energy_factor == pytest.approx(1.0, abs=0.1)
    assert not found.unchecked


@pytest.mark.parametrize("name", ["limof5", "li6ps5cl", "limof5_nodes"])
def test_shipped_sets_are_checked_and_good(name) -> None:
    (found,) = check_label_consistency(read_shipped(name))
    assert 0.5 < found.energy_factor < 1.5


@pytest.mark.parametrize(
    ("factors", "told"),
    [
        ({"forces": -1.0}, -1.0),
        ({"energy": 1 / HARTREE}, 0.0367),
        ({"energy": 1 / KCAL}, 23.1),
        ({"forces": KCAL**-1}, 0.0434),
        ({"energy": 1 / 8}, 1 / 8),
        ({"forces": BOHR / HARTREE}, 51.4),
        ({"energy": 1 / HARTREE, "forces": BOHR / HARTREE}, 1.89),
        ({"energy": 96.485}, 96.5),
        ({"forces": 1000.0}, 0.001),
    ],
)
def test_wrong_labels_are_refused_with_the_factor_that_names_the_mistake(alloys, factors, told) -> None:
    with pytest.raises(DataError, match=r"^emt\.xyz: energies change by .* times what the forces predict") as caught:
        check_label_consistency(converted(alloys, **factors))
    words = str(caught.value)
    assert float(words.split("energies change by ")[1].split(maxsplit=1)[0]) == pytest.approx(told, rel=0.1)
    assert told == 1 / 8 or f"{told:g}: " in words or f"{told:g} " in words


@pytest.mark.parametrize(
    "factor", [1.0, -1.0, 160.2, 1 / 160.2, -130.0], ids=["good", "sign", "GPa", "1/GPa", "virial"]
)
def test_stresses_of_wrong_sign_or_unit_are_refused_where_they_are_fitted(alloys, factor) -> None:
    changed = [replace(frame, stress=factor * frame.stress) for frame in alloys]
    check_label_consistency(changed)
    if factor == 1.0:
        check_label_consistency(changed, stresses=True)
        return
    with pytest.raises(DataError, match=r"^emt\.xyz: stresses differ by .* positive under tension"):
        check_label_consistency(changed, stresses=True)


def test_an_energy_of_the_volume_alone_is_no_contradiction(alloys) -> None:
    """Forces act at a fixed cell and can't show it, however large it is."""
    middle = np.mean([frame.volume for frame in alloys])
    changed = [replace(frame, energy=frame.energy - 50.0 * (frame.volume / middle - 1.0)) for frame in alloys]
    (found,) = check_label_consistency(changed)
    assert found.energy_factor == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (lambda good: good[:6], "too few"),
        (lambda good: [replace(frame, energy=good[k - 1].energy) for k, frame in enumerate(good)], "energies"),
        (lambda good: [good[0]] * 30, "energies"),
        (lambda good: [replace(frame, forces=good[k - 1].forces) for k, frame in enumerate(good)], "explains only"),
    ],
    ids=["few", "other energies", "one geometry", "other forces"],
)
def test_where_data_cannot_tell_nothing_is_said(alloys, frames, reason) -> None:
    for sign in (1.0, -1.0):
        (found,) = check_label_consistency(converted(frames(alloys), forces=sign))
        assert reason in found.unchecked
        assert found.energy_factor is None
