r"""The loss as a function of circuit angles, readout weights and reference energies.

With m the upper triangles of all registers' :math:`M_r = \sum_k w_{rk} M_k(\theta_r)` and the reference energies,
:math:`L = m^T G m - 2 b^T m + c + \kappa \sum w^2`. The fit alone hardly notices how large a readout is, so a small
penalty keeps it small; balanced readouts need none, they count their shot noise instead. The least-squares
structure gives the Gauss-Newton matrix :math:`J^T G J` of the parameters exactly, :math:`J = \partial m/\partial p`.

The entry :math:`M_{00}` of a register only shifts the energy of every atom of its species, as the reference energy
does. Here the reference energy is that of the mean environment, x = (1, 0), and :math:`M_{00}` drops out of m; the
force field subtracts it again. Otherwise two large constants would cancel in every step.

*Starts.* Angles are random and the weights solved exactly; later restarts perturb the best. Balanced rank-one readouts
begin at the linear model. The damping of Levenberg and Marquardt scales with the diagonal of :math:`J^T G J`, because
angles and weights differ by orders of magnitude.

*Balanced readouts.* A readout :math:`w\,(u\cdot x)^2` with a unit vector u of d + 1 amplitudes has d + 1 parameters,
but :math:`w u_0^2` only shifts the energy, as the reference energy does. Of what is left the d linear terms
:math:`\beta = 2 w u_0 u_{1:}` do nearly all the work; the last number divides β between w and u, and thereby sets the
strength of the square and the length \|w\| of the readout. For given β that length, and with it the shot noise, is
smallest at :math:`u_0^2 = \tfrac 1 2`. A balanced readout stays there:

.. math:: |w| = |\beta|,\qquad u = (1, \sigma\beta/|\beta|)/\sqrt 2,\qquad
          E = \tfrac 1 2 w + \beta\cdot y + \sigma(\beta\cdot y)^2/2|\beta|,

with the sign σ of w. A register of d features so has d independent parameters, as many as a linear model of d channels.
The circuit's angles follow from u; only the optimiser moves in β, where M and the noise have closed forms.

*Shot noise.* A real state u that is measured in n + 1 real bases with N shots each has the covariance
:math:`(1 - uu^T)/4N(n + 1)`, the best that any measurement allows: each of these bases reaches the quantum Fisher
information of real states. With :math:`z = |w| u`, G the block of the Gram matrix, :math:`m` the upper triangle of M
and :math:`V_a(z)` that of :math:`e_a z^T + z e_a^T`, the noise adds to the loss

.. math:: \frac{1}{4N(n+1)} \Bigl(\sum_a V_a(z)^T G\, V_a(z) - 4\, m^T G\, m\Bigr),
          \qquad \sum_a V_a(z)^T G\, V_a(z) = z^T K z .

References:
    D. W. Marquardt, J. Soc. Ind. Appl. Math. 11, 431 (1963), doi:10.1137/0111030.
    S. L. Braunstein and C. M. Caves, Phys. Rev. Lett. 72, 3439 (1994), doi:10.1103/PhysRevLett.72.3439.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.circuit.ansatz import AnsatzSpec, angles_for_vector, build_program, readout_jacobian, readout_matrices
from qiskit_qff.training.statistics import Progress, QuadraticStatistics

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


@dataclass(frozen=True)
class Restart:
    """One optimisation."""

    losses: FloatArray  # loss after every accepted step, shape ``(n,)``, the start first
    parameters: FloatArray  # where it ended, shape ``(P,)``


def minimise(objective: Objective, *, rng: np.random.Generator, progress: Progress) -> list[Restart]:
    """Optimise from several starts; all of them, best first."""
    runs: list[Restart] = []
    for k in range(RESTARTS):
        begin = (
            _perturbed(objective, runs, rng)
            if runs
            else min((_random_start(objective, rng) for _ in range(8)), key=objective.loss)
        )
        runs.append(levenberg_marquardt(objective, begin, progress=progress, label=f"fit {k + 1}"))
    return sorted(runs, key=lambda run: float(run.losses[-1]))


def levenberg_marquardt(
    objective: Objective | BalancedObjective,
    start: FloatArray,
    *,
    progress: Progress,
    label: str,
    steps: int = MAX_ITERATIONS,
    goal: float | None = None,
) -> Restart:
    """Minimise from one start, shape ``(P,)``; given up where it has a goal that is hopeless."""
    parameters, damping = start, 1e-3
    value, gradient, curvature = objective.quadratic_model(parameters)
    losses = [value]
    for step in range(steps):
        progress(label, step, steps)
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
    progress(label, steps, steps)
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
    layout = objective.layout
    pairs = zip(layout.specs, layout.angles, strict=True)
    columns = objective.columns([readout_matrices(build_program(spec), parameters[own]) for spec, own in pairs])
    return np.concatenate([parameters[: layout.n_angles], objective.solve(columns)[0]])


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

    specs: tuple[AnsatzSpec, ...]  # ansatz of each register
    sizes: tuple[int, ...]  # amplitudes in use, d + 1, of each register
    n_references: int  # reference energies that the data can tell apart
    balanced: bool = False  # whether readouts are balanced: a register of d features then has d independent parameters

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

    @cached_property
    def solved(self) -> tuple[slice, ...]:
        """Readout weights of each register in v = (weights, reference energies), which is solved exactly."""
        return _slices([s.n_readouts for s in self.specs], 0)

    @property
    def all_weights(self) -> slice:
        """Readout weights of all registers."""
        return slice(self.n_angles, self.n_angles + self.n_weights)

    @property
    def references(self) -> slice:
        """Coordinates of the reference energies in their space, see :mod:`~qiskit_qff.training.statistics`."""
        return slice(self.n_angles + self.n_weights, self.n_parameters)


def _slices(lengths: list[int], start: int) -> tuple[slice, ...]:
    bounds = start + np.concatenate([[0], np.cumsum(lengths)])
    return tuple(slice(int(a), int(b)) for a, b in itertools.pairwise(bounds))


class Objective:
    """Loss, gradient and Gauss-Newton matrix of a layout on given statistics."""

    def __init__(self, statistics: QuadraticStatistics, layout: ParameterLayout, *, shots: int | None = None) -> None:
        """Prepare the regularised normal equations.

        Args:
            shots: Assumed shots per setting, whose noise a :class:`BalancedObjective` adds; None adds none.
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
            parts.append(self.entries(s, form))
        return np.concatenate([*parts, parameters[layout.references]])

    def entries(self, s: int, matrices: FloatArray) -> FloatArray:
        """A register's part of m: upper triangles of matrices, shape ``(..., T)``, without M_00."""
        entries: FloatArray = matrices[(..., *self._triangles[s])]
        entries[..., 0] = 0.0
        return entries

    def columns(self, matrices: Sequence[FloatArray]) -> FloatArray:
        """dm/dv for readout weights and reference energies, from all M_k; shape ``(Q + r, n_weights + r)``.

        Args:
            matrices: Of each register, shape ``(n_readouts, D, D)``.
        """
        layout, starts = self.layout, self.statistics.starts
        columns = np.zeros((len(self.statistics.equations.moment), layout.n_weights + layout.n_references))
        for s, own in enumerate(matrices):
            columns[starts[s] : starts[s + 1], layout.solved[s]] = self.entries(s, own).T
        columns[starts[-1] :, layout.n_weights :] = np.eye(layout.n_references)
        return columns

    def solve(self, columns: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Readout weights and reference energies v of least loss for :meth:`columns` C, and G C."""
        product = self.gram @ columns
        form, weights = columns.T @ product, np.arange(self.layout.n_weights)
        form[weights, weights] += self.penalty
        return solve_scaled(form, columns.T @ self.statistics.equations.moment), product

    def loss_of_vector(self, vector: FloatArray) -> float:
        """Loss of m."""
        equations = self.statistics.equations
        return float(vector @ (self.gram @ vector) - 2.0 * equations.moment @ vector + equations.constant)

    def fit_loss(self, parameters: FloatArray) -> float:
        """Loss of some parameters without the penalty on weights, comparable with that of :meth:`bound`."""
        return self.loss_of_vector(self.operator_vector(parameters))

    def loss(self, parameters: FloatArray) -> float:
        """Loss of some parameters, penalty included."""
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
            by_weight = self.entries(s, readout_matrices(program, angles))
            turned = self.entries(s, readout_jacobian(program, angles))
            by_angle = np.tensordot(parameters[layout.weights[s]], turned, axes=(0, 1))
            columns = np.r_[layout.angles[s], layout.weights[s]]
            rows = slice(int(starts[s]), int(starts[s + 1]))
            blocks.append((rows, columns, np.concatenate([by_angle, by_weight]).T))
        references = np.arange(layout.references.start, layout.references.stop)
        blocks.append((slice(int(starts[-1]), None), references, np.eye(len(references))))
        return blocks

    def bound(self) -> float:
        """Smallest loss over all symmetric matrices: no circuit on these features can be better."""
        free = np.ones(len(self.gram), dtype=np.bool_)
        free[self.statistics.starts[:-1]] = False
        vector = np.zeros(len(self.gram))
        vector[free] = solve_scaled(self.gram[np.ix_(free, free)], self.statistics.equations.moment[free])
        return self.loss_of_vector(vector)

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


HALF = np.sqrt(0.5)
"""Constant amplitude of a balanced readout vector."""
TRIAL_STEPS = 5
"""Levenberg-Marquardt steps by which the other sign of a weight has to show that it is better."""
LEAST_GAIN = 1e-6
"""Fraction by which it has to lower the loss."""
SMALLEST = 1e-12
"""Length in eV below which linear terms have no direction."""


def readout_vector(spec: AnsatzSpec, theta: FloatArray) -> FloatArray:
    """The unit vector u of a rank-one readout, its first entry not negative."""
    projector = readout_matrices(build_program(spec), theta)[0][: spec.n_amplitudes, : spec.n_amplitudes]
    row = int(np.argmax(np.diagonal(projector)))
    vector = projector[row] / np.sqrt(projector[row, row])
    return np.asarray(-vector if vector[0] < 0.0 else vector)


def balanced_vector(vector: FloatArray, size: int) -> FloatArray:
    """The balanced unit vector whose linear terms have the same direction.

    Args:
        vector: u with ``u_0 >= 0``, shape ``(D,)``.
    """
    rest = np.zeros(len(vector) - 1)
    rest[: size - 1] = vector[1:size]
    length = float(np.linalg.norm(rest))
    if length > 0.0:
        rest /= length
    else:  # A vector without linear terms has no direction to keep; any will do.
        rest[: size - 1] = (size - 1) ** -0.5
    return np.concatenate([[HALF], HALF * rest])


def balanced_angles(spec: AnsatzSpec, theta: FloatArray, size: int) -> FloatArray:
    """Angles of the balanced register nearest to some angles."""
    return angles_for_vector(spec, balanced_vector(readout_vector(spec, theta), size))


def balancing_slopes(spec: AnsatzSpec, theta: FloatArray, size: int) -> FloatArray:
    """Derivatives of :func:`balanced_angles`, shape ``(n_angles, n_angles)``: first what changes, then by what."""
    vector = readout_vector(spec, theta)
    rest = np.zeros(len(vector) - 1)
    rest[: size - 1] = vector[1:size]
    length = max(float(np.linalg.norm(rest)), SMALLEST)
    direction = rest / length
    projection = np.zeros((len(vector), len(vector)))
    kept = np.zeros(len(rest))
    kept[: size - 1] = 1.0
    projection[1:, 1:] = HALF / length * (np.diag(kept) - np.outer(direction, direction))
    after = balanced_angles(spec, theta, size)
    slopes: FloatArray = (
        np.linalg.pinv(vector_slopes(spec, after), rcond=1e-9) @ projection @ vector_slopes(spec, theta)
    )
    return slopes


def vector_slopes(spec: AnsatzSpec, theta: FloatArray) -> FloatArray:
    """du/dθ of :func:`readout_vector`, from d(u u^T)/dθ, shape ``(n_amplitudes, n_angles)``."""
    vector = readout_vector(spec, theta)
    row = int(np.argmax(np.abs(vector)))
    size = spec.n_amplitudes
    by_angle = readout_jacobian(build_program(spec), theta)[:, 0, row, :size].T
    slopes: FloatArray = (by_angle - 0.5 * np.outer(vector, by_angle[row]) / vector[row]) / vector[row]
    return slopes


@lru_cache(maxsize=64)
def _upper(size: int) -> tuple[IntArray, IntArray]:
    """Indices of the upper triangle.

    PERF: making them anew took nearly half of the optimiser's time with registers of three features.
    """
    rows, columns = np.triu_indices(size)
    return rows.astype(np.int64), columns.astype(np.int64)


@dataclass(frozen=True, eq=False)
class BalancedRegister:
    """M of one register, and the noise of measuring it, as functions of its linear terms β."""

    gram: FloatArray  # block G of the Gram matrix without M_00, shape ``(T, T)``
    noise: FloatArray  # K of the shot noise, shape ``(d + 1, d + 1)``
    settings: int  # settings that tell of u: n + 1, or n for a single feature, whose u is an eigenstate in one of them

    @classmethod
    def of(cls, gram: FloatArray, size: int, n_qubits: int) -> BalancedRegister:
        """Prepare the noise.

        Args:
            gram: Block of the Gram matrix, shape ``(T, T)``.
        """
        gram = gram.copy()
        gram[0] = gram[:, 0] = 0.0
        upper = np.triu_indices(size)
        every = np.eye(size)
        # Entry (a, j): upper triangle of e_a e_j^T + e_j e_a^T.
        pairs = every[:, None, :, None] * every[None, :, None, :]
        forms = (pairs + pairs.transpose(0, 1, 3, 2))[(..., *upper)]
        noise = np.einsum("ajs,st,akt->jk", forms, gram, forms, optimize=True)
        return cls(gram, noise, n_qubits + (size > 2))

    def triangle(self, beta: FloatArray, sign: float) -> FloatArray:
        """Upper triangle of M without M_00, shape ``(T,)``, in eV."""
        length = max(float(np.linalg.norm(beta)), SMALLEST)
        squares = (0.5 * sign / length) * np.outer(beta, beta)
        return np.concatenate([[0.0], 0.5 * beta, squares[_upper(len(beta))]])

    def slopes(self, beta: FloatArray, sign: float) -> FloatArray:
        """Derivatives of :meth:`triangle`, shape ``(T, d)``."""
        count, length = len(beta), max(float(np.linalg.norm(beta)), SMALLEST)
        rows, columns = _upper(count)
        every = np.eye(count)
        squares = every[rows] * beta[columns, None] + every[columns] * beta[rows, None]
        squares -= np.outer(beta[rows] * beta[columns], beta / length**2)
        return np.concatenate([np.zeros((1, count)), 0.5 * every, (0.5 * sign / length) * squares])

    def shot_noise(self, beta: FloatArray, sign: float) -> tuple[float, FloatArray, FloatArray]:
        """Loss that one shot per setting adds, half its gradient and half a bound of its curvature."""
        length = max(float(np.linalg.norm(beta)), SMALLEST)
        vector = HALF * np.append(length, sign * beta)
        tangents = HALF * np.vstack([beta / length, sign * np.eye(len(beta))])
        triangle, slopes = self.triangle(beta, sign), self.slopes(beta, sign)
        pulled = self.gram @ triangle
        value = float(vector @ self.noise @ vector) - 4.0 * float(triangle @ pulled)
        gradient = tangents.T @ (self.noise @ vector) - 4.0 * slopes.T @ pulled
        scale = 0.25 / self.settings
        # The term with m is left out of the curvature, which so stays positive.
        return scale * value, scale * gradient, scale * (tangents.T @ self.noise @ tangents)


class BalancedObjective:
    """The loss over q = (linear terms of every register, reference energies) of balanced readouts with given signs."""

    def __init__(self, objective: Objective, signs: FloatArray) -> None:
        """Prepare for some signs of the readout weights, shape ``(R,)``."""
        self.objective = objective
        self.signs = signs
        statistics = objective.statistics
        bounds = np.concatenate([[0], np.cumsum(statistics.sizes - 1)])
        self._terms = [slice(int(a), int(b)) for a, b in itertools.pairwise(bounds)]
        self._rows = [slice(int(a), int(b)) for a, b in itertools.pairwise(statistics.starts)]
        gram = statistics.equations.gram
        self._registers = [
            BalancedRegister.of(gram[rows, rows], int(size), spec.n_qubits)
            for rows, size, spec in zip(self._rows, statistics.sizes, objective.layout.specs, strict=True)
        ]

    def with_signs(self, signs: FloatArray) -> BalancedObjective:
        """The same loss for other signs, shape ``(R,)``."""
        other = copy.copy(self)
        other.signs = signs
        return other

    @property
    def n_terms(self) -> int:
        """Linear terms of all registers; reference energies follow."""
        return self._terms[-1].stop

    def parameters(self, reduced: FloatArray) -> FloatArray:
        """Circuit parameters p of some q.

        Args:
            reduced: q, shape ``(n_terms + r,)``.

        Returns:
            Shape ``(P,)``.
        """
        layout = self.objective.layout
        found = np.zeros(layout.n_parameters)
        for r, (spec, size) in enumerate(zip(layout.specs, layout.sizes, strict=True)):
            beta = reduced[self._terms[r]]
            vector = np.zeros(spec.n_amplitudes)
            vector[0], vector[1:size] = HALF, self.signs[r] * beta
            found[layout.angles[r]] = angles_for_vector(spec, balanced_vector(vector, size))
            found[layout.weights[r]] = self.signs[r] * float(np.linalg.norm(beta))
        found[layout.references] = reduced[self.n_terms :]
        return found

    def operator_vector(self, reduced: FloatArray) -> FloatArray:
        """Upper triangles of all M and the reference energies, shape ``(Q + r,)``."""
        parts = [
            register.triangle(reduced[terms], sign)
            for register, terms, sign in zip(self._registers, self._terms, self.signs, strict=True)
        ]
        return np.concatenate([*parts, reduced[self.n_terms :]])

    def loss(self, reduced: FloatArray) -> float:
        """Loss of some q, shot noise included."""
        value = self.objective.loss_of_vector(self.operator_vector(reduced))
        return value + self.shot_noise(reduced)

    def shot_noise(self, reduced: FloatArray) -> float:
        """Loss that the assumed shots add; zero where none are assumed."""
        if self.objective.shots is None:
            return 0.0
        parts = [
            register.shot_noise(reduced[terms], sign)[0]
            for register, terms, sign in zip(self._registers, self._terms, self.signs, strict=True)
        ]
        return sum(parts) / self.objective.shots

    def quadratic_model(self, reduced: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """Loss with half its gradient and half its Gauss-Newton matrix."""
        gram, equations, shots = self.objective.gram, self.objective.statistics.equations, self.objective.shots
        vector = self.operator_vector(reduced)
        product = gram @ vector
        value = float(vector @ product - 2.0 * equations.moment @ vector + equations.constant)
        residual, tail = product - equations.moment, self._rows[-1].stop
        gradient, curvature = np.empty(len(reduced)), np.empty((len(reduced), len(reduced)))
        blocks = [
            register.slopes(reduced[terms], sign)
            for register, terms, sign in zip(self._registers, self._terms, self.signs, strict=True)
        ]
        # PERF: slopes are zero between registers; the full product J^T G J takes minutes for 1,000 features.
        moved = np.empty((len(gram), len(reduced)))
        moved[:, self.n_terms :] = gram[:, tail:]
        for block, rows, terms in zip(blocks, self._rows, self._terms, strict=True):
            moved[:, terms] = gram[:, rows] @ block
        for block, rows, terms in zip(blocks, self._rows, self._terms, strict=True):
            gradient[terms], curvature[terms] = block.T @ residual[rows], block.T @ moved[rows]
        gradient[self.n_terms :], curvature[self.n_terms :] = residual[tail:], moved[tail:]
        if shots is not None:
            for register, terms, sign in zip(self._registers, self._terms, self.signs, strict=True):
                added, slope, bend = register.shot_noise(reduced[terms], sign)
                value += added / shots
                gradient[terms] += slope / shots
                curvature[terms, terms] += bend / shots
        return value, gradient, curvature


def minimise_balanced(objective: Objective, *, rng: np.random.Generator, progress: Progress) -> list[Restart]:
    """Optimise balanced readouts from the linear model, with the signs that are best one at a time.

    Returns:
        All restarts, best first.
    """
    _, coefficients, references = objective.linear_solution()
    begin = np.concatenate([*coefficients, references])
    first = BalancedObjective(objective, np.ones(len(coefficients)))
    runs: list[tuple[Restart, BalancedObjective]] = []
    for k in range(RESTARTS):
        start = first
        if k > 0:
            best, balanced = min(runs, key=lambda run: float(run[0].losses[-1]))
            start = first.with_signs(rng.choice([-1.0, 1.0], len(coefficients)))
            begin = _shaken(balanced, best.parameters, rng)
        runs.append(_with_best_signs(start, begin, progress, label=f"fit {k + 1}"))
    found = [Restart(run.losses, balanced.parameters(run.parameters)) for run, balanced in runs]
    return sorted(found, key=lambda run: float(run.losses[-1]))


def _with_best_signs(
    balanced: BalancedObjective, start: FloatArray, progress: Progress, label: str
) -> tuple[Restart, BalancedObjective]:
    """Optimise, then try the other sign of every register."""
    best = levenberg_marquardt(balanced, start, progress=progress, label=label)
    for r in range(len(balanced.signs)):
        flipped = balanced.signs.copy()
        flipped[r] = -flipped[r]
        other = balanced.with_signs(flipped)
        goal = (1.0 - LEAST_GAIN) * float(best.losses[-1])
        run = levenberg_marquardt(other, best.parameters, progress=progress, label=label, steps=TRIAL_STEPS, goal=goal)
        if run.losses[-1] < goal:
            best, balanced = Restart(np.append(best.losses, run.losses[-1]), run.parameters), other
    last = levenberg_marquardt(balanced, best.parameters, progress=progress, label=label)
    return Restart(np.append(best.losses, last.losses[1:]), last.parameters), balanced


def _shaken(balanced: BalancedObjective, reduced: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Linear terms changed at random, each by an amount that alone would raise the loss by some of itself."""
    value, _, curvature = balanced.quadratic_model(reduced)
    natural = np.sqrt(max(value, 0.0) / np.maximum(np.diagonal(curvature), 1e-300))
    shaken = reduced.copy()
    count = balanced.n_terms
    shaken[:count] += PERTURBATION * natural[:count] * rng.normal(size=count)
    return shaken
