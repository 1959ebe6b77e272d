r"""Diffusivity and ionic conductivity, with error bars from independent blocks.

.. math:: D^* = \tfrac16 \frac{d}{dt} \langle |r_i(t_0 + t) - r_i(t_0)|^2 \rangle, \qquad
          D_\sigma = \frac{1}{6 N} \frac{d}{dt} \langle |\textstyle\sum_i r_i(t_0 + t) - r_i(t_0)|^2 \rangle

the tracer (self-) diffusivity of one element and its charge diffusivity, in which the correlation between ions
counts; their ratio is the Haven ratio. Positions are relative to the centre of mass of all atoms, or of the other
elements alone (the framework). Conductivities follow from Nernst and Einstein:

.. math:: \sigma = \frac{N z^2 e^2}{V k_B T} D

with :math:`D^*` as if the ions moved independently, and with :math:`D_\sigma` as they do.

**Error bars.** The trajectory is cut into n blocks of equal length; in each a straight line is fitted to the mean
squared displacement over lags between 10 % and 50 % of the block. The value is the mean of the n slopes, its
standard error is their standard deviation over √n, and the 95 % interval is Student's with n - 1 degrees of freedom.
It holds if blocks are independent: much longer than the time between hops.
"""

from dataclasses import dataclass

import numpy as np
from ase import units
from ase.data import atomic_numbers
from numpy.typing import NDArray

from qiskit_qff.errors import DataError
from qiskit_qff.simulation.displacements import CentreOfMass, Clock, DisplacementCorrelator
from qiskit_qff.simulation.trajectory import Floats, Snapshot, SnapshotStream, Trajectory

#: 1 Å²/ps in cm²/s.
CM2_PER_S = 1e-4
#: The slope is fitted over lag times between these fractions of a block.
FIT_RANGE = (0.1, 0.5)
#: 1 e²/(eV Å ps) in S/cm.
S_PER_CM = units._e / 1e-8 / 1e-12  # noqa: SLF001 (ASE's name for the elementary charge in C)
# A block needs this many frames for a slope that means anything.
_FEWEST_FRAMES = 20


@dataclass(frozen=True)
class BlockedSlope:
    """A diffusivity from the slopes of blocks."""

    value_ang2_per_ps: float
    """Mean of the blocks, in Å²/ps."""
    error_ang2_per_ps: float
    """Standard error of that mean, in Å²/ps."""
    intercept_ang2: float
    """Mean squared displacement where the straight line meets zero time, in Å²."""
    n_blocks: int
    """Number of blocks."""
    fit_range_ps: tuple[float, float]
    """Lag times that the line was fitted over, in ps."""

    @property
    def value_cm2_per_s(self) -> float:
        """The diffusivity in cm²/s."""
        return self.value_ang2_per_ps * CM2_PER_S

    @property
    def error_cm2_per_s(self) -> float:
        """Its standard error in cm²/s."""
        return self.error_ang2_per_ps * CM2_PER_S

    @property
    def interval_cm2_per_s(self) -> tuple[float, float]:
        """95 % interval of Student's distribution, in cm²/s."""
        from scipy.stats import t

        reach = float(t.ppf(0.975, self.n_blocks - 1)) * self.error_cm2_per_s
        return self.value_cm2_per_s - reach, self.value_cm2_per_s + reach


@dataclass(frozen=True)
class Diffusivity(BlockedSlope):
    """Diffusivity of one element."""

    element: str
    """Chemical symbol."""
    n_ions: int
    """Number of its atoms."""
    charge: BlockedSlope
    """Charge diffusivity, of the sum of all its atoms' displacements over their number."""

    @property
    def haven_ratio(self) -> float:
        """Tracer over charge diffusivity; below one where ions push each other along."""
        charge = self.charge.value_ang2_per_ps
        return self.value_ang2_per_ps / charge if charge > 0.0 else float("nan")


def diffusivity(trajectory: Trajectory, element: str, *, n_blocks: int = 5) -> Diffusivity:
    """Diffusivity of one element, with the standard error over blocks of the trajectory.

    Args:
        trajectory: evenly spaced in time.
        element: chemical symbol.
        n_blocks: number of blocks, at least two.

    Raises:
        DataError: if the element is absent, the trajectory too short, or its times are missing or uneven.
    """
    trajectory.require_times()
    stream = trajectory.stream()
    blocks = DiffusionBlocks(stream, element, n_blocks=n_blocks)
    for snapshot in stream.snapshots:
        blocks.add(snapshot)
    return blocks.result()


def conductivity_s_per_cm(
    diffusivity_ang2_per_ps: float, *, n_ions: int, volume_ang3: float, temperature_k: float, charge: float = 1.0
) -> float:
    """Conductivity of Nernst and Einstein in S/cm.

    Args:
        diffusivity_ang2_per_ps: tracer or charge diffusivity in Å²/ps.
        n_ions: number of ions in the volume.
        volume_ang3: in Å³.
        temperature_k: in K.
        charge: of an ion in elementary charges.
    """
    carriers = n_ions * charge**2 / (volume_ang3 * units.kB * temperature_k)
    return float(carriers * diffusivity_ang2_per_ps * S_PER_CM)


