"""Is each structure one that nature could hold: finite, with volume, no two atoms where only one fits."""

from collections.abc import Iterator

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from numpy.typing import NDArray

from qiskit_qff.structures.defects import Defect, error, warning
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.neighbors import neighbor_list
from qiskit_qff.structures.reading import has_volume

SAME_SITE = 0.1
"""Two atoms closer than this, in Å, sit on one site."""
DENSEST = 1.0
"""Å³ per atom; diamond has 5.7, hydrogen at 400 GPa about 1.3."""
IMPOSSIBLE = 0.4
"""Closer than this share of the sum of the covalent radii no two atoms come, even at thousands of kelvin."""
SUSPICIOUS = 0.6
"""Closer than this share is rare; the 3000 K melts and rattled frames tested reach down to 0.74."""


def is_sound(frame: Frame) -> bool:
    """Whether positions and cell are finite and the cell has room for its atoms, so that distances mean something."""
    finite = np.isfinite(frame.positions).all() and np.isfinite(frame.cell).all()
    return bool(finite) and has_volume(frame) and not frame.volume < DENSEST * frame.n_atoms


def check_geometry(frame: Frame) -> Iterator[Defect]:
    """Positions or cell that are not finite, and cells without volume."""
    for atom in np.flatnonzero(~np.isfinite(frame.positions).all(axis=1)):
        message = f"position {frame.positions[atom].tolist()} is not finite"
        yield error("not-finite", frame, message, "Correct it or remove the frame.", atom=int(atom))
    if not np.isfinite(frame.cell).all():
        yield error("not-finite", frame, "the cell is not finite", "Correct it or remove the frame.")
    elif not has_volume(frame):
        message = f"the periodic cell vectors {frame.cell[frame.pbc].tolist()} enclose no volume"
        yield error("no-volume", frame, message, "Correct the cell, or switch off the periods that are none.")
    elif frame.volume < DENSEST * frame.n_atoms:
        message = f"the cell has {frame.volume / frame.n_atoms:.2g} Å³ per atom; solids and liquids have 5 to 60"
        remedy = "Check the unit of length (nm: multiply by 10) and the number of atoms."
        yield error("no-room", frame, message, remedy)


def check_distances(frame: Frame) -> Iterator[Defect]:
    """Atoms on one site, and atoms closer than their covalent radii allow; for each atom its closest neighbour."""
    radii = covalent_radii[frame.numbers]
    pairs = neighbor_list(frame.positions, frame.cell, frame.pbc, 2.0 * SUSPICIOUS * float(radii.max()))
    centers = pairs.centers
    shares = pairs.distances / (radii[centers] + radii[pairs.neighbor])
    close = np.flatnonzero((shares < SUSPICIOUS) & (centers <= pairs.neighbor))
    seen: set[int] = set()
    for pair in close[np.argsort(shares[close], kind="stable")]:
        i, j = int(centers[pair]), int(pairs.neighbor[pair])
        if i not in seen:
            seen.add(i)
            yield _close_pair(frame, i, j, float(pairs.distances[pair]), float(shares[pair]))


def _close_pair(frame: Frame, i: int, j: int, distance: float, share: float) -> Defect:
    """The defect of two atoms that are too close."""
    first, second = (chemical_symbols[int(frame.numbers[k])] for k in (i, j))
    other = "its own periodic image" if i == j else f"{second} atom {j}"
    if distance < SAME_SITE:
        message = f"{first} sits on the site of {other} ({distance:.3f} Å apart)"
        return error("same-site", frame, message, "Remove one of the two, or correct the cell.", atom=i)
    message = (
        f"{first} is {distance:.2f} Å from {other}, {share:.2f} of the sum of their covalent radii; "
        "bonds have 0.75 to 1.2"
    )
    if share < IMPOSSIBLE:
        return error("close-atoms", frame, message, "Check cell, periods and length unit.", atom=i)
    return warning("close-atoms", frame, message, "Keep it only if it was meant so close.", atom=i)


def nearest_shares(frame: Frame) -> NDArray[np.float64]:
    """Distance of each atom's nearest neighbour in covalent radii, shape ``(n_with_neighbors,)``.

    Near 1 in any condensed matter when lengths are in Å; noble gases, which form no bonds, are left out.
    """
    radii = covalent_radii[frame.numbers]
    bonded = ~np.isin(frame.numbers, (2, 10, 18, 36, 54, 86))
    for reach in (1.3, 2.5):
        pairs = neighbor_list(frame.positions, frame.cell, frame.pbc, 2.0 * reach * float(radii.max()))
        starts, ends = pairs.first[:-1], pairs.first[1:]
        centers = np.flatnonzero((ends > starts) & bonded)
        if 2 * len(centers) > bonded.sum():
            break
    shares = pairs.distances / (radii[pairs.centers] + radii[pairs.neighbor])
    return np.array([shares[starts[i] : ends[i]].min() for i in centers])


def shortest_distances(frame: Frame) -> dict[tuple[int, int], float]:
    """Shortest distance per pair of elements, in Å, among pairs closer than 1.3 times their covalent radii."""
    radii = covalent_radii[frame.numbers]
    pairs = neighbor_list(frame.positions, frame.cell, frame.pbc, 2.6 * float(radii.max()))
    bonded = pairs.distances < 1.3 * (radii[pairs.centers] + radii[pairs.neighbor])
    elements = np.sort(
        np.stack([frame.numbers[pairs.centers[bonded]], frame.numbers[pairs.neighbor[bonded]]], axis=1), axis=1
    )
    codes = elements[:, 0] * 1000 + elements[:, 1]
    distances = pairs.distances[bonded]
    return {(int(code) // 1000, int(code) % 1000): float(distances[codes == code].min()) for code in np.unique(codes)}
