r"""The loss as a function of circuit angles, readout weights and reference energies.

With m the upper triangles of all registers' :math:`M_r = \sum_k w_{rk} M_k(\theta_r)` and the reference energies,
:math:`L = m^T G m - 2 b^T m + c + \kappa \sum w^2`. The fit alone hardly notices how large a readout is, so a small
penalty keeps it small; balanced readouts need none, they count their shot noise instead
(:mod:`~qiskit_qff.training.balance`). The least-squares structure gives the Gauss-Newton matrix :math:`J^T G J` of the
parameters exactly, :math:`J = \partial m/\partial p`.

The entry :math:`M_{00}` of a register only shifts the energy of every atom of its species, as the reference energy
does. Here the reference energy is that of the mean environment, x = (1, 0), and :math:`M_{00}` drops out of m; the
force field subtracts it again. Otherwise two large constants would cancel in every step.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.circuit.ansatz import AnsatzSpec, build_program
from qiskit_qff.circuit.compiled import readout_jacobian, readout_matrices
from qiskit_qff.training.statistics import QuadraticStatistics

RIDGE = 1e-7
"""Tikhonov term as a fraction of the diagonal of G; it keeps directions that no frame shows at zero."""
WEIGHT_PENALTY = 1e-6
"""κ in 1/eV^2: of models that fit alike take the one whose readout, and so whose shot noise, is smaller."""


@dataclass(frozen=True)
class ParameterLayout:
    """Where the parameters of each register lie in the vector p = (angles, weights, reference energies)."""

    specs: tuple[AnsatzSpec, ...]
    """Ansatz of each register."""
    sizes: tuple[int, ...]
    """Amplitudes in use, d + 1, of each register."""
    n_references: int
    """Reference energies that the data can tell apart."""
    balanced: bool = False
    """Whether readouts are :mod:`balanced <qiskit_qff.training.balance>`: a register of d features then has d
    independent parameters."""

    @property
    def n_angles(self) -> int:
        """Number of circuit angles."""
        return sum(s.n_angles for s in self.specs)

    @property
    def n_weights(self) -> int:
        """Number of readout weights."""
        return sum(s.n_readouts for s in self.specs)

    @property
    def n_parameters(self) -> int:
        """Length P of p."""
        return self.n_angles + self.n_weights + self.n_references

    @property
    def n_trainable(self) -> int:
        """Number of independent parameters."""
        if self.balanced:
            return sum(size - 1 for size in self.sizes) + self.n_references
        return self.n_parameters

    @cached_property
    def angles(self) -> tuple[slice, ...]:
        """Angles of each register."""
        return _slices([s.n_angles for s in self.specs], 0)

    @cached_property
    def weights(self) -> tuple[slice, ...]:
        """Readout weights of each register."""
        return _slices([s.n_readouts for s in self.specs], self.n_angles)

    @property
    def all_weights(self) -> slice:
        """Readout weights of all registers."""
        return slice(self.n_angles, self.n_angles + self.n_weights)

    @property
    def references(self) -> slice:
        """Coordinates of the reference energies in their space, see :mod:`~qiskit_qff.training.loss`."""
        return slice(self.n_angles + self.n_weights, self.n_parameters)


def _slices(lengths: list[int], start: int) -> tuple[slice, ...]:
    bounds = start + np.concatenate([[0], np.cumsum(lengths)])
    return tuple(slice(int(a), int(b)) for a, b in itertools.pairwise(bounds))


class Objective:
    """Loss, gradient and Gauss-Newton matrix of a layout on given statistics."""

    def __init__(self, statistics: QuadraticStatistics, layout: ParameterLayout, *, shots: int | None = None) -> None:
        """Prepare the regularised normal equations.

        Args:
            shots: Assumed shots per setting, whose noise :class:`~qiskit_qff.training.balance.BalancedObjective` adds
                for a balanced layout; None adds none.
        """
        self.statistics = statistics
        self.layout = layout
        self.gram = statistics.equations.gram.copy()
        ridge = RIDGE * np.diagonal(self.gram).copy()
        ridge[statistics.starts[:-1]] = 0.0
        ridge[statistics.starts[-1] :] = 0.0
        self.gram[np.diag_indices_from(self.gram)] += ridge
        self._triangles = [np.triu_indices(int(size)) for size in statistics.sizes]
        self.shots = shots
        # On labels with hardly any noise the fit, not the penalty, must decide.
        self.penalty = 0.0 if layout.balanced else WEIGHT_PENALTY * min(1.0, max(self.linear_solution()[0], 0.0))

    def operator_vector(self, parameters: FloatArray) -> FloatArray:
        """M of some parameters.

        Args:
            parameters: p, shape ``(P,)``.

        Returns:
            Shape ``(Q + r,)``.
        """
        layout, parts = self.layout, []
        for s, spec in enumerate(layout.specs):
            matrices = readout_matrices(build_program(spec), parameters[layout.angles[s]])
            form = np.tensordot(parameters[layout.weights[s]], matrices, axes=1)
            form[0, 0] = 0.0
            parts.append(form[self._triangles[s]])
        return np.concatenate([*parts, parameters[layout.references]])

    def loss_of_vector(self, vector: FloatArray) -> float:
        """Loss of m.

        Args:
            vector: m, shape ``(Q + r,)``.
        """
        equations = self.statistics.equations
        return float(vector @ (self.gram @ vector) - 2.0 * equations.moment @ vector + equations.constant)

    def fit_loss(self, parameters: FloatArray) -> float:
        """Loss of some parameters without the penalty on weights, comparable with that of :meth:`bound`.

        Args:
            parameters: p, shape ``(P,)``.
        """
        return self.loss_of_vector(self.operator_vector(parameters))

    def loss(self, parameters: FloatArray) -> float:
        """Loss of some parameters, penalty included.

        Args:
            parameters: p, shape ``(P,)``.
        """
        weights = parameters[self.layout.all_weights]
        return self.fit_loss(parameters) + self.penalty * float(weights @ weights)

    def quadratic_model(self, parameters: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """Loss (see :meth:`loss`) with half its gradient and half its Gauss-Newton matrix.

        Args:
            parameters: p, shape ``(P,)``.

        Returns:
            L, J^T (G m - b) of shape ``(P,)`` and J^T G J of shape ``(P, P)``; zero for what is not trained.
        """
        vector = self.operator_vector(parameters)
        product = self.gram @ vector
        equations = self.statistics.equations
        value = float(vector @ product - 2.0 * equations.moment @ vector + equations.constant)
        blocks = self._jacobian_blocks(parameters)
        count = self.layout.n_parameters
        residual = product - equations.moment
        gradient, curvature = np.zeros(count), np.zeros((count, count))
        gram_jacobian = np.zeros((len(vector), count))
        for rows, columns, block in blocks:
            gradient[columns] += block.T @ residual[rows]
            gram_jacobian[:, columns] += self.gram[:, rows] @ block
        for rows, columns, block in blocks:
            curvature[columns] += block.T @ gram_jacobian[rows]
        every = np.arange(self.layout.all_weights.start, self.layout.all_weights.stop)
        value += self.penalty * float(parameters[every] @ parameters[every])
        gradient[every] += self.penalty * parameters[every]
        curvature[every, every] += self.penalty
        return value, gradient, curvature

    def _jacobian_blocks(self, parameters: FloatArray) -> list[tuple[slice, IntArray, FloatArray]]:
        """Rows, columns and values of dm/dp: one block per register, one for the references."""
        layout, starts = self.layout, self.statistics.starts
        blocks = []
        for s, spec in enumerate(layout.specs):
            program, angles = build_program(spec), parameters[layout.angles[s]]
            upper = (..., *self._triangles[s])
            by_angle = np.tensordot(
                parameters[layout.weights[s]], readout_jacobian(program, angles)[upper], axes=(0, 1)
            )
            by_weight = readout_matrices(program, angles)[upper]
            by_angle[:, 0] = by_weight[:, 0] = 0.0
            columns = np.r_[layout.angles[s], layout.weights[s]]
            rows = slice(int(starts[s]), int(starts[s + 1]))
            blocks.append((rows, columns, np.concatenate([by_angle, by_weight]).T))
        references = np.arange(layout.references.start, layout.references.stop)
        blocks.append((slice(int(starts[-1]), None), references, np.eye(len(references))))
        return blocks

    def jacobian(self, parameters: FloatArray) -> FloatArray:
        """Derivatives of :meth:`operator_vector`, shape ``(Q + r, P)``.

        Args:
            parameters: p, shape ``(P,)``.
        """
        found = np.zeros((len(self.gram), self.layout.n_parameters))
        for rows, columns, block in self._jacobian_blocks(parameters):
            found[rows, columns] = block
        return found

    def bound(self) -> tuple[float, FloatArray]:
        """Smallest loss over all symmetric matrices: no circuit on these features can be better.

        Returns:
            The loss and its m, shape ``(Q + r,)``.
        """
        free = np.ones(len(self.gram), dtype=np.bool_)
        free[self.statistics.starts[:-1]] = False
        vector = np.zeros(len(self.gram))
        vector[free] = solve_scaled(self.gram[np.ix_(free, free)], self.statistics.equations.moment[free])
        return self.loss_of_vector(vector), vector

    def linear_solution(self) -> tuple[float, list[FloatArray], FloatArray]:
        """Best model that is linear in the features: the ``M_0a`` and reference energies alone.

        Returns:
            Its loss, the coefficients of each register, shape ``(d_r,)``, and the coordinates of the reference
            energies, shape ``(r,)``.
        """
        starts, sizes = self.statistics.starts, self.statistics.sizes
        columns = [np.arange(starts[s] + 1, starts[s] + sizes[s]) for s in range(len(sizes))]
        references = np.arange(starts[-1], len(self.statistics.equations.moment))
        chosen = np.concatenate([*columns, references])
        solution = solve_scaled(self.gram[np.ix_(chosen, chosen)], self.statistics.equations.moment[chosen])
        vector = np.zeros(len(self.statistics.equations.moment))
        vector[chosen] = solution
        pieces = np.split(solution, np.cumsum([len(c) for c in columns]))
        # The feature is 2 x_0 x_a, so the linear coefficient is twice the matrix entry.
        return self.loss_of_vector(vector), [2.0 * piece for piece in pieces[:-1]], pieces[-1]


def solve_scaled(gram: FloatArray, moment: FloatArray) -> FloatArray:
    """Smallest solution of normal equations whose columns have very different sizes.

    Args:
        gram: G, shape ``(C, C)``, positive semidefinite.
        moment: b, shape ``(C,)``.

    Returns:
        Shape ``(C,)``.
    """
    diagonal = np.diagonal(gram)
    scale = np.where(diagonal > 0.0, 1.0 / np.sqrt(np.where(diagonal > 0.0, diagonal, 1.0)), 0.0)
    values, vectors = np.linalg.eigh(gram * np.outer(scale, scale))
    kept = values > 1e-12 * values[-1]
    solution: FloatArray = scale * (vectors[:, kept] @ ((vectors[:, kept].T @ (scale * moment)) / values[kept]))
    return solution
