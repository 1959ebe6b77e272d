r"""Where the ions of one element spend their time: their number density on a grid over the cell.

Positions are taken relative to the other elements' centre of mass in the first frame, counted in fractional
coordinates, so that a breathing cell does not smear them, and spread by a Gaussian, exactly and across borders, by
multiplying Fourier coefficients with :math:`\exp(-\sigma^2 |G|^2 / 2)`. The density integrates to the number of ions.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from numpy.typing import NDArray
from scipy.ndimage import label

from qiskit_qff.errors import DataError
from qiskit_qff.simulation.displacements import CentreOfMass
from qiskit_qff.simulation.trajectory import Floats, Snapshot, SnapshotStream

#: Standard deviation of the Gaussian in Å: about a thermal ellipsoid's.
SMEARING = 0.3
#: Distance of grid points in Å, at most: a Gaussian of 0.3 Å is then resolved to a thousandth of its height.
SPACING = 0.25


@dataclass(frozen=True, eq=False)
class SiteDensity:
    """Number density of one element, averaged over frames."""

    element: str
    """Chemical symbol."""
    values: Floats
    """Density on the grid of fractional coordinates k/n, shape ``(n_a, n_b, n_c)``, in 1/Å³."""
    cell: Floats
    """Mean cell vectors as rows, shape ``(3, 3)``, in Å."""
    framework: Atoms
    """Mean positions of all other atoms, in the cell."""

    @property
    def voxel_ang3(self) -> float:
        """Volume of a grid point in Å³."""
        return float(abs(np.linalg.det(self.cell)) / self.values.size)

    def level_enclosing(self, fraction: float) -> float:
        """Density in 1/Å³ of the isosurface that encloses a fraction of the ions."""
        ordered = np.sort(self.values, axis=None)[::-1]
        enclosed = np.cumsum(ordered) / ordered.sum()
        return float(ordered[min(int(np.searchsorted(enclosed, fraction)), ordered.size - 1)])

    def volume_fraction(self, level: float) -> float:
        """Fraction of the cell inside the isosurface of a level in 1/Å³."""
        return float((self.values >= level).mean())

    def percolates(self, level: float) -> tuple[bool, bool, bool]:
        """Along which cell vectors the space inside the isosurface of a level goes on without end."""
        crossed: list[bool] = np.any(_windings(self.values >= level), axis=0).tolist()
        return crossed[0], crossed[1], crossed[2]

    def write_cube(self, path: Path) -> None:
        """Write density and framework as a Gaussian cube file, which VESTA, VMD and ASE read.

        Lengths are in Bohr, as the format asks; values stay in 1/Å³.
        """
        from ase.io.cube import write_cube

        with path.open("w", encoding="utf-8") as stream:
            write_cube(stream, self.framework, data=self.values, comment=f"{self.element} density in 1/Angstrom^3")


class SiteGrid:
    """Counts ions on a grid while frames stream by."""

    def __init__(self, stream: SnapshotStream, element: str, *, spacing: float = SPACING) -> None:
        """Make ready for the frames of a stream.

        Args:
            stream: periodic in all directions.
            element: chemical symbol.
            spacing: largest distance of grid points in Å.

        Raises:
            DataError: if the element is absent, or the structure not periodic in all directions.
        """
        if not stream.pbc.all():
            raise DataError("a density on a grid needs a structure periodic in all three directions.")
        self._element, self._spacing = element, spacing
        self._chosen = stream.numbers == atomic_numbers.get(element, 0)
        if not self._chosen.any():
            raise DataError(f"the trajectory has no {element!r} atom.")
        self._numbers = stream.numbers
        others = None if self._chosen.all() else ~self._chosen
        self._centre = CentreOfMass(stream.numbers, among=others)
        self._n_frames = 0
        self._cell: Floats = np.zeros((3, 3))
        self._sites: Floats = np.zeros((len(stream.numbers), 3))
        self._counts: NDArray[np.int64]

    def add(self, snapshot: Snapshot) -> None:
        """Take in the next frame."""
        relative = self._centre.relative(snapshot.positions)
        if self._n_frames == 0:
            self._origin = snapshot.positions[0] - relative[0]
            self._origin = self._origin @ np.linalg.inv(snapshot.cell)
            lengths = np.linalg.norm(snapshot.cell, axis=1)
            self._shape = tuple(np.ceil(lengths / self._spacing).astype(int).tolist())
            self._counts = np.zeros(int(np.prod(self._shape)), dtype=np.int64)
        fractional = relative @ np.linalg.inv(snapshot.cell) + self._origin
        points = np.round(fractional[self._chosen] * self._shape).astype(np.int64) % self._shape
        np.add.at(self._counts, np.ravel_multi_index(tuple(points.T), self._shape), 1)
        self._sites += fractional
        self._cell += snapshot.cell
        self._n_frames += 1

    def result(self, *, smearing: float = SMEARING) -> SiteDensity:
        """The mean density so far.

        Args:
            smearing: standard deviation of the Gaussian in Å.
        """
        cell = self._cell / self._n_frames
        voxel = abs(np.linalg.det(cell)) / self._counts.size
        density = self._counts.reshape(self._shape) / (self._n_frames * voxel)
        framework = Atoms(
            numbers=self._numbers[~self._chosen],
            scaled_positions=self._sites[~self._chosen] / self._n_frames,
            cell=cell,
            pbc=True,
        )
        framework.wrap()
        return SiteDensity(self._element, _smear(density, cell, smearing), cell, framework)


def _smear(density: Floats, cell: Floats, smearing: float) -> Floats:
    """Convolution with a Gaussian across borders, for a cell of any shape."""
    shape = density.shape
    indices = np.meshgrid(
        np.fft.fftfreq(shape[0], 1.0 / shape[0]),
        np.fft.fftfreq(shape[1], 1.0 / shape[1]),
        np.fft.rfftfreq(shape[2], 1.0 / shape[2]),
        indexing="ij",
    )
    waves = 2.0 * np.pi * np.einsum("iabc,ji->jabc", np.array(indices), np.linalg.inv(cell))
    damped = np.fft.rfftn(density) * np.exp(-0.5 * smearing**2 * (waves**2).sum(axis=0))
    smooth: Floats = np.maximum(np.fft.irfftn(damped, s=shape, axes=(0, 1, 2)), 0.0)
    # NOTE: coefficients beyond the grid's are missing, which leaves small negative values to cut off.
    smooth *= density.sum() / smooth.sum()
    return smooth


def _windings(inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How closed ways through a region wind around a periodic grid, shape ``(n_ways, 3)``, in cells.

    Pieces that hang together within the cell are joined where they meet across a border; a walk over the pieces keeps
    count of the borders it crosses, and a way back to a piece with another count is a way around the cell.
    """
    pieces, n_pieces = label(inside)
    joins: list[list[tuple[int, NDArray[np.int64]]]] = [[] for _ in range(n_pieces + 1)]
    for axis in range(3):
        faces = np.stack([np.take(pieces, place, axis=axis).ravel() for place in (-1, 0)], axis=1)
        step = np.eye(3, dtype=np.int64)[axis]
        for here, there in np.unique(faces[(faces > 0).all(axis=1)], axis=0).tolist():
            joins[here].append((there, step))
            joins[there].append((here, -step))
    found = [np.zeros(3, dtype=np.int64)]
    place: dict[int, NDArray[np.int64]] = {}
    for start in range(1, n_pieces + 1):
        if start in place:
            continue
        place[start] = np.zeros(3, dtype=np.int64)
        waiting = [start]
        while waiting:
            here = waiting.pop()
            for there, step in joins[here]:
                if there in place:
                    found.append(place[here] + step - place[there])
                else:
                    place[there] = place[here] + step
                    waiting.append(there)
    return np.array(found)
