"""Noise models of a device's layers of two-qubit gates, learned there by ``NoiseLearnerV3`` of IBM's runtime.

The client-side Estimator learns no noise by itself. Error cancellation (PEC) and amplification (PEA) get it from a job
of its own, sent before the first job that needs it: every layer is repeated to several depths, in nine bases and in
many random circuits. A layer is learned once in a run, and what was learned is kept with the run's jobs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from qiskit import QuantumCircuit
from qiskit.quantum_info import PauliLindbladMap

from qiskit_qff.evaluators.ibm_account import client_errors
from qiskit_qff.evaluators.jobs import JobStore
from qiskit_qff.evaluators.mitigation import NoiseModel, gates_of_layer
from qiskit_qff.evaluators.protocol import Cost, TimingModel
from qiskit_qff.evaluators.z_strings import Arrays

if TYPE_CHECKING:
    from qiskit.circuit import CircuitInstruction

BASES = 9
"""Measurement bases that show the errors of a layer of two-qubit gates."""


class NoiseLearner:
    """Learns noise models of layers in jobs on a device."""

    def __init__(
        self, mode: Any, service: Any, *, timing: TimingModel, options: Mapping[str, Any], jobs: JobStore | None
    ) -> None:
        """``mode`` is the device, or its Session or Batch; ``options`` are those of ``NoiseLearnerV3``."""
        from qiskit_ibm_runtime.noise_learner_v3 import NoiseLearnerV3
        from qiskit_ibm_runtime.options_models import NoiseLearnerV3Options

        self._learner, self._service = NoiseLearnerV3(mode, NoiseLearnerV3Options(**options)), service
        self._timing, self._jobs = timing, jobs
        self._known: dict[str, PauliLindbladMap] = {}
        self.origins: list[str] = []
        """Origin of each noise model learned so far."""

    def __call__(self, layers: Sequence[CircuitInstruction], circuit: QuantumCircuit, backend: Any) -> NoiseModel:
        """Noise of boxed layers; those that are not known yet are learned, all in one job."""
        del backend
        keys = [_key(layer, circuit) for layer in layers]
        if missing := {key: layer for key, layer in zip(keys, layers, strict=True) if key not in self._known}:
            self._known |= dict(zip(missing, self._learned(missing), strict=True))
        return [(layer, self._known[key]) for key, layer in zip(keys, layers, strict=True)]

    @property
    def is_paid(self) -> bool:
        """Whether layers were learned already, or are being learned, also by an earlier process."""
        return bool(self.origins) or (self._jobs is not None and self._jobs.is_paid("noise 0"))

    def cost(self, n_layers: int) -> Cost:
        """Cost of learning so many layers."""
        options = self._learner.options
        circuits = n_layers * BASES * len(options.layer_pair_depths) * options.num_randomizations
        shots = circuits * options.shots_per_randomization
        return Cost(circuits, shots, self._timing.seconds(shots=shots, jobs=1), 1) if n_layers else Cost()

    def _learned(self, layers: Mapping[str, CircuitInstruction]) -> list[PauliLindbladMap]:
        """Noise learned by a new job, or by one that an earlier process sent."""
        learner = self._learner

        def send(tags: Sequence[str]) -> Any:
            learner.options.max_execution_time = int(120.0 + 4.0 * self.cost(len(layers)).seconds)
            learner.options.environment.job_tags = list(tags)
            with client_errors("The noise learner refused the job"):
                return learner.run(list(layers.values()))

        if self._jobs is None:
            job = send(())
            with client_errors("Noise could not be learned"):
                arrays, identity = learned_arrays(job.result()), job.job_id()
        else:
            name, question = f"noise {len(self.origins)}", np.frombuffer(repr(list(layers)).encode(), dtype=np.uint8)
            arrays = self._jobs.submit(send, question, service=self._service, name=name, read=learned_arrays)()
            identity = self._jobs.id_of(name)
        self.origins.append(f"learned by NoiseLearnerV3, job {identity}")
        terms = [[(str(p), float(rate)) for p, rate in zip(one["paulis"], one["rates"], strict=True)] for one in arrays]
        return [PauliLindbladMap.from_list(own) for own in terms]


def _key(layer: CircuitInstruction, circuit: QuantumCircuit) -> str:
    """What tells layers of a device apart: their qubits, and the two-qubit gates between them."""
    gates = sorted((name, outer) for name, _, outer in gates_of_layer(layer, circuit))
    return repr((sorted(circuit.find_bit(qubit).index for qubit in layer.qubits), gates))


def learned_arrays(results: Any) -> list[Arrays]:
    """What was learned as plain arrays: Pauli strings over the qubits of a layer in their order, and their rates."""
    maps = results.to_pauli_lindblad_maps()
    strings = [one.get_qubit_sparse_pauli_list_copy().to_pauli_list().to_labels() for one in maps]
    return [{"paulis": np.array(own), "rates": one.rates} for own, one in zip(strings, maps, strict=True)]
