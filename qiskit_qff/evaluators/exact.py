"""Evaluators that need no primitive: exact expectation values, and a perfect device with finite shots.

Both run the same circuits as a device, gate by gate. :class:`SampledEvaluator` draws measurement outcomes
from the exact probabilities: shot noise and nothing else, fast enough for training and for statistics over
many repetitions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.circuit.compiled import gates_of
from qiskit_qff.evaluators.protocol import Cost, Evaluation, Request, TimingModel, check_shots

_CHUNK = 1024
"""Parameter sets whose gates are held in memory at a time."""


class ExactEvaluator:
    """Simulates every circuit gate by gate and returns exact expectation values.

    Told of a number of shots, it also returns the covariances that sampling would give them, the average perfect
    device: with it every strategy gives the standard errors of its energies and forces in closed form.
    """

    def __init__(self, *, shots: int | None = None) -> None:
        """Executions per parameter set whose covariances are wanted; values without errors by default."""
        check_shots(shots)
        self._shots = shots

    def evaluate(self, requests: Sequence[Request], *, shots: int | None = None) -> list[Evaluation]:
        """Exact expectation values for all requests."""
        return [self._expect(request, self._shots and (shots or self._shots)) for request in requests]

    @staticmethod
    def _expect(request: Request, shots: int | None) -> Evaluation:
        """Values and covariances of one request."""
        readouts, batch = request.task.readouts, len(request.parameters)
        values, covariances = np.empty((batch, len(readouts))), np.zeros((batch, len(readouts), len(readouts)))
        for part, probabilities in _probabilities(request):
            values[part] = probabilities @ readouts.T
            if shots:
                covariances[part] = _covariances(probabilities, readouts) / shots
        return Evaluation(values, covariances, Cost(batch, batch * (shots or 0)))


class SampledEvaluator:
    """A perfect device: exact probabilities, outcomes drawn at random."""

    def __init__(self, rng: np.random.Generator, *, shots: int) -> None:
        """Executions per parameter set, drawn from ``rng``."""
        check_shots(shots)
        self._rng = rng
        self._shots = shots

    def evaluate(self, requests: Sequence[Request], *, shots: int | None = None) -> list[Evaluation]:
        """Expectation values from random outcomes."""
        return [self._sample(request, self._shots if shots is None else shots) for request in requests]

    def _sample(self, request: Request, shots: int) -> Evaluation:
        """Sampled values of one request and the covariances that the counts imply."""
        readouts = request.task.readouts
        probabilities = np.concatenate([part for _, part in _probabilities(request)])
        counts = self._rng.multinomial(shots, probabilities / probabilities.sum(axis=1, keepdims=True))
        # One imaginary shot spread over all outcomes keeps an error from being zero where no event was seen.
        covariances = _covariances((counts + 1.0 / counts.shape[1]) / (shots + 1), readouts) / shots
        n_shots = shots * len(counts)
        cost = Cost(len(counts), n_shots, TimingModel().seconds(shots=n_shots, jobs=1))
        return Evaluation(counts @ readouts.T / shots, covariances, cost)


def _probabilities(request: Request) -> Iterator[tuple[slice, FloatArray]]:
    """Probabilities of all basis states, shape ``(n_sets, 2**n)``, some parameter sets at a time."""
    gates = gates_of(request.task)
    for start in range(0, max(1, len(request.parameters)), _CHUNK):
        part = slice(start, start + _CHUNK)
        states = gates.run(gates.rotation_angles(request.parameters[part]), np.zeros(1, dtype=np.int64))
        yield part, np.abs(states[:, :, 0]) ** 2


def _covariances(probabilities: FloatArray, readouts: FloatArray) -> FloatArray:
    """Covariances of the readouts in one shot, shape ``(n_sets, n_readouts, n_readouts)``."""
    means = probabilities @ readouts.T
    squares = np.einsum("bz,kz,lz->bkl", probabilities, readouts, readouts, optimize=True)
    return np.asarray(squares - means[:, :, None] * means[:, None, :])
