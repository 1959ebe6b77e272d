"""Everything that one walk through a trajectory tells: structure, transport, vibrations, bonds, ion density.

Frames stream by once; what each quantity keeps does not grow with their number, but for 8 bytes a frame for the
bonds. A quantity that a trajectory does not carry (no times, no periods, too short) is missing with its reason, and
the others are there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from ase import units
from ase.data import atomic_masses
from numpy.typing import NDArray

from qiskit_qff.errors import DataError
from qiskit_qff.simulation.bonds import BondReport, BondWatch
from qiskit_qff.simulation.diffusion import DiffusionBlocks, Diffusivity
from qiskit_qff.simulation.displacements import Displacements, ElementDisplacements
from qiskit_qff.simulation.radial_distribution import PairDistances, RadialDistribution
from qiskit_qff.simulation.site_density import SiteDensity, SiteGrid
from qiskit_qff.simulation.trajectory import Snapshot, SnapshotStream
from qiskit_qff.simulation.vibrations import VelocityCorrelator, Vibrations

#: 1 u/Å³ in g/cm³.
G_PER_CM3 = units._amu * 1e3 / 1e-24  # noqa: SLF001 (ASE's name for the atomic mass unit in kg)
#: Pairs are counted in about so many frames, evenly chosen: more change no distribution.
PAIR_FRAMES = 4000


@dataclass(frozen=True)
class AnalysisSettings:
    """What to look for."""

    element: str = "Li"
    """The mobile element."""
    n_blocks: int = 5
    """Blocks of error bars."""
    r_max: float = 6.0
    """Reach of radial distributions in Å."""
    resolution_thz: float = 0.25
    """Distance of frequencies of the density of states in THz."""
    about: Literal["all", "framework"] = "all"
    """Whose centre of mass rests while the mobile element's displacements are measured."""


@dataclass(frozen=True)
class BlockedMean:
    """A mean over frames, with the standard error from the means of blocks."""

    value: float
    """Mean over all frames."""
    error: float
    """Standard deviation of the blocks' means over the root of their number; NaN for fewer than two blocks."""
    drift: float
    """Mean of the last block minus that of the first."""


@dataclass(frozen=True, eq=False)
class Analysis:
    """What a trajectory tells; None where it does not carry it."""

    numbers: NDArray[np.int64]
    """Atomic numbers, shape ``(n_atoms,)``."""
    n_frames: int
    """Number of frames."""
    time_ps: float | None
    """Time from the first frame to the last in ps."""
    temperature_k: BlockedMean | None
    """Temperature in K."""
    volume_ang3: BlockedMean | None
    """Volume in Å³."""
    radial: RadialDistribution | None
    """Radial distributions and coordination numbers."""
    displacements: Displacements | None
    """Mean squared displacements by element."""
    diffusivity: Diffusivity | None
    """Diffusivities of the mobile element."""
    vibrations: Vibrations | None
    """Velocity autocorrelation and density of states."""
    sites: SiteDensity | None
    """Density of the mobile element on a grid."""
    bonds: BondReport
    """What became of the bonds of the first frame."""
    largest_move: float
    """Largest move of an atom between two frames along a period, in cell vectors: above 0.4 it is anyone's guess which
    image of it is the next."""
    missing: Mapping[str, str]
    """Why a quantity is None, by the name of its attribute."""

    @property
    def density_g_per_cm3(self) -> tuple[float, float] | None:
        """Mass density in g/cm³ at the mean volume, and its standard error."""
        if self.volume_ang3 is None:
            return None
        value = float(atomic_masses[self.numbers].sum()) / self.volume_ang3.value * G_PER_CM3
        return value, value * self.volume_ang3.error / self.volume_ang3.value


