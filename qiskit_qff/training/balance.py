r"""Balanced readouts: rank-one registers without a spare parameter, as small as their linear terms allow.

A readout :math:`w\,(u\cdot x)^2` with a unit vector u of d + 1 amplitudes has d + 1 parameters, but
:math:`w u_0^2` only shifts the energy, as the reference energy does. Of what is left the d linear terms
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
    S. L. Braunstein and C. M. Caves, Phys. Rev. Lett. 72, 3439 (1994), doi:10.1103/PhysRevLett.72.3439.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.circuit.ansatz import AnsatzSpec, angles_for_vector, build_program
from qiskit_qff.circuit.compiled import readout_jacobian, readout_matrices
from qiskit_qff.training.loss import Progress
from qiskit_qff.training.objective import (
    MAX_ITERATIONS,
    PERTURBATION,
    RESTARTS,
    Objective,
    Restart,
    levenberg_marquardt,
)

HALF = np.sqrt(0.5)
"""Constant amplitude of a balanced readout vector."""
TRIAL_STEPS = 5
"""Levenberg-Marquardt steps by which the other sign of a weight has to show that it is better."""
LEAST_GAIN = 1e-6
"""Fraction by which it has to lower the loss."""
SMALLEST = 1e-12
"""Length in eV below which linear terms have no direction."""


def readout_vector(spec: AnsatzSpec, theta: FloatArray) -> FloatArray:
    """The unit vector u of a rank-one readout, its first entry not negative.

    Args:
        theta: Angles, shape ``(n_angles,)``.

    Returns:
        Shape ``(n_amplitudes,)``.
    """
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
    """Angles of the balanced register nearest to some angles.

    Args:
        theta: Angles, shape ``(n_angles,)``.
    """
    return angles_for_vector(spec, balanced_vector(readout_vector(spec, theta), size))


def balancing_slopes(spec: AnsatzSpec, theta: FloatArray, size: int) -> FloatArray:
    """Derivatives of :func:`balanced_angles`, shape ``(n_angles, n_angles)``: first what changes, then by what.

    Args:
        theta: Angles, shape ``(n_angles,)``.
    """
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
    """du/dθ of :func:`readout_vector`, from d(u u^T)/dθ.

    Args:
        theta: Angles, shape ``(n_angles,)``.

    Returns:
        Shape ``(n_amplitudes, n_angles)``.
    """
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

    gram: FloatArray
    """Block G of the Gram matrix without M_00, shape ``(T, T)``."""
    noise: FloatArray
    """K of the shot noise, shape ``(d + 1, d + 1)``."""
    settings: int
    """Settings that tell of u: n + 1, or n for a single feature, whose u is an eigenstate in one of them."""

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
        """Upper triangle of M without M_00, shape ``(T,)``, in eV.

        Args:
            beta: Linear terms, shape ``(d,)``, in eV.
        """
        length = max(float(np.linalg.norm(beta)), SMALLEST)
        squares = (0.5 * sign / length) * np.outer(beta, beta)
        return np.concatenate([[0.0], 0.5 * beta, squares[_upper(len(beta))]])

    def slopes(self, beta: FloatArray, sign: float) -> FloatArray:
        """Derivatives of :meth:`triangle`, shape ``(T, d)``.

        Args:
            beta: Linear terms, shape ``(d,)``, in eV.
        """
        count, length = len(beta), max(float(np.linalg.norm(beta)), SMALLEST)
        rows, columns = _upper(count)
        every = np.eye(count)
        squares = every[rows] * beta[columns, None] + every[columns] * beta[rows, None]
        squares -= np.outer(beta[rows] * beta[columns], beta / length**2)
        return np.concatenate([np.zeros((1, count)), 0.5 * every, (0.5 * sign / length) * squares])

    def shot_noise(self, beta: FloatArray, sign: float) -> tuple[float, FloatArray, FloatArray]:
        """Loss that one shot per setting adds, half its gradient and half a bound of its curvature.

        Args:
            beta: Linear terms, shape ``(d,)``, in eV.
        """
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
        """Choose the signs.

        Args:
            signs: Sign of the readout weight of each register, shape ``(R,)``.
        """
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
        """The same loss for other signs.

        Args:
            signs: Shape ``(R,)``.
        """
        other = BalancedObjective.__new__(BalancedObjective)
        other.__dict__ = self.__dict__ | {"signs": signs}
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
        """Upper triangles of all M and the reference energies, shape ``(Q + r,)``.

        Args:
            reduced: q, shape ``(n_terms + r,)``.
        """
        parts = [
            register.triangle(reduced[terms], sign)
            for register, terms, sign in zip(self._registers, self._terms, self.signs, strict=True)
        ]
        return np.concatenate([*parts, reduced[self.n_terms :]])

    def slopes(self, reduced: FloatArray) -> FloatArray:
        """Derivatives of :meth:`operator_vector`, shape ``(Q + r, n_terms + r)``.

        Args:
            reduced: q, shape ``(n_terms + r,)``.
        """
        found = np.zeros((len(self.objective.gram), len(reduced)))
        for register, rows, terms, sign in zip(self._registers, self._rows, self._terms, self.signs, strict=True):
            found[rows, terms] = register.slopes(reduced[terms], sign)
        tail = self._rows[-1].stop
        found[tail:, self.n_terms :] = np.eye(len(found) - tail)
        return found

    def loss(self, reduced: FloatArray) -> float:
        """Loss of some q, shot noise included.

        Args:
            reduced: q, shape ``(n_terms + r,)``.
        """
        value = self.objective.loss_of_vector(self.operator_vector(reduced))
        return value + self.shot_noise(reduced)

    def shot_noise(self, reduced: FloatArray) -> float:
        """Loss that the assumed shots add; zero where none are assumed.

        Args:
            reduced: q, shape ``(n_terms + r,)``.
        """
        if self.objective.shots is None:
            return 0.0
        parts = [
            register.shot_noise(reduced[terms], sign)[0]
            for register, terms, sign in zip(self._registers, self._terms, self.signs, strict=True)
        ]
        return sum(parts) / self.objective.shots

    def quadratic_model(self, reduced: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """Loss with half its gradient and half its Gauss-Newton matrix.

        Args:
            reduced: q, shape ``(n_terms + r,)``.
        """
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


def reduced_parameters(objective: Objective, parameters: FloatArray) -> tuple[BalancedObjective, FloatArray]:
    """The loss in q, and q itself, of some balanced parameters.

    Args:
        parameters: p, shape ``(P,)``.
    """
    layout = objective.layout
    weights = np.array([float(parameters[place][0]) for place in layout.weights])
    terms = []
    for r, (spec, size) in enumerate(zip(layout.specs, layout.sizes, strict=True)):
        vector = readout_vector(spec, parameters[layout.angles[r]])
        terms.append(2.0 * weights[r] * vector[0] * vector[1:size])
    signs = np.where(weights < 0.0, -1.0, 1.0)
    return BalancedObjective(objective, signs), np.concatenate([*terms, parameters[layout.references]])


def minimise_balanced(
    objective: Objective,
    *,
    rng: np.random.Generator,
    progress: Progress,
    restarts: int = RESTARTS,
    max_iterations: int = MAX_ITERATIONS,
) -> list[Restart]:
    """Optimise balanced readouts: from the linear model, with the signs that are best one at a time.

    Returns:
        All restarts, best first.
    """
    _, coefficients, references = objective.linear_solution()
    begin = np.concatenate([*coefficients, references])
    first = BalancedObjective(objective, np.ones(len(coefficients)))
    runs: list[tuple[Restart, BalancedObjective]] = []
    for k in range(restarts):
        start = first
        if k > 0:
            best, balanced = min(runs, key=lambda run: float(run[0].losses[-1]))
            start = first.with_signs(rng.choice([-1.0, 1.0], len(coefficients)))
            begin = _shaken(balanced, best.parameters, rng)
        runs.append(_with_best_signs(start, begin, max_iterations, progress, label=f"fit {k + 1}"))
    found = [Restart(run.losses, balanced.parameters(run.parameters)) for run, balanced in runs]
    return sorted(found, key=lambda run: float(run.losses[-1]))


def _with_best_signs(
    balanced: BalancedObjective, start: FloatArray, max_iterations: int, progress: Progress, label: str
) -> tuple[Restart, BalancedObjective]:
    """Optimise, then try the other sign of every register."""
    best = levenberg_marquardt(balanced, start, max_iterations, progress=progress, label=label)
    trial = min(max_iterations, TRIAL_STEPS)
    for r in range(len(balanced.signs)):
        flipped = balanced.signs.copy()
        flipped[r] = -flipped[r]
        other = balanced.with_signs(flipped)
        goal = (1.0 - LEAST_GAIN) * float(best.losses[-1])
        run = levenberg_marquardt(other, best.parameters, trial, progress=progress, label=label, goal=goal)
        if run.losses[-1] < goal:
            best, balanced = Restart(np.append(best.losses, run.losses[-1]), run.parameters), other
    last = levenberg_marquardt(balanced, best.parameters, max_iterations, progress=progress, label=label)
    return Restart(np.append(best.losses, last.losses[1:]), last.parameters), balanced


def _shaken(balanced: BalancedObjective, reduced: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Linear terms changed at random, each by an amount that alone would raise the loss by some of itself."""
    value, _, curvature = balanced.quadratic_model(reduced)
    natural = np.sqrt(max(value, 0.0) / np.maximum(np.diagonal(curvature), 1e-300))
    shaken = reduced.copy()
    count = balanced.n_terms
    shaken[:count] += PERTURBATION * natural[:count] * rng.normal(size=count)
    return shaken
