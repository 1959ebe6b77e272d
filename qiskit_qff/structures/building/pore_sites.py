"""Places for an ion in a framework: points of a grid and vertices of its Voronoi diagram, closed under its symmetry.

A place keeps a least distance from every kind of atom and touches the framework: at least one atom of an element
that coordinates cations (C, N, O, F, S, Cl and heavier ones) lies within ``reach`` beyond the least distance of its
kind. Such atoms are its *contacts*. Places with many contacts come first
(among equals those whose contacts are neither tight nor loose):
above a benzene ring there are six, in a carboxylate's fork two, in the middle of a wide pore none, so it is no place.
Each place is moved onto the symmetry element that it all but lies on, and stands for its whole orbit.

Vertices of the Voronoi diagram, the points farthest from four atoms each, are the pockets of a dense crystal. On the
inner wall of a wide pore there are hardly any; the grid finds what lies there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from numpy.typing import NDArray
from scipy.spatial import Voronoi, cKDTree

from qiskit_qff.errors import ConfigError, DataError
from qiskit_qff.structures.building.crystal_symmetry import Symmetry, wrapped
from qiskit_qff.structures.building.supercells import heights
from qiskit_qff.structures.frame import Frame

Floats = NDArray[np.float64]
Kind = Literal["grid", "voronoi", "both"]

LEAST: dict[str, float] = {
    "H": 1.8, "C": 2.0, "N": 1.85, "O": 1.75, "F": 1.7, "P": 2.5, "S": 2.25, "Cl": 2.25, "Br": 2.4, "I": 2.6,
    "Zn": 2.6, "Zr": 2.8, "Li": 2.5,
}  # fmt: skip
"""Least distances of a lithium ion from other atoms in Å, just below the shortest ones in crystals."""
COORDINATING = ("C", "N", "O", "F", "S", "Cl", "Se", "Br", "Te", "I")
"""Elements that a cation binds to; carbon by the π electrons of rings."""
IDEAL = 0.4
"""Contacts are best that exceed their least distance by this share of the reach, on average."""
MOST_CONTACTS = 32
"""Atoms looked at around a point."""
_ADVICE = {
    False: "Lower the least distances, or raise the reach.",
    True: "Vertices of the Voronoi diagram lie in the middle of pores, which is too far from the walls of wide ones: "
    "search a grid (or both), or raise the reach.",
}
"""What to do where there are no places; whether only Voronoi vertices were looked at."""
SNAP = 0.7
"""Å; a point this close to its own image is moved onto the symmetry element between them."""


@dataclass(frozen=True)
class SiteRules:
    """What makes a point a place for an ion."""

    least: Mapping[str, float]
    """Least distance from each element of the framework, in Å."""
    reach: float = 0.6
    """An atom within its least distance plus this is a contact, in Å."""
    spacing: float = 1.0
    """Places of different orbits are at least this far apart, in Å."""
    grid: float = 0.35
    """Distance between grid points, in Å."""
    kind: Kind = "both"
    """Where candidates come from."""


@dataclass(frozen=True, eq=False)
class SiteOrbit:
    """Places that are the same by symmetry."""

    fractions: Floats
    """Fractional coordinates, shape ``(multiplicity, 3)``."""
    n_contacts: int
    """Number of contacts."""
    contacts: str
    """What they are, for example ``6 C 2.31, 1 O 2.05`` with mean distances in Å."""
    nearest: float
    """Distance of the nearest atom, in Å."""

    @property
    def multiplicity(self) -> int:
        """Number of places in the cell."""
        return len(self.fractions)


def least_distances(frame: Frame, ion: str, given: Mapping[str, float]) -> dict[str, float]:
    """Least distance from the ion for every element of a framework, in Å.

    Those given, else those known for lithium (shifted by the difference of covalent radii for another ion), else
    the sum of the covalent radii.

    Raises:
        ConfigError: if a distance is given for an element that the framework lacks, or is not positive.
    """
    elements = sorted(set(frame.symbols))
    for element, distance in given.items():
        if element not in elements:
            raise ConfigError(f"least distance of {element}: the structure has only {', '.join(elements)}.")
        if not distance > 0.0:
            raise ConfigError(f"least distance of {element}: {distance} should be above 0 Å.")
    own = float(covalent_radii[chemical_symbols.index(ion)])
    shift = own - float(covalent_radii[3])

    def default(element: str) -> float:
        radius = float(covalent_radii[chemical_symbols.index(element)])
        return LEAST[element] + shift if element in LEAST else radius + own

    return {element: given.get(element, default(element)) for element in elements}


def find_sites(frame: Frame, symmetry: Symmetry, rules: SiteRules, *, limit: int = 200) -> list[SiteOrbit]:
    """The orbits of places, those with most contacts first.

    Args:
        frame: the framework, periodic in all directions.
        symmetry: of the framework.
        rules: what makes a point a place.
        limit: largest number of orbits.

    Raises:
        DataError: if there is no such place.
    """
    surroundings = _Surroundings(frame, rules)
    sources = {"voronoi": _voronoi_vertices, "grid": _grid_points}
    wanted = [find for name, find in sources.items() if rules.kind in {name, "both"}]
    candidates = np.concatenate([find(frame, rules) for find in wanted])
    counts, strain = surroundings.score(candidates)
    order = np.lexsort((np.round(strain, 3), -counts))
    candidates = candidates[order[counts[order] > 0]]
    orbits: list[SiteOrbit] = []
    taken = np.empty((0, 3))
    for candidate in candidates:
        if _near(candidate, taken, frame.cell, rules.spacing):
            continue
        orbit = _orbit(candidate, symmetry, frame.cell)
        if orbit is None or _near(orbit[0], taken, frame.cell, rules.spacing):
            continue
        count, _ = surroundings.score(orbit[:1])
        if count[0] < 1:
            continue
        orbits.append(surroundings.describe(orbit))
        taken = np.concatenate([taken, orbit])
        if len(orbits) == limit:
            break
    if not orbits:
        raise DataError(
            f"{frame.where}: no place for an ion at least "
            f"{', '.join(f'{d:.2f} Å from {e}' for e, d in rules.least.items())} that touches the framework. "
            f"{_ADVICE[rules.kind == 'voronoi']}"
        )
    return sorted(orbits, key=lambda orbit: -orbit.n_contacts)


class _Surroundings:
    """Distances from points to the framework's atoms."""

    def __init__(self, frame: Frame, rules: SiteRules) -> None:
        self.cell = frame.cell
        self.rules = rules
        least = np.array([rules.least[symbol] for symbol in frame.symbols])
        positions, owners = _copies(frame, float(least.max()) + rules.reach + 0.1)
        self.symbols = np.array(frame.symbols)[owners]
        self.binds = np.isin(self.symbols, COORDINATING)
        self.least = least[owners]
        self.tree = cKDTree(positions)

    def score(self, fractions: Floats) -> tuple[NDArray[np.int64], Floats]:
        """Contacts of each point, 0 where an atom is too close, and how far their distances are from ideal, in Å."""
        points = (fractions % 1.0) @ self.cell
        reach = float(self.least.max()) + self.rules.reach
        distances, atoms = self.tree.query(points, k=min(MOST_CONTACTS, self.tree.n), distance_upper_bound=reach)
        over = distances - np.append(self.least, 0.0)[atoms]  # atoms beyond the reach have the distance infinity
        touching = (over < self.rules.reach) & np.append(self.binds, False)[atoms]
        counts = np.where(over.min(axis=1) > -1e-6, touching.sum(axis=1), 0)
        excess = np.where(touching, over, 0.0).sum(axis=1) / np.maximum(touching.sum(axis=1), 1)
        return counts, np.abs(excess - IDEAL * self.rules.reach)

    def describe(self, orbit: Floats) -> SiteOrbit:
        """The orbit with the contacts of its first place."""
        point = (orbit[0] % 1.0) @ self.cell
        atoms = np.array(self.tree.query_ball_point(point, float(self.least.max()) + self.rules.reach))
        distances = np.linalg.norm(self.tree.data[atoms] - point, axis=1)
        touching = (distances - self.least[atoms] < self.rules.reach) & self.binds[atoms]
        symbols = self.symbols[atoms][touching]
        words = [
            f"{(symbols == symbol).sum()} {symbol} {distances[touching][symbols == symbol].mean():.2f}"
            for symbol in sorted(set(symbols), key=lambda symbol: -(symbols == symbol).sum())
        ]
        return SiteOrbit(
            fractions=orbit % 1.0,
            n_contacts=int(touching.sum()),
            contacts=", ".join(words),
            nearest=float(distances.min()),
        )


