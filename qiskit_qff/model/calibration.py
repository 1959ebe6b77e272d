r"""Calibrate a model on a device: measure M of every register once, then compute everything from the measured M.

.. math:: E = \sum_i x_i^T \tilde M_{s_i} x_i + \ldots,\qquad \tilde M = M + \delta M

The error :math:`\delta M` is drawn once and then fixed, so energies and forces of a calibrated model belong to one
energy surface: its dynamics are exactly conservative. Their standard errors follow linearly; those of different frames
and atoms are not independent, because they share one :math:`\delta M`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from qiskit.primitives import BaseEstimatorV2
from scipy.linalg import block_diag

from qiskit_qff.array_types import FloatArray
from qiskit_qff.compression.selection import register_maps
from qiskit_qff.descriptors.blocks import Surroundings
from qiskit_qff.descriptors.derivatives import STRAIN_COLUMNS, STRAIN_ROWS, DesignRows, quadratic_design
from qiskit_qff.evaluators.backends import Settings, build_evaluator
from qiskit_qff.evaluators.gradient import cost_of_registers
from qiskit_qff.evaluators.ibm_account import OPEN_PLAN, execution_mode, plan_of
from qiskit_qff.evaluators.measured_operator import Provenance
from qiskit_qff.evaluators.mitigation import find_preset
from qiskit_qff.evaluators.operator import assemble_operator, operator_errors, operator_requests
from qiskit_qff.evaluators.primitive import PrimitiveEvaluator
from qiskit_qff.evaluators.protocol import Cost, Evaluator, Request
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.metrics import MEV_PER_EV, root_mean_square, six_components
from qiskit_qff.model.species_model import Register, RegisterKey
from qiskit_qff.structures.frame import Frame

EvaluatorFactory = Callable[[Sequence[int]], Evaluator]
"""Makes an evaluator for registers of some numbers of qubits, measured side by side; the first get the best places."""


@dataclass(frozen=True, eq=False)
class StandardErrors:
    """Standard errors of one frame."""

    energy_std: float
    """Of the energy in eV."""
    force_std: FloatArray
    """Of the forces, shape ``(n_atoms, 3)``, in eV/Å."""
    stress_std: FloatArray | None
    """Of the stress, shape ``(3, 3)``, in eV/Å³; None unless all three directions are periodic."""


def calibrate(
    field: ForceField, estimator: EvaluatorFactory | BaseEstimatorV2, *, provenance: Provenance | None = None
) -> tuple[ForceField, Cost]:
    """Measure M of every register and give a model that uses what was measured.

    Args:
        field: The model; a calibration that it already has is replaced.
        estimator: Any estimator that takes abstract circuits; or what makes the evaluator, for example
            :func:`~qiskit_qff.evaluators.backends.build_evaluator` with its settings.
        provenance: What is written down with the measurement; its shots are used, by default none (exact values).

    Returns:
        The calibrated model, and what it cost.
    """
    keys, requests = _plan(field)
    provenance = provenance or Provenance(type(estimator).__name__, None)
    if isinstance(estimator, BaseEstimatorV2):
        evaluator: Evaluator = PrimitiveEvaluator(estimator)
    else:
        evaluator = estimator([field.registers[key].n_qubits for key in keys])
    answers = evaluator.evaluate(requests, shots=provenance.shots)
    device = evaluator if isinstance(evaluator, PrimitiveEvaluator) else None
    jobs = () if device is None or device.jobs is None else device.jobs.ids
    changed = {}
    for number, key in enumerate(keys):
        own = [answer for answer, request in zip(answers, requests, strict=True) if request.register == number]
        origin = replace(provenance, job_ids=jobs, noise_model="" if device is None else device.noise_origin)
        if device is not None and device.tiles:
            tile = device.tiles[number]
            origin = replace(
                origin,
                qubits=tile.qubits,
                two_qubit_errors=tile.two_qubit_errors,
                readout_errors=tile.readout_errors,
            )
        register = field.registers[key]
        measured = replace(assemble_operator(register.bound_program(), own), provenance=origin)
        changed[key] = replace(register, measured=measured)
    learning = Cost() if device is None else device.learning(requests, shots=provenance.shots)
    return field.with_registers(changed), evaluator.cost(requests, shots=provenance.shots) + learning


def _plan(field: ForceField) -> tuple[list[RegisterKey], list[Request]]:
    """Registers by the size of their readouts, which their errors grow with, and what has to be measured of them."""
    registers = field.registers
    keys = sorted(registers, key=lambda key: -float(np.abs(registers[key].weights).sum()))
    bounds = [registers[key].bound_program() for key in keys]
    return keys, [request for number, bound in enumerate(bounds) for request in operator_requests(bound, number)]


def estimate(field: ForceField, settings: Settings, *, ask_server: bool = False) -> tuple[dict[str, Any], str]:
    """What measuring M of every register takes, as plain numbers and in words; nothing is run.

    Beside it what the gradient of a training step takes, and the depth of the deepest transpiled circuit; for a device
    of an account also how its jobs are sent and, if asked for, the server's own estimate by a dry run.

    Raises:
        BackendError: If the backend is unknown.
        ConfigError: If the backend cannot do what is asked.
    """
    keys, requests = _plan(field)
    evaluator = build_evaluator(settings, [field.registers[key].n_qubits for key in keys], rng=np.random.default_rng(0))
    bounds = [field.registers[key].bound_program() for key in keys]
    cost = evaluator.cost(requests, shots=settings.shots)
    gradient = cost_of_registers(evaluator, [(b.program, b.theta) for b in bounds], slopes=True, shots=settings.shots)
    numbers: dict[str, Any] = {}
    depth, device, whole = 0, "", cost
    if isinstance(evaluator, PrimitiveEvaluator):
        learning = evaluator.learning(requests, shots=settings.shots)
        if learning.jobs:
            whole, numbers["learning"] = cost + learning, asdict(learning)
            device = f"; {learning.shots} of these shots, about {learning.seconds:.0f} s, learn the noise model"
        # Registers of one circuit differ in their angles only, and these don't change the depth.
        deepest = {request.task: request.register for request in requests}
        circuits = [evaluator.transpiled(task, register) for task, register in deepest.items()]
        depth = max(int(one.depth(lambda gate: gate.operation.num_qubits == 2)) for one in circuits)
        if evaluator.service is not None:
            plan = plan_of(evaluator.service, evaluator.backend)
            numbers["mode"], why = execution_mode(plan, cost.jobs)
            device += f"; {numbers['mode']} mode ({why})"
            if ask_server and plan != OPEN_PLAN and settings.shots:
                numbers["server_seconds"] = evaluator.server_seconds(requests, shots=settings.shots)
                device += f"; estimate of the server: {numbers['server_seconds']:.0f} s"
    words = (
        f"{whole.circuits} circuits, {whole.shots} shots on {settings.backend}, two-qubit depth {depth}, "
        f"{find_preset(settings.mitigation)[0]}"
        f"{', dynamical decoupling' if settings.dynamical_decoupling else ''}; on a device about {whole.seconds:.0f} s "
        f"of processor time (estimate; the provider's accounting decides){device}"
    )
    numbers |= {"n_circuits": whole.circuits, "n_shots": whole.shots, "qpu_seconds": whole.seconds}
    return numbers | {"two_qubit_depth": depth, "gradient": asdict(gradient)}, words


def is_calibrated(field: ForceField) -> bool:
    """Whether any register uses a measured M."""
    return any(register.measured is not None for register in field.registers.values())


def calibration_errors(field: ForceField, frames: Sequence[Frame]) -> list[StandardErrors]:
    """Standard errors of energies, forces and stresses from the uncertainty of the measured M.

    Energies and forces are linear in the entries of M, and so in the independent errors of its measurement.
    """
    flat = register_maps(
        {m.number: m.compression for m in field.models},
        {m.number: [register.n_features for register in m.registers] for m in field.models},
    )
    response = block_diag(*[_response(register) for register in field.registers.values()])
    found = []
    for frame in frames:
        tables, rows = field.folded.tables, np.empty((7 + 3 * frame.n_atoms, flat.column_start[-1]))
        design = DesignRows(energy=rows[0], forces=rows[7:], virial=rows[1:7])
        quadratic_design(tables, flat, Surroundings.in_frame(frame, tables), design)
        errors = np.linalg.norm(rows @ response, axis=1)
        stress = None
        if frame.pbc.all():
            stress = np.empty((3, 3))
            stress[STRAIN_ROWS, STRAIN_COLUMNS] = stress[STRAIN_COLUMNS, STRAIN_ROWS] = errors[1:7] / frame.volume
        found.append(StandardErrors(float(errors[0]), errors[7:].reshape(-1, 3), stress))
    return found


def _response(register: Register) -> FloatArray:
    """Change of the entries on and above the diagonal of M by each independent error, in eV; M_00 is not measured."""
    rows, columns = np.triu_indices(register.n_features + 1)
    if register.measured is None:
        return np.zeros((len(rows), 0))
    errors = operator_errors(register.bound_program(), register.measured)[:, rows, columns].T
    errors[0] = 0.0
    return errors


def calibration_summary(field: ForceField) -> dict[str, Any]:
    """Provenance, rms standard error and rms deviation from the exact M in eV, by chemical symbol."""
    summary = {}
    for model in field.models:
        parts = []
        for register in model.registers:
            if register.measured is not None:
                upper = np.triu_indices(register.n_features + 1)
                errors = np.linalg.norm(operator_errors(register.bound_program(), register.measured), axis=0)[upper]
                deviation = (register.measured.matrix - register.circuit_matrix())[upper]
                parts.append((register.measured.provenance, errors, deviation))
        if parts:
            summary[chemical_symbols[model.number]] = {
                **asdict(parts[0][0]),
                **{
                    name: [value for part in parts for value in getattr(part[0], name)]
                    for name in ("qubits", "two_qubit_errors", "readout_errors")
                },
                "n_registers": len(parts),
                "std_error_ev": root_mean_square(np.concatenate([part[1] for part in parts])),
                "deviation_ev": root_mean_square(np.concatenate([part[2] for part in parts])),
            }
    return summary


def rms_std_errors(errors: Sequence[StandardErrors], frames: Sequence[Frame]) -> dict[str, float]:
    """Root mean square of the standard errors of energies per atom, forces and labelled stresses, in meV and Å."""
    per_atom = np.array([e.energy_std / f.n_atoms for e, f in zip(errors, frames, strict=True)])
    found = {
        "energy_std_mev_per_atom": MEV_PER_EV * root_mean_square(per_atom),
        "force_std_mev_per_ang": MEV_PER_EV * root_mean_square(np.concatenate([e.force_std.ravel() for e in errors])),
    }
    labelled = [e.stress_std for e, f in zip(errors, frames, strict=True) if f.stress is not None]
    stresses = [stress for stress in labelled if stress is not None]
    if stresses:
        found["stress_std_mev_per_ang3"] = MEV_PER_EV * root_mean_square(six_components(stresses))
    return found
