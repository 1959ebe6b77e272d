r"""The summed-state strategy: at most 2^n circuits, whatever the number of atoms or frames.

Energies depend on the environments only through sums of :math:`x x^T`. Any symmetric matrix W is
diagonalised,

.. math:: \mathrm{Tr}(M W) = \sum_k \lambda_k \langle v_k|M|v_k\rangle ,

and its eigenvectors are the states that are prepared. With :math:`W = \rho = \sum_i x_i x_i^T` this is the
energy of a frame; with :math:`W = \partial\rho/\partial R` a force.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.circuit.ansatz import BoundProgram
from qiskit_qff.circuit.compiled import compile_program
from qiskit_qff.errors import ConfigError
from qiskit_qff.evaluators.protocol import Cost, Evaluation, Evaluator, Measured, Request, total_cost
from qiskit_qff.evaluators.tasks import (
    loader_parameters,
    loader_task,
    shift_derivatives,
    shift_variances,
    shifted_parameters,
)

_NEGLIGIBLE = 1e-14
"""Eigenvalues below this fraction of the largest one are zero up to rounding."""


@dataclass(frozen=True, eq=False)
class ThetaGradient:
    """Derivatives of ``Tr(M W)`` with respect to the trainable parameters of M."""

    theta: FloatArray
    """Per radian, shape ``(n_angles,)``."""
    weights: FloatArray
    """Per unit of readout weight, shape ``(n_readouts,)``."""
    theta_std_errors: FloatArray
    """Standard errors, shape ``(n_angles,)``."""
    weight_std_errors: FloatArray
    """Standard errors, shape ``(n_readouts,)``."""
    cost: Cost
    """What was spent."""


def density_matrix(amplitudes: FloatArray) -> FloatArray:
    """``rho = sum_i x_i x_i^T``, shape ``(2**n, 2**n)``, from amplitudes ``(batch, 2**n)``."""
    return np.asarray(amplitudes.T @ amplitudes)


def contract(evaluator: Evaluator, bound: BoundProgram, matrices: FloatArray, *, shots: int | None = None) -> Measured:
    """``Tr(M W)`` for a batch of symmetric matrices W.

    Args:
        matrices: W, shape ``(batch, 2**n, 2**n)``, zero beyond the program's amplitudes.
        shots: Executions per circuit.

    Returns:
        Shape ``(batch,)``, in eV times the units of W.
    """
    requests = contraction_requests(bound, matrices)
    return contraction_of(bound, matrices, evaluator.evaluate(requests, shots=shots) if requests else [])


def contraction_requests(bound: BoundProgram, matrices: FloatArray) -> list[Request]:
    """What has to be measured to know ``Tr(M W)``: the eigenstates of each W, none where W is zero.

    Args:
        matrices: W, shape ``(batch, 2**n, 2**n)``, zero beyond the program's amplitudes.
    """
    _check(bound, matrices)
    _, factors, states = _eigenstates(matrices)
    if not len(factors):
        return []
    return [Request(loader_task(bound.program), loader_parameters(bound.program, states, bound.theta))]


def contraction_of(bound: BoundProgram, matrices: FloatArray, results: Sequence[Evaluation]) -> Measured:
    """``Tr(M W)`` from the answers to :func:`contraction_requests`.

    Args:
        matrices: W, shape ``(batch, 2**n, 2**n)``.

    Returns:
        Shape ``(batch,)``, in eV times the units of W.
    """
    if not results:
        return Measured(np.zeros(len(matrices)), np.zeros(len(matrices)), Cost())
    owners, factors, _ = _eigenstates(matrices)
    values, variances = results[0].weighted(bound.weights)
    sums = np.bincount(owners, weights=factors * values, minlength=len(matrices))
    spread = np.bincount(owners, weights=factors**2 * variances, minlength=len(matrices))
    return Measured(sums.astype(float), np.sqrt(spread), total_cost(results))


def theta_gradient(
    evaluator: Evaluator, bound: BoundProgram, matrix: FloatArray, *, shots: int | None = None
) -> ThetaGradient:
    """Derivatives of ``Tr(M W)`` with respect to θ and the readout weights: ``2**n (2 P + 1)`` circuits.

    Args:
        matrix: W, shape ``(2**n, 2**n)``, symmetric, of any sign.
        shots: Executions per circuit.
    """
    _check(bound, matrix[None])
    _, factors, states = _eigenstates(matrix[None])
    if not len(factors):
        angles, readouts = np.zeros(bound.program.n_angles), np.zeros(bound.program.n_readouts)
        return ThetaGradient(angles, readouts, angles, readouts, Cost())
    task, gates = loader_task(bound.program), compile_program(bound.program).gates
    plain = loader_parameters(bound.program, states, bound.theta)
    shifted = shifted_parameters(plain, range(task.n_preparation, task.n_parameters))
    still, moved = evaluator.evaluate([Request(task, plain), Request(task, shifted)], shots=shots)
    values, variances = moved.weighted(bound.weights)
    slopes = factors @ shift_derivatives(values, n_columns=len(gates.rotations))
    spreads = factors**2 @ shift_variances(variances, n_columns=len(gates.rotations))
    return ThetaGradient(
        theta=slopes @ gates.angle_matrix,
        weights=factors @ still.values,
        theta_std_errors=np.sqrt(spreads @ gates.angle_matrix**2),
        weight_std_errors=np.sqrt(factors**2 @ still.std_errors**2),
        cost=still.cost + moved.cost,
    )


def _check(bound: BoundProgram, matrices: FloatArray) -> None:
    """Refuse matrices that are not symmetric or do not fit."""
    size = 2**bound.program.n_qubits
    if matrices.ndim != 3 or matrices.shape[1:] != (size, size):
        raise ConfigError(f"Matrices of shape (batch, {size}, {size}) are expected; {matrices.shape} was given.")
    scale = np.abs(matrices).max(initial=0.0)
    if not np.allclose(matrices, matrices.transpose(0, 2, 1), rtol=0.0, atol=1e-10 * scale):
        raise ConfigError("Matrices to contract with M must be symmetric; add the transpose and halve.")


def _eigenstates(matrices: FloatArray) -> tuple[IntArray, FloatArray, FloatArray]:
    """Owner, eigenvalue and eigenvector of every eigenvalue that is not zero."""
    eigenvalues, eigenvectors = np.linalg.eigh(matrices)
    largest = np.abs(eigenvalues).max(axis=1, keepdims=True)
    owners, columns = np.nonzero(np.abs(eigenvalues) > _NEGLIGIBLE * largest)
    states = eigenvectors[owners, :, columns]
    # Rounding leaves dust on amplitudes that are zero by construction; the loader must not see it.
    states[:, ~np.any(matrices != 0.0, axis=(0, 1))] = 0.0
    return owners, eigenvalues[owners, columns], states
