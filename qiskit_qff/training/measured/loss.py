r"""The loss of circuit angles and its gradient, from expectation values of any Estimator.

One job measures the matrices :math:`M_k(\theta)` of every register and, where a gradient is wanted, their derivatives
by all angles (:mod:`~qiskit_qff.evaluators.gradient`). Energies and forces of all frames follow from them
classically, through the Gram matrix G. Readout weights and reference energies, together v, enter the loss quadratically
and are solved exactly (variable projection): with the columns C of the measured :math:`M_k`,

.. math:: v = \arg\min\; v^T C^T G C\, v - 2 v^T C^T b + \kappa \lVert w\rVert^2 .

The loss of this v is computed with the columns :math:`\tilde C` from *other* shots, because it is too small in those
that v was fitted to:

.. math:: L = v^T (\tilde C^T G \tilde C - \tilde N) v - 2 v^T \tilde C^T b + c + \kappa \lVert w\rVert^2 ,

where :math:`\tilde N_{kl} = \mathrm{Tr}(G\,\mathrm{cov}(\tilde M_k, \tilde M_l))` is what shot noise adds on average.
On average L is the exact loss of v at these angles. The gradient is :math:`\sum_r \mathrm{Tr}(W_r\,\partial
M_r/\partial\theta)` with :math:`W_r = \partial L/\partial M_r`. Because the derivatives of every M are known one by
one, so is the Gauss-Newton matrix of the whole loss, without another circuit.

References:
    Golub, Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares problems whose variables
    separate", SIAM J. Numer. Anal. 10, 413 (1973), doi:10.1137/0710036.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.circuit.ansatz import CircuitProgram, build_program
from qiskit_qff.evaluators.gradient import Forms, MeasuredRegister, cost_of_registers, measure_registers
from qiskit_qff.evaluators.protocol import Cost, Evaluator
from qiskit_qff.training.objective import Objective, balancing_slopes

DAMPING = 1e-3
"""Levenberg-Marquardt damping relative to the diagonal of the Gauss-Newton matrix; noise of the derivatives damps
directions that few shots can't tell apart more than this."""


@dataclass(frozen=True, eq=False)
class LossSample:
    """A measured loss, and its gradient where that was measured too."""

    parameters: FloatArray
    """p = (angles, weights, reference energies), the last two solved, shape ``(P,)``."""
    loss: float
    """Loss per frame, penalty included, without the share of shot noise."""
    std_error: float
    """Standard error of the loss."""
    slopes: FloatArray | None = None
    """dL/dθ, shape ``(n_angles,)``; None where it was not measured."""
    slope_errors: FloatArray | None = None
    """Standard errors of the slopes for given W, the same shape; the noise of W itself is not in them."""
    step: FloatArray | None = None
    """Gauss-Newton step of p, shape ``(P,)``, from the measured derivatives of all M."""


