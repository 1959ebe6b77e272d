r"""One evaluator for everything that implements Qiskit's Estimator interface.

Works with ``StatevectorEstimator``, Aer's ``EstimatorV2``, ``BackendEstimatorV2`` and
``qiskit_ibm_runtime.executor_estimator.Estimator`` (devices, sessions, batches, and local simulators). Each task is
transpiled once for its qubits. On a device the registers of a round are one circuit, side by side on their tiles, and
one PUB. A simulation of so many qubits with noise is out of reach, and tiles do not act on each other in these noise
models: there every register is simulated on a cut-out of its own. All readouts come from one measurement setting.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, cast

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.primitives import BaseEstimatorV2, StatevectorEstimator
from qiskit.primitives.containers.observables_array import ObservablesArray
from qiskit.quantum_info import SparsePauliOp
from qiskit.transpiler import PassManager, generate_preset_pass_manager

from qiskit_qff.array_types import FloatArray
from qiskit_qff.circuit.ansatz import MeasurementTask, diagonal_observable
from qiskit_qff.errors import BackendError, ConfigError
from qiskit_qff.evaluators.ibm_account import check_usage, client_errors
from qiskit_qff.evaluators.jobs import JobStore, result_arrays
from qiskit_qff.evaluators.mitigation import NoiseModelMaker, device_noise_model, noise_factors
from qiskit_qff.evaluators.noise_learning import NoiseLearner
from qiskit_qff.evaluators.protocol import (
    Cost,
    Evaluation,
    Request,
    Tile,
    TimingModel,
    check_shots,
    joint_cost,
    joint_rows,
    split_jobs,
)
from qiskit_qff.evaluators.z_strings import Arrays, read_readouts, read_strings, string_observables

Pub = tuple[QuantumCircuit, ObservablesArray, Any]
Runner = tuple[BaseEstimatorV2, Any]
"""An estimator, and the device to transpile for; None where it takes any circuit."""
PassManagerFactory = Callable[[Any, list[int] | None], PassManager]
"""Makes a pass manager from the device and the physical qubits of a register; None where it may choose them."""

MOST_TWO_QUBIT_GATES = 10_000
"""Limit of a job on IBM's devices, over its circuits, times the sum of noise factors."""
MOST_BYTES = 200_000_000
"""Angles in a job: IBM's limit of 300 MB is for text, where 8 bytes take 11 letters."""


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
    timing: TimingModel = field(default_factory=TimingModel)
    """For the estimate of processor time."""
    tiles: Sequence[Tile] = ()
    """Where each register is measured; empty where there is no device, or the transpiler may choose."""
    cut_out: Callable[[Tile], Runner] | None = None
    """Simulates a tile as a small device of its own; None where the registers of a round are one circuit."""
    rng: np.random.Generator | None = None
    """Gives every PUB of a local simulation its own seed; None leaves seeding to the estimator."""
    pass_manager: PassManagerFactory | None = None
    """By default Qiskit's preset of level 3."""
    noise_model: NoiseModelMaker | None = None
    """Makes the noise model of every job's layers, for PEC and PEA; None where there is no such mitigation."""
    service: Any = None
    """IBM Quantum, where the backend is one of its devices."""
    jobs: JobStore | None = None
    """Keeps jobs and results on disk."""
    _prepared: dict[Any, tuple[QuantumCircuit, list[SparsePauliOp]]] = field(default_factory=dict, init=False)
    _cut_outs: dict[tuple[int, ...], Runner] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Find out how the estimator makes its noise."""
        if self.gaussian_noise is None:
            self.gaussian_noise = isinstance(self.estimator, StatevectorEstimator) or _is_aer(self.estimator)

    def cost(self, requests: Sequence[Request], *, shots: int | None = None) -> Cost:
        """What the requests take; nothing is run."""
        return joint_cost(requests, shots=shots or self.shots, timing=self.timing, tiles=self.tiles)

    def evaluate(self, requests: Sequence[Request], *, shots: int | None = None) -> list[Evaluation]:
        """Expectation values for all requests, in as few jobs as the limits allow.

        Without shots the estimator is asked for a precision of zero, and for each readout by itself.
        """
        used = self.shots if shots is None else shots
        check_shots(used)
        if self.tiles and any(request.register >= len(self.tiles) for request in requests):
            raise BackendError("there are more registers than places; make the evaluator for all of them.")
        parts, jobs = self._split(requests, used)
        members = [[requests[index] for index in part] for part in parts]
        if self.service is not None:
            unsent = [job for k, job in enumerate(jobs) if self.jobs is None or not self.jobs.has(k)]
            seconds = sum(self._seconds([members[number] for number in job], used) for job in unsent)
            learner = self.noise_model
            if isinstance(learner, NoiseLearner) and unsent and not learner.is_paid:
                seconds += self.learning(requests, shots=used).seconds
            check_usage(self.service, seconds)
            if isinstance(learner, NoiseLearner) and (unsent or learner.is_paid):  # all layers in one job
                pubs = [[self._pub(members[number], used) for number in job] for job in jobs]
                for own in pubs:  # before learning is paid
                    _check_limits(own, cast("Any", self.estimator).options)
                _set_noise_model(self.estimator, [one for own in pubs for one in own], learner, self.backend)
        running = [self._start([members[number] for number in job], used) for job in jobs]
        found: dict[int, Evaluation] = {}
        for job, results in zip(jobs, running, strict=True):
            with client_errors("The estimator job failed, nothing of it can be used"):
                arrays = results()
            for number, data in zip(job, arrays, strict=True):
                found |= dict(zip(parts[number], self._read(data, members[number], used), strict=True))
        return [found[index] for index in range(len(requests))]

    def server_seconds(self, requests: Sequence[Request], *, shots: int) -> float:
        """The server's own estimate of the processor time, by a dry run on the mock device; learning noise is added."""
        parts, jobs = self._split(requests, shots)
        estimator, total = cast("Any", self.estimator), 0.0
        with client_errors("The server gave no estimate"):
            for job in jobs:
                pubs = [self._pub([requests[index] for index in parts[number]], shots) for number in job]
                if self.noise_model is not None:  # one that costs nothing, of about the same size
                    _set_noise_model(estimator, pubs, device_noise_model, self.backend)
                sent = estimator.run(pubs, precision=_precision(shots), dry_run=True)
                total += float(sent.usage_estimation["quantum_seconds"])
        return total + self.learning(requests, shots=shots).seconds

    def learning(self, requests: Sequence[Request], *, shots: int | None = None) -> Cost:
        """What learning the noise of the layers of requests takes, once in a run; nothing where it is not learned."""
        learner = self.noise_model
        if not isinstance(learner, NoiseLearner):
            return Cost()
        used = self.shots if shots is None else shots
        parts, _ = self._split(requests, used)
        pubs = [self._pub([requests[index] for index in part], used) for part in parts]
        return learner.cost(len(_layers(self.estimator, pubs)))

    @property
    def noise_origin(self) -> str:
        """Where the noise model came from; empty where there is none."""
        if isinstance(self.noise_model, NoiseLearner):
            return "; ".join(self.noise_model.origins)
        known: dict[Any, str] = {None: "", device_noise_model: "gate errors that the device states"}
        return known.get(self.noise_model, "given by the user")

    def transpiled(self, task: MeasurementTask, register: int = 0) -> QuantumCircuit:
        """The circuit that is run for a task."""
        return self._prepare(task, self._tile(register), is_plain=True)[0]

    @property
    def _is_joint(self) -> bool:
        """Whether the registers of a round are one circuit."""
        return bool(self.tiles) and self.cut_out is None

    def _tile(self, register: int) -> Tile | None:
        return self.tiles[register] if self.tiles else None

    def _split(self, requests: Sequence[Request], shots: int | None) -> tuple[list[list[int]], list[list[int]]]:
        """Requests of every PUB, and PUBs of every job, by number."""
        parts = joint_rows(requests, self.tiles) if self._is_joint else self._alike(requests)
        # The runtime's local mode gives all PUBs of a job one seed, and their noise would be correlated.
        if self.rng is not None:
            return parts, [[number] for number in range(len(parts))]
        sizes = [self._size([requests[index] for index in part]) for part in parts]
        return parts, split_jobs(sizes, shots, self.timing.mitigation_factor)

    def _size(self, members: Sequence[Request]) -> int:
        """Parameter sets of a PUB."""
        return (max if self._is_joint else sum)(len(one.parameters) for one in members)

    def _seconds(self, members: Sequence[Sequence[Request]], shots: int | None) -> float:
        """Estimated time of a job with one PUB for each list of requests, in s."""
        return self.timing.seconds(shots=(shots or 0) * sum(map(self._size, members)), jobs=1)

    def _alike(self, requests: Sequence[Request]) -> list[list[int]]:
        """Requests of the same circuit on the same qubits: they are parameter sets of one PUB."""
        parts: dict[Any, list[int]] = {}
        for index, request in enumerate(requests):
            tile = self._tile(request.register)
            parts.setdefault((request.task, () if tile is None else tile.qubits), []).append(index)
        return list(parts.values())

    def _runner(self, tile: Tile | None) -> Runner:
        """What runs the circuits of a tile."""
        if self.cut_out is None or tile is None:
            return self.estimator, self.backend
        if tile.qubits not in self._cut_outs:
            self._cut_outs[tile.qubits] = self.cut_out(tile)
        return self._cut_outs[tile.qubits]

    def _start(self, members: Sequence[Sequence[Request]], shots: int | None) -> Callable[[], list[Arrays]]:
        """Start one job with one PUB for each list of requests; what is returned waits for its results."""
        runner: Any = self._runner(self._tile(members[0][0].register))
        estimator, backend = runner
        pubs = [self._pub(own, shots) for own in members]
        seed = None if self.rng is None else int(self.rng.integers(2**31))

        def send(tags: Sequence[str]) -> Any:
            if seed is not None:
                _reseed(estimator, seed)
            if tags:
                estimator.options.environment.job_tags = list(tags)
            if self.service is not None:
                _check_limits(pubs, estimator.options)
                # Far beyond the estimate: it ends a job that runs away, not one that is slow.
                estimator.options.max_execution_time = int(120.0 + 4.0 * self._seconds(members, shots))
            with client_errors("The estimator refused the job"):
                if self.noise_model is not None:
                    _set_noise_model(estimator, pubs, self.noise_model, backend)
                return estimator.run(pubs, precision=_precision(shots))

        if self.jobs is None:
            return lambda: result_arrays(send(()).result())
        question = np.concatenate([one.parameters.ravel() for own in members for one in own])
        return self.jobs.submit(send, question, service=self.service)

    def _pub(self, members: Sequence[Request], shots: int | None) -> Pub:
        """One circuit for all registers of a round with all their observables; or one circuit and all its angles."""
        is_plain = self._is_plain(shots)
        prepared = [self._prepare(one.task, self._tile(one.register), is_plain=is_plain) for one in members]
        if not self._is_joint:
            circuit, observables = prepared[0]
            parameters = np.vstack([one.parameters for one in members])
            return circuit, ObservablesArray.coerce([[one] for one in observables]), parameters
        whole, longest = QuantumCircuit(self.backend.num_qubits), max(len(one.parameters) for one in members)
        values: dict[tuple[Parameter, ...], FloatArray] = {}
        for number, (request, (circuit, _)) in enumerate(zip(members, prepared, strict=True)):
            own = tuple(Parameter(f"register{number:04d}_{k:04d}") for k in range(circuit.num_parameters))
            whole.compose(circuit.assign_parameters(dict(zip(circuit.parameters, own, strict=True))), inplace=True)
            # Shorter requests repeat their last parameter set.
            missing = longest - len(request.parameters)
            values[own] = np.pad(request.parameters, ((0, missing), (0, 0)), mode="edge")
        return whole, ObservablesArray.coerce([[one] for _, found in prepared for one in found]), values

    def _is_plain(self, shots: int | None) -> bool:
        """Whether each readout is an observable, instead of all Z strings that tell how readouts fluctuate together."""
        return bool(self.gaussian_noise) or shots is None

    def _prepare(
        self, task: MeasurementTask, tile: Tile | None, *, is_plain: bool
    ) -> tuple[QuantumCircuit, list[SparsePauliOp]]:
        """The circuit of a task, transpiled once for a tile, and its observables one by one."""
        key = task, () if tile is None else tile.qubits, is_plain
        if key not in self._prepared:
            circuit, (_, backend) = task.circuit, self._runner(tile)
            layout = list(tile.qubits) if tile is not None and self.cut_out is None else None
            if self.pass_manager is not None:
                circuit = self.pass_manager(backend, layout).run(circuit)
            elif backend is not None and tile is not None and self.cut_out is not None:
                circuit = _kept_preset(backend).run(circuit)
            elif backend is not None:
                circuit = _preset(backend, layout).run(circuit)
            plain = [diagonal_observable(row) for row in task.readouts]
            observables = plain if is_plain else string_observables(task.circuit.num_qubits)
            self._prepared[key] = circuit, [observable.apply_layout(circuit.layout) for observable in observables]
        return self._prepared[key]

    def _read(self, data: Arrays, members: Sequence[Request], shots: int | None) -> list[Evaluation]:
        """The answers to the requests of a PUB."""
        answers, first, start, is_plain = [], 0, 0, self._is_plain(shots)
        for request in members:
            readouts, stop = request.task.readouts, start + len(request.parameters)
            last = first + (len(readouts) if is_plain else readouts.shape[1] - 1)
            arrays = {name: values[first:last, start:stop] for name, values in data.items()}
            answers.append(
                read_readouts(arrays, shots) if is_plain or shots is None else read_strings(arrays, readouts, shots)
            )
            # Registers of a circuit have observables of their own; alike requests have parameter sets of their own.
            first, start = (last, 0) if self._is_joint else (0, stop)
        return answers