def analyse_stream(
    stream: SnapshotStream, settings: AnalysisSettings, *, progress: Callable[[float], None] | None = None
) -> Analysis:
    """Walk through a trajectory once.

    Args:
        stream: the frames.
        settings: what to look for.
        progress: told now and then what fraction is done, 0 to 1.

    Raises:
        DataError: if a frame can't be read or holds other atoms.
    """
    missing: dict[str, str] = {}
    makers: dict[str, Callable[[], Any]] = {
        "radial": lambda: PairDistances(stream, r_max=settings.r_max),
        "displacements": lambda: ElementDisplacements(stream),
        "diffusivity": lambda: DiffusionBlocks(
            stream, settings.element, n_blocks=settings.n_blocks, about=settings.about
        ),
        "vibrations": lambda: VelocityCorrelator(stream, resolution_thz=settings.resolution_thz),
        "sites": lambda: SiteGrid(stream, settings.element),
    }
    gatherers = {name: made for name, make in makers.items() if (made := _attempt(name, make, missing)) is not None}
    bonds = BondWatch(stream)
    thermodynamics = _Thermodynamics(stream, settings.n_blocks)
    stride = -(-stream.n_frames // PAIR_FRAMES)
    for index, snapshot in enumerate(stream.snapshots):
        thermodynamics.add(snapshot)
        bonds.add(snapshot)
        if progress is not None and index % 100 == 0:
            progress(index / stream.n_frames)
        for name, gatherer in gatherers.items():
            if name != "radial" or index % stride == 0:
                gatherer.add(snapshot)
    results = {name: _attempt(name, gatherer.result, missing) for name, gatherer in gatherers.items()}
    return Analysis(
        numbers=stream.numbers,
        n_frames=stream.n_frames,
        time_ps=thermodynamics.time_ps,
        temperature_k=thermodynamics.temperature(),
        volume_ang3=thermodynamics.volume(),
        bonds=bonds.result(),
        largest_move=thermodynamics.largest_move,
        missing=missing,
        **{name: results.get(name) for name in makers},
    )


def _attempt(name: str, make: Callable[[], Any], missing: dict[str, str]) -> Any:
    """What a call gives, or None with the reason put down."""
    try:
        return make()
    except DataError as error:
        missing[name] = str(error)
        return None


class _Thermodynamics:
    """Temperature and volume by block, and how far atoms move from frame to frame."""

    def __init__(self, stream: SnapshotStream, n_blocks: int) -> None:
        self._n_frames, self._n_blocks = stream.n_frames, max(1, min(n_blocks, stream.n_frames))
        self._pbc = stream.pbc
        self._last: NDArray[np.float64] | None = None
        self.largest_move = 0.0
        """Largest move of an atom between two frames along a period, in cell vectors."""
        self._sums = np.zeros((2, self._n_blocks))
        self._counts = np.zeros(self._n_blocks, dtype=np.int64)
        self._index = 0
        self._times: list[float | None] = [None, None]

    @property
    def time_ps(self) -> float | None:
        """Time from the first frame to the last in ps."""
        first, last = self._times
        return None if first is None or last is None else last - first

    def add(self, snapshot: Snapshot) -> None:
        """Take in the next frame."""
        block = self._index * self._n_blocks // self._n_frames
        hot = np.nan if snapshot.temperature_k is None else snapshot.temperature_k
        self._sums[:, block] += hot, abs(np.linalg.det(snapshot.cell))
        self._counts[block] += 1
        self._times = [snapshot.time_ps if self._index == 0 else self._times[0], snapshot.time_ps]
        self._index += 1
        if self._last is not None and self._pbc.any():
            cell = np.where(self._pbc[:, None], snapshot.cell, np.eye(3))
            moves = np.abs((snapshot.positions - self._last) @ np.linalg.inv(cell)).max(axis=0)
            self.largest_move = max(self.largest_move, float(moves[self._pbc].max()))
        self._last = snapshot.positions

    def temperature(self) -> BlockedMean | None:
        """Mean temperature; None where a frame has none."""
        return None if np.isnan(self._sums[0]).any() else self._mean(0)

    def volume(self) -> BlockedMean | None:
        """Mean volume; None unless periodic in all directions."""
        return self._mean(1) if self._pbc.all() else None

    def _mean(self, row: int) -> BlockedMean:
        """Mean of one of the two."""
        means = self._sums[row] / self._counts
        value = float(self._sums[row].sum() / self._counts.sum())
        if np.ptp(means) < 1e-12 * abs(value):  # a fixed cell: what differs is rounding
            return BlockedMean(value=value, error=0.0, drift=0.0)
        error = float(means.std(ddof=1) / np.sqrt(len(means))) if len(means) > 1 else float("nan")
        return BlockedMean(value=value, error=error, drift=float(means[-1] - means[0]))
