"""Running means and covariances of channels, in one pass and without cancellation."""

from __future__ import annotations

import numpy as np

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.descriptors.tables import ChannelTables

BLOCK = 256
"""Atoms whose products are added at once."""


class Moments:
    """Running mean and covariance of the channels of each species."""

    def __init__(self, tables: ChannelTables) -> None:
        self._species: list[int] = tables.species.tolist()
        self._widths = np.diff(tables.channel_start)
        self._counts = np.zeros(len(self._species))
        self._shifts: list[FloatArray | None] = [None] * len(self._species)
        self._sums = [np.zeros(width) for width in self._widths]
        self._squares = [np.zeros((width, width)) for width in self._widths]
        self._waiting: list[list[FloatArray]] = [[] for _ in self._widths]

    def add(self, kinds: IntArray, values: FloatArray) -> None:
        """Add the atoms of one frame."""
        for s, width in enumerate(self._widths):
            own = values[kinds == s, :width]
            if not len(own):
                continue
            shift = self._shifts[s]
            if shift is None:
                # NOTE: sums of deviations from the first frame's mean; raw squares would cancel badly.
                shift = self._shifts[s] = own.mean(axis=0)
            deviation = own - shift
            self._counts[s] += len(own)
            self._sums[s] += deviation.sum(axis=0)
            self._waiting[s].append(deviation)
            if sum(map(len, self._waiting[s])) >= BLOCK:
                self._settle(s)

    def _settle(self, s: int) -> None:
        """Add the products of what waits."""
        # PERF: many atoms at once; with those of one frame the matrix of squares passes through memory every time,
        # which took a fifth of a training.
        if self._waiting[s]:
            rows = np.concatenate(self._waiting[s])
            self._squares[s] += rows.T @ rows
            self._waiting[s] = []

    def merge(self, other: Moments) -> None:
        """Add the sums over other frames."""
        for s, theirs in enumerate(other._shifts):
            self._settle(s)
            other._settle(s)
            if theirs is None:
                continue
            shift = self._shifts[s]
            if shift is None:
                shift = self._shifts[s] = theirs
            # Deviations from their shift become deviations from ours, exactly.
            count, total, apart = other._counts[s], other._sums[s], theirs - shift
            cross = np.outer(total, apart)
            self._squares[s] += other._squares[s] + cross + cross.T + count * np.outer(apart, apart)
            self._sums[s] += total + count * apart
            self._counts[s] += count

    def mean(self) -> FloatArray:
        """Means end to end, shape ``(C,)``."""
        means = [self._shift(s) + total / self._counts[s] for s, total in enumerate(self._sums)]
        return np.concatenate(means)

    def _shift(self, s: int) -> FloatArray:
        """What was taken off before summing; zero for a species that never came."""
        shift = self._shifts[s]
        return np.zeros(self._widths[s]) if shift is None else shift

    def covariance(self) -> dict[int, FloatArray]:
        """Covariance per species."""
        for s in range(len(self._widths)):
            self._settle(s)
        return {
            z: square / count - np.outer(total / count, total / count)
            for z, square, total, count in zip(self._species, self._squares, self._sums, self._counts, strict=True)
        }
