r"""What a model costs on a quantum processor, from closed formulas, before anything is measured.

Registers of all species are measured side by side: the k-th parameter set of each of them shares a circuit, and only
registers for which a device has no qubits left take another round. One round of registers of n qubits,
:math:`D = 2^n` amplitudes and R rotations takes, for N atoms of the most frequent species and F frames,

=================  ==============  =============  ===================  =================================
strategy           once            energy         all forces           training gradient
=================  ==============  =============  ===================  =================================
``environment``    0               N              N (2 D - 1)          F N (2 D - 1) (2 R + 1)
``density``        n + 1           min(N + 1, D)  0 (from the once)    as ``operator``
``operator``       n + 1           0              0                    (2 R + 1) (n + 1)
=================  ==============  =============  ===================  =================================

parameter sets times measurement settings; where a readout is not of rank one, D (D + 1) / 2 pair states stand in the
place of the n + 1 settings. The gradient is that of a loss of energies and forces, all angles of a register shifted in
turn and those of different registers at the same time; its residuals are included. By ``density`` atoms in equal
surroundings need fewer circuits than stated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qiskit_qff.circuit.compiled import gates_of
from qiskit_qff.errors import BackendError, DataError
from qiskit_qff.evaluators.backends import NOISELESS, Device, device_evaluator, find_device, places_on
from qiskit_qff.evaluators.mitigation import find_preset
from qiskit_qff.evaluators.primitive import PrimitiveEvaluator, sets_per_job
from qiskit_qff.evaluators.protocol import ANYWHERE, Place
from qiskit_qff.evaluators.strategies.operator import largest_first, operator_requests
from qiskit_qff.evaluators.tasks import loader_task
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.species_model import Register, RegisterKey
from qiskit_qff.structures.frame import Frame

QUANTITIES = ("once", "energy", "forces", "gradient")
"""What is counted for each strategy: the calibration, then a frame's energy and forces, and a training gradient."""


@dataclass(frozen=True)
class QuantumCost:
    """What one quantity costs by one strategy."""

    strategy: str
    """``environment``, ``density`` or ``operator``."""
    quantity: str
    """One of :data:`QUANTITIES`."""
    circuits: int
    """Parameter sets times settings of the circuits that hold all registers of a round."""
    shots: int
    """Executions in all, without what mitigation adds."""
    seconds: float
    """Estimated time on the processor in s, with what mitigation adds."""
    two_qubit_depth: int
    """Layers of two-qubit gates of the deepest transpiled circuit; 0 where none runs."""


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


def circuit_counts(
    field: ForceField,
    atoms: Mapping[int, int],
    *,
    n_frames: int,
    places: Mapping[RegisterKey, Place] | None = None,
) -> dict[str, dict[str, int]]:
    """Circuits by strategy and quantity.

    Args:
        places: Where registers are measured; by default all registers of a size share a circuit.
    """
    unknown = sorted(set(atoms) - set(field.species))
    if unknown:
        raise DataError(f"The model knows the atomic numbers {field.species}; {unknown} were given.")
    counts = {strategy: dict.fromkeys(QUANTITIES, 0) for strategy in ("environment", "density", "operator")}
    registers, rounds = field.registers, dict[int, list[dict[str, tuple[int, int, int, int]]]]()
    for key, place in (places or place_registers(field)).items():
        alone = _of_register(registers[key], atoms.get(key[0], 0), n_frames)
        rounds.setdefault(place.round, []).append(alone)
    for members in rounds.values():
        for strategy, quantities in counts.items():
            for index, quantity in enumerate(QUANTITIES):
                # Registers with less to do wait for the others.
                quantities[quantity] += max(alone[strategy][index] for alone in members)
    return counts


def _of_register(register: Register, n_atoms: int, n_frames: int) -> dict[str, tuple[int, int, int, int]]:
    """Circuits of one register by itself, in the order of :data:`QUANTITIES`."""
    bound = register.bound_program()
    size = bound.program.n_amplitudes
    once = sum(len(request.parameters) for request in operator_requests(bound))
    shifted = 2 * len(gates_of(bound.program).rotations) + 1
    forces = n_atoms * (2 * register.n_features + 1)
    return {
        "environment": (0, n_atoms, forces, n_frames * forces * shifted),
        "density": (once, min(n_atoms + 1, size) if n_atoms else 0, 0, once * shifted),
        "operator": (once, 0, 0, once * shifted),
    }


def quantum_costs(
    field: ForceField,
    atoms: Mapping[int, int],
    *,
    backend: str,
    n_frames: int,
    shots: int,
    mitigation: str = "none",
) -> tuple[QuantumCost, ...]:
    """Circuits, shots, time and two-qubit depth of every strategy on a backend; nothing is run.

    Args:
        field: The model.
        atoms: Number of atoms of each species in a frame, by atomic number.
        backend: Device that circuits are transpiled for.
        n_frames: Frames in the training set.
        shots: Executions per circuit.
        mitigation: Preset of error mitigation.

    Raises:
        BackendError: If the backend is unknown, or exact, so that nothing costs anything.
        ConfigError: If the backend cannot do what is asked.
        DataError: If the model does not know a species.
    """
    if backend in NOISELESS:
        raise BackendError(f"Backend '{backend}' takes no processor time; choose a device, for example fake_torino.")
    preset = find_preset(mitigation)
    device = find_device(backend, n_qubits=field.n_qubits)
    counts = circuit_counts(field, atoms, n_frames=n_frames, places=place_registers(field, device))
    evaluator = device_evaluator(device, shots=shots, preset=preset, rng=np.random.default_rng(0))
    depths = two_qubit_depths(field, evaluator)
    timing = device.timing(preset)
    per_job = sets_per_job(shots)
    costs = []
    for strategy, quantities in counts.items():
        for quantity, circuits in quantities.items():
            measures_operator = strategy == "operator" or (quantity in {"once", "gradient"} and strategy == "density")
            seconds = timing.seconds(shots=circuits * shots, jobs=-(-circuits // per_job))
            depth = depths["operator" if measures_operator else "loader"] if circuits else 0
            costs.append(QuantumCost(strategy, quantity, circuits, circuits * shots, seconds, depth))
    return tuple(costs)


def evaluation_circuits(field: ForceField, frames: Sequence[Frame], strategy: str, device: Device | None) -> int:
    """Circuits of an evaluation: those that measure M once, where the strategy does, and those of every frame.

    Args:
        device: Where they run; None for a simulator without noise.
    """
    found, places = 0, place_registers(field, device)
    if strategy != "environment":
        found += circuit_counts(field, {}, n_frames=1, places=places)[strategy]["once"]
    for frame in frames:
        counts = circuit_counts(field, Counter(frame.numbers.tolist()), n_frames=1, places=places)[strategy]
        found += max(counts["energy"], counts["forces"])  # by environment the forces' circuits hold the energy's
    return found


def two_qubit_depths(field: ForceField, evaluator: PrimitiveEvaluator) -> dict[str, int]:
    """Largest two-qubit depth of the circuits that measure an operator, and of those that load an environment."""
    depths = {"loader": 0, "operator": 0}
    # Registers of one circuit differ in their angles only, and these don't change the depth.
    for register in {register.ansatz: register for register in field.registers.values()}.values():
        bound = register.bound_program()
        plan = operator_requests(bound)
        tasks = {"loader": [loader_task(bound.program)], "operator": [request.task for request in plan]}
        for preparation, members in tasks.items():
            for task in members:
                depth = int(evaluator.transpiled(task).depth(lambda gate: gate.operation.num_qubits == 2))
                depths[preparation] = max(depths[preparation], depth)
    return depths
