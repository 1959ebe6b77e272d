r"""The calibration strategy: measure the energy matrix M itself, once, and compute everything from it.

M is real and symmetric with ``D (D + 1) / 2`` entries. They follow by linear algebra from expectation values
in basis states and pair states (:mod:`designs <qiskit_qff.evaluators.strategies.designs>`), and so do the
standard errors of all that is computed from M: energies :math:`x^T M x`, gradients :math:`2 M x`, any
:math:`\mathrm{Tr}(M W)`. Molecular dynamics on a measured M is exactly conservative, because M does not
change.

What is known about M helps: its eigenvalues are those of the readout. :meth:`MeasuredOperator.with_spectrum`
replaces the measured eigenvalues by the known ones; only errors that turn eigenvectors remain. A rank-one readout goes
further: its M is known from its vector, one state in n + 1 settings
(:mod:`~qiskit_qff.evaluators.strategies.vector`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from qiskit_qff.array_types import BoolArray, FloatArray
from qiskit_qff.circuit.compiled import compile_program
from qiskit_qff.circuit.program import BoundProgram
from qiskit_qff.errors import ConfigError
from qiskit_qff.evaluators.parameter_shift import shift_derivatives, shift_variances, shifted_parameters
from qiskit_qff.evaluators.protocol import Cost, Evaluation, Evaluator, Request, total_cost
from qiskit_qff.evaluators.strategies.designs import DesignName, OperatorDesign, operator_design
from qiskit_qff.evaluators.strategies.results import Measured, ThetaGradient
from qiskit_qff.evaluators.strategies.vector import fit_vector, vector_requests
from qiskit_qff.evaluators.tasks import pair_task, with_rotations


@dataclass(frozen=True, eq=False)
class MeasuredOperator:
    """An energy matrix with its uncertainty."""

    matrix: FloatArray
    """M in eV, shape ``(2**n, 2**n)``; zero beyond the program's amplitudes."""
    design: OperatorDesign
    """States that were measured."""
    variances: FloatArray
    """Variance of each state's expectation value in eV², shape ``(n_states,)``; states are independent."""
    cost: Cost
    """What was spent."""
    tangent: FloatArray | None = None
    """Eigenvectors of a matrix whose spectrum is known, shape ``(2**n, 2**n)``; None for a plain
    measurement."""
    movable: BoolArray | None = None
    """Pairs of eigenvectors with different eigenvalues, the only ones that errors can mix."""
    response: FloatArray | None = None
    """Change of M by a unit of each independent error of its vector, shape ``(n_errors, 2**n, 2**n)``, where M was
    measured by its vector; None for the other designs."""
    modes: FloatArray | None = None
    """Directions of these errors of u, shape ``(n_errors, 2**n)``; None for the other designs."""

    def energies(self, amplitudes: FloatArray) -> Measured:
        """``x^T M x`` in eV for amplitudes ``(batch, 2**n)``."""
        return self.contract(amplitudes[:, :, None] * amplitudes[:, None, :])

    def amplitude_gradients(self, amplitudes: FloatArray) -> FloatArray:
        """dE/dx = 2 M x in eV, shape ``(batch, 2**n)``."""
        return np.asarray(2.0 * amplitudes @ self.matrix)

    def contract(self, matrices: FloatArray) -> Measured:
        """``Tr(M W)`` with standard errors, for matrices W ``(batch, 2**n, 2**n)``."""
        values = np.einsum("bij,ij->b", matrices, self.matrix)
        variances = self.pulled_back(matrices) ** 2 @ self.variances
        return Measured(values, np.sqrt(variances), Cost())

    def pulled_back(self, matrices: FloatArray) -> FloatArray:
        """Derivatives of ``Tr(M W)`` with respect to every measured value, shape ``(batch, n_states)``."""
        if self.response is not None:
            return np.asarray(np.einsum("bij,sij->bs", matrices, self.response, optimize=True))
        symmetric = 0.5 * (matrices + matrices.transpose(0, 2, 1))
        if self.tangent is not None and self.movable is not None:
            rotated = self.tangent.T @ symmetric @ self.tangent
            symmetric = self.tangent @ np.where(self.movable, rotated, 0.0) @ self.tangent.T
        rows, columns = self.design.rows, self.design.columns
        entries = symmetric[:, rows, columns] * np.where(rows == columns, 1.0, 2.0)
        return np.asarray(entries @ self.design.solution)

    def entry_errors(self) -> FloatArray:
        """Standard errors of the entries of M in eV, shape ``(2**n, 2**n)``."""
        if self.response is not None:
            return np.asarray(np.sqrt(np.einsum("sij,s->ij", self.response**2, self.variances)))
        size = len(self.matrix)
        rows, columns = self.design.rows, self.design.columns
        probes = np.zeros((len(rows), size, size))
        probes[np.arange(len(rows)), rows, columns] = 1.0
        return _symmetric(self.design, self.contract(probes).std_errors, size)

    def sample(self, rng: np.random.Generator) -> FloatArray:
        """A matrix drawn from the uncertainty of the measurement, shape ``(2**n, 2**n)``."""
        drawn = np.sqrt(self.variances) * rng.standard_normal(len(self.variances))
        if self.response is not None:
            return np.asarray(self.matrix + np.tensordot(drawn, self.response, axes=1))
        noise = self.design.solution @ drawn
        shift = _symmetric(self.design, noise, len(self.matrix))
        if self.tangent is not None and self.movable is not None:
            shift = self.tangent @ np.where(self.movable, self.tangent.T @ shift @ self.tangent, 0.0) @ self.tangent.T
        return np.asarray(self.matrix + shift)

    def with_spectrum(self, eigenvalues: FloatArray) -> MeasuredOperator:
        """The nearest matrix that has the known eigenvalues, with the errors that remain.

        Args:
            eigenvalues: All eigenvalues of the block of the program's amplitudes in eV, shape
                ``(n_amplitudes,)``.

        Raises:
            ConfigError: If there is not one eigenvalue per amplitude.
        """
        size = self.design.n_amplitudes
        if eigenvalues.shape != (size,):
            raise ConfigError(f"{size} eigenvalues are expected; an array of shape {eigenvalues.shape} was given.")
        if self.response is not None:
            # The vector was measured; the eigenvalue is the known weight already.
            return self
        known = np.sort(eigenvalues)
        # Matching sorted spectra is the nearest point in the Frobenius norm (Hoffman and Wielandt).
        vectors = np.linalg.eigh(self.matrix[:size, :size])[1]
        matrix, tangent = np.zeros_like(self.matrix), np.zeros_like(self.matrix)
        matrix[:size, :size] = (vectors * known) @ vectors.T
        tangent[:size, :size] = vectors
        movable = np.zeros(matrix.shape, dtype=bool)
        scale = max(float(np.abs(known).max()), 1e-300)
        movable[:size, :size] = np.abs(known[:, None] - known[None, :]) > 1e-9 * scale
        return replace(self, matrix=matrix, tangent=tangent, movable=movable)


