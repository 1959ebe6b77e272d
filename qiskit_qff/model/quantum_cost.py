r"""What a model costs on a quantum processor, from closed formulas, before anything is measured.

Registers of all species are measured side by side: the k-th parameter set of each of them shares a circuit, and only
registers for which a device has no qubits left take another round. A round of registers of n qubits and R rotations
takes n + 1 settings to measure M, or D (D + 1) / 2 pair states of D amplitudes where a readout is not of rank one, and
2 R + 1 times as many for the gradient of a loss by all angles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qiskit_qff.circuit.compiled import gates_of
from qiskit_qff.errors import BackendError
from qiskit_qff.evaluators.backends import NOISELESS, Device, device_evaluator, find_device, places_on
from qiskit_qff.evaluators.mitigation import find_preset
from qiskit_qff.evaluators.primitive import PrimitiveEvaluator, sets_per_job
from qiskit_qff.evaluators.protocol import ANYWHERE, Place
from qiskit_qff.evaluators.strategies.operator import largest_first, operator_requests
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.species_model import RegisterKey


@dataclass(frozen=True)
class QuantumCost:
    """What one quantity costs."""

    quantity: str
    """``calibration``, or ``gradient`` of a training step."""
    circuits: int
    """Parameter sets times settings of the circuits that hold all registers of a round."""
    shots: int
    """Executions in all, without what mitigation adds."""
    seconds: float
    """Estimated time on the processor in s, with what mitigation adds."""
    two_qubit_depth: int
    """Layers of two-qubit gates of the deepest transpiled circuit."""


def place_registers(field: ForceField, device: Device | None = None) -> dict[RegisterKey, Place]:
    """Places of all registers: the ones with the largest readouts get the best qubits.

    Args:
        device: The device; None for simulators without noise, on which all registers of a size fit side by side.
    """
    by_size: dict[int, list[RegisterKey]] = {}
    for key, register in field.registers.items():
        by_size.setdefault(register.n_qubits, []).append(key)
    places: dict[RegisterKey, Place] = {}
    for size, keys in by_size.items():
        bounds = [field.registers[key].bound_program() for key in keys]
        ordered = [keys[index] for index in largest_first(range(len(keys)), bounds)]
        chosen = [ANYWHERE] * len(keys) if device is None or device.line is None else places_on(device, size, len(keys))
        first = 1 + max((place.round for place in places.values()), default=-1)
        places |= {key: Place(first + place.round, place.line) for key, place in zip(ordered, chosen, strict=True)}
    return {key: places[key] for key in field.registers}


def circuit_counts(field: ForceField, places: Mapping[RegisterKey, Place]) -> dict[str, int]:
    """Circuits of a calibration, and of the gradient of a training step."""
    rounds: dict[int, list[tuple[int, int]]] = {}
    for key, place in places.items():
        bound = field.registers[key].bound_program()
        once = sum(len(request.parameters) for request in operator_requests(bound))
        shifted = 2 * len(gates_of(bound.program).rotations) + 1
        rounds.setdefault(place.round, []).append((once, once * shifted))
    # Registers with less to do wait for the others.
    calibration, gradient = np.sum([np.max(members, axis=0) for members in rounds.values()], axis=0).tolist()
    return {"calibration": calibration, "gradient": gradient}


def quantum_costs(field: ForceField, *, backend: str, shots: int, mitigation: str = "none") -> tuple[QuantumCost, ...]:
    """Circuits, shots, time and two-qubit depth on a backend; nothing is run.

    Raises:
        BackendError: If the backend is unknown, or exact, so that nothing costs anything.
        ConfigError: If the backend cannot do what is asked.
    """
    if backend in NOISELESS:
        raise BackendError(f"Backend '{backend}' takes no processor time; choose a device, for example fake_torino.")
    preset = find_preset(mitigation)
    device = find_device(backend, n_qubits=field.n_qubits)
    evaluator = device_evaluator(device, shots=shots, preset=preset, rng=np.random.default_rng(0))
    timing, per_job, depth = device.timing(preset), sets_per_job(shots), two_qubit_depth(field, evaluator)
    return tuple(
        QuantumCost(
            quantity,
            circuits,
            circuits * shots,
            timing.seconds(shots=circuits * shots, jobs=-(-circuits // per_job)),
            depth,
        )
        for quantity, circuits in circuit_counts(field, place_registers(field, device)).items()
    )


def two_qubit_depth(field: ForceField, evaluator: PrimitiveEvaluator) -> int:
    """Largest two-qubit depth of the circuits that measure an operator."""
    # Registers of one circuit differ in their angles only, and these don't change the depth.
    different = {register.ansatz: register for register in field.registers.values()}.values()
    return max(
        int(evaluator.transpiled(request.task).depth(lambda gate: gate.operation.num_qubits == 2))
        for register in different
        for request in operator_requests(register.bound_program())
    )
