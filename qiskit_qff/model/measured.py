r"""Energies, forces and stresses of a force field from expectation values that a backend measured.

=================  ============================================  ===================================================
strategy           energies                                      forces and stress
=================  ============================================  ===================================================
``environment``    one parameter set per atom                    two parameter sets per feature of every atom
``density``        at most 2^n parameter sets per frame          from M, measured as by ``operator``
``operator``       from M, measured once for all frames          from M
=================  ============================================  ===================================================

All registers are measured side by side. On a noiseless backend all three strategies give the numbers of
:meth:`ForceField.predict`. Standard errors follow by linear propagation; those of frames that share one measured M are
not independent.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.errors import ConfigError, suggest
from qiskit_qff.evaluators.protocol import Cost, Evaluation, Evaluator, Request, total_cost
from qiskit_qff.evaluators.strategies import density, environment
from qiskit_qff.evaluators.strategies.operator import (
    MeasuredOperator,
    evaluate_side_by_side,
    exact_operator,
    measure_operators,
)
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.sensitivity import Environments, environments
from qiskit_qff.model.species_model import RegisterKey
from qiskit_qff.structures.frame import Frame

Strategy = Literal["environment", "density", "operator"]
EvaluatorFactory = Callable[[int, int], Evaluator]
"""Makes an evaluator for registers of a number of qubits; the second number says how many registers there are."""


@dataclass(frozen=True, eq=False)
class MeasuredPrediction:
    """Energy, forces and stress of one frame with their standard errors."""

    energy: float
    """Total energy in eV."""
    forces: FloatArray
    """Forces, shape ``(n_atoms, 3)``, in eV/Å."""
    energy_std: float
    """Standard error of the energy in eV; zero where values are exact."""
    force_std: FloatArray
    """Standard errors of the forces, shape ``(n_atoms, 3)``, in eV/Å."""
    stress: FloatArray | None
    """Stress, ASE's sign, shape ``(3, 3)``, in eV/Å³; None unless all three directions are periodic."""
    stress_std: FloatArray | None
    """Standard errors of the stress, shape ``(3, 3)``, in eV/Å³; None where there is no stress."""


@dataclass(frozen=True, eq=False)
class MeasuredPredictions:
    """What a backend said of some frames, and what that took."""

    frames: tuple[MeasuredPrediction, ...]
    """One entry a frame."""
    cost: Cost
    """Circuits and shots in all."""


