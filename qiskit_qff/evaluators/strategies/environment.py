r"""The textbook strategy: one prepared state per atom, and two more per feature for its forces.

The energy of an atom is a quadratic form, :math:`E(x) = x^T M x = \lVert x\rVert^2 e(x)` with e the expectation value
in the state :math:`x / \lVert x\rVert`, so a central difference of any step t is its exact derivative:

.. math:: \frac{\partial E}{\partial x_j} = \frac{E(x + t e_j) - E(x - t e_j)}{2t} .

The step t is the norm of x. Shifting the angles that encode x would be exact too, but angles of branches with small
amplitudes turn fast: for features of a few hundredths that made the shot noise of forces a hundred times as large.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.circuit.ansatz import BoundProgram
from qiskit_qff.evaluators.protocol import Evaluation, Measured, Request
from qiskit_qff.evaluators.tasks import loader_parameters, loader_task


def gradient_requests(bound: BoundProgram, amplitudes: FloatArray, *, used: int) -> list[Request]:
    """What has to be measured to know energies and dE/dx of amplitudes ``(batch, 2**n)``.

    Derivatives are those by the amplitudes 1 to ``used - 1``: the first one is constant, later ones stay zero.
    """
    states = _states(amplitudes, used).reshape(-1, amplitudes.shape[1])
    return [Request(loader_task(bound.program), loader_parameters(bound.program, states, bound.theta))]


def gradients_of(
    bound: BoundProgram, amplitudes: FloatArray, results: Sequence[Evaluation], *, used: int
) -> tuple[Measured, Measured]:
    """Energies ``(batch,)`` and independent dE/dx ``(batch, 2**n)``, in eV, from the answers to the requests."""
    states = _states(amplitudes, used)
    squares = np.sum(states**2, axis=2)
    values, variances = (part.reshape(squares.shape) for part in results[0].weighted(bound.weights))
    energies, errors = squares * values, squares * np.sqrt(variances)
    steps = 2.0 * np.linalg.norm(amplitudes, axis=1)[:, None]
    gradients, gradient_errors = np.zeros((2, *amplitudes.shape))
    gradients[:, 1:used] = (energies[:, 1::2] - energies[:, 2::2]) / steps
    gradient_errors[:, 1:used] = np.hypot(errors[:, 1::2], errors[:, 2::2]) / steps
    return Measured(energies[:, 0], errors[:, 0]), Measured(gradients, gradient_errors)


def _states(amplitudes: FloatArray, used: int) -> FloatArray:
    """X and ``x ± |x| e_j`` of every environment, shape ``(batch, 2 * used - 1, 2**n)``."""
    shifts = np.zeros((2 * used - 1, amplitudes.shape[1]))
    shifts[1::2, 1:used], shifts[2::2, 1:used] = np.eye(used - 1), -np.eye(used - 1)
    return np.asarray(amplitudes[:, None] + np.linalg.norm(amplitudes, axis=1)[:, None, None] * shifts)
