"""Choosing which sites to fill or to empty, so that no two choices are the same by symmetry.

Sites are numbered; a *choice* takes a given number of each group of them, no two closer than allowed. The symmetry
operations permute the sites, and with them the choices. The smallest of a choice's images, compared number by
number, stands for all of them. Where the choices are few they are all gone through, and each representative comes
with its multiplicity: how many choices are the same by symmetry. Where they are many they are drawn at random.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qiskit_qff.errors import DataError

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

ENUMERATED = 20_000
"""Up to so many choices are gone through one by one."""
ATTEMPTS = 200
"""Random draws per wanted choice before giving up."""


@dataclass(frozen=True)
class Group:
    """Sites of which a number is to be taken."""

    sites: tuple[int, ...]
    """Numbers of the sites."""
    take: int
    """How many of them."""


@dataclass(frozen=True)
class Choice:
    """A set of sites that stands for all sets that symmetry maps it onto."""

    sites: tuple[int, ...]
    """Numbers of the sites taken, in increasing order."""
    multiplicity: int
    """How many sets are the same by symmetry, this one included."""


@dataclass(frozen=True)
class Choices:
    """Representatives, and whether there are others."""

    chosen: tuple[Choice, ...]
    """Pairwise different by symmetry."""
    complete: bool
    """Whether all choices were gone through, so that no other kind exists beside those found."""
    n_kinds: int | None
    """How many kinds there are, where all were gone through."""


def choose(
    groups: Sequence[Group], permutations: Ints, conflicts: Bools, *, limit: int, rng: np.random.Generator
) -> Choices:
    """Choices that differ by symmetry, at most ``limit`` of them.

    Args:
        groups: what to take; no site is in two groups, and each group is closed under the permutations.
        permutations: where each symmetry operation takes each site, shape ``(n_operations, n_sites)``.
        conflicts: which sites exclude each other, shape ``(n_sites, n_sites)``, symmetric.
        limit: largest number of representatives; drawn at random where there are more.
        rng: random numbers.

    Raises:
        DataError: if a group has too few sites, or no choice without conflict was found.
    """
    for group in groups:
        if group.take > len(group.sites):
            raise DataError(f"{group.take} of {len(group.sites)} sites can't be taken. Ask for fewer.")
    if math.prod(math.comb(len(group.sites), group.take) for group in groups) <= ENUMERATED:
        found = _enumerated(groups, permutations, conflicts)
        if not found:
            raise DataError(_CROWDED)
        chosen = found
        if len(found) > limit:
            chosen = [found[k] for k in np.sort(rng.choice(len(found), limit, replace=False))]
        return Choices(chosen=tuple(chosen), complete=len(chosen) == len(found), n_kinds=len(found))
    drawn = _drawn(groups, permutations, conflicts, limit=limit, rng=rng)
    if not drawn:
        raise DataError(_CROWDED)
    return Choices(chosen=tuple(drawn), complete=False, n_kinds=None)


_CROWDED = (
    "no choice keeps all sites far enough apart. Ask for fewer, lower the smallest distance, or use a larger cell."
)


def representative(sites: Sequence[int], permutations: Ints) -> Choice:
    """The choice that stands for all images of these sites.

    The multiplicity is exact: the number of different images.
    """
    images = np.unique(np.sort(permutations[:, list(sites)], axis=1), axis=0)
    return Choice(sites=tuple(int(site) for site in images[0]), multiplicity=len(images))


def _enumerated(groups: Sequence[Group], permutations: Ints, conflicts: Bools) -> list[Choice]:
    """One representative of every kind of choice, by going through all of them."""
    seen: set[tuple[int, ...]] = set()
    found = []
    for parts in itertools.product(*(itertools.combinations(group.sites, group.take) for group in groups)):
        sites = tuple(sorted(itertools.chain.from_iterable(parts)))
        if sites in seen or conflicts[np.ix_(sites, sites)].any():
            continue
        images = np.unique(np.sort(permutations[:, list(sites)], axis=1), axis=0)
        seen.update(tuple(int(site) for site in image) for image in images)
        found.append(Choice(sites=tuple(int(site) for site in images[0]), multiplicity=len(images)))
    return found


def _drawn(
    groups: Sequence[Group], permutations: Ints, conflicts: Bools, *, limit: int, rng: np.random.Generator
) -> list[Choice]:
    """Different random choices, as many as wanted or as turn up."""
    found: dict[tuple[int, ...], Choice] = {}
    for sites in itertools.islice(_random_choices(groups, conflicts, rng), ATTEMPTS * limit):
        if sites is not None:
            choice = representative(sites, permutations)
            found.setdefault(choice.sites, choice)
        if len(found) == limit:
            break
    return list(found.values())


def _random_choices(
    groups: Sequence[Group], conflicts: Bools, rng: np.random.Generator
) -> Iterator[tuple[int, ...] | None]:
    """Random choices, site after site among those that are still free; None where one ran into a dead end."""
    while True:
        free = ~conflicts.diagonal().copy()
        taken: list[int] = []
        for group in groups:
            members = np.array(group.sites, dtype=np.int64)
            for _ in range(group.take):
                open_sites = members[free[members]]
                if not len(open_sites):
                    break
                site = int(rng.choice(open_sites))
                taken.append(site)
                free &= ~conflicts[site]
                free[site] = False
        yield tuple(sorted(taken)) if len(taken) == sum(group.take for group in groups) else None
