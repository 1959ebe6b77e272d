r"""The loss as a function of circuit angles, readout weights and reference energies.

With m the upper triangles of all registers' :math:`M_r = \sum_k w_{rk} M_k(\theta_r)` and the reference energies,
:math:`L = m^T G m - 2 b^T m + c + \kappa \sum w^2`. The fit alone hardly notices how large a readout is, so a small
penalty keeps it small; balanced readouts need none, they count their shot noise instead
(:mod:`~qiskit_qff.training.balance`). The least-squares structure gives the Gauss-Newton matrix :math:`J^T G J` of the
parameters exactly, :math:`J = \partial m/\partial p`.

The entry :math:`M_{00}` of a register only shifts the energy of every atom of its species, as the reference energy
does. Here the reference energy is that of the mean environment, x = (1, 0), and :math:`M_{00}` drops out of m; the
force field subtracts it again. Otherwise two large constants would cancel in every step.

*Starts.* Angles are random and the weights solved exactly; later restarts perturb the best. Balanced rank-one readouts
have a module of their own (:mod:`~qiskit_qff.training.balance`) and begin at the linear model.

*Steps.* The loss is least squares in m(p), so :math:`J^T G J` needs no second derivatives; the damping of
Levenberg and Marquardt scales with its diagonal, because angles and weights differ by orders of magnitude.

References:
    D. W. Marquardt, J. Soc. Ind. Appl. Math. 11, 431 (1963), doi:10.1137/0111030.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.circuit.ansatz import AnsatzSpec, build_program
from qiskit_qff.circuit.compiled import readout_jacobian, readout_matrices
from qiskit_qff.training.loss import Progress
from qiskit_qff.training.statistics import QuadraticStatistics

RESTARTS = 3
"""Starts of which the best solution is kept."""
MAX_ITERATIONS = 300
"""Most steps of a start."""
TOLERANCE = 1e-6
"""A start ends when five steps together lower the loss by less than this fraction."""
HOPELESS = 20.0
"""A start that has a goal is given up where its last step would have to be repeated so many times to reach it."""
PERTURBATION = 0.3
"""Size of the random change, relative to each parameter's natural scale, that makes later starts."""


