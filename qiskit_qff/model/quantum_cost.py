r"""What a model costs on a quantum processor, from closed formulas, before anything is measured.

For one register with D amplitudes, R rotations in U, N atoms in a frame and F frames the strategies prepare

=================  ==============  =============  ===================  =================================
strategy           once            energy         all forces           full-batch training gradient
=================  ==============  =============  ===================  =================================
``environment``    0               N              N (2 D - 1)          F N (2 D - 1) (2 R + 1)
``density``        n + 1           min(N + 1, D)  0 (from the once)    D (D + 1) / 2 + D (2 R + 1)
``operator``       n + 1           0              0                    D (D + 1) / 2 (2 R + 1)
=================  ==============  =============  ===================  =================================

states times settings; a readout that is not of rank one needs D (D + 1) / 2 once. The gradient is that of a
loss of energies and forces; its residuals are included. An environment with exact zeros among its amplitudes needs a
few circuits more than stated; by ``density`` atoms in equal surroundings need fewer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qiskit_qff.circuit.compiled import compile_program
from qiskit_qff.circuit.program import BoundProgram
from qiskit_qff.errors import BackendError, DataError
from qiskit_qff.evaluators.backends import NOISELESS, device_evaluator, find_device
from qiskit_qff.evaluators.mitigation import find_preset
from qiskit_qff.evaluators.primitive import JobLimits, PrimitiveEvaluator
from qiskit_qff.evaluators.protocol import MeasurementTask
from qiskit_qff.evaluators.strategies.operator import operator_requests
from qiskit_qff.evaluators.strategies.spectrum import default_design, n_measured
from qiskit_qff.evaluators.tasks import loader_task
from qiskit_qff.evaluators.timing import TimingModel
from qiskit_qff.model.force_field import ForceField

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
    """Prepared states times parameter settings, over all registers."""
    shots: int
    """Executions in all, without what mitigation adds."""
    seconds: float
    """Estimated time on the processor in s, with what mitigation adds."""
    two_qubit_depth: int
    """Layers of two-qubit gates of the deepest transpiled circuit; 0 where none runs."""


def circuit_counts(field: ForceField, atoms: Mapping[int, int], *, n_frames: int) -> dict[str, dict[str, int]]:
    """Circuits by strategy and quantity, over all registers.

    Args:
        field: The model.
        atoms: Number of atoms of each species in a frame, by atomic number.
        n_frames: Frames in the training set.

    Raises:
        DataError: If the model does not know a species.
    """
    unknown = sorted(set(atoms) - set(field.species))
    if unknown:
        raise DataError(f"The model knows the atomic numbers {field.species}; {unknown} were given.")
    counts = {strategy: dict.fromkeys(QUANTITIES, 0) for strategy in ("environment", "density", "operator")}
    for (number, _), register in field.registers.items():
        bound = register.bound_program()
        program = bound.program
        size, n = program.n_amplitudes, atoms.get(number, 0)
        settings = 2 * len(compile_program(program).gates.rotations) + 1
        entries = size * (size + 1) // 2
        once = n_measured(bound, "auto")
        per_register = {
            "environment": (0, n, n * (2 * size - 1), n_frames * n * (2 * size - 1) * settings),
            "density": (once, min(n + 1, size), 0, entries + size * settings),
            "operator": (once, 0, 0, entries * settings),
        }
        for strategy, values in per_register.items():
            for quantity, value in zip(QUANTITIES, values, strict=True):
                counts[strategy][quantity] += value
    return counts


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
    counts = circuit_counts(field, atoms, n_frames=n_frames)
    if backend in NOISELESS:
        raise BackendError(f"Backend '{backend}' takes no processor time; choose a device, for example fake_torino.")
    preset = find_preset(mitigation)
    device = find_device(backend, n_qubits=field.n_qubits)
    evaluator = device_evaluator(device, shots=shots, preset=preset, rng=np.random.default_rng(0))
    depths = _depths(field, evaluator)
    timing = TimingModel(mitigation_factor=preset.time_factor)
    per_job = JobLimits().sets_per_job(shots)
    costs = []
    for strategy, quantities in counts.items():
        for quantity, circuits in quantities.items():
            measures_operator = strategy == "operator" or quantity == "once"
            seconds = timing.seconds(shots=circuits * shots, jobs=-(-circuits // per_job))
            depth = depths["pairs" if measures_operator else "loader"] if circuits else 0
            costs.append(QuantumCost(strategy, quantity, circuits, circuits * shots, seconds, depth))
    return tuple(costs)


def _depths(field: ForceField, evaluator: PrimitiveEvaluator) -> dict[str, int]:
    """Largest two-qubit depth with either preparation."""
    depths = {"loader": 0, "pairs": 0}
    # Registers of one circuit differ in their angles only, and these don't change the depth.
    for register in {register.ansatz: register for register in field.registers.values()}.values():
        bound = register.bound_program()
        tasks = {"loader": [loader_task(bound.program)], "pairs": _operator_tasks(bound)}
        for preparation, members in tasks.items():
            for task in members:
                depth = int(evaluator.transpiled(task).depth(lambda gate: gate.operation.num_qubits == 2))
                depths[preparation] = max(depths[preparation], depth)
    return depths


def _operator_tasks(bound: BoundProgram) -> list[MeasurementTask]:
    """Circuits that measure an energy matrix."""
    return [request.task for request in operator_requests(bound, design=default_design(bound))]
