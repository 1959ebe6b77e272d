r"""Velocity autocorrelation and vibrational density of states.

.. math:: C_a(t) = \frac{\langle v_i(t_0) \cdot v_i(t_0 + t) \rangle_{i \in a, t_0}}{\langle v_i^2 \rangle_{i \in a}},
          \qquad g_a(\nu) \propto \sum_{i \in a} m_i \langle |\hat v_i(\nu)|^2 \rangle

The density of states is Welch's estimate: the mean of the periodograms of overlapping stretches under a Hann window,
each as long as the resolution asks for. It is scaled so that all elements together hold the 3N - 3 modes that move
when the centre of mass rests; in equilibrium, where every mode has the energy kT, it counts modes. A frequency is sharp
to about 1.5 times the resolution. Memory is that of one stretch, whatever the number of frames.

References:
    Welch, doi:10.1109/TAU.1967.1161901.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_masses, chemical_symbols
from scipy.fft import irfft, next_fast_len, rfft
from scipy.signal import get_window

from qiskit_qff.errors import DataError
from qiskit_qff.simulation.displacements import Clock
from qiskit_qff.simulation.trajectory import Floats, Snapshot, SnapshotStream, no_times

#: 1 THz in 1/cm.
PER_CM = 33.35640951981521
# A stretch of fewer frames shows nothing.
_FEWEST_FRAMES = 16


@dataclass(frozen=True, eq=False)
class Vibrations:
    """What velocities tell about vibrations."""

    lag_ps: Floats
    """Lag times, shape ``(n_lags,)``, in ps."""
    correlation: Mapping[str, Floats]
    """Normalised velocity autocorrelation by element, each of shape ``(n_lags,)``; 1 at lag zero."""
    frequency_thz: Floats
    """Frequencies, shape ``(n_frequencies,)``, in THz."""
    density: Mapping[str, Floats]
    """Density of states by element, each of shape ``(n_frequencies,)``, in modes per THz; summed over elements
    and integrated it gives 3N - 3."""
    n_stretches: int
    """Number of overlapping stretches averaged over."""
    resolution_thz: float
    """Distance of frequencies in THz."""

    @property
    def highest_thz(self) -> float:
        """Nyquist frequency in THz: faster vibrations appear at wrong, lower frequencies."""
        return float(self.frequency_thz[-1])


class VelocityCorrelator:
    """Gathers velocities while frames stream by."""

    def __init__(self, stream: SnapshotStream, *, resolution_thz: float = 0.25) -> None:
        """Make ready for the frames of a stream.

        Args:
            stream: whose frames will come, with velocities.
            resolution_thz: distance of frequencies in THz; a stretch is as long as its inverse.
        """
        self._elements, self._groups = np.unique(stream.numbers, return_inverse=True)
        self._masses: Floats = atomic_masses[stream.numbers]
        self._resolution, self._n_frames = resolution_thz, stream.n_frames
        self._clock = Clock()
        self._buffer: Floats = np.empty((0, len(stream.numbers), 3))
        self._early: list[Snapshot] = []
        self._filled, self._n_stretches = 0, 0
        self.is_complete = True
        """Whether all frames so far had velocities."""

    def add(self, snapshot: Snapshot) -> None:
        """Take in the next frame."""
        self.is_complete = self.is_complete and snapshot.velocities is not None
        if not self.is_complete:
            return
        self._clock.tick(snapshot)
        if len(self._buffer):
            self._keep(snapshot)
            return
        self._early.append(snapshot)
        first = self._early[0].time_ps
        if len(self._early) == 2 and first is not None and snapshot.time_ps is not None:
            self._start(snapshot.time_ps - first)

    def result(self) -> Vibrations:
        """Averages over the stretches so far.

        Raises:
            DataError: if velocities or times are missing, or too few frames came.
        """
        if not self.is_complete:
            raise DataError("the frames carry no velocities; write them (qff md --velocities).")
        spacing = self._clock.spacing_ps()
        if not self._n_stretches:
            raise DataError(
                f"{self._n_frames} frames are too few for vibrations; at least {_FEWEST_FRAMES} are needed."
            )
        names = [chemical_symbols[number] for number in self._elements]
        length = len(self._buffer)
        frequencies: Floats = np.fft.rfftfreq(length, spacing).astype(np.float64)
        # The zero of frequency is kept: a diffusing element has modes there.
        total = np.trapezoid(self._power.sum(axis=0), frequencies)
        density = self._power * ((3 * len(self._masses) - 3) / total)
        lags = length // 2
        origins = length - np.arange(lags)
        correlation = self._correlation[:, :lags] / origins
        return Vibrations(
            lag_ps=spacing * np.arange(lags, dtype=np.float64),
            correlation=dict(zip(names, correlation / correlation[:, :1], strict=True)),
            frequency_thz=frequencies,
            density=dict(zip(names, density, strict=True)),
            n_stretches=self._n_stretches,
            resolution_thz=float(frequencies[1]),
        )

    def _start(self, spacing_ps: float) -> None:
        """Fix the length of a stretch, now that the time between frames is known.

        Raises:
            DataError: if time stands still.
        """
        if not spacing_ps > 0.0:
            raise no_times()
        wanted = max(_FEWEST_FRAMES, round(1.0 / (self._resolution * spacing_ps)))
        length = min(wanted, self._n_frames)
        if length < _FEWEST_FRAMES:
            return
        self._buffer = np.empty((length, len(self._masses), 3))
        self._window = get_window("hann", length)[:, None, None]
        self._power: Floats = np.zeros((len(self._elements), length // 2 + 1))
        self._correlation: Floats = np.zeros((len(self._elements), length))
        for snapshot in self._early:
            self._keep(snapshot)
        self._early.clear()

    def _keep(self, snapshot: Snapshot) -> None:
        """Put one frame into the buffer; evaluate it when it is full, then keep its second half."""
        velocities = snapshot.velocities
        assert velocities is not None
        self._buffer[self._filled] = velocities - (self._masses @ velocities) / self._masses.sum()
        self._filled += 1
        if self._filled < len(self._buffer):
            return
        self._evaluate()
        kept = len(self._buffer) // 2
        self._buffer[:kept] = self._buffer[len(self._buffer) - kept :].copy()
        self._filled = kept

    def _evaluate(self) -> None:
        """Add one stretch."""
        length = len(self._buffer)
        padded = next_fast_len(2 * length, real=True)
        for group in range(len(self._elements)):
            chosen = self._groups == group
            moving = self._buffer[:, chosen]
            windowed = rfft(moving * self._window, axis=0)
            self._power[group] += np.einsum("fai,a->f", np.abs(windowed) ** 2, self._masses[chosen])
            squares = (np.abs(rfft(moving, n=padded, axis=0)) ** 2).sum(axis=(1, 2))
            self._correlation[group] += irfft(squares, n=padded)[:length]
        self._n_stretches += 1
