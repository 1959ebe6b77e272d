r"""What is asked of a quantum computer, and what it answers.

A *task* is one parametrised circuit (state preparation and U) with Z-diagonal readouts; a *request* is a task
with a batch of parameter sets. An evaluator answers a list of requests, one :class:`Evaluation` each, all in
one job where it can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.circuit.ansatz import MeasurementTask
from qiskit_qff.errors import ConfigError

DEFAULT_REPETITION_DELAY = 250e-6
"""What IBM documents for its Eagle and Heron processors, in s; Nighthawk ones state 1 to 4 ms."""


@dataclass(frozen=True)
class Cost:
    """What an evaluation costs on a device."""

    circuits: int = 0
    """Prepared states times parameter settings that were measured."""
    shots: int = 0
    """Executions of a circuit in all; 0 where values are exact."""
    seconds: float = 0.0
    """Estimated time on a quantum processor in s."""

    def __add__(self, other: Cost) -> Cost:
        """Cost of both."""
        return Cost(self.circuits + other.circuits, self.shots + other.shots, self.seconds + other.seconds)

    def __mul__(self, count: float) -> Cost:
        """So many of them, or a share."""
        return Cost(round(self.circuits * count), round(self.shots * count), self.seconds * count)


@dataclass(frozen=True)
class TimingModel:
    r"""An estimate of the time on a quantum processor; a provider's own accounting decides.

    .. math:: t = t_{job} + N_{shots}\,f\,(t_{delay} + t_{circuit})

    with one overhead per job, the idle time between two shots, the duration of a circuit and a factor f for what error
    mitigation runs in addition. All times in s.
    """

    job_overhead: float = 2.0
    """Loading and compiling one job."""
    repetition_delay: float = DEFAULT_REPETITION_DELAY
    """Time between two shots; a backend states its own as ``default_rep_delay``."""
    circuit_duration: float = 10e-6
    """Duration of one execution, reset and readout included."""
    mitigation_factor: float = 1.0
    """Executions per shot that error mitigation adds: noise factors, calibration circuits, sampling overhead."""

    def seconds(self, *, shots: int, jobs: int) -> float:
        """Estimated processor time in s."""
        per_shot = self.repetition_delay + self.circuit_duration
        return jobs * self.job_overhead + shots * self.mitigation_factor * per_shot


@dataclass(frozen=True)
class QubitLine:
    """A chain of connected qubits of a device."""

    qubits: tuple[int, ...]
    """Physical qubits, in the order of the chain."""
    two_qubit_errors: tuple[float, ...]
    """Error of the gate on each bond."""
    readout_errors: tuple[float, ...]
    """Readout error of each qubit."""
    score: float
    """Expected error of a circuit, the quantity that is minimised."""


@dataclass(frozen=True)
class Place:
    """Where a register is measured."""

    round: int = 0
    """Registers of the same round are measured side by side in one circuit."""
    line: QubitLine | None = None
    """Its qubits; None where they are not chosen."""


ANYWHERE = Place()
"""Default placement: qubits not chosen, all registers in one circuit."""


@dataclass(frozen=True, eq=False)
class Request:
    """A task and the parameter sets for which its expectation values are wanted."""

    task: MeasurementTask
    parameters: FloatArray
    """Radians, shape ``(batch, n_parameters)``."""
    register: int = 0
    """Which of several registers, measured side by side, it belongs to."""
    place: Place = ANYWHERE
    """Where on a device that is; by default where the evaluator finds best."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Expectation values of all readouts for a batch, with their uncertainty."""

    values: FloatArray
    """Expectation values, shape ``(batch, n_readouts)``."""
    covariances: FloatArray
    """Their covariances within one state, shape ``(batch, n_readouts, n_readouts)``; states are independent."""
    cost: Cost

    @property
    def std_errors(self) -> FloatArray:
        """Standard errors of the values, shape ``(batch, n_readouts)``."""
        return np.sqrt(np.maximum(np.diagonal(self.covariances, axis1=1, axis2=2), 0.0))

    def weighted(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Values and variances of ``sum_k w_k r_k``, shape ``(batch,)`` each, in the units of the weights."""
        variances = np.einsum("k,bkl,l->b", weights, self.covariances, weights)
        return self.values @ weights, np.maximum(variances, 0.0)

    def split(self, counts: Sequence[int]) -> list[Evaluation]:
        """The batch in parts of some lengths, each with its share of the cost."""
        stops = np.cumsum(counts)
        parts = [slice(stop - count, stop) for count, stop in zip(counts, stops, strict=True)]
        share = 1.0 / max(1, len(self.values))
        return [
            Evaluation(self.values[part], self.covariances[part], self.cost * (count * share))
            for part, count in zip(parts, counts, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class Measured:
    """Values with independent standard errors, of any one shape and unit; zero errors where values are exact."""

    values: FloatArray
    std_errors: FloatArray


class Evaluator(Protocol):
    """Anything that can measure Z-diagonal readouts of parametrised circuits."""

    def evaluate(self, requests: Sequence[Request], *, shots: int | None = None) -> list[Evaluation]:
        """Expectation values for all requests, in their order.

        Args:
            shots: Executions per parameter set; the evaluator's own setting by default.
        """
        ...  # pragma: no cover


def total_cost(evaluations: Sequence[Evaluation]) -> Cost:
    """Sum of the costs."""
    return sum((evaluation.cost for evaluation in evaluations), Cost())


def check_shots(shots: int | None) -> None:
    """Refuse numbers of shots that are not positive."""
    if shots is not None and shots < 1:
        raise ConfigError(f"The number of shots must be positive; {shots} was given.")