def measure_operator(
    evaluator: Evaluator, bound: BoundProgram, *, shots: int | None = None, design: DesignName = "pairs"
) -> MeasuredOperator:
    """Measure M.

    It takes ``D (D + 1) / 2`` states for ``pairs``, ``D**2`` for ``signed_pairs`` and one state in n + 1 settings for
    ``settings``.

    Args:
        evaluator: What measures.
        bound: Circuit with its parameters.
        shots: Executions per state.
        design: Which states to prepare.

    Raises:
        ConfigError: If the design is unknown.
    """
    requests = operator_requests(bound, design=design)
    return assemble_operator(bound, evaluator.evaluate(requests, shots=shots), design=design)


def measure_operators(
    evaluators: Mapping[int, Evaluator],
    bounds: Sequence[BoundProgram],
    designs: Sequence[DesignName],
    *,
    shots: int | None = None,
) -> list[MeasuredOperator]:
    """Measure M of several registers, side by side where the evaluator can.

    Args:
        evaluators: What measures circuits of a number of qubits.
        bounds: Circuits with their parameters.
        designs: Which states to prepare, for each of them.
        shots: Executions per state.

    Raises:
        ConfigError: If a design does not determine M.
    """
    plans = [operator_requests(bound, design=design) for bound, design in zip(bounds, designs, strict=True)]
    answers = evaluate_side_by_side(evaluators, bounds, plans, shots=shots)
    return [
        assemble_operator(bound, own, design=design)
        for bound, own, design in zip(bounds, answers, designs, strict=True)
    ]