def _preset(backend: Any, layout: list[int] | None = None) -> PassManager:
    """Qiskit's pass manager."""
    return generate_preset_pass_manager(3, backend, initial_layout=layout, seed_transpiler=0)


# Simulators of cut-outs are kept and never change. PERF: a pass manager takes longer to make than a register's circuit.
_kept_preset = lru_cache(maxsize=256)(_preset)


def _precision(shots: int | None) -> float:
    """What an estimator is asked for; a trifle coarser than meant, because estimators round shots up."""
    return 0.0 if shots is None else (1.0 + 1e-9) / float(np.sqrt(shots))


def _check_limits(pubs: Sequence[Pub], options: Any) -> None:
    """Refuse what the server would refuse: too much data, too many two-qubit gates after noise amplification.

    References:
        https://quantum.cloud.ibm.com/docs/guides/job-limits
    """
    factors = noise_factors(options)
    # PEA adds gates of one qubit only.
    amplified = len(factors) if options.resilience.zne.amplifier == "pea" else sum(factors)
    angles = [a for _, _, values in pubs for a in (values.values() if isinstance(values, dict) else [values])]
    if (size := sum(np.asarray(a).nbytes for a in angles)) > MOST_BYTES:
        raise BackendError(
            f"the angles of a job take {size / 1e6:.1f} MB, of which {MOST_BYTES / 1e6:.0f} MB fit into IBM's 300 MB "
            "of text. Choose an ansatz with fewer rotations (circuit.layers) or smaller registers (circuit.n_qubits)."
        )
    gates = amplified * sum(circuit.num_nonlocal_gates() for circuit, _, _ in pubs)
    if gates >= MOST_TWO_QUBIT_GATES:
        raise BackendError(
            f"the job has {gates:.0f} two-qubit gates with noise amplification, and IBM takes fewer than "
            f"{MOST_TWO_QUBIT_GATES}. Choose another mitigation or smaller registers (circuit.n_qubits)."
        )


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


def _layers(estimator: Any, pubs: Sequence[Pub]) -> list[Any]:
    """The different layers of two-qubit gates of some circuits, in boxes."""
    firsts = [
        {own: angles[0] for own, angles in values.items()} if isinstance(values, dict) else values[0]
        for _, _, values in pubs
    ]
    # Of all layers, also after a job of circuits without any, see below.
    estimator.options.resilience.pec_mitigation = not estimator.options.resilience.zne_mitigation
    found: list[Any] = estimator.find_unique_layers(
        [(circuit, observables, first) for (circuit, observables, _), first in zip(pubs, firsts, strict=True)]
    )
    return found


def _set_noise_model(estimator: Any, pubs: Sequence[Pub], make: NoiseModelMaker, backend: Any) -> None:
    """Give the runtime's Estimator the noise of the layers of these PUBs."""
    layers, resilience = _layers(estimator, pubs), estimator.options.resilience
    resilience.layer_noise_model = make(layers, pubs[0][0], backend)
    if not resilience.zne_mitigation:
        # Circuits of one qubit have no layer to invert, and the runtime fails on signs that were never drawn.
        resilience.pec_mitigation = bool(layers)
