"""Who is near whom: full neighbour lists under any periodicity, kept over many steps of a simulation.

The pair (i, j, S) with integer shifts S stands for the vector ``r_j + S·cell - r_i``. Lists are *full*:
every pair occurs once from either side, and in cells smaller than the cutoff an atom neighbours several
images of another atom and of itself. Pairs are sorted by centre, then neighbour, then shift, so the same
structure gives the same sums to the last bit, whenever its list was built.

A simulation uses :class:`VerletList`: pairs within ``cutoff + skin`` are found once by vesin and stay
complete while no atom has moved by more than ``skin / 2`` (and the cell, if it changes, has not strained by
as much); in between only the vectors are refreshed.
"""

from dataclasses import dataclass

import numba
import numpy as np
import vesin
from numpy.typing import ArrayLike

from qiskit_qff.array_types import BoolArray, FloatArray, Int32Array, IntArray
from qiskit_qff.errors import DataError


@numba.njit(cache=True, nogil=True)
def refresh(
    points: FloatArray, cell: FloatArray, cutoff_squared: float, all_first: IntArray, all_neighbor: IntArray,
    all_shifts: Int32Array,
    first: IntArray, neighbor: IntArray, vectors: FloatArray, distances: FloatArray,
) -> int:  # fmt: skip
    """Copy the pairs now within the cutoff to the outputs ``first`` to ``distances``, with fresh vectors.

    Returns:
        How many pairs there are.
    """
    count = 0
    for i in range(points.shape[0]):
        first[i] = count
        for pair in range(all_first[i], all_first[i + 1]):
            j = all_neighbor[pair]
            a, b, c = all_shifts[pair, 0], all_shifts[pair, 1], all_shifts[pair, 2]
            x = points[j, 0] - points[i, 0] + (a * cell[0, 0] + b * cell[1, 0] + c * cell[2, 0])
            y = points[j, 1] - points[i, 1] + (a * cell[0, 1] + b * cell[1, 1] + c * cell[2, 1])
            z = points[j, 2] - points[i, 2] + (a * cell[0, 2] + b * cell[1, 2] + c * cell[2, 2])
            square = x * x + y * y + z * z
            if square < cutoff_squared:
                neighbor[count], distances[count] = j, np.sqrt(square)
                vectors[count, 0], vectors[count, 1], vectors[count, 2] = x, y, z
                count += 1
    first[points.shape[0]] = count
    return count


_MARGIN = 1e-7  # Å; vesin's own rounding can't lose a pair that lies on the cutoff


@dataclass(frozen=True, eq=False)
class NeighborList:
    """All neighbours closer than the cutoff, in compressed sparse row form."""

    first: IntArray
    """Where each centre's pairs begin, shape ``(n_atoms + 1,)``: those of i are ``first[i]:first[i + 1]``."""
    neighbor: IntArray
    """Index of the neighbour j, shape ``(n_pairs,)``."""
    vectors: FloatArray
    """From the centre to the neighbour's image, shape ``(n_pairs, 3)``, in Å."""
    distances: FloatArray
    """Lengths of the vectors, shape ``(n_pairs,)``, in Å."""

    @property
    def n_atoms(self) -> int:
        """Number of centres."""
        return len(self.first) - 1

    @property
    def n_pairs(self) -> int:
        """Number of directed pairs."""
        return len(self.neighbor)

    @property
    def centers(self) -> IntArray:
        """Index of the centre i of each pair, shape ``(n_pairs,)``."""
        return np.repeat(np.arange(self.n_atoms), np.diff(self.first))


def neighbor_list(positions: ArrayLike, cell: ArrayLike, pbc: ArrayLike, cutoff: float) -> NeighborList:
    """Full neighbour list of one structure.

    Args:
        positions: shape ``(n_atoms, 3)``, in Å; need not lie inside the cell.
        cell: vectors as rows, shape ``(3, 3)``, in Å; rows of directions without a period are ignored.
        pbc: shape ``(3,)``, or one truth value for all directions.
        cutoff: in Å; pairs with ``0 <= r < cutoff`` are listed.
    """
    return VerletList(cutoff, skin=0.0).update(positions, cell, pbc)


