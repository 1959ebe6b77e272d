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
from qiskit_qff.errors import BackendError, ConfigError
from qiskit_qff.evaluators.ibm_account import client_errors
from qiskit_qff.evaluators.jobs import JobStore, result_arrays
from qiskit_qff.evaluators.mitigation import device_noise_model
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
    derive_noise: bool = False
    """Whether every job gets a noise model of its layers from the device's calibration, for PEC."""
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
        """Expectation values for all requests, in as few jobs as the limits allow."""
        used = self.shots if shots is None else shots
        if used is None and not self.gaussian_noise:
            raise ConfigError("This estimator samples: state the number of shots per circuit.")
        check_shots(used)
        if self.tiles and any(request.register >= len(self.tiles) for request in requests):
            raise BackendError("there are more registers than places; make the evaluator for all of them.")
        parts = joint_rows(requests, self.tiles) if self._is_joint else self._alike(requests)
        members = [[requests[index] for index in part] for part in parts]
        sizes = [(max if self._is_joint else sum)(len(one.parameters) for one in own) for own in members]
        # The runtime's local mode gives all PUBs of a job one seed, and their noise would be correlated.
        jobs = split_jobs(sizes, used) if self.rng is None else [[number] for number in range(len(parts))]
        running = [self._start([members[number] for number in job], used) for job in jobs]
        found: dict[int, Evaluation] = {}
        for job, results in zip(jobs, running, strict=True):
            with client_errors("The estimator job failed, nothing of it can be used"):
                arrays = results()
            for number, data in zip(job, arrays, strict=True):
                found |= dict(zip(parts[number], self._read(data, members[number], used), strict=True))
        return [found[index] for index in range(len(requests))]

    def transpiled(self, task: MeasurementTask, register: int = 0) -> QuantumCircuit:
        """The circuit that is run for a task."""
        return self._prepare(task, self._tile(register))[0]

    @property
    def _is_joint(self) -> bool:
        """Whether the registers of a round are one circuit."""
        return bool(self.tiles) and self.cut_out is None

    def _tile(self, register: int) -> Tile | None:
        return self.tiles[register] if self.tiles else None

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
        pubs = [self._pub(own) for own in members]
        seed = None if self.rng is None else int(self.rng.integers(2**31))
        # A trifle coarser than asked, because estimators round shots up.
        precision = 0.0 if shots is None else (1.0 + 1e-9) / float(np.sqrt(shots))

        def send(tags: Sequence[str]) -> Any:
            if seed is not None:
                _reseed(estimator, seed)
            if tags:
                estimator.options.environment.job_tags = list(tags)
            with client_errors("The estimator refused the job"):
                if self.derive_noise:
                    _set_noise_model(estimator, pubs, backend.target)
                return estimator.run(pubs, precision=precision)

        if self.jobs is None:
            return lambda: result_arrays(send(()).result())
        question = np.concatenate([one.parameters.ravel() for own in members for one in own])
        return self.jobs.submit(send, question, service=self.service)

    def _pub(self, members: Sequence[Request]) -> Pub:
        """One circuit for all registers of a round with all their observables; or one circuit and all its angles."""
        prepared = [self._prepare(one.task, self._tile(one.register)) for one in members]
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

    def _prepare(self, task: MeasurementTask, tile: Tile | None) -> tuple[QuantumCircuit, list[SparsePauliOp]]:
        """The circuit of a task, transpiled once for a tile, and its observables one by one."""
        key = task, () if tile is None else tile.qubits
        if key not in self._prepared:
            circuit, (_, backend) = task.circuit, self._runner(tile)
            if backend is not None:
                manager = generate_preset_pass_manager(
                    optimization_level=3,
                    backend=backend,
                    initial_layout=list(tile.qubits) if tile is not None and self.cut_out is None else None,
                    seed_transpiler=0,
                )
                circuit = manager.run(circuit)
            plain = [diagonal_observable(row) for row in task.readouts]
            observables = plain if self.gaussian_noise else string_observables(task.circuit.num_qubits)
            self._prepared[key] = circuit, [observable.apply_layout(circuit.layout) for observable in observables]
        return self._prepared[key]

    def _read(self, data: Arrays, members: Sequence[Request], shots: int | None) -> list[Evaluation]:
        """The answers to the requests of a PUB."""
        answers, first, start = [], 0, 0
        for request in members:
            readouts, stop = request.task.readouts, start + len(request.parameters)
            last = first + (len(readouts) if self.gaussian_noise else readouts.shape[1] - 1)
            arrays = {name: values[first:last, start:stop] for name, values in data.items()}
            answers.append(
                read_readouts(arrays, shots)
                if self.gaussian_noise or shots is None
                else read_strings(arrays, readouts, shots)
            )
            # Registers of a circuit have observables of their own; alike requests have parameter sets of their own.
            first, start = (last, 0) if self._is_joint else (0, stop)
        return answers


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


def _set_noise_model(estimator: Any, pubs: Sequence[Pub], target: Any) -> None:
    """Give the runtime's Estimator the noise that the calibration implies for the layers of these PUBs."""
    firsts = [
        {own: angles[0] for own, angles in values.items()} if isinstance(values, dict) else values[0]
        for _, _, values in pubs
    ]
    layers = estimator.find_unique_layers(
        [(circuit, observables, first) for (circuit, observables, _), first in zip(pubs, firsts, strict=True)]
    )
    estimator.options.resilience.layer_noise_model = device_noise_model(layers, pubs[0][0], target)
    # Circuits of one qubit have no layer to invert, and the runtime fails on signs that were never drawn.
    estimator.options.resilience.pec_mitigation = bool(layers)
