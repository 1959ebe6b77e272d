"""Larger cells of the same crystal: by a matrix, by a smallest size in Å, or by a smallest number of atoms."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qiskit_qff.errors import ConfigError
from qiskit_qff.structures.building.crystal_symmetry import ensure_crystal
from qiskit_qff.structures.frame import Frame

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_ATOMS = 2_000_000
"""More atoms than this are refused: a slip of the key, not a simulation."""


def supercell(frame: Frame, matrix: ArrayLike) -> Frame:
    """The crystal in the cell ``matrix @ cell``.

    Args:
        frame: periodic in all directions.
        matrix: integers, shape ``(3,)`` for repeats along the cell vectors, or ``(3, 3)`` with the new vectors as rows.

    Raises:
        ConfigError: unless the entries are integers with a determinant other than zero, and the cell of a sane size.
        DataError: if the structure is no crystal.
    """
    from ase.build import make_supercell

    ensure_crystal(frame)
    transform = _integer_matrix(matrix)
    copies = abs(round(float(np.linalg.det(transform))))
    if copies * frame.n_atoms > MOST_ATOMS:
        raise ConfigError(
            f"supercell: {copies} copies of {frame.n_atoms} atoms are more than {MOST_ATOMS:,}. Ask for a smaller one."
        )
    if np.linalg.det(transform) < 0.0:
        transform = -transform  # the same lattice, right-handed
    atoms = make_supercell(frame.to_atoms(), transform, order="cell-major")
    tags = {
        **frame.tags,
        "build": "supercell",
        "build_matrix": "; ".join(" ".join(str(entry) for entry in row) for row in transform),
    }
    return Frame(
        numbers=atoms.numbers,
        positions=atoms.positions,
        cell=np.array(atoms.cell.array),
        pbc=frame.pbc,
        source=frame.source,
        index=frame.index,
        tags=tags,
    )


def heights(cell: Floats) -> Floats:
    """Distances between opposite faces of the cell, shape ``(3,)``, in Å: what a cutoff must fit into."""
    volume = abs(float(np.linalg.det(cell)))
    areas = [float(np.linalg.norm(np.cross(cell[(k + 1) % 3], cell[(k + 2) % 3]))) for k in range(3)]
    return volume / np.array(areas)


def repeats_for_size(frame: Frame, least: float) -> tuple[int, int, int]:
    """The fewest repeats that put opposite faces at least this far apart.

    Args:
        frame: periodic in all directions.
        least: in Å.

    Raises:
        DataError: if the structure is no crystal.
    """
    ensure_crystal(frame)
    a, b, c = (max(1, math.ceil(least / height - 1e-9)) for height in heights(frame.cell))
    return a, b, c


def repeats_for_atoms(frame: Frame, least: int) -> tuple[int, int, int]:
    """Repeats with at least so many atoms, as cubic as a few more atoms allow.

    Of all repeats of at most twice the number, those with the smallest ``(n / n_least)² · longest / shortest height``:
    a little more than asked for is worth a rounder cell, twice as much is not.

    Args:
        frame: periodic in all directions.
        least: number of atoms.

    Raises:
        DataError: if the structure is no crystal.
    """
    ensure_crystal(frame)
    copies = max(1, math.ceil(least / frame.n_atoms))
    sizes = heights(frame.cell)

    def worth(repeats: tuple[int, int, int]) -> float:
        spans = sizes * repeats
        return float((math.prod(repeats) / copies) ** 2 * spans.max() / spans.min())

    candidates = (
        (a, b, math.ceil(copies / (a * b))) for a in range(1, 2 * copies + 1) for b in range(1, 2 * copies // a + 1)
    )
    return min(candidates, key=worth)


def _integer_matrix(matrix: ArrayLike) -> Ints:
    """A 3 x 3 matrix of integers with a volume.

    Raises:
        ConfigError: if it is anything else.
    """
    entries = np.asarray(matrix, dtype=np.float64)
    if entries.shape == (3,):
        entries = np.diag(entries)
    whole = np.round(entries)
    if entries.shape != (3, 3) or not np.isfinite(entries).all() or (whole != entries).any():
        raise ConfigError(f"supercell: expected 3 or 9 integers, found {np.asarray(matrix).tolist()}.")
    if round(float(np.linalg.det(whole))) == 0:
        raise ConfigError(f"supercell: the rows of {whole.astype(int).tolist()} span no volume. Give independent rows.")
    return whole.astype(np.int64)
