r"""One evaluator for everything that implements Qiskit's Estimator interface.

Works with ``StatevectorEstimator``, Aer's ``EstimatorV2``, ``BackendEstimatorV2`` and
``qiskit_ibm_runtime.executor_estimator.Estimator`` (devices, sessions, batches, and local simulators). Each task is
transpiled once for its qubits. A PUB is a *row* of requests, one a register, side by side on their own qubits, with an
array of parameter sets; a request by itself is a row of one. All readouts come from one measurement setting.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.primitives import BaseEstimatorV2, StatevectorEstimator
from qiskit.primitives.containers.observables_array import ObservablesArray
from qiskit.quantum_info import SparsePauliOp
from qiskit.transpiler import generate_preset_pass_manager

from qiskit_qff.array_types import FloatArray
from qiskit_qff.circuit.ansatz import MeasurementTask, diagonal_observable
from qiskit_qff.errors import ConfigError
from qiskit_qff.evaluators.ibm_account import client_errors
from qiskit_qff.evaluators.mitigation import device_noise_model
from qiskit_qff.evaluators.protocol import Cost, Evaluation, QubitLine, Request, TimingModel, check_shots
from qiskit_qff.evaluators.z_strings import RESULT_ARRAYS, read_readouts, read_strings, string_set

Row = Sequence[Request]
"""Requests that one circuit answers, one a register; shorter ones repeat their last parameter set."""
Answer = tuple[FloatArray, FloatArray]
"""Readout values of a request, and their covariances."""


MOST_SETS, MOST_EXECUTIONS = 10_000, 10_000_000
"""Parameter sets of a job over all PUBs, and shots over all parameter sets."""


def sets_per_job(shots: int | None, *, most: int = MOST_SETS) -> int:
    """Parameter sets that fit into a job with so many shots each."""
    if shots is None:
        return most
    if shots > MOST_EXECUTIONS:
        raise ConfigError(f"A job takes at most {MOST_EXECUTIONS} shots; {shots} per circuit were asked for.")
    return min(most, MOST_EXECUTIONS // shots)


@dataclass(eq=False)
class PrimitiveEvaluator:
    """Runs tasks on an Estimator primitive."""

    estimator: BaseEstimatorV2
    """Any implementation of the interface."""
    backend: Any = None
    """Device to transpile for; None where the estimator takes any circuit."""
    shots: int | None = None
    """Executions per parameter set; None asks for exact values, which only simulators give."""
    gaussian_noise: bool | None = None
    """Whether the estimator adds independent normal noise instead of sampling shots; found out by default."""
    most_sets: int = MOST_SETS
    """Parameter sets of one job."""
    timing: TimingModel = field(default_factory=TimingModel)
    """For the estimate of processor time."""
    line: QubitLine | None = None
    """Physical qubits to use on the backend; the transpiler's choice by default."""
    rng: np.random.Generator | None = None
    """Gives every PUB of a local simulation its own seed; None leaves seeding to the estimator."""
    derive_noise: bool = False
    """Whether every job gets a noise model of its layers from the device's calibration, for PEC."""
    _prepared: dict[tuple[MeasurementTask, tuple[int, ...]], tuple[QuantumCircuit, list[SparsePauliOp]]] = field(
        default_factory=dict, init=False, repr=False
    )

    def __post_init__(self) -> None:
        """Find out how the estimator makes its noise."""
        if self.gaussian_noise is None:
            self.gaussian_noise = isinstance(self.estimator, StatevectorEstimator) or _is_aer(self.estimator)

    def evaluate(self, requests: Sequence[Request], *, shots: int | None = None) -> list[Evaluation]:
        """Expectation values for all requests, in as few jobs as the limits allow."""
        return [answer for (answer,) in self.evaluate_joint([[request] for request in requests], shots=shots)]

    def evaluate_joint(self, rows: Sequence[Row], *, shots: int | None = None) -> list[list[Evaluation]]:
        """Expectation values of several registers per circuit, in as few jobs as the limits allow.

        The first answer of each row carries what the row cost.
        """
        used = self.shots if shots is None else shots
        if used is None and not self.gaussian_noise:
            raise ConfigError("This estimator samples: state the number of shots per circuit.")
        check_shots(used)
        counts, padded = [_n_sets(row) for row in rows], [_padded(row) for row in rows]
        jobs = _jobs(counts, sets_per_job(used, most=self.most_sets))
        found: list[list[list[Answer]]] = [[] for _ in rows]
        for job in jobs:
            # The runtime's local mode gives all PUBs of a job one seed, and their noise would be correlated.
            for run in [job] if self.rng is None else [[piece] for piece in job]:
                parts = [[replace(one, parameters=one.parameters[sets]) for one in padded[row]] for row, sets in run]
                running = self.submit_joint(parts, shots=used)
                with client_errors("The estimator job failed, nothing of it can be used"):
                    results = running.result()
                for (row, _), part, result in zip(run, parts, results, strict=True):
                    found[row].append(read_row(result.data, part, used, gaussian=bool(self.gaussian_noise)))
        overhead = self.timing.job_overhead * len(jobs) / max(1, sum(counts))
        answers = []
        for own, count, pieces in zip(rows, counts, found, strict=True):
            n_shots = (used or 0) * count
            seconds = self.timing.seconds(shots=n_shots, jobs=0) + overhead * count if used else 0.0
            answers.append(_joined(own, pieces, Cost(count, n_shots, seconds)))
        return answers

    def submit_joint(self, rows: Sequence[Row], *, shots: int | None) -> Any:
        """Start one job with one PUB per row and return it without waiting for its result."""
        pubs = [self._pub(_padded(row)) for row in rows]
        if self.rng is not None:
            _reseed(self.estimator, int(self.rng.integers(2**31)))
        with client_errors("The estimator refused the job"):
            if self.derive_noise:
                self._set_noise_model(pubs)
            # A trifle coarser than asked, because estimators round shots up.
            precision = 0.0 if shots is None else (1.0 + 1e-9) / float(np.sqrt(shots))
            return self.estimator.run(pubs, precision=precision)

    def transpiled(self, task: MeasurementTask) -> QuantumCircuit:
        """The circuit that is run for a task."""
        return self._prepare(task, self.line)[0]

    def _pub(self, row: Row) -> tuple[QuantumCircuit, ObservablesArray, Any]:
        """One circuit for all registers of a row, the observables of all of them, and all angles."""
        prepared = [self._prepare(request.task, request.place.line or self.line) for request in row]
        observables = ObservablesArray.coerce([[one] for _, own in prepared for one in own])
        if len(row) == 1:
            return prepared[0][0], observables, row[0].parameters
        whole = QuantumCircuit(self.backend.num_qubits)
        values: dict[tuple[Parameter, ...], FloatArray] = {}
        for number, (request, (circuit, _)) in enumerate(zip(row, prepared, strict=True)):
            own = tuple(Parameter(f"register{number:04d}_{k:04d}") for k in range(circuit.num_parameters))
            whole.compose(circuit.assign_parameters(dict(zip(circuit.parameters, own, strict=True))), inplace=True)
            values[own] = request.parameters
        return whole, observables, values

    def _prepare(self, task: MeasurementTask, line: QubitLine | None) -> tuple[QuantumCircuit, list[SparsePauliOp]]:
        """The circuit of a task, transpiled once for a line of qubits, and its observables one by one."""
        key = task, () if line is None else line.qubits
        if key not in self._prepared:
            circuit = task.circuit
            if self.backend is not None:
                manager = generate_preset_pass_manager(
                    optimization_level=3,
                    backend=self.backend,
                    initial_layout=None if line is None else list(line.qubits),
                    seed_transpiler=0,
                )
                circuit = manager.run(circuit)
            plain = [diagonal_observable(row) for row in task.readouts]
            observables = plain if self.gaussian_noise else string_set(task).observables()
            self._prepared[key] = circuit, [observable.apply_layout(circuit.layout) for observable in observables]
        return self._prepared[key]

    def _set_noise_model(self, pubs: list[Any]) -> None:
        """Give the runtime's Estimator the noise that the calibration implies for the layers of these PUBs."""
        estimator: Any = self.estimator
        firsts = [
            {own: angles[0] for own, angles in values.items()} if isinstance(values, dict) else values[0]
            for _, _, values in pubs
        ]
        layers = estimator.find_unique_layers(
            [(circuit, observables, first) for (circuit, observables, _), first in zip(pubs, firsts, strict=True)]
        )
        estimator.options.resilience.layer_noise_model = device_noise_model(layers, pubs[0][0], self.backend.target)
        # Circuits of one qubit have no layer to invert, and the runtime fails on signs that were never drawn.
        estimator.options.resilience.pec_mitigation = bool(layers)


