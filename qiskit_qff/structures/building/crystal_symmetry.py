"""The symmetry of a crystal, and how it permutes points in its cell."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qiskit_qff.errors import DataError
from qiskit_qff.structures.frame import Frame

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SYMPREC = 1e-2
"""Å; atoms this close to the image of another count as equivalent."""


@dataclass(frozen=True, eq=False)
class Symmetry:
    """Operations ``x -> R x + t`` in fractional coordinates that map a crystal onto itself."""

    name: str
    """International symbol of the space group, such as ``Fm-3m``."""
    rotations: NDArray[np.int64]
    """R, shape ``(n_operations, 3, 3)``."""
    translations: Floats
    """t, shape ``(n_operations, 3)``, in fractions of the cell vectors."""

    def images(self, fraction: Floats) -> Floats:
        """The images of one point, shape ``(n_operations, 3)``, fractional, not wrapped into the cell."""
        images: Floats = self.rotations @ fraction + self.translations
        return images


def symmetry_of(frame: Frame, *, symprec: float = SYMPREC) -> Symmetry:
    """The space group of a crystal, found by spglib.

    Args:
        frame: periodic in all directions.
        symprec: tolerance in Å.

    Raises:
        DataError: if the structure is no crystal, or spglib can't make sense of it.

    References:
        Togo, Shinohara, Tanaka, Sci. Technol. Adv. Mater. Meth. 4, 2384822 (2024),
        https://doi.org/10.1080/27660400.2024.2384822
    """
    import spglib

    ensure_crystal(frame)
    crystal: Any = (frame.cell, fractional(frame), frame.numbers)
    with warnings.catch_warnings():
        # spglib announces that it will raise instead of returning None; either is handled here.
        warnings.simplefilter("ignore", DeprecationWarning)
        found = spglib.get_symmetry_dataset(crystal, symprec=symprec)
    if found is None:
        raise DataError(
            f"{frame.where}: no symmetry found, not even the identity. Check for atoms on one site "
            "('qff validate' lists them)."
        )
    return Symmetry(
        name=str(found.international),
        rotations=np.array(found.rotations, dtype=np.int64),
        translations=np.array(found.translations, dtype=np.float64),
    )


def ensure_crystal(frame: Frame) -> None:
    """Refuse what has no periods to build on.

    Raises:
        DataError: unless all three directions are periodic.
    """
    if not frame.pbc.all():
        raise DataError(
            f"{frame.where}: periodic along {''.join('abc'[k] for k in range(3) if frame.pbc[k]) or 'no direction'}, "
            "but a crystal with three periods is needed. Give the file its cell and periods."
        )


def fractional(frame: Frame) -> Floats:
    """Positions in fractions of the cell vectors, shape ``(n_atoms, 3)``, not wrapped into the cell."""
    return np.asarray(np.linalg.solve(frame.cell.T, frame.positions.T).T, dtype=np.float64)


def wrapped(fractions: Floats) -> Floats:
    """Differences of fractional coordinates, each component in [-1/2, 1/2]."""
    return fractions - np.round(fractions)


def permutations_of(sites: Floats, symmetry: Symmetry, cell: Floats, *, tolerance: float) -> Ints:
    """Where each operation takes each site, shape ``(n_distinct_operations, n_sites)``.

    Args:
        sites: fractional coordinates, shape ``(n_sites, 3)``, closed under the operations.
        symmetry: the operations.
        cell: vectors as rows, in Å.
        tolerance: how far an image may lie from its site, in Å.

    Raises:
        DataError: if an image meets no site.
    """
    rows = []
    for rotation, translation in zip(symmetry.rotations, symmetry.translations, strict=True):
        images = sites @ rotation.T + translation
        apart = np.linalg.norm(wrapped(images[:, None, :] - sites[None, :, :]) @ cell, axis=-1)
        nearest = apart.argmin(axis=1)
        if apart[np.arange(len(sites)), nearest].max(initial=0.0) > tolerance:
            raise DataError(
                f"the sites are not closed under {symmetry.name}: an image lies "
                f"{apart[np.arange(len(sites)), nearest].max():.2f} Å from the next site. Use a smaller symmetry "
                "tolerance (--symprec)."
            )
        rows.append(nearest)
    return np.unique(np.array(rows, dtype=np.int64), axis=0)


def separations(sites: Floats, cell: Floats) -> Floats:
    """Shortest distance between any two sites and their images, shape ``(n, n)``, in Å; the diagonal is to own images.

    PERF: all 27 images are compared, which is exact for reduced cells and for distances well below the cell's height.
    """
    difference = wrapped(sites[:, None, :] - sites[None, :, :])
    best = np.full(difference.shape[:2], np.inf)
    for shift in np.ndindex(3, 3, 3):
        moved = difference + (np.array(shift) - 1.0)
        lengths = np.linalg.norm(moved @ cell, axis=-1)
        lengths[lengths < 1e-9] = np.inf  # a site and itself
        np.minimum(best, lengths, out=best)
    return best
