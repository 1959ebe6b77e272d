"""Ions put into the pores of a framework at a given loading."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qiskit_qff.errors import DataError
from qiskit_qff.structures.building.charge_notes import insertion_note
from qiskit_qff.structures.building.configurations import Choices, Group, choose
from qiskit_qff.structures.building.crystal_symmetry import (
    Symmetry,
    permutations_of,
    separations,
    symmetry_of,
)
from qiskit_qff.structures.building.pore_sites import SNAP, SiteOrbit, SiteRules, find_sites
from qiskit_qff.structures.frame import Frame, Tag


@dataclass(frozen=True, eq=False)
class Places:
    """A framework and the places in it that ions may take."""

    frame: Frame
    """The framework."""
    symmetry: Symmetry
    """Its symmetry."""
    orbits: tuple[SiteOrbit, ...]
    """The kinds of places, those with most contacts first."""


@dataclass(frozen=True, eq=False)
class Insertion:
    """Frames with ions put in, and what there was to choose from."""

    frames: tuple[Frame, ...]
    """One per choice; the ions are the last atoms."""
    choices: Choices
    """The choices of places behind the frames."""
    note: str
    """What the loading means for the charge."""


def find_places(frame: Frame, rules: SiteRules, *, kinds: int, symprec: float = 1e-2) -> Places:
    """The places for ions in a framework.

    Args:
        frame: the framework, periodic in all directions.
        rules: what makes a point a place.
        kinds: how many kinds of places to use, those with most contacts first.
        symprec: symmetry tolerance in Å.

    Raises:
        DataError: if there is no place.
    """
    symmetry = symmetry_of(frame, symprec=symprec)
    return Places(
        frame=frame, symmetry=symmetry, orbits=tuple(find_sites(frame, symmetry, rules, limit=3 * kinds)[:kinds])
    )


def insert_ions(
    places: Places, ion: str, number: int, *, apart: float, count: int, rng: np.random.Generator
) -> Insertion:
    """Put ions into a framework, in ways that differ by symmetry.

    Args:
        places: the framework and its places.
        ion: element, such as ``Li``.
        number: ions per cell.
        apart: least distance between two ions, in Å.
        count: most ways.
        rng: random numbers, used where there are more ways than wanted.

    Raises:
        DataError: if there are not enough places.
    """
    frame, orbits = places.frame, places.orbits
    sites = np.concatenate([orbit.fractions for orbit in orbits])
    if len(sites) < number:
        raise DataError(
            f"{frame.where}: {number} {ion} asked for, but there are only {len(sites)} places in {len(orbits)} kinds. "
            "Use more kinds, a smaller spacing, or a larger cell."
        )
    permutations = permutations_of(sites, places.symmetry, frame.cell, tolerance=0.5 * SNAP)
    conflicts = separations(sites, frame.cell) < apart
    everything = Group(sites=tuple(range(len(sites))), take=number)
    choices = choose([everything], permutations, conflicts, limit=count, rng=rng)
    kind_of = np.repeat(np.arange(len(orbits)), [orbit.multiplicity for orbit in orbits])
    frames = []
    for choice in choices.chosen:
        taken = list(choice.sites)
        tags: dict[str, Tag] = {
            "build": "insert",
            "build_ion": ion,
            "build_number": number,
            "build_kinds": _kinds(kind_of[taken].tolist()),
            "build_multiplicity": choice.multiplicity,
        }
        positions = np.concatenate([frame.positions, sites[taken] @ frame.cell])
        numbers = np.concatenate([frame.numbers, np.full(number, _atomic_number(ion))])
        frames.append(
            Frame(
                numbers=numbers,
                positions=positions,
                cell=frame.cell,
                pbc=frame.pbc,
                source=frame.source,
                index=frame.index,
                tags={**frame.tags, **tags},
            )
        )
    return Insertion(
        frames=tuple(frames),
        choices=choices,
        note=insertion_note(frame, ion, number),
    )


def _atomic_number(symbol: str) -> int:
    """Atomic number of an element."""
    from ase.data import atomic_numbers

    return int(atomic_numbers[symbol])


def _kinds(kinds: Sequence[int]) -> str:
    """How many ions sit on each kind of place, for example ``0:3 2:1``."""
    return " ".join(f"{kind}:{kinds.count(kind)}" for kind in sorted(set(kinds)))
