"""An evaluator that needs no primitive: exact expectation values, or a perfect device with finite shots.

It runs the same circuits as a device, gate by gate. Outcomes are drawn from the exact probabilities: shot noise and
nothing else, fast enough for training and for statistics over many repetitions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.circuit.ansatz import gates_of
from qiskit_qff.errors import ConfigError
from qiskit_qff.evaluators.protocol import Cost, Evaluation, Request, TimingModel, check_shots, joint_cost


class ExactEvaluator:
    """Simulates every circuit gate by gate; exact without shots."""

    def __init__(self, rng: np.random.Generator | None = None, *, shots: int | None = None) -> None:
        """Executions per parameter set, drawn from ``rng``."""
        check_shots(shots)
        if shots and rng is None:
            raise ConfigError("Outcomes of shots are drawn at random: pass a numpy.random.Generator.")
        self._rng, self._shots = rng, shots

    def evaluate(self, requests: Sequence[Request], *, shots: int | None = None) -> list[Evaluation]:
        """Expectation values for all requests."""
        return [self._answer(request, self._shots and (shots or self._shots)) for request in requests]

    def cost(self, requests: Sequence[Request], *, shots: int | None = None) -> Cost:
        """What the same takes on a device."""
        return joint_cost(requests, shots=self._shots and (shots or self._shots), timing=TimingModel())

    def _answer(self, request: Request, shots: int | None) -> Evaluation:
        """Values of one request, and the covariances that the shots imply."""
        gates, readouts = gates_of(request.task), request.task.readouts
        states = gates.run(gates.rotation_angles(request.parameters), np.zeros(1, dtype=np.int64))
        probabilities = np.abs(states[:, :, 0]) ** 2
        if not shots:
            return Evaluation(probabilities @ readouts.T, np.zeros((len(states), len(readouts), len(readouts))))
        assert self._rng is not None  # refused above
        counts = self._rng.multinomial(shots, probabilities / probabilities.sum(axis=1, keepdims=True))
        # One imaginary shot spread over all outcomes keeps an error from being zero where no event was seen.
        covariances = _covariances((counts + 1.0 / counts.shape[1]) / (shots + 1), readouts) / shots
        return Evaluation(counts @ readouts.T / shots, covariances)


def _covariances(probabilities: FloatArray, readouts: FloatArray) -> FloatArray:
    """Covariances of the readouts in one shot, shape ``(n_sets, n_readouts, n_readouts)``."""
    means = probabilities @ readouts.T
    squares = np.einsum("bz,kz,lz->bkl", probabilities, readouts, readouts, optimize=True)
    return np.asarray(squares - means[:, :, None] * means[:, None, :])