def read_row(data: Any, row: Row, shots: int | None, *, gaussian: bool = False) -> list[Answer]:
    """Readout values and covariances of every request of one PUB result.

    Args:
        gaussian: Whether the estimator measured the readouts themselves, with independent normal noise.
    """
    counts = [len(one.task.readouts) if gaussian else len(string_set(one.task).masks) for one in row]
    names = [name for name in RESULT_ARRAYS if getattr(data, name, None) is not None]
    answers = []
    for request, (begin, end) in zip(row, pairwise(np.cumsum([0, *counts])), strict=True):
        arrays = {name: np.asarray(getattr(data, name))[begin:end, : len(request.parameters)] for name in names}
        if gaussian or shots is None:
            answers.append(read_readouts(arrays, shots))
        else:
            answers.append(read_strings(arrays, string_set(request.task), shots))
    return answers


def _joined(row: Row, pieces: Sequence[Sequence[Answer]], cost: Cost) -> list[Evaluation]:
    """The pieces of every request of a row put together; the first one carries the cost."""
    found = []
    for number, request in enumerate(row):
        values, covariances = (
            np.concatenate([piece[number][part] for piece in pieces])[: len(request.parameters)] for part in (0, 1)
        )
        found.append(Evaluation(values, covariances, Cost() if number else cost))
    return found


