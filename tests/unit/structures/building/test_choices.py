"""Choices of sites: counted against bracelets, and against a matcher of structures that knows no permutations."""

import itertools
import math

import numpy as np
import pytest

from qiskit_qff.errors import DataError
from qiskit_qff.structures.building.configurations import Group, choose
from qiskit_qff.structures.building.crystal_symmetry import permutations_of, separations, symmetry_of
from qiskit_qff.structures.building.supercells import supercell
from qiskit_qff.structures.building.vacancies import remove_atoms
from qiskit_qff.structures.frame import Frame

FREE = np.zeros((60, 60), dtype=bool)


def ring(n: int) -> np.ndarray:
    """The rotations and reflections of a ring of beads."""
    turns = [(np.arange(n) + k) % n for k in range(n)]
    return np.array(turns + [(-turn) % n for turn in turns])


def rock_salt(a: float = 5.64) -> Frame:
    fcc = np.array([(0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)])
    positions = a * np.concatenate([fcc, fcc + 0.5])
    return Frame(numbers=np.array([11] * 4 + [17] * 4), positions=positions, cell=a * np.eye(3), pbc=[True] * 3)


# Bracelets of n beads, k of them black: https://oeis.org/A052307
@pytest.mark.parametrize(("n", "k", "bracelets"), [(6, 3, 3), (8, 4, 8), (10, 5, 16), (12, 3, 12), (12, 6, 50)])
def test_rings_have_as_many_kinds_as_there_are_bracelets(rng, n, k, bracelets) -> None:
    found = choose([Group(tuple(range(n)), k)], ring(n), FREE[:n, :n], limit=10_000, rng=rng)
    assert found.complete
    assert len(found.chosen) == found.n_kinds == bracelets
    assert sum(choice.multiplicity for choice in found.chosen) == math.comb(n, k)


def test_conflicts_are_kept_and_too_many_refused(rng) -> None:
    neighbours = np.abs(np.subtract.outer(np.arange(8), np.arange(8))) % 8
    conflicts = (neighbours == 1) | (neighbours == 7)
    found = choose([Group(tuple(range(8)), 4)], ring(8), conflicts, limit=10, rng=rng)
    assert [choice.sites for choice in found.chosen] == [(0, 2, 4, 6)]
    assert found.chosen[0].multiplicity == 2
    with pytest.raises(DataError, match="far enough apart"):
        choose([Group(tuple(range(8)), 5)], ring(8), conflicts, limit=10, rng=rng)
    with pytest.raises(DataError, match="9 of 8 sites"):
        choose([Group(tuple(range(8)), 9)], ring(8), conflicts, limit=10, rng=rng)


def test_random_choices_differ_by_symmetry_and_follow_the_seed() -> None:
    n, k = 40, 8  # 77 million choices: drawn, not gone through
    group = [Group(tuple(range(n)), k)]
    apart = np.subtract.outer(np.arange(n), np.arange(n)) % n
    conflicts = np.isin(apart, (1, 2, n - 2, n - 1))
    first, again = (choose(group, ring(n), conflicts, limit=20, rng=np.random.default_rng(5)) for _ in range(2))
    assert first == again
    assert not first.complete
    assert first.n_kinds is None
    assert len({choice.sites for choice in first.chosen}) == 20
    for one, other in itertools.combinations(first.chosen, 2):
        images = {tuple(sorted(row)) for row in ring(n)[:, list(one.sites)].tolist()}
        assert other.sites not in images
    for choice in first.chosen:
        assert not conflicts[np.ix_(choice.sites, choice.sites)].any()


def test_vacancies_agree_with_a_structure_matcher(rng) -> None:
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core.structure import Structure

    crystal = supercell(rock_salt(), (2, 1, 1))
    chlorine = np.flatnonzero(crystal.numbers == 17)
    removal = remove_atoms(crystal, {"Cl": 2}, apart=0.0, count=100, rng=rng)

    def structure(frame: Frame) -> Structure:
        return Structure(frame.cell, frame.symbols, frame.positions, coords_are_cartesian=True)

    everything = []
    for pair in itertools.combinations(chlorine, 2):
        keep = np.setdiff1d(np.arange(crystal.n_atoms), pair)
        left = Frame(
            numbers=crystal.numbers[keep], positions=crystal.positions[keep], cell=crystal.cell, pbc=[True] * 3
        )
        everything.append(structure(left))
    matcher = StructureMatcher(scale=False, primitive_cell=False)
    groups = matcher.group_structures(everything)
    assert len(removal.frames) == len(groups)
    assert len(matcher.group_structures([structure(frame) for frame in removal.frames])) == len(groups)
    counts = sorted(int(frame.tags["build_multiplicity"]) for frame in removal.frames)
    assert counts == sorted(len(group) for group in groups)


def test_vacancies_tell_what_is_left_and_refuse_the_impossible(rng) -> None:
    removal = remove_atoms(rock_salt(), {"Na": 1, "Cl": 1}, apart=0.0, count=10, rng=rng)
    assert removal.space_group == "Fm-3m"
    assert {frame.n_atoms for frame in removal.frames} == {6}
    assert "together neutral" in removal.note
    assert "charge -2" in remove_atoms(rock_salt(), {"Na": 2}, apart=0.0, count=1, rng=rng).note
    assert "odd" in remove_atoms(rock_salt(), {"Na": 1}, apart=0.0, count=1, rng=rng).note
    with pytest.raises(DataError, match="only 4"):
        remove_atoms(rock_salt(), {"Na": 5}, apart=0.0, count=1, rng=rng)
    with pytest.raises(DataError, match="far enough apart"):
        remove_atoms(rock_salt(), {"Na": 3}, apart=4.5, count=1, rng=rng)


def test_permutations_and_separations_of_a_crystal() -> None:
    crystal = rock_salt()
    symmetry = symmetry_of(crystal)
    fractions = crystal.positions / 5.64
    permutations = permutations_of(fractions, symmetry, crystal.cell, tolerance=0.1)
    assert (np.sort(permutations, axis=1) == np.arange(8)).all()
    apart = separations(fractions, crystal.cell)
    assert apart[0, 4] == pytest.approx(5.64 * np.sqrt(3) / 2)
    assert apart[0, 1] == pytest.approx(5.64 / np.sqrt(2))
    assert apart.diagonal() == pytest.approx(5.64)
    with pytest.raises(DataError, match="not closed"):
        permutations_of(fractions[:3], symmetry, crystal.cell, tolerance=0.1)
