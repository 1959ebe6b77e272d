r"""The calibration strategy: measure the energy matrix M itself, once, and compute everything from it.

A rank-one readout is known from its vector, one state in n + 1 settings
(:mod:`~qiskit_qff.evaluators.strategies.vector`). For other readouts the ``D (D + 1) / 2`` entries of the real and
symmetric M follow by linear algebra from expectation values in as many basis states and pair states
(:mod:`~qiskit_qff.evaluators.strategies.designs`). So do the standard errors of all that is computed from M: energies
:math:`x^T M x`, gradients :math:`2 M x`, any :math:`\mathrm{Tr}(M W)`. Molecular dynamics on a measured M is exactly
conservative, because M does not change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.circuit.program import BoundProgram
from qiskit_qff.evaluators.protocol import Cost, Evaluation, Evaluator, Measured, Request, total_cost
from qiskit_qff.evaluators.strategies.designs import operator_design
from qiskit_qff.evaluators.strategies.vector import fit_vectors, is_rank_one, programmed_vector, vector_requests
from qiskit_qff.evaluators.tasks import pair_task, with_rotations


@dataclass(frozen=True, eq=False)
class MeasuredOperator:
    """An energy matrix with its uncertainty."""

    matrix: FloatArray
    """M in eV, shape ``(2**n, 2**n)``; zero beyond the program's amplitudes."""
    response: FloatArray
    """Change of M by a unit of each independent error, shape ``(n_errors, 2**n, 2**n)``."""
    variances: FloatArray
    """Variances of these errors, shape ``(n_errors,)``."""
    cost: Cost
    """What was spent."""
    modes: FloatArray | None = None
    """Directions of the errors of the vector u, shape ``(n_errors, 2**n)``; None where pair states were measured."""

    def energies(self, amplitudes: FloatArray) -> Measured:
        """``x^T M x`` in eV for amplitudes ``(batch, 2**n)``."""
        return self.contract(amplitudes[:, :, None] * amplitudes[:, None, :])

    def contract(self, matrices: FloatArray) -> Measured:
        """``Tr(M W)`` with standard errors, for matrices W ``(batch, 2**n, 2**n)``."""
        values = np.einsum("bij,ij->b", matrices, self.matrix)
        pulled = np.einsum("bij,sij->bs", matrices, self.response, optimize=True)
        return Measured(values, np.sqrt(pulled**2 @ self.variances), Cost())

    def entry_errors(self) -> FloatArray:
        """Standard errors of the entries of M in eV, shape ``(2**n, 2**n)``."""
        return np.asarray(np.sqrt(np.einsum("sij,s->ij", self.response**2, self.variances)))


def measure_operator(evaluator: Evaluator, bound: BoundProgram, *, shots: int | None = None) -> MeasuredOperator:
    """Measure M of one register.

    Args:
        shots: Executions per setting or state.
    """
    return measure_operators({bound.program.n_qubits: evaluator}, [bound], shots=shots)[0]


def measure_operators(
    evaluators: Mapping[int, Evaluator], bounds: Sequence[BoundProgram], *, shots: int | None = None
) -> list[MeasuredOperator]:
    """Measure M of several registers, side by side where the evaluator can.

    Args:
        shots: Executions per setting or state.
    """
    plans = [operator_requests(bound) for bound in bounds]
    answers = evaluate_side_by_side(evaluators, bounds, plans, shots=shots)
    return [assemble_operator(bound, own) for bound, own in zip(bounds, answers, strict=True)]


def evaluate_side_by_side(
    evaluators: Mapping[int, Evaluator],
    bounds: Sequence[BoundProgram],
    plans: Sequence[Sequence[Request]],
    *,
    shots: int | None = None,
) -> list[list[Evaluation]]:
    """Answers to the requests of many registers; the k-th requests of registers of a size share circuits.

    Args:
        shots: Executions per parameter set.

    Returns:
        The answers, in the order of the requests.
    """
    found: list[list[Evaluation]] = [[] for _ in bounds]
    for size, evaluator in evaluators.items():
        members = largest_first([index for index, b in enumerate(bounds) if b.program.n_qubits == size], bounds)
        requests = [replace(request, register=place) for place, index in enumerate(members) for request in plans[index]]
        answers = iter(evaluator.evaluate(requests, shots=shots) if requests else [])
        for index in members:
            found[index] = [next(answers) for _ in plans[index]]
    return found