def _copies(frame: Frame, reach: float) -> tuple[Floats, NDArray[np.int64]]:
    """Atoms of the cell and of its surroundings out to a reach, and which atom of the cell each is a copy of."""
    margins = reach / heights(frame.cell)
    inside = np.linalg.solve(frame.cell.T, frame.positions.T).T % 1.0
    counts = np.ceil(margins).astype(int)
    found, owners = [], []
    for shift in np.ndindex(*(2 * counts + 1)):
        moved = inside + (np.array(shift) - counts)
        keep = ((moved > -margins) & (moved < 1.0 + margins)).all(axis=1)
        found.append(moved[keep] @ frame.cell)
        owners.append(np.flatnonzero(keep))
    return np.concatenate(found), np.concatenate(owners)


def _grid_points(frame: Frame, rules: SiteRules) -> Floats:
    """A grid over the cell, in fractional coordinates."""
    counts = np.maximum(1, np.ceil(np.linalg.norm(frame.cell, axis=1) / rules.grid)).astype(int)
    axes = np.meshgrid(*(np.arange(count) / count for count in counts), indexing="ij")
    return np.stack([axis.ravel() for axis in axes], axis=1)


def _voronoi_vertices(frame: Frame, rules: SiteRules) -> Floats:
    """Vertices of the Voronoi diagram of the atoms that lie in the cell, in fractional coordinates."""
    # The diagram in the cell is right once every empty sphere that reaches into it is bounded by copies.
    reach = max(2.0 * (max(rules.least.values()) + rules.reach), 6.0)
    positions, _ = _copies(frame, reach)
    fractions = np.linalg.solve(frame.cell.T, Voronoi(positions).vertices.T).T
    inside = ((fractions > -1e-9) & (fractions < 1.0 - 1e-9)).all(axis=1)
    return np.asarray(fractions[inside], dtype=np.float64)


def _orbit(fraction: Floats, symmetry: Symmetry, cell: Floats) -> Floats | None:
    """The images of a point, moved onto the symmetry element it all but lies on; None where that does not settle."""
    for _ in range(4):
        images = symmetry.images(fraction)
        offsets = wrapped(images - fraction)
        own = np.linalg.norm(offsets @ cell, axis=1) < SNAP
        step = offsets[own].mean(axis=0)
        fraction = fraction + step
        if np.linalg.norm(step @ cell) < 1e-9:
            break
    images = symmetry.images(fraction) % 1.0
    orbit: list[Floats] = []
    for image in images:
        if not _near(image, np.array(orbit).reshape(-1, 3), cell, 1e-3):
            orbit.append(image)
    found = np.array(orbit)
    crowded = any(_near(found[k], found[:k], cell, SNAP) for k in range(1, len(found)))
    return None if crowded else found


def _near(fraction: Floats, others: Floats, cell: Floats, distance: float) -> bool:
    """Whether any of the others lies closer than a distance in Å."""
    return bool((np.linalg.norm(wrapped(others - fraction) @ cell, axis=1) < distance).any())