class MeasuredLoss:
    """Measures the loss of an objective and its gradient."""

    def __init__(self, objective: Objective, evaluator: Evaluator, *, shots: int | None = None) -> None:
        """Prepare the measurements.

        Args:
            evaluator: Measures all registers, side by side.
            shots: Executions per setting of a parameter set; None for exact values.
        """
        self.objective, self._evaluator, self._shots = objective, evaluator, shots
        self._triangles = [np.triu_indices(int(size)) for size in objective.statistics.sizes]

    def cost(self, *, slopes: bool, first: bool = False) -> Cost:
        """What one sample takes, or the first one, before which noise may be learned."""
        circuits = self._circuits(np.zeros(self.objective.layout.n_angles))
        return cost_of_registers(self._evaluator, circuits, slopes=slopes, shots=self._shots, first=first)

    def _circuits(self, angles: FloatArray) -> list[tuple[CircuitProgram, FloatArray]]:
        layout = self.objective.layout
        return [(build_program(spec), angles[own]) for spec, own in zip(layout.specs, layout.angles, strict=True)]

    def sample(self, angles: FloatArray, *, slopes: bool = False) -> LossSample:
        """Measure the loss of some angles with its best weights and reference energies.

        Args:
            angles: θ, shape ``(n_angles,)``.
        """
        layout, equations = self.objective.layout, self.objective.statistics.equations
        registers = measure_registers(self._evaluator, self._circuits(angles), slopes=slopes, shots=self._shots)
        columns = self.objective.columns([register.fitted.matrices[0] for register in registers])
        solved, product = self.objective.solve(columns)
        loss, error = self._judged([register.checked for register in registers], solved)
        sample = LossSample(np.concatenate([angles, solved]), loss, error)
        if not slopes:
            return sample
        residual = 2.0 * (product @ solved - equations.moment)
        found = [
            register.slopes(solved[layout.solved[s]][:, None, None] * self._cotangent(s, residual))
            for s, register in enumerate(registers)
        ]
        values, variances = (np.concatenate(parts) for parts in zip(*found, strict=True))
        step = self._step(registers, sample.parameters, columns)
        return replace(sample, slopes=values, slope_errors=np.sqrt(variances), step=step)

    def _step(self, registers: list[MeasuredRegister], parameters: FloatArray, columns: FloatArray) -> FloatArray:
        """Damped Gauss-Newton step, of balanced readouts among balanced ones."""
        layout, starts = self.objective.layout, self.objective.statistics.starts
        solved = parameters[layout.n_angles :]
        jacobian = np.zeros((len(columns), layout.n_angles))
        turns = np.eye(layout.n_angles)
        for s, register in enumerate(registers):
            own = layout.angles[s]
            by_angle = np.einsum(
                "k,akq->qa", solved[layout.solved[s]], self.objective.entries(s, register.derivatives())
            )
            if layout.balanced:
                turns[own, own] = balancing_slopes(layout.specs[s], parameters[own], layout.sizes[s])
            jacobian[starts[s] : starts[s + 1], own] = by_angle @ turns[own, own]
        whole = np.hstack([jacobian, columns])
        curvature = whole.T @ self.objective.gram @ whole
        gradient = whole.T @ (self.objective.gram @ (columns @ solved) - self.objective.statistics.equations.moment)
        weights = np.arange(layout.n_weights) + layout.n_angles
        curvature[weights, weights] += self.objective.penalty
        gradient[weights] += self.objective.penalty * parameters[weights]
        diagonal = np.diagonal(curvature)
        scale = 1.0 / np.sqrt(np.maximum(diagonal, 1e-12 * diagonal.max()))
        damped = curvature * np.outer(scale, scale) + DAMPING * np.eye(len(scale))
        step: FloatArray = -scale * np.linalg.solve(damped, scale * gradient)
        step[: layout.n_angles] = turns @ step[: layout.n_angles]
        return step

    def _judged(self, checked: list[Forms], solved: FloatArray) -> tuple[float, float]:
        """Loss of solved weights and reference energies on other shots, and its standard error to first order.

        The noise of the slopes enters the error, too: with S the covariance of the entries the variance is on average
        r S r + 4 Tr(GSGS) instead of r S r + 2 Tr(GSGS). Near the optimum the error is up to a factor of 1.4 too large.
        """
        layout, starts, gram = self.objective.layout, self.objective.statistics.starts, self.objective.gram
        equations, weights = self.objective.statistics.equations, solved[: layout.n_weights]
        vector = self.objective.columns([forms.matrices[0] for forms in checked]) @ solved
        product = gram @ vector
        residual = 2.0 * (product - equations.moment)
        value = vector @ product - 2.0 * vector @ equations.moment + equations.constant
        variance = 0.0
        for s, forms in enumerate(checked):
            inside = slice(int(starts[s]), int(starts[s + 1]))
            moved = np.tensordot(self.objective.entries(s, forms.errors[0]), solved[layout.solved[s]], axes=(1, 0))
            value -= np.einsum("eq,qp,ep->", moved, gram[inside, inside], moved, optimize=True)
            variance += np.sum((moved @ residual[inside]) ** 2)
        return float(value + self.objective.penalty * weights @ weights), float(np.sqrt(variance))

    def _cotangent(self, s: int, residual: FloatArray) -> FloatArray:
        """dL/dM of a register as a symmetric matrix: off-diagonal entries of m stand for two of M."""
        starts, size = self.objective.statistics.starts, 2 ** self.objective.layout.specs[s].n_qubits
        entries = residual[starts[s] : starts[s + 1]].copy()
        entries[0] = 0.0
        matrix = np.zeros((size, size))
        matrix[self._triangles[s]] = entries
        symmetric: FloatArray = 0.5 * (matrix + matrix.T)
        return symmetric
