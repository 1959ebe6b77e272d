r"""Calibrate a model on a device: measure M of every register once, then compute everything from the measured M.

.. math:: E = \sum_i x_i^T \tilde M_{s_i} x_i + \ldots,\qquad \tilde M = M + \delta M

The error :math:`\delta M` is drawn once and then fixed, so energies and forces of a calibrated model belong to one
energy surface: its dynamics are exactly conservative. Their standard errors follow linearly; those of different frames
and atoms are not independent, because they share one :math:`\delta M`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from scipy.linalg import block_diag

from qiskit_qff.array_types import FloatArray
from qiskit_qff.descriptors.design_rows import STRAIN_COLUMNS, STRAIN_ROWS, quadratic_design
from qiskit_qff.evaluators.protocol import Cost, Evaluator
from qiskit_qff.evaluators.strategies.operator import (
    MeasuredOperator,
    measure_operators,
    pair_response,
    programmed_vector,
    vector_operator,
)
from qiskit_qff.model.calibrated_operator import CalibratedOperator, Design, Provenance
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.metrics import MEV_PER_EV, root_mean_square, six_components
from qiskit_qff.model.species_model import Register
from qiskit_qff.structures.frame import Frame, species_index
from qiskit_qff.structures.neighbors import neighbor_list

EvaluatorFactory = Callable[[int, int], Evaluator]
"""Makes an evaluator for registers of a number of qubits; the second number says how many registers there are."""


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
    field: ForceField,
    *,
    evaluator_for: EvaluatorFactory,
    provenance: Provenance,
) -> tuple[ForceField, Cost]:
    """Measure M of every register and give a model that uses what was measured.

    Args:
        field: The model; a calibration that it already has is replaced.
        evaluator_for: Makes the evaluator of registers of a number of qubits; told how many there are.
        provenance: What is written down with the measurement; its shots are used.

    Returns:
        The calibrated model, and what it cost.
    """
    registers = field.registers
    bounds = [register.bound_program() for register in registers.values()]
    counts = Counter(register.n_qubits for register in registers.values())
    evaluators = {n_qubits: evaluator_for(n_qubits, count) for n_qubits, count in counts.items()}
    operators = measure_operators(evaluators, bounds, shots=provenance.shots)
    changed = {
        key: replace(register, measured=calibrated(operator, provenance))
        for (key, register), operator in zip(registers.items(), operators, strict=True)
    }
    return field.with_registers(changed), sum((operator.cost for operator in operators), Cost())


def calibrated(measured: MeasuredOperator, provenance: Provenance) -> CalibratedOperator:
    """A measurement with its origin, in the form that a model file keeps."""
    design: Design = "pairs" if measured.modes is None else "settings"
    matrix = 0.5 * (measured.matrix + measured.matrix.T)
    return CalibratedOperator(matrix, measured.variances, design, provenance, measured.modes)


def measured_operator(register: Register) -> MeasuredOperator:
    """The measurement that a calibrated register holds, ready to propagate its errors."""
    kept, bound = register.measured, register.bound_program()
    assert kept is not None  # callers ask for calibrated registers only
    if kept.design in {"signed_pairs", "first_column"}:
        return MeasuredOperator(kept.matrix, np.ones((1, *kept.matrix.shape)), np.full(1, np.nan), Cost())
    if kept.modes is None:
        return MeasuredOperator(kept.matrix, pair_response(bound.program), kept.variances, Cost())
    weight = float(bound.weights[0])
    row = int(np.argmax(np.abs(np.diagonal(kept.matrix))))
    length = np.sqrt(weight * kept.matrix[row, row])
    vector = np.sign(weight) * kept.matrix[row] / length if length > 0.0 else programmed_vector(bound)
    return vector_operator(bound, vector, kept.modes, kept.variances, Cost())


def is_calibrated(field: ForceField) -> bool:
    """Whether any register uses a measured M."""
    return any(register.measured is not None for register in field.registers.values())


def calibration_errors(field: ForceField, frames: Sequence[Frame]) -> list[StandardErrors]:
    """Standard errors of energies, forces and stresses from the uncertainty of the measured M.

    Energies and forces are linear in the entries of M, and so in the independent errors of its measurement.
    """
    maps = [model.compression for model in field.models]
    places = [(s, own.start, own.stop - own.start) for s, m in enumerate(field.models) for own in m.slices]
    columns = [0, *accumulate((size + 1) * (size + 2) // 2 for _, _, size in places)]
    design = (
        np.concatenate([m.mean for m in maps]),
        np.concatenate([m.matrix.ravel() for m in maps]),
        np.array([0, *accumulate(m.matrix.size for m in maps)]),
        np.array([m.n_features for m in maps]),
        np.array(places),
        np.array(columns),
    )
    response = block_diag(*[_entry_errors(register) for register in field.registers.values()])
    found = []
    for frame in frames:
        kinds = species_index(frame.numbers, field.species, where=frame.where)
        near = neighbor_list(frame.positions, frame.cell, frame.pbc, field.cutoff)
        rows = np.empty((7 + 3 * frame.n_atoms, columns[-1]))
        quadratic_design(
            field.folded.tables, *design, near.first, near.neighbor, near.vectors, near.distances, kinds,
            rows[0], rows[7:], rows[1:7],
        )  # fmt: skip
        errors = np.linalg.norm(rows @ response, axis=1)
        stress = None
        if frame.pbc.all():
            stress = np.empty((3, 3))
            stress[STRAIN_ROWS, STRAIN_COLUMNS] = stress[STRAIN_COLUMNS, STRAIN_ROWS] = errors[1:7] / frame.volume
        found.append(StandardErrors(float(errors[0]), errors[7:].reshape(-1, 3), stress))
    return found


def _entry_errors(register: Register) -> FloatArray:
    """Change of the entries on and above the diagonal of M by each independent error, in eV; M_00 is not measured."""
    rows, columns = np.triu_indices(register.n_features + 1)
    if register.measured is None:
        return np.zeros((len(rows), 0))
    operator = measured_operator(register)
    errors = (np.sqrt(operator.variances)[:, None] * operator.response[:, rows, columns]).T
    errors[0] = 0.0
    return np.asarray(errors)


def calibration_summary(field: ForceField) -> dict[str, Any]:
    """Provenance, rms standard error and rms deviation from the exact M in eV, by chemical symbol."""
    summary = {}
    for model in field.models:
        parts = []
        for register in model.registers:
            if register.measured is not None:
                upper = np.triu_indices(register.n_features + 1)
                errors = measured_operator(register).entry_errors()[upper]
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


def spread(errors: Sequence[StandardErrors], frames: Sequence[Frame]) -> dict[str, float]:
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
