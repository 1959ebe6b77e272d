r"""The loss of circuit angles and its gradient, from expectation values of any Estimator.

One evaluation measures all :math:`M_k(\theta)` (strategy ``operator``). Readout weights and reference energies,
together v, enter the loss quadratically and are solved exactly (variable projection): with the columns C of the
measured :math:`M_k`,

.. math:: v = \arg\min\; v^T C^T G C\, v - 2 v^T C^T b + \kappa \lVert w\rVert^2 ,\qquad
          L(\theta) = v^T (C^T G C - N) v - 2 v^T C^T b + c + \kappa \lVert w\rVert^2 .

N is what shot noise adds to :math:`C^T G C` on average, :math:`N_{kl} = \mathrm{Tr}(G\,\mathrm{cov}(M_k, M_l))`.
It stays in where v is solved: there it is the price of a weight in noise, and keeps weights small that too few shots
could not tell apart. It is taken off the loss, where it would look like misfit. The gradient at the solved v is
:math:`\sum_r \mathrm{Tr}(W_r\,\partial M_r/\partial\theta)` with :math:`W_r = \partial L/\partial M_r`, measured by
the strategy ``density``: at most ``2^n`` states at two shifted settings of each rotation, whatever the data.

References:
    Golub, Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares problems whose variables
    separate", SIAM J. Numer. Anal. 10, 413 (1973), doi:10.1137/0710036.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.circuit.ansatz import build_program
from qiskit_qff.circuit.compiled import compile_program
from qiskit_qff.circuit.program import BoundProgram
from qiskit_qff.evaluators.protocol import Cost, Evaluator
from qiskit_qff.evaluators.strategies.density import joint_slopes
from qiskit_qff.evaluators.strategies.readouts import MeasuredReadouts, measure_readouts
from qiskit_qff.training.objective import Objective, solve_scaled


@dataclass(frozen=True, eq=False)
class LossSample:
    """A measured loss and what a gradient at the same angles needs."""

    parameters: FloatArray
    """p = (angles, weights, reference energies), the last two solved, shape ``(P,)``."""
    loss: float
    """Loss per frame, penalty included, without the share of shot noise."""
    std_error: float
    """Standard error of the loss."""
    residual: FloatArray
    """dL/dm, shape ``(Q + r,)``."""
    cost: Cost
    """What was spent."""


@dataclass(frozen=True, eq=False)
class SlopeSample:
    """A measured gradient of the loss."""

    slopes: FloatArray
    """dL/dθ, shape ``(n_angles,)``."""
    std_errors: FloatArray
    """Standard errors for a given residual, the same shape; the residual's own noise is not in them."""
    cost: Cost
    """What was spent."""


