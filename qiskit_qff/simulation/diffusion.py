r"""Mean squared displacements and the diffusivity, with an error bar from independent blocks.

.. math:: \mathrm{MSD}_a(t) = \langle |r_i(t_0 + t) - r_i(t_0)|^2 \rangle_{i \in a,\, t_0}, \qquad
          D_a = \tfrac16 \frac{d\,\mathrm{MSD}_a}{dt}

averaged over all atoms of the element and all time origins, after the motion of the centre of mass of all
atoms is taken out. The trajectory is cut into blocks; the slope is fitted in each, over lag times between
10 % and 50 % of a block, and the standard error of the blocks' mean is the error bar. It is meaningful when a
block is much longer than the time between hops.

References:
    Time origins by fast Fourier transform: Calandrini et al., doi:10.1051/sfn/201112010.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_masses, atomic_numbers, chemical_symbols
from numpy.typing import NDArray

from qiskit_qff.errors import DataError
from qiskit_qff.simulation.trajectory import Trajectory

Floats = NDArray[np.float64]

#: 1 Å²/ps in cm²/s.
CM2_PER_S = 1e-4
#: The slope is fitted over lag times between these fractions of a block.
FIT_RANGE = (0.1, 0.5)
# A block needs this many frames for a slope that means anything.
_FEWEST_FRAMES = 20


@dataclass(frozen=True, eq=False)
class Displacements:
    """Mean squared displacements by element."""

    lag_ps: Floats
    """Lag times, shape ``(n_lags,)``, in ps."""
    curves: Mapping[str, Floats]
    """Mean squared displacement by element, each of shape ``(n_lags,)``, in Å²."""


@dataclass(frozen=True)
class Diffusivity:
    """Diffusivity of one element."""

    element: str
    """Chemical symbol."""
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


def mean_squared_displacements(trajectory: Trajectory) -> Displacements:
    """Mean squared displacement of every element, up to half the length of the trajectory.

    Raises:
        DataError: if there are fewer than two frames, or they carry no time, or it is not evenly spaced.
    """
    spacing = _spacing(trajectory)
    positions = _without_drift(trajectory)
    n_lags = max(2, trajectory.n_frames // 2)
    curves = {
        chemical_symbols[number]: _squared_displacements(positions[:, trajectory.numbers == number])[:n_lags]
        for number in np.unique(trajectory.numbers)
    }
    return Displacements(lag_ps=np.arange(n_lags, dtype=np.float64) * spacing, curves=curves)


def diffusivity(trajectory: Trajectory, element: str, *, n_blocks: int = 5) -> Diffusivity:
    """Diffusivity of one element, with the standard error over blocks of the trajectory.

    Args:
        trajectory: evenly spaced in time.
        element: chemical symbol.
        n_blocks: number of blocks, at least two.

    Raises:
        DataError: if the element is absent, the trajectory too short, or its times are missing or uneven.
    """
    spacing = _spacing(trajectory)
    chosen = trajectory.numbers == atomic_numbers.get(element, 0)
    if not chosen.any():
        raise DataError(f"the trajectory has no {element!r} atom.")
    length = trajectory.n_frames // max(n_blocks, 1)
    if n_blocks < 2 or length < _FEWEST_FRAMES:
        raise DataError(
            f"{n_blocks} blocks of {length} frames: at least 2 blocks of {_FEWEST_FRAMES} frames are needed. "
            "Use fewer blocks, write frames more often, or run longer."
        )
    positions = _without_drift(trajectory)[:, chosen]
    begin, end = max(1, int(FIT_RANGE[0] * length)), int(FIT_RANGE[1] * length)
    lag_ps = np.arange(begin, end + 1) * spacing
    slopes, intercepts = [], []
    for block in range(n_blocks):
        part = _squared_displacements(positions[block * length : (block + 1) * length])[begin : end + 1]
        slope, intercept = np.polyfit(lag_ps, part, 1)
        slopes.append(slope / 6.0)
        intercepts.append(intercept)
    return Diffusivity(
        element=element,
        value_ang2_per_ps=float(np.mean(slopes)),
        error_ang2_per_ps=float(np.std(slopes, ddof=1) / np.sqrt(n_blocks)),
        intercept_ang2=float(np.mean(intercepts)),
        n_blocks=n_blocks,
        fit_range_ps=(float(lag_ps[0]), float(lag_ps[-1])),
    )


def _spacing(trajectory: Trajectory) -> float:
    """Time between frames in ps.

    Raises:
        DataError: if there are fewer than two frames, or they carry no time, or it is not evenly spaced.
    """
    steps = np.diff(trajectory.require_times())
    if len(steps) == 0:
        raise DataError("displacements need at least two frames.")
    if steps.min() <= 0.0 or np.ptp(steps) > 1e-6 * steps.mean():
        raise DataError(
            f"frames are not evenly spaced in time ({steps.min():g} to {steps.max():g} ps apart); "
            "displacements need even steps."
        )
    return float(steps.mean())


def _without_drift(trajectory: Trajectory) -> Floats:
    """Positions relative to the centre of mass of all atoms, shape ``(n_frames, n_atoms, 3)``."""
    masses = atomic_masses[trajectory.numbers]
    centre = np.einsum("tai,a->ti", trajectory.positions, masses) / masses.sum()
    relative: Floats = trajectory.positions - centre[:, None]
    return relative


def _squared_displacements(positions: Floats) -> Floats:
    """Mean squared displacement over atoms and origins at every lag, shape ``(n_frames,)``.

    PERF: |r(t0 + t) - r(t0)|² = r² + r² - 2 r·r; the last term is a correlation, done by FFT, so the cost is
    n log n in the number of frames instead of n².
    """
    n_frames, n_atoms = positions.shape[:2]
    centred = positions - positions.mean(axis=0)  # smaller numbers cancel better
    squares = np.einsum("tai,tai->t", centred, centred)
    transform = np.fft.rfft(centred, n=2 * n_frames, axis=0)
    power = np.einsum("fai,fai->f", transform, transform.conj()).real
    correlation = np.fft.irfft(power, n=2 * n_frames)[:n_frames]
    from_start = np.concatenate([[0.0], np.cumsum(squares)])
    lags = np.arange(n_frames)
    # Sums of r²(t0) and r²(t0 + t) over the origins that exist at each lag.
    sums = from_start[n_frames - lags] + (from_start[n_frames] - from_start[lags])
    result: Floats = (sums - 2.0 * correlation) / ((n_frames - lags) * n_atoms)
    return np.maximum(result, 0.0)