def evaluate_side_by_side(
    evaluators: Mapping[int, Evaluator],
    bounds: Sequence[BoundProgram],
    plans: Sequence[Sequence[Request]],
    *,
    shots: int | None = None,
) -> list[list[Evaluation]]:
    """Answers to the requests of many registers; the k-th requests of registers of a size share circuits.

    Args:
        evaluators: What measures circuits of a number of qubits.
        bounds: Circuits with their parameters.
        plans: What is asked of each of them; may be empty.
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
    """Registers by the size of their readout, which their errors grow with: the largest get the best qubits.

    Args:
        members: Indices of registers.
        bounds: Circuits with their parameters.
    """
    return sorted(members, key=lambda index: -float(np.abs(bounds[index].weights).sum()))


def operator_requests(bound: BoundProgram, *, design: DesignName = "pairs") -> list[Request]:
    """What has to be measured to know M: one request per preparation circuit.

    Args:
        bound: Circuit with its parameters.
        design: Which states to prepare.

    Raises:
        ConfigError: If the design is unknown or does not determine M.
    """
    if design == "settings":
        return vector_requests(bound)
    plan = operator_design(bound.program.n_amplitudes, bound.program.n_qubits, design)
    return _requests(bound, plan)


def assemble_operator(
    bound: BoundProgram, results: Sequence[Evaluation], *, design: DesignName = "pairs"
) -> MeasuredOperator:
    """M from the answers to :func:`operator_requests`, in the same order.

    Args:
        bound: Circuit with its parameters.
        results: One evaluation per request.
        design: Which states were prepared.

    Raises:
        ConfigError: If the design is unknown.
    """
    if design == "settings":
        found = fit_vector(bound, results)
        variances, modes = np.linalg.eigh(found.covariance)
        return vector_operator(bound, found.vector, modes.T, np.maximum(variances, 0.0), total_cost(results))
    plan = operator_design(bound.program.n_amplitudes, bound.program.n_qubits, design)
    pairs = [result.weighted(bound.weights) for result in results]
    values = np.concatenate([value for value, _ in pairs])
    variances = np.concatenate([variance for _, variance in pairs])
    cost, size = total_cost(results), 2**bound.program.n_qubits
    return MeasuredOperator(_symmetric(plan, plan.solution @ values, size), plan, variances, cost)


def vector_operator(
    bound: BoundProgram, vector: FloatArray, modes: FloatArray, variances: FloatArray, cost: Cost
) -> MeasuredOperator:
    """M = w u u^T from a measured u.

    Args:
        bound: Circuit with its parameters; one readout vector.
        vector: u, shape ``(2**n,)``.
        modes: Directions of its independent errors, shape ``(n_errors, 2**n)``.
        variances: Their variances, shape ``(n_errors,)``.
        cost: What was spent.
    """
    program, weight = bound.program, float(bound.weights[0])
    # Amplitudes that no feature fills are no part of M.
    used = np.arange(len(vector)) < program.n_amplitudes
    kept, moved = np.where(used, vector, 0.0), np.where(used, modes, 0.0)
    half = weight * moved[:, :, None] * kept
    plan = operator_design(program.n_amplitudes, program.n_qubits, "pairs")
    return MeasuredOperator(
        weight * np.outer(kept, kept), plan, variances, cost, response=half + half.transpose(0, 2, 1), modes=modes
    )


def theta_gradient(
    evaluator: Evaluator,
    bound: BoundProgram,
    matrix: FloatArray,
    *,
    shots: int | None = None,
    design: DesignName = "pairs",
) -> ThetaGradient:
    """Derivatives of ``Tr(M W)`` with respect to θ and the weights, from M measured at every shifted angle.

    Args:
        evaluator: What measures.
        bound: Circuit with its parameters.
        matrix: W, shape ``(2**n, 2**n)``.
        shots: Executions per state.
        design: Which states to prepare.

    Raises:
        ConfigError: If the design is unknown or does not determine every entry of M.
    """
    if design == "settings":
        # The difference of M at two shifted angles has more than one vector.
        raise ConfigError("Design 'settings' does not determine gradients; use design 'pairs'.")
    program, gates = bound.program, compile_program(bound.program).gates
    plan = operator_design(program.n_amplitudes, program.n_qubits, design)
    plain = _requests(bound, plan)
    n_rotations = len(gates.rotations)
    shifted = [_shifted(request) for request in plain]
    results = evaluator.evaluate([*plain, *shifted], shots=shots)
    still, moved = results[: len(plain)], results[len(plain) :]
    weighted = [result.weighted(bound.weights) for result in moved]
    slopes = np.concatenate([shift_derivatives(value, n_columns=n_rotations) for value, _ in weighted])
    spreads = np.concatenate([shift_variances(variance, n_columns=n_rotations) for _, variance in weighted])
    blank = MeasuredOperator(np.zeros_like(matrix), plan, np.zeros(plan.n_states), Cost())
    factors = blank.pulled_back(matrix[None])[0]
    readouts = np.concatenate([result.values for result in still])
    readout_errors = np.concatenate([result.std_errors for result in still])
    return ThetaGradient(
        theta=factors @ slopes @ gates.angle_matrix,
        weights=factors @ readouts,
        theta_std_errors=np.sqrt(factors**2 @ spreads @ gates.angle_matrix**2),
        weight_std_errors=np.sqrt(factors**2 @ readout_errors**2),
        cost=total_cost(results),
    )


def _requests(bound: BoundProgram, plan: OperatorDesign) -> list[Request]:
    """One request per preparation circuit."""
    return [
        Request(pair_task(bound.program, mask), with_rotations(bound.program, angles, bound.theta))
        for mask, angles in plan.groups
    ]


def _shifted(request: Request) -> Request:
    """The same states at every shifted angle of U."""
    columns = range(request.task.n_preparation, request.task.n_parameters)
    return Request(request.task, shifted_parameters(request.parameters, columns))


def _symmetric(plan: OperatorDesign, entries: FloatArray, size: int) -> FloatArray:
    """Symmetric matrix of a register from the entries of its upper triangle."""
    matrix = np.zeros((size, size))
    matrix[plan.rows, plan.columns] = entries
    matrix[plan.columns, plan.rows] = entries
    return matrix
