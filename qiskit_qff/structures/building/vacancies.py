"""Atoms taken out of a crystal, in ways that differ by symmetry."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qiskit_qff.errors import DataError
from qiskit_qff.structures.building.charge_notes import removal_note
from qiskit_qff.structures.building.configurations import Choices, Group, choose
from qiskit_qff.structures.building.crystal_symmetry import fractional, permutations_of, separations, symmetry_of
from qiskit_qff.structures.frame import Frame, Tag


@dataclass(frozen=True, eq=False)
class Removal:
    """Frames with atoms taken out, and what there was to choose from."""

    frames: tuple[Frame, ...]
    """One per choice; the order of the atoms that stay is kept."""
    space_group: str
    """International symbol of the crystal's space group."""
    choices: Choices
    """Choices among the atoms of the removed elements, in the order of the file."""
    note: str
    """What the removal means for the charge."""


def remove_atoms(
    frame: Frame,
    removed: Mapping[str, int],
    *,
    apart: float,
    count: int,
    rng: np.random.Generator,
    symprec: float = 1e-2,
) -> Removal:
    """Take atoms out, in ways that differ by symmetry.

    Args:
        frame: periodic in all directions.
        removed: how many atoms of which element.
        apart: least distance between two vacancies, in Å; 0 for any.
        count: most ways.
        rng: random numbers, used where there are more ways than wanted.
        symprec: symmetry tolerance in Å. A snapshot of molecular dynamics has no symmetry: all ways differ.

    Raises:
        DataError: if there are not as many atoms, or nothing would be left.
    """
    symbols = np.array(frame.symbols)
    for element, number in removed.items():
        there = int((symbols == element).sum())
        if number > there:
            raise DataError(f"{frame.where}: {number} {element} to be removed, but there are only {there}.")
    if sum(removed.values()) >= frame.n_atoms:
        raise DataError(f"{frame.where}: all {frame.n_atoms} atoms would be removed. Keep at least one.")
    symmetry = symmetry_of(frame, symprec=symprec)
    members = np.flatnonzero(np.isin(symbols, list(removed)))
    fractions = fractional(frame)[members]
    permutations = permutations_of(fractions, symmetry, frame.cell, tolerance=10.0 * symprec)
    groups = [
        Group(sites=tuple(np.flatnonzero(symbols[members] == element).tolist()), take=number)
        for element, number in removed.items()
    ]
    conflicts = separations(fractions, frame.cell) < apart
    choices = choose(groups, permutations, conflicts, limit=count, rng=rng)
    frames = []
    for choice in choices.chosen:
        gone = members[list(choice.sites)]
        keep = np.setdiff1d(np.arange(frame.n_atoms), gone)
        tags: dict[str, Tag] = {
            "build": "vacancies",
            "build_removed": " ".join(f"{element}:{number}" for element, number in removed.items()),
            "build_removed_atoms": " ".join(f"{symbols[atom]}{atom}" for atom in gone),
            "build_multiplicity": choice.multiplicity,
        }
        frames.append(
            Frame(
                numbers=frame.numbers[keep],
                positions=frame.positions[keep],
                cell=frame.cell,
                pbc=frame.pbc,
                source=frame.source,
                index=frame.index,
                tags={**frame.tags, **tags},
            )
        )
    note = removal_note(frame, removed)
    return Removal(frames=tuple(frames), space_group=symmetry.name, choices=choices, note=note)
