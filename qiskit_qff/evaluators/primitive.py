r"""One evaluator for everything that implements Qiskit's Estimator interface.

Works with ``StatevectorEstimator``, Aer's ``EstimatorV2``, ``BackendEstimatorV2`` and
``qiskit_ibm_runtime.executor_estimator.Estimator`` (devices, sessions, batches, and local simulators). Each
task is transpiled once; a batch is one PUB with an array of parameters; all readouts come from one
measurement setting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
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
from qiskit_qff.circuit.program import diagonal_observable
from qiskit_qff.errors import ConfigError
from qiskit_qff.evaluators.cutout import QubitLine
from qiskit_qff.evaluators.ibm_account import client_errors
from qiskit_qff.evaluators.mitigation import device_noise_model
from qiskit_qff.evaluators.protocol import Cost, Evaluation, MeasurementTask, Request, TimingModel
from qiskit_qff.evaluators.z_strings import RESULT_ARRAYS, StringSet, read_readouts, read_strings, string_set


@dataclass(frozen=True)
class JobLimits:
    """How much fits into one job."""

    parameter_sets: int = 10_000
    """Parameter sets per job, over all PUBs."""
    executions: int = 10_000_000
    """Shots per job, over all parameter sets."""

    def sets_per_job(self, shots: int | None) -> int:
        """Parameter sets that fit into a job with so many shots each.

        Raises:
            ConfigError: If a single set does not fit.
        """
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
    observables: ObservablesArray
    """Shape ``(n_observables, 1)``, to be broadcast against parameter sets."""
    strings: StringSet | None
    """Z strings behind the observables; None where readouts are measured directly."""
    placed: tuple[SparsePauliOp, ...]
    """The observables one by one, on the qubits of the transpiled circuit."""


_PreparedKey = tuple[MeasurementTask, tuple[int, ...]]
"""Task, and the qubits that it was transpiled for."""


@dataclass(frozen=True)
class _Piece:
    """Part of a request that goes into one job."""

    request: int
    """Index of the request."""
    start: int
    """First parameter set."""
    stop: int
    """One past the last parameter set."""


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
    optimization_level: int = 3
    """Effort of the transpiler."""
    line: QubitLine | None = None
    """Physical qubits to use on the backend, of which smaller circuits take the best part; the transpiler's choice by
    default."""
    rng: np.random.Generator | None = None
    """Gives every job of a local simulation its own seed; None leaves seeding to the estimator."""
    derive_noise: bool = False
    """Whether every job gets a noise model of its layers from the device's calibration, for PEC."""
    seed_transpiler: int = 0
    """Seed of the transpiler, so that circuits are the same in every run."""
    replaced_errors: int = field(default=0, init=False)
    """Expectation values so far whose extrapolation failed and fell back to the unextrapolated value."""
    _prepared: dict[tuple[MeasurementTask, tuple[int, ...]], _Prepared] = field(
        default_factory=dict, init=False, repr=False
    )

    def __post_init__(self) -> None:
        """Find out how the estimator makes its noise."""
        if self.gaussian_noise is None:
            module = type(self.estimator).__module__
            self.gaussian_noise = isinstance(self.estimator, StatevectorEstimator) or module.startswith("qiskit_aer.")

    def evaluate(self, requests: Sequence[Request], *, shots: int | None = None) -> list[Evaluation]:
        """Expectation values for all requests, in as few jobs as the limits allow.

        Args:
            requests: Tasks with their parameter sets; not changed.
            shots: Executions per parameter set; :attr:`shots` by default.

        Raises:
            ConfigError: If the number of shots is not positive, or exact values are asked of a device.
            BackendError: If the job fails.
        """
        used = self.shots if shots is None else shots
        self._check_shots(used)
        values = [np.empty((len(request.parameters), len(request.task.readouts))) for request in requests]
        covariances = [np.empty((*array.shape, array.shape[1])) for array in values]
        seconds = np.zeros(len(requests))
        for job in _jobs(requests, self.limits.sets_per_job(used)):
            # The runtime's local mode gives all PUBs of a job one seed, and their noise would be correlated.
            runs = [job] if self.rng is None else [[piece] for piece in job]
            answers = [answer for run in runs for answer in self._run(requests, run, used)]
            for piece, (part, covariance) in zip(job, answers, strict=True):
                values[piece.request][piece.start : piece.stop] = part
                covariances[piece.request][piece.start : piece.stop] = covariance
                share = (piece.stop - piece.start) / sum(other.stop - other.start for other in job)
                n_shots = (used or 0) * (piece.stop - piece.start)
                seconds[piece.request] += self.timing.seconds(shots=n_shots, jobs=0) + share * self.timing.job_overhead
        return [
            Evaluation(value, covariance, Cost(len(value), (used or 0) * len(value), float(time) if used else 0.0))
            for value, covariance, time in zip(values, covariances, seconds, strict=True)
        ]

    def evaluate_joint(
        self, rows: Sequence[Sequence[Request]], lines: Sequence[Sequence[QubitLine]], *, shots: int | None = None
    ) -> list[list[Evaluation]]:
        """Expectation values of several registers per circuit, each on its own qubits; one job, one PUB a circuit.

        Args:
            rows: For every circuit the requests that it answers, one a register; shorter ones repeat their last
                parameter set.
            lines: The qubits of each register, in the same order.
            shots: Executions per circuit; :attr:`shots` by default.

        Raises:
            ConfigError: If the number of shots is not positive, or exact values are asked of a device.
            BackendError: If the job fails.
        """
        used = self.shots if shots is None else shots
        self._check_shots(used)
        running = self.submit_joint(rows, lines, shots=used)
        with client_errors("The estimator job failed, nothing of it can be used"):
            results = running.result()
        answers = []
        for number, (row, places, result) in enumerate(zip(rows, lines, results, strict=True)):
            n_sets = max(len(request.parameters) for request in row)
            n_shots = (used or 0) * n_sets
            own = Cost(n_sets, n_shots, self.timing.seconds(shots=n_shots, jobs=0 if number else 1))
            read = [
                self._read(self._prepare(request.task, line), part, used)
                for request, line, part in zip(row, places, split_joint(result.data, row), strict=True)
            ]
            answers.append([Evaluation(*pair, Cost() if index else own) for index, pair in enumerate(read)])
        return answers

    def submit_joint(
        self, rows: Sequence[Sequence[Request]], lines: Sequence[Sequence[QubitLine]], *, shots: int | None
    ) -> Any:
        """Start one job with one PUB per joint circuit, and return it without waiting for its result.

        Args:
            rows: For every circuit the requests that it answers, one a register.
            lines: The qubits of each register, in the same order.
            shots: Executions per circuit.

        Raises:
            BackendError: If the job cannot be started.
        """
        pubs = [self._joint_pub(row, places) for row, places in zip(rows, lines, strict=True)]
        if self.rng is not None:
            _reseed(self.estimator, int(self.rng.integers(2**31)))
        with client_errors("The estimator refused the job"):
            return self.estimator.run(pubs, precision=_precision(shots))

    def _joint_pub(
        self, row: Sequence[Request], places: Sequence[QubitLine]
    ) -> tuple[QuantumCircuit, ObservablesArray, dict[tuple[Parameter, ...], FloatArray]]:
        """One circuit for several registers, the strings of all of them, and all angles."""
        whole = QuantumCircuit(self.backend.num_qubits)
        observables: list[SparsePauliOp] = []
        values: dict[tuple[Parameter, ...], FloatArray] = {}
        n_sets = max(len(request.parameters) for request in row)
        for number, (request, line) in enumerate(zip(row, places, strict=True)):
            task = self._prepare(request.task, line)
            own = tuple(Parameter(f"register{number:04d}_{k:04d}") for k in range(task.circuit.num_parameters))
            whole.compose(
                task.circuit.assign_parameters(dict(zip(task.circuit.parameters, own, strict=True))), inplace=True
            )
            missing = n_sets - len(request.parameters)
            values[own] = np.pad(request.parameters, ((0, missing), (0, 0)), mode="edge")
            observables += task.placed
        return whole, ObservablesArray.coerce([[observable] for observable in observables]), values

    def transpiled(self, task: MeasurementTask) -> QuantumCircuit:
        """The circuit that is run for a task."""
        return self._prepare(task).circuit

    def _check_shots(self, shots: int | None) -> None:
        """Refuse numbers of shots that cannot be run.

        Raises:
            ConfigError: If the number is not positive, or missing for an estimator that samples.
        """
        if shots is None and not self.gaussian_noise:
            raise ConfigError("This estimator samples: state the number of shots per circuit.")
        if shots is not None and shots < 1:
            raise ConfigError(f"The number of shots must be positive; {shots} was given.")

    def _prepare(self, task: MeasurementTask, line: QubitLine | None = None) -> _Prepared:
        """Transpile a task once for a line of qubits, by default that of the evaluator."""
        line = self.line if line is None else line
        key = task, () if line is None else line.qubits
        if key not in self._prepared:
            circuit = task.circuit
            if self.backend is not None:
                manager = generate_preset_pass_manager(
                    optimization_level=self.optimization_level,
                    backend=self.backend,
                    initial_layout=None if line is None else list(line.best_part(circuit.num_qubits)),
                    seed_transpiler=self.seed_transpiler,
                )
                circuit = manager.run(circuit)
            strings = None if self.gaussian_noise else string_set(task.readouts)
            observables = (
                [diagonal_observable(row) for row in task.readouts] if strings is None else strings.observables()
            )
            placed = [observable.apply_layout(circuit.layout) for observable in observables]
            array = ObservablesArray.coerce([[observable] for observable in placed])
            self._prepared[key] = _Prepared(circuit, array, strings, tuple(placed))
        return self._prepared[key]

    def build_pubs(self, requests: Sequence[Request]) -> list[tuple[QuantumCircuit, ObservablesArray, FloatArray]]:
        """The PUBs that answer the requests, one each, for those who run them by other means."""
        prepared = [self._prepare(request.task) for request in requests]
        return [
            (task.circuit, task.observables, request.parameters)
            for task, request in zip(prepared, requests, strict=True)
        ]

    def _run(
        self, requests: Sequence[Request], job: list[_Piece], shots: int | None
    ) -> list[tuple[FloatArray, FloatArray]]:
        """Values and covariances of the pieces of one job."""
        parts = [
            Request(requests[piece.request].task, requests[piece.request].parameters[piece.start : piece.stop])
            for piece in job
        ]
        running = self.submit(parts, shots=shots)
        with client_errors("The estimator job failed, nothing of it can be used"):
            results = running.result()
        prepared = [self._prepare(part.task) for part in parts]
        return [self._read(task, result.data, shots) for task, result in zip(prepared, results, strict=True)]

    def submit(self, requests: Sequence[Request], *, shots: int | None) -> Any:
        """Start one job with one PUB per request, and return it without waiting for its result.

        Args:
            requests: All of them go into this job.
            shots: Executions per parameter set.

        Raises:
            BackendError: If the job cannot be started.
        """
        pubs = self.build_pubs(requests)
        if self.rng is not None:
            _reseed(self.estimator, int(self.rng.integers(2**31)))
        with client_errors("The estimator refused the job"):
            if self.derive_noise:
                self._set_noise_model(pubs)
            return self.estimator.run(pubs, precision=_precision(shots))

    def _set_noise_model(self, pubs: list[Any]) -> None:
        """Give the runtime's Estimator the noise that the calibration implies for the layers of these PUBs."""
        estimator: Any = self.estimator
        layers = estimator.find_unique_layers(
            [(circuit, observables, values[0]) for circuit, observables, values in pubs]
        )
        estimator.options.resilience.layer_noise_model = device_noise_model(layers, pubs[0][0], self.backend.target)
        # Circuits of one qubit have no layer to invert, and the runtime fails on signs that were never drawn.
        estimator.options.resilience.pec_mitigation = bool(layers)

    def _read(self, task: _Prepared, data: Any, shots: int | None) -> tuple[FloatArray, FloatArray]:
        """Readout values and covariances of one PUB result."""
        if task.strings is None or shots is None:
            values, covariances, replaced = read_readouts(data, shots)
        else:
            values, covariances, replaced = read_strings(data, task.strings, shots)
        self.replaced_errors += replaced
        return values, covariances