class LeastSquares(Protocol):
    """A loss that is a sum of squares."""

    def loss(self, parameters: FloatArray) -> float:
        """Loss of some parameters."""
        ...  # pragma: no cover

    def quadratic_model(self, parameters: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """Loss with half its gradient and half its Gauss-Newton matrix."""
        ...  # pragma: no cover


@dataclass(frozen=True)
class Restart:
    """One optimisation."""

    losses: FloatArray
    """Loss after every accepted step, shape ``(n,)``, the start first."""
    parameters: FloatArray
    """Where it ended, shape ``(P,)``."""


def minimise(
    objective: Objective,
    *,
    rng: np.random.Generator,
    progress: Progress,
    restarts: int = RESTARTS,
    max_iterations: int = MAX_ITERATIONS,
) -> list[Restart]:
    """Optimise from several starts.

    Returns:
        All restarts, best first.
    """
    runs: list[Restart] = []
    for k in range(restarts):
        begin = _perturbed(objective, runs, rng) if runs else _best_random_start(objective, rng)
        runs.append(levenberg_marquardt(objective, begin, max_iterations, progress=progress, label=f"fit {k + 1}"))
    return sorted(runs, key=lambda run: float(run.losses[-1]))


def levenberg_marquardt(
    objective: LeastSquares,
    start: FloatArray,
    max_iterations: int,
    *,
    progress: Progress,
    label: str,
    goal: float | None = None,
) -> Restart:
    """Minimise from one start.

    Args:
        start: Initial parameters, shape ``(P,)``.
    """
    parameters, damping = start, 1e-3
    value, gradient, curvature = objective.quadratic_model(parameters)
    losses = [value]
    for step in range(max_iterations):
        progress(label, step, max_iterations)
        trial, trial_value = parameters, np.inf
        while damping < 1e12:
            trial = parameters - _damped_step(gradient, curvature, damping)
            trial_value = objective.loss(trial)
            if trial_value < value:
                break
            damping *= 4.0
        if not trial_value < value:
            break
        if goal is not None and trial_value - goal > HOPELESS * (value - trial_value):
            return Restart(np.append(losses, trial_value), trial)
        parameters, damping = trial, max(damping / 5.0, 1e-12)
        value, gradient, curvature = objective.quadratic_model(parameters)
        losses.append(value)
        if len(losses) > 5 and losses[-6] - value < TOLERANCE * value:
            break
    progress(label, max_iterations, max_iterations)
    return Restart(np.asarray(losses), parameters)


def _damped_step(gradient: FloatArray, curvature: FloatArray, damping: float) -> FloatArray:
    """Solve (H + damping diag H) step = gradient in unit-diagonal scaling."""
    diagonal = np.diagonal(curvature)
    largest = float(diagonal.max())
    scale = 1.0 / np.sqrt(np.maximum(diagonal, 1e-14 * largest))
    matrix = curvature * np.outer(scale, scale)
    matrix[np.diag_indices_from(matrix)] += damping + 1e-13
    step: FloatArray = scale * cho_solve(cho_factor(matrix, check_finite=False), scale * gradient)
    return step


def _best_random_start(objective: Objective, rng: np.random.Generator) -> FloatArray:
    """The best of some random circuits."""
    return min((_random_start(objective, rng) for _ in range(8)), key=objective.loss)


def _random_start(objective: Objective, rng: np.random.Generator) -> FloatArray:
    """Random angles with exactly solved weights and reference energies."""
    layout = objective.layout
    parameters = np.zeros(layout.n_parameters)
    parameters[: layout.n_angles] = rng.normal(0.0, 0.5, layout.n_angles)
    return solve_weights(objective, parameters)


def solve_weights(objective: Objective, parameters: FloatArray) -> FloatArray:
    """Readout weights and reference energies that minimise the loss for given angles.

    Args:
        parameters: p, shape ``(P,)``; its angles are used.

    Returns:
        Shape ``(P,)``.
    """
    layout, statistics = objective.layout, objective.statistics
    count = layout.n_references
    columns = np.zeros((len(statistics.equations.moment), layout.n_weights + count))
    for s, spec in enumerate(layout.specs):
        matrices = readout_matrices(build_program(spec), parameters[layout.angles[s]])
        rows, cols = np.triu_indices(int(statistics.sizes[s]))
        place = layout.weights[s]
        inside = slice(int(statistics.starts[s]), int(statistics.starts[s + 1]))
        columns[inside, place.start - layout.n_angles : place.stop - layout.n_angles] = matrices[:, rows, cols].T
        columns[inside.start] = 0.0
    columns[-count:, -count:] = np.eye(count)
    solved = parameters.copy()
    gram = columns.T @ objective.gram @ columns
    inner = np.arange(layout.n_weights)
    gram[inner, inner] += objective.penalty
    solved[layout.n_angles :] = solve_scaled(gram, columns.T @ statistics.equations.moment)
    return solved


def _perturbed(objective: Objective, runs: list[Restart], rng: np.random.Generator) -> FloatArray:
    """A new start: the best end so far with its angles shaken, weights solved again."""
    best = min(runs, key=lambda run: float(run.losses[-1])).parameters
    _, _, curvature = objective.quadratic_model(best)
    diagonal = np.diagonal(curvature)[: objective.layout.n_angles]
    value = objective.loss(best)
    # A change of this size in one angle alone raises the loss by about the loss itself.
    natural = np.minimum(np.sqrt(value / np.maximum(diagonal, 1e-300)), 0.5)
    shaken = best.copy()
    shaken[: objective.layout.n_angles] += PERTURBATION * natural * rng.normal(size=len(natural))
    return solve_weights(objective, shaken)


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
