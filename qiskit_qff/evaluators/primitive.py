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
from types import SimpleNamespace
from typing import Any

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.primitives import BaseEstimatorV2, StatevectorEstimator
from qiskit.primitives.containers.observables_array import ObservablesArray
from qiskit.quantum_info import SparsePauliOp
from qiskit.transpiler import generate_preset_pass_manager

from qiskit_qff.array_types import FloatArray
from qiskit_qff.circuit.ansatz import diagonal_observable
from qiskit_qff.errors import ConfigError
from qiskit_qff.evaluators.cutout import QubitLine
from qiskit_qff.evaluators.ibm_account import client_errors
from qiskit_qff.evaluators.mitigation import device_noise_model
from qiskit_qff.evaluators.protocol import Cost, Evaluation, MeasurementTask, Request, TimingModel
from qiskit_qff.evaluators.z_strings import RESULT_ARRAYS, StringSet, read_readouts, read_strings, string_set

Row = Sequence[Request]
"""Requests that one circuit answers, one a register; shorter ones repeat their last parameter set."""
Places = Sequence[QubitLine | None]
"""The qubits of each request of a row; None leaves them to the transpiler."""


@dataclass(frozen=True)
class JobLimits:
    """How much fits into one job."""

    parameter_sets: int = 10_000
    """Parameter sets per job, over all PUBs."""
    executions: int = 10_000_000
    """Shots per job, over all parameter sets."""

    def sets_per_job(self, shots: int | None) -> int:
        """Parameter sets that fit into a job with so many shots each."""
        if shots is None:
            return self.parameter_sets
        if shots > self.executions:
            raise ConfigError(f"A job takes at most {self.executions} shots; {shots} per circuit were asked for.")
        return min(self.parameter_sets, self.executions // shots)


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A task in the form that the estimator runs."""

    circuit: QuantumCircuit
    """Transpiled circuit."""
    strings: StringSet | None
    """Z strings behind the observables; None where readouts are measured directly."""
    observables: tuple[SparsePauliOp, ...]
    """The observables one by one, on the qubits of the transpiled circuit."""


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
    limits: JobLimits = field(default_factory=JobLimits)
    """What fits into one job."""
    timing: TimingModel = field(default_factory=TimingModel)
    """For the estimate of processor time."""
    line: QubitLine | None = None
    """Physical qubits to use on the backend; the transpiler's choice by default."""
    rng: np.random.Generator | None = None
    """Gives every PUB of a local simulation its own seed; None leaves seeding to the estimator."""
    derive_noise: bool = False
    """Whether every job gets a noise model of its layers from the device's calibration, for PEC."""
    _prepared: dict[tuple[MeasurementTask, tuple[int, ...]], _Prepared] = field(
        default_factory=dict, init=False, repr=False
    )

    def __post_init__(self) -> None:
        """Find out how the estimator makes its noise."""
        if self.gaussian_noise is None:
            self.gaussian_noise = isinstance(self.estimator, StatevectorEstimator) or _is_aer(self.estimator)

    def evaluate(self, requests: Sequence[Request], *, shots: int | None = None) -> list[Evaluation]:
        """Expectation values for all requests, in as few jobs as the limits allow."""
        answers = self.evaluate_joint([[request] for request in requests], [[self.line]] * len(requests), shots=shots)
        return [answer for (answer,) in answers]

    def evaluate_joint(
        self, rows: Sequence[Row], places: Sequence[Places], *, shots: int | None = None
    ) -> list[list[Evaluation]]:
        """Expectation values of several registers per circuit, on the given qubits, in as few jobs as the limits allow.

        The first answer of each row carries what the row cost.
        """
        used = self.shots if shots is None else shots
        self._check_shots(used)
        found: list[list[list[tuple[FloatArray, FloatArray]]]] = [[[] for _ in row] for row in rows]
        seconds, padded = np.zeros(len(rows)), [_padded(row) for row in rows]
        for job in _jobs([_n_sets(row) for row in rows], self.limits.sets_per_job(used)):
            # The runtime's local mode gives all PUBs of a job one seed, and their noise would be correlated.
            for run in [job] if self.rng is None else [[piece] for piece in job]:
                parts = [[replace(one, parameters=one.parameters[sets]) for one in padded[row]] for row, sets in run]
                running = self.submit_joint(parts, [places[row] for row, _ in run], shots=used)
                with client_errors("The estimator job failed, nothing of it can be used"):
                    results = running.result()
                for (row, _), part, result in zip(run, parts, results, strict=True):
                    for slot, answer in zip(found[row], self._read(part, places[row], result.data, used), strict=True):
                        slot.append(answer)
            counts = [sets.stop - sets.start for _, sets in job]
            for (row, _), count in zip(job, counts, strict=True):
                seconds[row] += self.timing.seconds(shots=(used or 0) * count, jobs=0)
                seconds[row] += self.timing.job_overhead * count / sum(counts)
        return [
            _evaluations(row, answers, used, float(time) if used else 0.0)
            for row, answers, time in zip(rows, found, seconds, strict=True)
        ]

    def submit_joint(self, rows: Sequence[Row], places: Sequence[Places], *, shots: int | None) -> Any:
        """Start one job with one PUB per row, on the given qubits, and return it without waiting for its result."""
        pubs = [self._pub(_padded(row), own) for row, own in zip(rows, places, strict=True)]
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
        return self._prepare(task, self.line).circuit

    def _pub(self, row: Row, places: Places) -> tuple[QuantumCircuit, ObservablesArray, Any]:
        """One circuit for all registers of a row, the observables of all of them, and all angles."""
        prepared = [self._prepare(request.task, line) for request, line in zip(row, places, strict=True)]
        observables = ObservablesArray.coerce([[one] for task in prepared for one in task.observables])
        if len(row) == 1:
            return prepared[0].circuit, observables, row[0].parameters
        whole = QuantumCircuit(self.backend.num_qubits)
        values: dict[tuple[Parameter, ...], FloatArray] = {}
        for number, (request, task) in enumerate(zip(row, prepared, strict=True)):
            own = tuple(Parameter(f"register{number:04d}_{k:04d}") for k in range(task.circuit.num_parameters))
            whole.compose(
                task.circuit.assign_parameters(dict(zip(task.circuit.parameters, own, strict=True))), inplace=True
            )
            values[own] = request.parameters
        return whole, observables, values

    def _check_shots(self, shots: int | None) -> None:
        """Refuse numbers of shots that cannot be run."""
        if shots is None and not self.gaussian_noise:
            raise ConfigError("This estimator samples: state the number of shots per circuit.")
        if shots is not None and shots < 1:
            raise ConfigError(f"The number of shots must be positive; {shots} was given.")

    def _prepare(self, task: MeasurementTask, line: QubitLine | None) -> _Prepared:
        """Transpile a task once for a line of qubits."""
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
            strings = None if self.gaussian_noise else string_set(task.readouts)
            observables = (
                [diagonal_observable(row) for row in task.readouts] if strings is None else strings.observables()
            )
            placed = tuple(observable.apply_layout(circuit.layout) for observable in observables)
            self._prepared[key] = _Prepared(circuit, strings, placed)
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

    def _read(self, row: Row, places: Places, data: Any, shots: int | None) -> list[tuple[FloatArray, FloatArray]]:
        """Readout values and covariances of every request of one PUB result."""
        prepared = [self._prepare(request.task, line) for request, line in zip(row, places, strict=True)]
        parts = _split(data, row, [len(task.observables) for task in prepared])
        return [
            read_readouts(part, shots)
            if task.strings is None or shots is None
            else read_strings(part, task.strings, shots)
            for task, part in zip(prepared, parts, strict=True)
        ]


def split_joint(data: Any, row: Row) -> list[Any]:
    """The data of a joint circuit, register by register, as a circuit of its own would have given them."""
    return _split(data, row, [len(string_set(request.task.readouts).masks) for request in row])


def _split(data: Any, row: Row, counts: Sequence[int]) -> list[Any]:
    """The data of each request, given how many observables it has."""
    names = [name for name in RESULT_ARRAYS if getattr(data, name, None) is not None]
    return [
        SimpleNamespace(
            **{name: np.asarray(getattr(data, name))[begin:end, : len(request.parameters)] for name in names}
        )
        for request, (begin, end) in zip(row, pairwise(np.cumsum([0, *counts])), strict=True)
    ]


def _evaluations(
    row: Row, answers: list[list[tuple[FloatArray, FloatArray]]], shots: int | None, seconds: float
) -> list[Evaluation]:
    """The pieces of every request of a row put together; the first one carries the cost."""
    cost = Cost(_n_sets(row), (shots or 0) * _n_sets(row), seconds)
    found = []
    for number, (request, pieces) in enumerate(zip(row, answers, strict=True)):
        values, covariances = (np.concatenate(parts)[: len(request.parameters)] for parts in zip(*pieces, strict=True))
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


def _jobs(counts: Sequence[int], sets_per_job: int) -> list[list[tuple[int, slice]]]:
    """Cut rows of so many parameter sets, in order, into jobs of a limited number: index of the row, and its sets."""
    jobs: list[list[tuple[int, slice]]] = []
    room = 0
    for row, count in enumerate(counts):
        start = 0
        while start < count:
            if room == 0:
                jobs.append([])
                room = sets_per_job
            stop = min(count, start + room)
            jobs[-1].append((row, slice(start, stop)))
            room -= stop - start
            start = stop
    return jobs
