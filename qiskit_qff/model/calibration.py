r"""Calibrate a model on a device: measure M of every register once, then compute everything from the measured M.

.. math:: E = \sum_i x_i^T \tilde M_{s_i} x_i + \ldots,\qquad \tilde M = M + \delta M

The error :math:`\delta M` is drawn once and then fixed, so energies and forces of a calibrated model belong to one
energy surface: its dynamics are exactly conservative. Their standard errors follow linearly; those of different frames
and atoms are not independent, because they share one :math:`\delta M`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from qiskit_qff.evaluators.protocol import Cost
from qiskit_qff.evaluators.strategies.operator import (
    MeasuredOperator,
    measure_operators,
    pair_response,
    programmed_vector,
    vector_operator,
)
from qiskit_qff.model.calibrated_operator import CalibratedOperator, Design, Provenance
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.measured import EvaluatorFactory, MeasuredPrediction, evaluators_of, predict_by_operators
from qiskit_qff.model.metrics import MEV_PER_EV, root_mean_square, six_components
from qiskit_qff.model.species_model import Register
from qiskit_qff.structures.frame import Frame


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
    operators = measure_operators(evaluators_of(field, evaluator_for), bounds, shots=provenance.shots)
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


def calibration_errors(field: ForceField, frames: Sequence[Frame]) -> list[MeasuredPrediction]:
    """Energies, forces and stresses with their standard errors from the uncertainty of the measured M."""
    operators = {
        key: measured_operator(register) for key, register in field.registers.items() if register.measured is not None
    }
    return predict_by_operators(field, frames, operators)


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


def spread(errors: Sequence[MeasuredPrediction], frames: Sequence[Frame]) -> dict[str, float]:
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
