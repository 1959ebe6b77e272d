r"""What is asked of a quantum computer, what it answers, and what that costs.

A *task* is one parametrised circuit with Z-diagonal readouts; a *request* is a task with a batch of parameter sets, of
one register. Registers are measured side by side: the k-th request of every register of a round shares a circuit, which
is run with as many parameter sets as the longest of them has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Protocol

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.circuit.ansatz import MeasurementTask
from qiskit_qff.errors import ConfigError

DEFAULT_REPETITION_DELAY = 250e-6
"""What IBM documents for its Eagle and Heron processors, in s; Nighthawk ones state 1 to 4 ms."""
MOST_SETS, MOST_EXECUTIONS = 10_000, 10_000_000
"""Parameter sets of a job over all its circuits, and executions over all parameter sets."""


@dataclass(frozen=True)
class Cost:
    """What an evaluation costs on a device."""

    circuits: int = 0
    """Parameter sets times measurement settings of the circuits that hold all registers of a round."""
    shots: int = 0
    """Executions of a circuit in all; 0 where values are exact."""
    seconds: float = 0.0
    """Estimated time on a quantum processor in s."""
    jobs: int = 0
    """Jobs that are sent; 0 where values are exact."""

    def __add__(self, other: Cost) -> Cost:
        """Cost of both."""
        return Cost(*(mine + yours for mine, yours in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, count: int) -> Cost:
        """So many of them."""
        return Cost(*(value * count for value in astuple(self)))


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
class Tile:
    """A chain of connected qubits of a device, on which a register is measured."""

    qubits: tuple[int, ...]
    """Physical qubits, in the order of the chain."""
    two_qubit_errors: tuple[float, ...]
    """Error of the gate on each bond."""
    readout_errors: tuple[float, ...]
    """Readout error of each qubit."""
    score: float
    """Expected error of a circuit, the quantity that is minimised."""
    round: int = 0
    """Registers of the same round are measured side by side in one circuit."""


@dataclass(frozen=True, eq=False)
class Request:
    """A task and the parameter sets for which its expectation values are wanted."""

    task: MeasurementTask
    parameters: FloatArray
    """Radians, shape ``(batch, n_parameters)``."""
    register: int = 0
    """Which of several registers, measured side by side, it belongs to."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Expectation values of all readouts for a batch, with their uncertainty."""

    values: FloatArray
    """Expectation values, shape ``(batch, n_readouts)``."""
    covariances: FloatArray
    """Their covariances within one state, shape ``(batch, n_readouts, n_readouts)``; states are independent."""

    @property
    def std_errors(self) -> FloatArray:
        """Standard errors of the values, shape ``(batch, n_readouts)``."""
        return np.sqrt(np.maximum(np.diagonal(self.covariances, axis1=1, axis2=2), 0.0))

    def weighted(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Values and variances of ``sum_k w_k r_k``, shape ``(batch,)`` each, in the units of the weights."""
        variances = np.einsum("k,bkl,l->b", weights, self.covariances, weights)
        return self.values @ weights, np.maximum(variances, 0.0)


class Evaluator(Protocol):
    """Anything that can measure Z-diagonal readouts of parametrised circuits."""

    def evaluate(self, requests: Sequence[Request], *, shots: int | None = None) -> list[Evaluation]:
        """Expectation values for all requests, in their order.

        Args:
            shots: Executions per parameter set; the evaluator's own setting by default.
        """
        ...  # pragma: no cover

    def cost(self, requests: Sequence[Request], *, shots: int | None = None) -> Cost:
        """What :meth:`evaluate` takes; nothing is run."""
        ...  # pragma: no cover


def joint_rows(requests: Sequence[Request], tiles: Sequence[Tile] = ()) -> list[list[int]]:
    """Indices of the requests that one circuit answers, one list a circuit; without tiles all registers fit at once."""
    rows: dict[tuple[int, int], list[int]] = {}
    seen: Counter[int] = Counter()
    for index, request in enumerate(requests):
        round_ = tiles[request.register].round if tiles else 0
        rows.setdefault((round_, seen[request.register]), []).append(index)
        seen[request.register] += 1
    return list(rows.values())


def split_jobs(sizes: Sequence[int], shots: int | None, factor: float = 1.0) -> list[list[int]]:
    """Circuits of so many parameter sets, by number, in as few jobs as the limits allow; one alone is never cut.

    ``factor`` is the number of executions per shot that error mitigation takes.
    """
    executions = int(factor * (shots or 0))
    if executions > MOST_EXECUTIONS:
        raise ConfigError(
            f"A job takes at most {MOST_EXECUTIONS} executions; {shots} shots per circuit with this mitigation are "
            f"{executions}."
        )
    most = min(MOST_SETS, MOST_EXECUTIONS // executions) if executions else MOST_SETS
    jobs: list[list[int]] = []
    room = 0
    for index, size in enumerate(sizes):
        if not jobs or size > room:
            jobs.append([])
            room = most
        jobs[-1].append(index)
        room -= size
    return jobs


def joint_cost(
    requests: Sequence[Request], *, shots: int | None, timing: TimingModel, tiles: Sequence[Tile] = ()
) -> Cost:
    """What requests take on a device that runs registers side by side: the one estimate there is."""
    sizes = [max(len(requests[index].parameters) for index in row) for row in joint_rows(requests, tiles)]
    n_shots = sum(sizes) * (shots or 0)
    n_jobs = len(split_jobs(sizes, shots, timing.mitigation_factor)) if shots else 0
    return Cost(sum(sizes), n_shots, timing.seconds(shots=n_shots, jobs=n_jobs), n_jobs)


def check_shots(shots: int | None) -> None:
    """Refuse numbers of shots that are not positive."""
    if shots is not None and shots < 1:
        raise ConfigError(f"The number of shots must be positive; {shots} was given.")