def _n_sets(row: Row) -> int:
    """Parameter sets of a row: as many as its longest request has."""
    return max(len(request.parameters) for request in row)


def _padded(row: Row) -> Row:
    """The row with as many parameter sets in all of its requests, the last one repeated where there are fewer."""
    n_sets = _n_sets(row)
    return [
        replace(one, parameters=np.pad(one.parameters, ((0, n_sets - len(one.parameters)), (0, 0)), mode="edge"))
        for one in row
    ]


def _is_aer(estimator: BaseEstimatorV2) -> bool:
    """Whether it is Aer's, which adds normal noise; without importing Aer, which takes long."""
    primitives = sys.modules.get("qiskit_aer.primitives")
    return primitives is not None and isinstance(estimator, primitives.EstimatorV2)


def _reseed(estimator: Any, seed: int) -> None:
    """Seed the next job of a local simulation; a fixed seed would repeat the same noise in every job."""
    options = estimator.options
    if hasattr(options, "simulator"):
        options.simulator.seed_simulator = seed
    elif hasattr(options, "seed_simulator"):
        options.seed_simulator = seed
    elif hasattr(options, "run_options"):
        options.run_options["seed_simulator"] = seed
    else:
        raise ConfigError(f"{type(estimator).__name__} cannot be seeded; pass rng=None and seed it yourself.")


def _jobs(counts: Sequence[int], most_sets: int) -> list[list[tuple[int, slice]]]:
    """Cut rows of so many parameter sets, in order, into jobs of a limited number: index of the row, and its sets."""
    jobs: list[list[tuple[int, slice]]] = []
    room = 0
    for row, count in enumerate(counts):
        start = 0
        while start < count:
            if room == 0:
                jobs.append([])
                room = most_sets
            stop = min(count, start + room)
            jobs[-1].append((row, slice(start, stop)))
            room -= stop - start
            start = stop
    return jobs
