"""Evaluators that need no primitive: exact expectation values, and a perfect device with finite shots.

Both run the same circuits as a device, gate by gate. :class:`SampledEvaluator` draws measurement outcomes
from the exact probabilities: shot noise and nothing else, fast enough for training and for statistics over
many repetitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.circuit.compiled import GateTable, gate_table
from qiskit_qff.errors import ConfigError
from qiskit_qff.evaluators.protocol import Cost, Evaluation, MeasurementTask, Request, TimingModel

_CHUNK = 1024
"""Parameter sets whose gates are held in memory at a time."""


@lru_cache(maxsize=1024)
def _gates(task: MeasurementTask) -> GateTable:
    """Gates of a task, read once."""
    return gate_table(task.circuit)


class ExactEvaluator:
    """Simulates every circuit gate by gate and returns exact expectation values; no shots, no errors."""

    def evaluate(self, requests: Sequence[Request], *, shots: int | None = None) -> list[Evaluation]:
        """Exact expectation values for all requests.

        Args:
            requests: Tasks with their parameter sets; not changed.
            shots: Has no meaning here; accepted so that evaluators are interchangeable.
        """
        del shots
        return [_evaluate(request) for request in requests]


class ExpectedEvaluator:
    """The average perfect device: exact values with the exact covariances of a number of shots, nothing drawn.

    With it every strategy gives the standard errors of its energies and forces in closed form.
    """

    def __init__(self, *, shots: int) -> None:
        """Set the number of shots.

        Args:
            shots: Executions per parameter set.

        Raises:
            ConfigError: If the number of shots is not positive.
        """
        _check_shots(shots)
        self._shots = shots

    def evaluate(self, requests: Sequence[Request], *, shots: int | None = None) -> list[Evaluation]:
        """Exact values and the covariances that sampling would give them.

        Args:
            requests: Tasks with their parameter sets; not changed.
            shots: Executions per parameter set; the evaluator's own setting by default.
        """
        return [self._expect(request, self._shots if shots is None else shots) for request in requests]

    def _expect(self, request: Request, shots: int) -> Evaluation:
        """Values and covariances of one request, in chunks."""
        gates, readouts = _gates(request.task), request.task.readouts
        batch, count = len(request.parameters), len(readouts)
        values, covariances = np.empty((batch, count)), np.empty((batch, count, count))
        for start in range(0, batch, _CHUNK):
            probabilities = _probabilities(gates, request.parameters[start : start + _CHUNK])
            part = slice(start, start + len(probabilities))
            means = probabilities @ readouts.T
            squares = np.einsum("bz,kz,lz->bkl", probabilities, readouts, readouts, optimize=True)
            values[part] = means
            covariances[part] = (squares - means[:, :, None] * means[:, None, :]) / shots
        return Evaluation(values, covariances, Cost(circuits=batch, shots=batch * shots))


class SampledEvaluator:
    """A perfect device: exact probabilities, outcomes drawn at random."""

    def __init__(self, rng: np.random.Generator, *, shots: int, timing: TimingModel | None = None) -> None:
        """Set the source of randomness and the number of shots.

        Args:
            rng: Draws the outcomes.
            shots: Executions per parameter set.
            timing: For the estimate of processor time.

        Raises:
            ConfigError: If the number of shots is not positive.
        """
        _check_shots(shots)
        self._rng = rng
        self._shots = shots
        self._timing = timing or TimingModel()

    def evaluate(self, requests: Sequence[Request], *, shots: int | None = None) -> list[Evaluation]:
        """Expectation values from random outcomes.

        Args:
            requests: Tasks with their parameter sets; not changed.
            shots: Executions per parameter set; the evaluator's own setting by default.
        """
        return [self._sample(request, self._shots if shots is None else shots) for request in requests]

    def _sample(self, request: Request, shots: int) -> Evaluation:
        """Sampled values of one request and the covariances that the counts imply."""
        gates, readouts = _gates(request.task), request.task.readouts
        probabilities = _probabilities(gates, request.parameters)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        counts = self._rng.multinomial(shots, probabilities)
        # One imaginary shot spread over all outcomes keeps an error from being zero where no event was seen.
        shrunk = (counts + 1.0 / counts.shape[1]) / (shots + 1)
        means = shrunk @ readouts.T
        squares = np.einsum("bz,kz,lz->bkl", shrunk, readouts, readouts, optimize=True)
        covariances = (squares - means[:, :, None] * means[:, None, :]) / shots
        n_shots = shots * len(counts)
        cost = Cost(len(counts), n_shots, self._timing.seconds(shots=n_shots, jobs=1))
        return Evaluation(counts @ readouts.T / shots, covariances, cost)


def _evaluate(request: Request) -> Evaluation:
    """Exact values of one request."""
    gates, readouts = _gates(request.task), request.task.readouts
    batch, n_readouts = len(request.parameters), len(readouts)
    values = np.empty((batch, n_readouts))
    for start in range(0, batch, _CHUNK):
        chunk = request.parameters[start : start + _CHUNK]
        values[start : start + len(chunk)] = _probabilities(gates, chunk) @ readouts.T
    return Evaluation(values, np.zeros((batch, n_readouts, n_readouts)), Cost(circuits=batch))


def _probabilities(gates: GateTable, parameters: FloatArray) -> FloatArray:
    """Probabilities of all basis states, shape ``(batch, 2**n)``."""
    states = gates.run(gates.rotation_angles(parameters), np.zeros(1, dtype=np.int64))
    return np.asarray(np.abs(states[:, :, 0]) ** 2)


def _check_shots(shots: int) -> None:
    """Refuse numbers of shots that are not positive.

    Raises:
        ConfigError: If so.
    """
    if shots < 1:
        raise ConfigError(f"The number of shots must be positive; {shots} was given.")
