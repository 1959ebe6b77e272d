r"""Calibrate a model on a device: measure M of every register once, then compute everything from the measured M.

.. math:: E = \sum_i x_i^T \tilde M_{s_i} x_i + \ldots,\qquad \tilde M = M + \delta M

The error :math:`\delta M` is drawn once and then fixed, so energies and forces of a calibrated model belong to one
energy surface: its dynamics are exactly conservative. Their standard errors follow linearly; those of different frames
and atoms are not independent, because they share one :math:`\delta M`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qiskit_qff.evaluators.protocol import Cost
from qiskit_qff.evaluators.strategies.operator import measure_operator
from qiskit_qff.evaluators.strategies.spectrum import chosen_design, known_spectrum
from qiskit_qff.model.calibrated_operator import CalibratedOperator, Provenance
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.measured import EvaluatorFactory
from qiskit_qff.model.sensitivity import environments
from qiskit_qff.structures.frame import Frame

FloatArray = NDArray[np.float64]


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
    progress: Callable[[int, int], None] | None = None,
) -> tuple[ForceField, Cost]:
    """Measure M of every register and give a model that uses what was measured.

    Args:
        field: The model; a calibration that it already has is replaced.
        evaluator_for: Makes the evaluator that measures circuits of a number of qubits.
        provenance: What is written down with the measurement; its shots are used.
        design: States that M is measured by; ``auto`` for the fewest that determine it.
        progress: Called with the registers done and the registers in all.

    Returns:
        The calibrated model, and what it cost.

    Raises:
        ConfigError: If there is no such design, or it does not determine M.
    """
    registers, cost = field.registers, Cost()
    evaluators = {size: evaluator_for(size) for size in {register.n_qubits for register in registers.values()}}
    changed = {}
    for done, (key, register) in enumerate(registers.items()):
        if progress is not None:
            progress(done, len(registers))
        bound = register.bound_program()
        states = chosen_design(design, bound)
        plain = measure_operator(evaluators[register.n_qubits], bound, shots=provenance.shots, design=states)
        spectrum = known_spectrum(bound)
        kept = plain if spectrum is None else plain.with_spectrum(spectrum)
        matrix = 0.5 * (kept.matrix + kept.matrix.T)
        entry = CalibratedOperator(matrix, kept.variances, states, spectrum is not None, provenance, kept.modes)
        changed[key] = replace(register, measured=entry)
        cost += plain.cost
    return field.with_registers(changed), cost


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
