r"""The summed-state strategy: at most 2^n parameter sets per frame, whatever the number of atoms.

Energies depend on the environments only through sums of :math:`x x^T`. Any symmetric matrix W is
diagonalised,

.. math:: \mathrm{Tr}(M W) = \sum_k \lambda_k \langle v_k|M|v_k\rangle ,

and its eigenvectors are the states that are prepared. With :math:`W = \rho = \sum_i x_i x_i^T` this is the
energy of a frame.

All eigenstates get the same number of shots. In proportion to :math:`|\lambda_k|` the same shots in all would halve the
variance of an energy (2.1 times less on the shipped framework), but registers that share a circuit share its shots.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.circuit.ansatz import BoundProgram
from qiskit_qff.evaluators.protocol import Evaluation, Measured, Request
from qiskit_qff.evaluators.tasks import loader_parameters, loader_task

_NEGLIGIBLE = 1e-14
"""Eigenvalues below this fraction of the largest one are zero up to rounding."""


def contraction_requests(bound: BoundProgram, matrix: FloatArray) -> list[Request]:
    """What has to be measured to know ``Tr(M W)``: the eigenstates of W, nothing where W is zero.

    W is symmetric, of shape ``(2**n, 2**n)``, and zero beyond the program's amplitudes.
    """
    factors, states = _eigenstates(matrix)
    parameters = loader_parameters(bound.program, states, bound.theta)
    return [Request(loader_task(bound.program), parameters)] if len(factors) else []


def contraction_of(bound: BoundProgram, matrix: FloatArray, results: Sequence[Evaluation]) -> Measured:
    """``Tr(M W)`` from the answers to :func:`contraction_requests`, in eV times the units of W."""
    factors, _ = _eigenstates(matrix)
    if not results:
        return Measured(np.zeros(()), np.zeros(()))
    values, variances = results[0].weighted(bound.weights)
    return Measured(np.asarray(factors @ values), np.sqrt(factors**2 @ variances))


def _eigenstates(matrix: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The eigenvalues that are not zero, and their eigenvectors, one a row."""
    eigenvalues, eigenvectors = np.linalg.eigh(matrix)
    kept = np.abs(eigenvalues) > _NEGLIGIBLE * np.abs(eigenvalues).max()
    # Rounding leaves dust on amplitudes that are zero by construction; the loader must not see it.
    return eigenvalues[kept], np.where(matrix.any(axis=0), eigenvectors.T[kept], 0.0)