class MeasuredLoss:
    """Measures the loss of an objective and its gradient."""

    def __init__(
        self,
        objective: Objective,
        evaluators: Mapping[int, Evaluator],
        *,
        shots: int | None = None,
        slope_shots: int | None = None,
    ) -> None:
        """Prepare the measurements.

        Args:
            objective: The loss; only its sums over the data are used, no matrix of a circuit.
            evaluators: What measures circuits of a number of qubits.
            shots: Executions per circuit for the loss; the evaluators' own setting by default.
            slope_shots: Executions per circuit for the gradient, on average.
        """
        self.objective = objective
        self.shots = shots
        self.slope_shots = slope_shots
        self._evaluators = evaluators
        self._triangles = [np.triu_indices(int(size)) for size in objective.statistics.sizes]

    @property
    def loss_circuits(self) -> int:
        """Circuits of one loss."""
        sizes = [spec.n_amplitudes for spec in self.objective.layout.specs]
        return sum(size * (size + 1) // 2 for size in sizes)

    @property
    def slope_circuits(self) -> int:
        """Circuits of one gradient, beside those of the loss; fewer where W has eigenvalues that are exactly zero."""
        specs, sizes = self.objective.layout.specs, self.objective.statistics.sizes
        rotations = [len(compile_program(build_program(spec)).gates.rotations) for spec in specs]
        return sum(2 * count * int(size) for count, size in zip(rotations, sizes, strict=True))

    def sample(self, angles: FloatArray, *, shots: int | None = None) -> LossSample:
        """Measure the loss of some angles with its best weights and reference energies.

        Args:
            angles: θ, shape ``(n_angles,)``.
            shots: Executions per circuit; :attr:`shots` by default.
        """
        layout, equations = self.objective.layout, self.objective.statistics.equations
        circuits = [(build_program(spec), angles[own]) for spec, own in zip(layout.specs, layout.angles, strict=True)]
        readouts = measure_readouts(self._evaluators, circuits, shots=self.shots if shots is None else shots)
        columns = self._columns(readouts)
        noise = self._noise(readouts)
        product = self.objective.gram @ columns
        form, moment = columns.T @ product, columns.T @ equations.moment
        weights = np.arange(layout.n_weights)
        form[weights, weights] += self.objective.penalty
        solved = solve_scaled(form, moment)
        loss = float(solved @ (form - noise) @ solved - 2.0 * solved @ moment + equations.constant)
        residual = 2.0 * (product @ solved - equations.moment)
        parameters = np.concatenate([angles, solved])
        error = self._std_error(readouts, residual, parameters)
        return LossSample(parameters, loss, error, residual, sum((r.cost for r in readouts), Cost()))

    def slopes(self, sample: LossSample) -> SlopeSample:
        """Measure the gradient at the angles of a sample, weights and reference energies fixed at the solved ones.

        Args:
            sample: What :meth:`sample` gave.
        """
        layout = self.objective.layout
        specs = layout.specs
        parameters = sample.parameters
        bounds = [
            BoundProgram(build_program(spec), parameters[layout.angles[s]], parameters[layout.weights[s]])
            for s, spec in enumerate(specs)
        ]
        matrices = [self._derivative(s, sample.residual, 2**spec.n_qubits) for s, spec in enumerate(specs)]
        measured = joint_slopes(self._evaluators, bounds, matrices, shots=self.slope_shots)
        slopes, variances = np.zeros(layout.n_angles), np.zeros(layout.n_angles)
        for s, part in enumerate(measured):
            slopes[layout.angles[s]] += part.values
            variances[layout.angles[s]] += part.std_errors**2
        return SlopeSample(slopes, np.sqrt(variances), sum((part.cost for part in measured), Cost()))

    def _columns(self, readouts: list[MeasuredReadouts]) -> FloatArray:
        """dm/dv for weights and reference energies, shape ``(Q + r, n_weights + r)``."""
        layout, statistics = self.objective.layout, self.objective.statistics
        count = layout.n_references
        columns = np.zeros((len(statistics.equations.moment), layout.n_weights + count))
        for s, measured in enumerate(readouts):
            start, stop = (int(bound) for bound in statistics.starts[s : s + 2])
            rows, inner = self._triangles[s]
            columns[start:stop, self._weights(s)] = measured.matrices[:, rows, inner].T
            columns[start] = 0.0  # M_00 is no part of m
        columns[-count:, -count:] = np.eye(count)
        return columns

    def _weights(self, s: int) -> slice:
        """Place of a register's weights in v."""
        place, shift = self.objective.layout.weights[s], self.objective.layout.n_angles
        return slice(place.start - shift, place.stop - shift)

    def _tangents(self, s: int, measured: MeasuredReadouts) -> FloatArray:
        """Derivatives of the register's part of m, shape ``(n_readouts, n_entries, n_states)``."""
        full = np.triu_indices(self.objective.layout.specs[s].n_amplitudes)
        size = int(self.objective.statistics.sizes[s])
        tangents: FloatArray = measured.tangents[:, (full[0] < size) & (full[1] < size)].copy()
        tangents[:, 0] = 0.0
        return tangents

    def _noise(self, readouts: list[MeasuredReadouts]) -> FloatArray:
        """N, shape ``(n_weights + r, n_weights + r)``; zero where values are exact."""
        layout, starts = self.objective.layout, self.objective.statistics.starts
        noise = np.zeros((layout.n_weights + layout.n_references,) * 2)
        for s, measured in enumerate(readouts):
            if not measured.covariances.any():
                continue
            tangents = self._tangents(s, measured)
            moved = np.matmul(self.objective.gram[starts[s] : starts[s + 1], starts[s] : starts[s + 1]], tangents)
            per_state = np.einsum("kqa,lqa->akl", tangents, moved, optimize=True)
            noise[self._weights(s), self._weights(s)] = np.sum(measured.covariances * per_state, axis=0)
        return noise

    def _std_error(self, readouts: list[MeasuredReadouts], residual: FloatArray, parameters: FloatArray) -> float:
        """Standard error of the loss, to first order."""
        layout, starts = self.objective.layout, self.objective.statistics.starts
        variance = 0.0
        for s, measured in enumerate(readouts):
            pulled = residual[starts[s] : starts[s + 1]] @ self._tangents(s, measured)
            factors = (parameters[layout.weights[s]][:, None] * pulled).T
            variance += float(np.einsum("ak,akl,al->", factors, measured.covariances, factors))
        return float(np.sqrt(max(variance, 0.0)))

    def _derivative(self, s: int, residual: FloatArray, size: int) -> FloatArray:
        """dL/dM of a register as a symmetric matrix: off-diagonal entries of m stand for two of M."""
        starts = self.objective.statistics.starts
        entries = residual[starts[s] : starts[s + 1]].copy()
        entries[0] = 0.0
        matrix = np.zeros((size, size))
        matrix[self._triangles[s]] = entries
        symmetric: FloatArray = 0.5 * (matrix + matrix.T)
        return symmetric
