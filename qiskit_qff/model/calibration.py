r"""Calibrate a model on a device: measure M of every register once, then compute everything from the measured M.

.. math:: E = \sum_i x_i^T \tilde M_{s_i} x_i + \ldots,\qquad \tilde M = M + \delta M

The error :math:`\delta M` is drawn once and then fixed, so energies and forces of a calibrated model belong to one
energy surface: its dynamics are exactly conservative. Their standard errors follow linearly; those of different frames
and atoms are not independent, because they share one :math:`\delta M`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.evaluators.protocol import Cost
from qiskit_qff.evaluators.strategies.operator import measure_operators
from qiskit_qff.evaluators.strategies.spectrum import chosen_design, known_spectrum
from qiskit_qff.model.calibrated_operator import CalibratedOperator, Provenance
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.measured import EvaluatorFactory
from qiskit_qff.model.sensitivity import environments
from qiskit_qff.structures.frame import Frame


@dataclass(frozen=True, eq=False)
class PredictionError:
    """Standard errors of one frame's prediction that come from the calibration."""

    energy_std: float
    """Of the total energy, in eV."""
    force_std: FloatArray
    """Of the forces, shape ``(n_atoms, 3)``, in eV/Å."""
    stress_std: FloatArray | None
    """Of the stress, shape ``(3, 3)``, in eV/Å³; None unless all three directions are periodic."""


def calibrate(
    field: ForceField,
    *,
    evaluator_for: EvaluatorFactory,
    provenance: Provenance,
    design: str = "auto",
) -> tuple[ForceField, Cost]:
    """Measure M of every register and give a model that uses what was measured.

    Args:
        field: The model; a calibration that it already has is replaced.
        evaluator_for: Makes the evaluator of registers of a number of qubits; told how many there are.
        provenance: What is written down with the measurement; its shots are used.
        design: States that M is measured by; ``auto`` for the fewest that determine it.

    Returns:
        The calibrated model, and what it cost.

    Raises:
        ConfigError: If there is no such design, or it does not determine M.
    """
    registers = field.registers
    bounds = [register.bound_program() for register in registers.values()]
    designs = [chosen_design(design, bound) for bound in bounds]
    sizes = Counter(bound.program.n_qubits for bound in bounds)
    evaluators = {size: evaluator_for(size, count) for size, count in sizes.items()}
    operators = measure_operators(evaluators, bounds, designs, shots=provenance.shots)
    changed = {}
    for (key, register), bound, states, plain in zip(registers.items(), bounds, designs, operators, strict=True):
        spectrum = known_spectrum(bound)
        kept = plain if spectrum is None else plain.with_spectrum(spectrum)
        matrix = 0.5 * (kept.matrix + kept.matrix.T)
        entry = CalibratedOperator(matrix, kept.variances, states, spectrum is not None, provenance, kept.modes)
        changed[key] = replace(register, measured=entry)
    return field.with_registers(changed), sum((operator.cost for operator in operators), Cost())


def is_calibrated(field: ForceField) -> bool:
    """Whether any register uses a measured M."""
    return any(register.measured is not None for register in field.registers.values())


def calibration_errors(field: ForceField, frames: Sequence[Frame]) -> list[PredictionError]:
    """Standard errors of energies, forces and stresses from the uncertainty of the measured M.

    Args:
        field: A calibrated model; registers without a measurement add nothing.
        frames: Structures; labels are not used.

    Raises:
        DataError: If an atom is of a species the model does not know.
    """
    operators = {
        key: register.measured.operator(register.bound_program())
        for key, register in field.registers.items()
        if register.measured is not None
    }
    errors = []
    for frame in frames:
        seen = environments(field, frame)
        energy, forces, virial = 0.0, np.zeros(3 * frame.n_atoms), np.zeros(9)
        for key, operator in operators.items():
            energy += float(operator.contract(seen.energy_weights(key)[None]).std_errors[0]) ** 2
            forces += operator.contract(seen.force_weights(key)).std_errors ** 2
            virial += operator.contract(seen.virial_weights(key)).std_errors ** 2
        stress = np.sqrt(virial).reshape(3, 3) / frame.volume if frame.pbc.all() else None
        errors.append(PredictionError(float(np.sqrt(energy)), np.sqrt(forces).reshape(frame.n_atoms, 3), stress))
    return errors