def largest_first(members: Sequence[int], bounds: Sequence[BoundProgram]) -> list[int]:
    """Registers by the size of their readout, which their errors grow with: the largest get the best qubits."""
    return sorted(members, key=lambda index: -float(np.abs(bounds[index].weights).sum()))


def operator_requests(bound: BoundProgram) -> list[Request]:
    """What has to be measured to know M: one request per setting of a vector, or per preparation of pair states."""
    return vector_requests(bound) if is_rank_one(bound.program) else pair_requests(bound)


def n_circuits(bound: BoundProgram) -> int:
    """Circuits that measure M of one register."""
    return sum(len(request.parameters) for request in operator_requests(bound))


def assemble_operator(bound: BoundProgram, results: Sequence[Evaluation]) -> MeasuredOperator:
    """M from the answers to :func:`operator_requests`, in the same order.

    Args:
        results: One evaluation per request.
    """
    if not is_rank_one(bound.program):
        return assemble_pairs(bound, results)
    found = fit_vectors(programmed_vector(bound)[None], results)
    variances, modes = np.linalg.eigh(found.covariances[0])
    return vector_operator(bound, found.vectors[0], modes.T, np.maximum(variances, 0.0), total_cost(results))


def vector_operator(
    bound: BoundProgram, vector: FloatArray, modes: FloatArray, variances: FloatArray, cost: Cost
) -> MeasuredOperator:
    """M = w u u^T from a measured u.

    Args:
        vector: u, shape ``(2**n,)``.
        modes: Directions of its independent errors, shape ``(n_errors, 2**n)``.
        variances: Their variances, shape ``(n_errors,)``.
    """
    weight = float(bound.weights[0])
    # Amplitudes that no feature fills are no part of M.
    used = np.arange(len(vector)) < bound.program.n_amplitudes
    kept, moved = np.where(used, vector, 0.0), np.where(used, modes, 0.0)
    half = weight * moved[:, :, None] * kept
    return MeasuredOperator(weight * np.outer(kept, kept), half + half.transpose(0, 2, 1), variances, cost, modes)


def pair_requests(bound: BoundProgram) -> list[Request]:
    """What has to be measured to know any M: one request per preparation circuit of pair states."""
    design = operator_design(bound.program.n_amplitudes, bound.program.n_qubits)
    return [
        Request(pair_task(bound.program, mask), with_rotations(bound.program, angles, bound.theta))
        for mask, angles in design.groups
    ]


def assemble_pairs(bound: BoundProgram, results: Sequence[Evaluation]) -> MeasuredOperator:
    """M from the answers to :func:`pair_requests`, in the same order.

    Args:
        results: One evaluation per request.
    """
    response = pair_response(bound, signed=False)
    pairs = [result.weighted(bound.weights) for result in results]
    values = np.concatenate([value for value, _ in pairs])
    variances = np.concatenate([variance for _, variance in pairs])
    return MeasuredOperator(np.tensordot(values, response, axes=1), response, variances, total_cost(results))


def pair_response(bound: BoundProgram, *, signed: bool) -> FloatArray:
    """Change of M by a unit of the value of each pair state, shape ``(n_states, 2**n, 2**n)``."""
    program = bound.program
    design = operator_design(program.n_amplitudes, program.n_qubits, signed=signed)
    response = np.zeros((design.n_states, 2**program.n_qubits, 2**program.n_qubits))
    response[:, design.rows, design.columns] = design.solution.T
    response[:, design.columns, design.rows] = design.solution.T
    return response