def split_joint(data: Any, row: Sequence[Request]) -> list[Any]:
    """The data of a joint circuit, register by register, as a circuit of its own would have given them.

    Args:
        data: ``evs``, ``stds`` and what the mitigation adds; observables on the first axis, parameter sets on the
            second.
        row: The request of each register.
    """
    bounds = np.cumsum([0, *(len(string_set(request.task.readouts).masks) for request in row)])
    names = [name for name in RESULT_ARRAYS if getattr(data, name, None) is not None]
    return [
        SimpleNamespace(
            **{name: np.asarray(getattr(data, name))[begin:end, : len(request.parameters)] for name in names}
        )
        for request, (begin, end) in zip(row, pairwise(bounds), strict=True)
    ]


def _precision(shots: int | None) -> float:
    """The precision for which estimators take so many shots; a trifle coarser, because they round shots up."""
    return 0.0 if shots is None else (1.0 + 1e-9) / float(np.sqrt(shots))


def _reseed(estimator: Any, seed: int) -> None:
    """Seed the next job of a local simulation; a fixed seed would repeat the same noise in every job.

    Raises:
        ConfigError: If the estimator has no seed that is known here.
    """
    options = estimator.options
    if hasattr(options, "simulator"):
        options.simulator.seed_simulator = seed
    elif hasattr(options, "seed_simulator"):
        options.seed_simulator = seed
    elif hasattr(options, "run_options"):
        options.run_options["seed_simulator"] = seed
    else:
        raise ConfigError(f"{type(estimator).__name__} cannot be seeded; pass rng=None and seed it yourself.")


def _jobs(requests: Sequence[Request], sets_per_job: int) -> list[list[_Piece]]:
    """Cut the requests into jobs of a limited number of parameter sets, in order."""
    jobs: list[list[_Piece]] = [[]]
    room = sets_per_job
    for index, request in enumerate(requests):
        start, size = 0, len(request.parameters)
        while start < size:
            if room == 0:
                jobs.append([])
                room = sets_per_job
            stop = min(size, start + room)
            jobs[-1].append(_Piece(index, start, stop))
            room -= stop - start
            start = stop
    return [job for job in jobs if job]