def predict_measured(
    field: ForceField,
    frames: Sequence[Frame],
    *,
    evaluator_for: EvaluatorFactory,
    strategy: Strategy,
    shots: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> MeasuredPredictions:
    """Energies, forces and, in periodic cells, stresses of frames through a backend.

    Args:
        field: the model.
        frames: structures; labels are not used.
        evaluator_for: makes the evaluator of registers of a number of qubits; told how many there are.
        strategy: which circuits are measured.
        shots: executions per circuit; None for exact values.
        progress: called with a stage's name, the work done and the work in all.

    Raises:
        ConfigError: if the strategy is unknown.
        DataError: if an atom is of a species the model does not know.
    """
    check_strategy(strategy)
    report = progress or _silent
    evaluators = evaluators_of(field, evaluator_for)
    operators: dict[RegisterKey, MeasuredOperator] = {}
    if strategy != "environment":
        report("operators", 0, 1)
        bounds = {key: register.bound_program() for key, register in field.registers.items()}
        operators = dict(zip(bounds, measure_operators(evaluators, list(bounds.values()), shots=shots), strict=True))
        report("operators", 1, 1)
    measurement = _Measurement(field, strategy, operators, evaluators, shots)
    predictions = []
    for done, frame in enumerate(frames):
        report("frames", done, len(frames))
        predictions.append(measurement.predict(frame))
    cost = sum((operator.cost for operator in operators.values()), measurement.cost)
    return MeasuredPredictions(tuple(predictions), cost)


def evaluators_of(field: ForceField, evaluator_for: EvaluatorFactory) -> dict[int, Evaluator]:
    """Evaluators of all registers of a force field, by number of qubits."""
    sizes = Counter(register.n_qubits for register in field.registers.values())
    return {size: evaluator_for(size, count) for size, count in sizes.items()}


def predict_by_operators(
    field: ForceField, frames: Sequence[Frame], operators: Mapping[RegisterKey, MeasuredOperator]
) -> list[MeasuredPrediction]:
    """What operators that were measured before say of frames; other registers are exact."""
    exact = {key: exact_operator(register.circuit_matrix()) for key, register in field.registers.items()}
    measurement = _Measurement(field, "operator", exact | dict(operators), {}, None)
    return [measurement.predict(frame) for frame in frames]


def check_strategy(name: str) -> None:
    """Refuse an unknown strategy."""
    if name not in get_args(Strategy):
        raise ConfigError(f"Unknown strategy '{name}'. {suggest(name, get_args(Strategy))}")


class _Measurement:
    """Circuits and, where the strategy measures them, matrices of all registers."""

    def __init__(
        self,
        field: ForceField,
        strategy: Strategy,
        operators: Mapping[RegisterKey, MeasuredOperator],
        evaluators: Mapping[int, Evaluator],
        shots: int | None,
    ) -> None:
        self.cost = Cost()
        self._field, self._strategy, self._operators = field, strategy, operators
        self._evaluators, self._shots = evaluators, shots
        self._bound = {key: register.bound_program() for key, register in field.registers.items()}
        self._origins = {key: register.origin() for key, register in field.registers.items()}

    def predict(self, frame: Frame) -> MeasuredPrediction:
        """Sum over registers, reference energies and core repulsion."""
        seen = environments(self._field, frame)
        present = [key for key in self._bound if len(seen.amplitudes[key])]
        answers = self._measured(present, seen)
        parts = [self._part(key, seen, answers[key]) for key in present]
        values, variances = np.sum(parts, axis=0)
        stds, shape = np.sqrt(variances), (frame.n_atoms, 3)
        stress, stress_std = None, None
        if frame.pbc.all():
            stress = (seen.virial_offset + values[-9:].reshape(3, 3)) / frame.volume
            stress_std = stds[-9:].reshape(3, 3) / frame.volume
        return MeasuredPrediction(
            energy=seen.energy_offset + float(values[0]),
            forces=seen.force_offset + values[1:-9].reshape(shape),
            energy_std=float(stds[0]),
            force_std=stds[1:-9].reshape(shape),
            stress=stress,
            stress_std=stress_std,
        )

    def _measured(self, present: Sequence[RegisterKey], seen: Environments) -> dict[RegisterKey, list[Evaluation]]:
        """What has to be measured for this frame, of all registers side by side; nothing by ``operator``."""
        plans: dict[RegisterKey, list[Request]] = {key: [] for key in self._bound}
        for key in present:
            if self._strategy == "environment":
                x, used = seen.amplitudes[key], self._field.registers[key].n_features + 1
                plans[key] = environment.gradient_requests(self._bound[key], x, used=used)
            elif self._strategy == "density":
                plans[key] = density.contraction_requests(self._bound[key], seen.energy_weights(key))
        bounds = list(self._bound.values())
        answers = evaluate_side_by_side(self._evaluators, bounds, list(plans.values()), shots=self._shots)
        self.cost += sum((total_cost(own) for own in answers), Cost())
        return dict(zip(plans, answers, strict=True))

    def _part(self, key: RegisterKey, seen: Environments, answers: list[Evaluation]) -> tuple[FloatArray, FloatArray]:
        """What one register adds: energy, forces and virial in one vector, and their variances."""
        if self._strategy == "environment":
            return self._part_by_environment(key, seen, answers)
        operator, weights = self._operators[key], seen.energy_weights(key)
        if self._strategy == "density":
            energy = density.contraction_of(self._bound[key], weights, answers)
        else:
            energy = operator.contract(weights[None])
        found = [energy, operator.contract(seen.force_weights(key)), operator.contract(seen.virial_weights(key))]
        values = np.concatenate([np.ravel(one.values) for one in found])
        values[0] += len(seen.amplitudes[key]) * self._origins[key]
        return values, np.concatenate([np.ravel(one.std_errors) ** 2 for one in found])

    def _part_by_environment(
        self, key: RegisterKey, seen: Environments, answers: list[Evaluation]
    ) -> tuple[FloatArray, FloatArray]:
        """The same, every atom by itself."""
        used = self._field.registers[key].n_features + 1
        energies, gradients = environment.gradients_of(self._bound[key], seen.amplitudes[key], answers, used=used)
        slopes, variances = gradients.values, gradients.std_errors**2
        forces, force_variances = np.zeros((2, seen.force_offset.size))
        for atom, (coordinates, rows) in enumerate(seen.reaches[key]):
            forces[coordinates] -= rows @ slopes[atom]
            force_variances[coordinates] += rows**2 @ variances[atom]
        virial, virial_variances = (
            np.einsum("iaj,ij->a", strains, part)
            for strains, part in ((seen.strains[key], slopes), (seen.strains[key] ** 2, variances))
        )
        return (
            np.concatenate([[energies.values.sum()], forces, virial]),
            np.concatenate([[np.sum(energies.std_errors**2)], force_variances, virial_variances]),
        )


def _silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""
