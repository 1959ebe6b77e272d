"""Ordered structures from a crystal whose sites are partly occupied, as refined by diffraction.

A site with occupancies {Li: 0.5} is filled in half of the cells; a site with {Ge: 0.5, P: 0.5} holds one or the
other. Sites of the same occupancies form a group, and each group gets whole numbers of atoms: the occupancy times the
number of sites, rounded. Which sites they take is chosen as for vacancies: no two closer than allowed, and no two
choices the same by symmetry of the average structure.
"""

import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from qiskit_qff.errors import ConfigError, DataError
from qiskit_qff.structures.building.configurations import Choices, Group, choose
from qiskit_qff.structures.building.crystal_symmetry import permutations_of, separations, symmetry_of
from qiskit_qff.structures.frame import Frame, Tag

if TYPE_CHECKING:
    from pymatgen.core.structure import Structure

FULL = 0.999
"""Occupancies from here on count as full."""
_ROUNDED = 0.02
"""Occupancies that whole numbers of atoms change by more than this are told; refined ones are no surer."""


@dataclass(frozen=True, eq=False)
class Ordering:
    """Ordered frames, and what there was to choose from."""

    frames: tuple[Frame, ...]
    """One per choice."""
    space_group: str
    """International symbol of the average structure's space group."""
    choices: Choices
    """The choices of sites behind the frames."""
    groups: tuple[str, ...]
    """What became of each group of sites, for example ``Li 0.50 on 48 sites: 24 atoms``."""


def read_cif(path: Path) -> tuple["Structure", list[str]]:
    """The structure of a CIF file, partial occupancies included, and what pymatgen found odd about the file.

    Raises:
        DataError: if the file can't be read as CIF.
    """
    from pymatgen.core.structure import Structure

    if not path.is_file():
        raise DataError(f"{path}: no such file. Check the path; relative paths start at {Path.cwd()}.")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            structure = Structure.from_file(path)
    except Exception as error:  # noqa: BLE001 - pymatgen raises whatever its code meets in a damaged file
        raise DataError(
            f"{path}: can't be read as CIF ({type(error).__name__}: {str(error).strip()[:200]}). "
            "Check the file, or convert it to extended XYZ."
        ) from None
    notes = [str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)]
    return structure, notes


def order_sites(
    structure: "Structure",
    *,
    apart: float,
    count: int,
    rng: np.random.Generator,
    symprec: float = 1e-2,
    source: str = "",
) -> Ordering:
    """Ordered structures that differ by symmetry.

    Args:
        structure: with partial occupancies; at most two elements, or one and a vacancy, share a site.
        apart: least distance between atoms on partly occupied sites, in Å.
        count: most structures.
        rng: random numbers, used where there are more choices than wanted.
        symprec: symmetry tolerance in Å.
        source: file that the structure came from.

    Raises:
        ConfigError: if nothing is to be ordered, or a site is shared by more than the above.
        DataError: if no choice keeps the distances.
    """
    occupants = [{str(species.symbol): float(share) for species, share in site.species.items()} for site in structure]
    kinds = [tuple(sorted(shares.items())) for shares in occupants]
    names = list(dict.fromkeys(kinds))
    cell = np.array(structure.lattice.matrix)
    fractions = np.array(structure.frac_coords)
    average = Frame(
        numbers=np.array([names.index(kind) + 1 for kind in kinds]),
        positions=fractions @ cell,
        cell=cell,
        pbc=np.ones(3, dtype=bool),
        source=source,
    )
    symmetry = symmetry_of(average, symprec=symprec)
    partial = [index for index, kind in enumerate(kinds) if len(kind) > 1 or kind[0][1] < FULL]
    if not partial:
        raise ConfigError(f"{source or 'structure'}: all sites are fully occupied; there is nothing to order.")
    plans = [_plan(name, [at for at, index in enumerate(partial) if kinds[index] == name])
             for name in names if any(kinds[index] == name for index in partial)]  # fmt: skip
    sites = fractions[partial]
    permutations = permutations_of(sites, symmetry, cell, tolerance=10.0 * symprec)
    conflicts = _conflicts(plans, separations(sites, cell), apart)
    choices = choose([plan.group for plan in plans], permutations, conflicts, limit=count, rng=rng)
    elements = np.array([kind[0][0] for kind in kinds], dtype=object)
    frames = []
    for choice in choices.chosen:
        symbols = elements.copy()
        for plan in plans:
            for at in plan.group.sites:
                symbols[partial[at]] = plan.taken if at in choice.sites else plan.rest
        keep = np.array([symbol is not None for symbol in symbols])
        tags: dict[str, Tag] = {"build": "order", "build_multiplicity": choice.multiplicity}
        frames.append(_frame(symbols[keep], fractions[keep] @ cell, cell, source=source, tags=tags))
    return Ordering(
        frames=tuple(frames),
        space_group=symmetry.name,
        choices=choices,
        groups=tuple(plan.words for plan in plans),
    )