class VerletList:
    """Neighbour list of one moving structure, rebuilt only when an atom has moved by more than half the skin.

    PERF: a build takes as long as three steps of a small structure, so the default skin is wide: with 1 Å an MD step of
    lips83 at 300 K takes 0.75 ms, with 0.5 Å 0.86 ms, with 1.5 Å 0.78 ms.

    The lists that :meth:`update` returns are views of buffers that the next call overwrites.
    """

    def __init__(self, cutoff: float, skin: float = 1.0) -> None:
        if not (cutoff > 0.0 and skin >= 0.0):
            raise DataError(f"cutoff {cutoff} Å must be positive and skin {skin} Å must not be negative.")
        self.cutoff = float(cutoff)
        self.skin = float(skin)
        self.n_builds = 0
        self._reference: tuple[FloatArray, FloatArray, BoolArray] | None = None
        # Rows, neighbours and shifts within cutoff + skin.
        self._pairs: tuple[IntArray, IntArray, Int32Array] | None = None
        self._buffers: tuple[IntArray, IntArray, FloatArray, FloatArray] | None = None

    def update(self, positions: ArrayLike, cell: ArrayLike, pbc: ArrayLike) -> NeighborList:
        """Neighbours within the cutoff for the positions as they are now.

        Args:
            positions: shape ``(n_atoms, 3)``, in Å.
            cell: vectors as rows, shape ``(3, 3)``, in Å.
            pbc: shape ``(3,)``, or one truth value for all directions.
        """
        points = np.ascontiguousarray(positions, dtype=np.float64)
        periods = np.broadcast_to(np.asarray(pbc, dtype=np.bool_), (3,))
        vectors = np.where(periods[:, None], np.asarray(cell, dtype=np.float64), 0.0)
        if not self._is_complete(points, vectors, periods):
            self._build(points, vectors, periods)
        assert self._pairs is not None
        assert self._buffers is not None
        first, neighbor, separations, distances = self._buffers
        count = refresh(points, vectors, self.cutoff**2, *self._pairs, first, neighbor, separations, distances)
        return NeighborList(first, neighbor[:count], separations[:count], distances[:count])

    def forget(self) -> None:
        """Give back the memory of the list; the next update builds it anew."""
        self._reference = self._pairs = self._buffers = None

    def _is_complete(self, points: FloatArray, cell: FloatArray, periods: BoolArray) -> bool:
        """Whether no pair within the cutoff can be missing from the pairs found last.

        With ``r = (r_ref + u) F`` and ``|u| <= u_max`` a pair now within the cutoff was, at the last build,
        no farther apart than ``cutoff ‖F⁻¹‖ + 2 u_max``; F is 1 for a fixed cell.
        """
        if self._reference is None:
            return False
        old_points, old_cell, old_periods = self._reference
        if points.shape != old_points.shape or (periods != old_periods).any():
            return False
        growth = 1.0
        if (cell != old_cell).any():
            if not periods.all() or abs(np.linalg.det(cell)) < _MARGIN:
                return False
            inverse = np.linalg.solve(cell, old_cell)  # F⁻¹ in the row convention: cell F⁻¹ = old_cell
            growth = float(np.linalg.norm(inverse, 2))
            points = points @ inverse
        moved = float(np.sqrt(((points - old_points) ** 2).sum(axis=1).max(initial=0.0)))
        # NOTE: written so that a NaN counts as incomplete; _build then reports the atom.
        return bool(self.cutoff * growth + 2.0 * moved <= self.cutoff + self.skin)

    def _build(self, points: FloatArray, cell: FloatArray, periods: BoolArray) -> None:
        """Find all pairs within cutoff + skin and make room for those within the cutoff."""
        _check_geometry(points, cell, periods)
        # PERF: a list takes about 3 kB an atom; the old one goes before the new one comes, and so does vesin's copy.
        self.forget()
        reach = self.cutoff + self.skin + _MARGIN
        search = vesin.NeighborList(cutoff=reach, full_list=True, n_threads=numba.get_num_threads())
        found, shifts = search.compute(points=points, box=cell, periodic=periods.copy(), quantities="PS", copy=False)
        self._pairs = _canonical(len(points), found.view(np.int64), shifts)
        del found, shifts, search
        n_pairs = len(self._pairs[1])
        self._buffers = (
            np.zeros(len(points) + 1, dtype=np.int64), np.empty(n_pairs, dtype=np.int64),
            np.empty((n_pairs, 3)), np.empty(n_pairs),
        )  # fmt: skip
        self._reference = (points.copy(), cell, periods)
        self.n_builds += 1


def _canonical(n_atoms: int, pairs: IntArray, shifts: Int32Array) -> tuple[IntArray, IntArray, Int32Array]:
    """Rows of pairs by centre, sorted by neighbour, then shift: first of each row, neighbours and shifts.

    PERF: centre, neighbour and shift of a pair fit into one integer whose order is theirs; sorting five columns takes
    as long as the search.
    """
    low = shifts.min(axis=0, initial=0)
    bits = [int(span).bit_length() for span in (*(shifts.max(axis=0, initial=0) - low), n_atoms)]
    if sum(bits) + bits[-1] >= 63:  # atoms that have travelled through hundreds of cells
        order = np.lexsort((shifts[:, 2], shifts[:, 1], shifts[:, 0], pairs[:, 1], pairs[:, 0]))
        pairs, shifts = pairs[order], shifts[order]
        return np.searchsorted(pairs[:, 0], np.arange(n_atoms + 1)), pairs[:, 1].copy(), shifts
    keys = (pairs[:, 0] << bits[3]) | pairs[:, 1]
    for axis in range(3):
        keys = (keys << bits[axis]) | (shifts[:, axis] - low[axis])
    keys.sort()
    shifts = np.empty((len(keys), 3), dtype=np.int32)
    for axis in (2, 1, 0):
        shifts[:, axis] = (keys & ((1 << bits[axis]) - 1)) + low[axis]
        keys >>= bits[axis]
    first = np.searchsorted(keys, np.arange(n_atoms + 1) << bits[3])
    return first, keys & ((1 << bits[3]) - 1), shifts


def _check_geometry(points: FloatArray, cell: FloatArray, periods: BoolArray) -> None:
    """Refuse what no neighbour search can handle."""
    if points.ndim != 2 or points.shape[1] != 3:
        raise DataError(f"positions should have shape (n_atoms, 3), found {points.shape}.")
    if not (np.isfinite(cell).all() and np.isfinite(points).all()):
        wrong = np.flatnonzero(~np.isfinite(points).all(axis=1))
        place = f"the position of atom {wrong[0]}" if len(wrong) else "the cell"
        raise DataError(
            f"{place} is not finite. In a structure file correct it; in a simulation the forces or the barostat blew "
            "up: use a shorter time step or a better model."
        )
    spanned = cell[periods]
    lengths = np.linalg.norm(spanned, axis=1)
    gram = spanned @ spanned.T
    if len(spanned) and np.linalg.det(gram) <= 1e-12 * float(np.prod(lengths**2)):
        raise DataError(
            f"the periodic cell vectors {spanned.tolist()} enclose no volume. "
            "Give three independent vectors or switch off the period of those that are missing."
        )