class BlockedDisplacements:
    """Straight lines through mean squared displacements of groups of points, one for each block of frames."""

    def __init__(self, groups: NDArray[np.int64], *, n_frames: int, n_blocks: int) -> None:
        """Cut a number of frames into blocks.

        Args:
            groups: group of each point, shape ``(n_points,)``, from 0 without gaps.
            n_frames: number of frames that will come.
            n_blocks: number of blocks, at least two.

        Raises:
            DataError: if there are too few frames.
        """
        self._length = n_frames // max(n_blocks, 1)
        if n_blocks < 2 or self._length < _FEWEST_FRAMES:
            raise DataError(
                f"{n_blocks} blocks of {self._length} frames: at least 2 blocks of {_FEWEST_FRAMES} frames are needed. "
                "Use fewer blocks, write frames more often, or run longer."
            )
        self._groups, self._n_blocks, self._n_frames = groups, n_blocks, 0
        self._correlator = DisplacementCorrelator(groups)
        self._lines: list[Floats] = []
        self._lags: NDArray[np.int64] = np.zeros(0, dtype=np.int64)

    def add(self, positions: Floats) -> None:
        """Take in the next frame's points, shape ``(n_points, 3)``, in Å; frames beyond the last block are ignored."""
        if len(self._lines) == self._n_blocks:
            return
        self._correlator.add(positions)
        self._n_frames += 1
        if self._n_frames % self._length == 0:
            lags, curves = self._correlator.result()
            kept = (lags >= max(1, int(FIT_RANGE[0] * self._length))) & (lags <= int(FIT_RANGE[1] * self._length))
            self._lags = lags[kept]
            self._lines.append(np.polyfit(self._lags, curves[kept], 1))
            self._correlator = DisplacementCorrelator(self._groups)

    def slopes(self) -> Floats:
        """Slopes, shape ``(n_blocks, n_groups)``, in Å² a frame."""
        return np.array(self._lines)[:, 0]

    def result(self, group: int, spacing_ps: float, *, per: float = 1.0) -> BlockedSlope:
        """Diffusivity of a group.

        Args:
            group: which.
            spacing_ps: time between frames in ps.
            per: number that displacements squared are divided by.
        """
        slopes, intercepts = (np.array(self._lines)[:, row, group] / per for row in (0, 1))
        values = slopes / (6.0 * spacing_ps)
        return BlockedSlope(
            value_ang2_per_ps=float(values.mean()),
            error_ang2_per_ps=float(values.std(ddof=1) / np.sqrt(len(values))),
            intercept_ang2=float(intercepts.mean()),
            n_blocks=len(values),
            fit_range_ps=(float(self._lags[0] * spacing_ps), float(self._lags[-1] * spacing_ps)),
        )


class DiffusionBlocks:
    """Tracer and charge diffusivity of one element, gathered while frames stream by."""

    def __init__(self, stream: SnapshotStream, element: str, *, n_blocks: int = 5, about: str = "all") -> None:
        """Make ready for the frames of a stream.

        Args:
            stream: whose frames will come.
            element: chemical symbol.
            n_blocks: number of blocks, at least two.
            about: whose centre of mass is at rest: ``all`` atoms, or the ``framework`` of all other elements.

        Raises:
            DataError: if the element is absent, or there are too few frames.
        """
        self._element = element
        self._chosen = stream.numbers == atomic_numbers.get(element, 0)
        if not self._chosen.any():
            raise DataError(f"the trajectory has no {element!r} atom.")
        others = ~self._chosen if about == "framework" and not self._chosen.all() else None
        self._centre = CentreOfMass(stream.numbers, among=others)
        self._n_ions = int(self._chosen.sum())
        # One more point, the sum of all ions' positions, is a group of its own.
        groups = np.append(np.zeros(self._n_ions, dtype=np.int64), 1)
        self._blocks = BlockedDisplacements(groups, n_frames=stream.n_frames, n_blocks=n_blocks)
        self._clock = Clock()

    def add(self, snapshot: Snapshot) -> None:
        """Take in the next frame."""
        self._clock.tick(snapshot)
        ions = self._centre.relative(snapshot.positions)[self._chosen]
        self._blocks.add(np.vstack([ions, ions.sum(axis=0)]))

    def result(self) -> Diffusivity:
        """The diffusivities.

        Raises:
            DataError: if the frames carry no time, or it is not evenly spaced.
        """
        spacing = self._clock.spacing_ps()
        tracer = self._blocks.result(0, spacing)
        return Diffusivity(
            **vars(tracer),
            element=self._element,
            n_ions=self._n_ions,
            charge=self._blocks.result(1, spacing, per=self._n_ions),
        )