@dataclass(frozen=True)
class _Plan:
    """What becomes of the sites of one group."""

    group: Group
    """Which sites, counted among the partly occupied ones, and how many of them are taken."""
    taken: str
    """The element on those taken."""
    rest: str | None
    """The element on the others, None for a vacancy."""
    words: str
    """The same in words."""


def _plan(kind: tuple[tuple[str, float], ...], sites: list[int]) -> _Plan:
    """Whole numbers of atoms for a group of sites.

    Raises:
        ConfigError: if more than two share its sites.
    """
    total = sum(share for _, share in kind)
    if len(kind) > 2 or (len(kind) == 2 and total < FULL):
        shared = ", ".join(f"{element} {share:.2f}" for element, share in kind)
        raise ConfigError(
            f"a site is shared by {shared}{'' if total >= FULL else ' and a vacancy'}; at most two can be ordered "
            "here. Order it with pymatgen's OrderDisorderedStructureTransformation first."
        )
    element, share = min(kind, key=lambda entry: entry[1])
    rest = next((other for other, _ in kind if other != element), None)
    take = round(share * len(sites))
    words = f"{element} {share:.2f} on {len(sites)} sites: {take} atoms"
    if rest is not None:
        words += f", {len(sites) - take} {rest}"
    if abs(take / len(sites) - share) > _ROUNDED:
        words += f" ({take / len(sites):.2f}: the cell is too small for the composition; order a supercell)"
    return _Plan(Group(sites=tuple(sites), take=take), element, rest, words)


def _conflicts(plans: list[_Plan], distances: NDArray[np.float64], apart: float) -> NDArray[np.bool_]:
    """Which sites can't both be taken: too close, unless a second element fills what the first leaves."""
    is_vacancy = np.zeros(len(distances), dtype=bool)
    for plan in plans:
        is_vacancy[list(plan.group.sites)] = plan.rest is None
    conflicts: NDArray[np.bool_] = (distances < apart) & is_vacancy[:, None] & is_vacancy[None, :]
    return conflicts


def _frame(
    symbols: NDArray[np.object_],
    positions: NDArray[np.float64],
    cell: NDArray[np.float64],
    *,
    source: str,
    tags: dict[str, Tag],
) -> Frame:
    """A frame with its atoms sorted by element, in the order of first appearance."""
    from ase.data import atomic_numbers

    first = {symbol: place for place, symbol in enumerate(Counter(symbols.tolist()))}
    order = np.argsort([first[symbol] for symbol in symbols], kind="stable")
    return Frame(
        numbers=np.array([atomic_numbers[symbol] for symbol in symbols[order]]),
        positions=positions[order],
        cell=cell,
        pbc=np.ones(3, dtype=bool),
        source=source,
        tags=dict(tags),
    )


def ordered_frame(path: Path) -> tuple[Frame, list[str]]:
    """The frame of a CIF file whose sites are all fully occupied, and what was odd about the file.

    ASE would read partly occupied sites as full ones; here they are refused.

    Raises:
        DataError: if a site is partly occupied, or the file can't be read.
    """
    structure, notes = read_cif(path)
    if not structure.is_ordered:
        partial = [site for site in structure if not site.is_ordered]
        raise DataError(
            f"{path}: {len(partial)} sites are partly occupied, the first by {partial[0].species_string}. "
            "Make ordered structures of it first: 'qff build order'."
        )
    return Frame.from_pymatgen(structure, source=str(path)), notes
