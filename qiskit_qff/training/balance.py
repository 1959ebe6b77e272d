r"""Balanced readouts: rank-one trees without a spare parameter, and with the smallest readout that their forces allow.

A readout :math:`w\,(u\cdot x)^2` with a unit vector u of d + 1 amplitudes has d + 1 parameters, but
:math:`w u_0^2` only shifts the energy, as the reference energy does. Of what is left the d linear terms
:math:`\beta = 2 w u_0 u_{1:}` do nearly all the work; the last number divides β between w and u, and thereby sets the
strength of the square and the length \|w\| of the readout. For given β that length, and with it the shot noise, is
smallest at :math:`u_0^2 = \tfrac 1 2`. A balanced readout stays there:

.. math:: |w| = |\beta|,\qquad u = (1, \sigma\beta/|\beta|)/\sqrt 2,\qquad
          E = \tfrac 1 2 w + \beta\cdot y + \sigma(\beta\cdot y)^2/2|\beta|,

with the sign σ of w. So d + 1 numbers in the file, d angles and a weight, obey one equation, and d of them are
independent: as many as a linear model of d channels has. The ledger counts d. Angles are still angles and the circuit
is the same; only the optimiser moves in β.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qiskit_qff.circuit.ansatz import AnsatzSpec, angles_for_vector, build_program
from qiskit_qff.circuit.compiled import readout_jacobian, readout_matrices
from qiskit_qff.training.design import Progress
from qiskit_qff.training.objective import Objective
from qiskit_qff.training.solver import Restart, SolverSettings, levenberg_marquardt

FloatArray = NDArray[np.float64]

HALF = np.sqrt(0.5)
"""Constant amplitude of a balanced readout vector."""
TRIAL_STEPS = 20
"""Levenberg-Marquardt steps by which the other sign of a weight has to show that it is better."""
LEAST_GAIN = 1e-6
"""Fraction by which it has to lower the loss."""


def readout_vector(spec: AnsatzSpec, theta: FloatArray) -> FloatArray:
    """The unit vector u of a rank-one tree, its first entry not negative.

    Args:
        spec: A rank-one tree.
        theta: Angles, shape ``(n_angles,)``.

    Returns:
        Shape ``(n_amplitudes,)``.
    """
    projector = readout_matrices(build_program(spec), theta)[0][: spec.n_amplitudes, : spec.n_amplitudes]
    row = int(np.argmax(np.diagonal(projector)))
    vector = projector[row] / np.sqrt(projector[row, row])
    return np.asarray(-vector if vector[0] < 0.0 else vector)


def balanced_vector(vector: FloatArray) -> FloatArray:
    """The balanced unit vector whose linear terms have the same direction.

    Args:
        vector: u with ``u_0 >= 0``, shape ``(D,)``.
    """
    rest = vector[1:]
    size = float(np.linalg.norm(rest))
    # A vector without linear terms has no direction to keep; any will do.
    rest = rest / size if size > 0.0 else np.full(len(rest), len(rest) ** -0.5)
    return np.concatenate([[HALF], HALF * rest])


def balanced_angles(spec: AnsatzSpec, theta: FloatArray) -> FloatArray:
    """Angles of the balanced tree nearest to some angles.

    Args:
        spec: A rank-one tree.
        theta: Angles, shape ``(n_angles,)``.
    """
    return angles_for_vector(spec, balanced_vector(readout_vector(spec, theta)))


def balancing_slopes(spec: AnsatzSpec, theta: FloatArray) -> FloatArray:
    """Derivatives of :func:`balanced_angles`, shape ``(n_angles, n_angles)``: first what changes, then by what.

    Args:
        spec: A rank-one tree.
        theta: Angles, shape ``(n_angles,)``.
    """
    vector = readout_vector(spec, theta)
    size = max(float(np.linalg.norm(vector[1:])), 1e-12)
    direction = vector[1:] / size
    projection = np.zeros((len(vector), len(vector)))
    projection[1:, 1:] = HALF / size * (np.eye(len(direction)) - np.outer(direction, direction))
    after = balanced_angles(spec, theta)
    slopes: FloatArray = (
        np.linalg.pinv(_vector_slopes(spec, after), rcond=1e-9) @ projection @ _vector_slopes(spec, theta)
    )
    return slopes


def _vector_slopes(spec: AnsatzSpec, theta: FloatArray) -> FloatArray:
    """du/dθ of :func:`readout_vector`, shape ``(n_amplitudes, n_angles)``, from d(u u^T)/dθ."""
    vector = readout_vector(spec, theta)
    row = int(np.argmax(np.abs(vector)))
    size = spec.n_amplitudes
    by_angle = readout_jacobian(build_program(spec), theta)[:, 0, row, :size].T
    slopes: FloatArray = (by_angle - 0.5 * np.outer(vector, by_angle[row]) / vector[row]) / vector[row]
    return slopes


class BalancedObjective:
    """The loss over q = (linear terms of every species, reference energies) of balanced readouts with given signs."""

    def __init__(self, objective: Objective, signs: FloatArray) -> None:
        """Choose the signs.

        Args:
            objective: The loss, of a balanced layout.
            signs: Sign of the readout weight of each species, shape ``(S,)``.
        """
        self.objective = objective
        self.signs = signs
        self._lengths = [spec.n_amplitudes - 1 for spec in objective.layout.specs]
        bounds = np.concatenate([[0], np.cumsum(self._lengths)])
        self._terms = [slice(int(a), int(b)) for a, b in itertools.pairwise(bounds)]

    @property
    def n_terms(self) -> int:
        """Linear terms of all species; reference energies follow."""
        return sum(self._lengths)

    def parameters(self, reduced: FloatArray) -> FloatArray:
        """Circuit parameters p of some q.

        Args:
            reduced: q, shape ``(n_terms + r,)``.

        Returns:
            Shape ``(P,)``.
        """
        layout = self.objective.layout
        found = np.zeros(layout.n_parameters)
        for s, spec in enumerate(layout.specs):
            beta = reduced[self._terms[s]]
            size = float(np.linalg.norm(beta))
            vector = balanced_vector(np.concatenate([[HALF], self.signs[s] * beta]))
            found[layout.angles[s]] = angles_for_vector(spec, vector)
            found[layout.weights[s]] = self.signs[s] * size
        found[layout.references] = reduced[self.n_terms :]
        return found

    def tangents(self, reduced: FloatArray) -> FloatArray:
        """dp/dq, shape ``(P, n_terms + r)``.

        Args:
            reduced: q, shape ``(n_terms + r,)``.
        """
        layout, parameters = self.objective.layout, self.parameters(reduced)
        found = np.zeros((layout.n_parameters, len(reduced)))
        for s, spec in enumerate(layout.specs):
            beta, sign = reduced[self._terms[s]], self.signs[s]
            size = max(float(np.linalg.norm(beta)), 1e-12)
            direction = beta / size
            bend = np.zeros((spec.n_amplitudes, len(beta)))
            bend[1:] = sign * HALF / size * (np.eye(len(beta)) - np.outer(direction, direction))
            inverse = np.linalg.pinv(_vector_slopes(spec, parameters[layout.angles[s]]), rcond=1e-9)
            found[layout.angles[s], self._terms[s]] = inverse @ bend
            found[layout.weights[s], self._terms[s]] = sign * direction
        found[layout.references, self.n_terms :] = np.eye(layout.n_references)
        return found

    def loss(self, reduced: FloatArray) -> float:
        """Loss of some q, shot noise included.

        Args:
            reduced: q, shape ``(n_terms + r,)``.
        """
        return self.objective.loss(self.parameters(reduced))

    def quadratic_model(self, reduced: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """Loss with half its gradient and half its Gauss-Newton matrix.

        Args:
            reduced: q, shape ``(n_terms + r,)``.
        """
        tangents = self.tangents(reduced)
        value, gradient, curvature = self.objective.quadratic_model(self.parameters(reduced))
        return value, tangents.T @ gradient, tangents.T @ curvature @ tangents


def reduced_parameters(objective: Objective, parameters: FloatArray) -> tuple[BalancedObjective, FloatArray]:
    """The loss in q, and q itself, of some balanced parameters.

    Args:
        objective: The loss, of a balanced layout.
        parameters: p, shape ``(P,)``.
    """
    layout = objective.layout
    weights = np.array([float(parameters[place][0]) for place in layout.weights])
    terms = []
    for s, spec in enumerate(layout.specs):
        vector = readout_vector(spec, parameters[layout.angles[s]])
        terms.append(2.0 * weights[s] * vector[0] * vector[1:])
    signs = np.where(weights < 0.0, -1.0, 1.0)
    return BalancedObjective(objective, signs), np.concatenate([*terms, parameters[layout.references]])


def minimise_balanced(
    objective: Objective,
    settings: SolverSettings,
    *,
    rng: np.random.Generator,
    progress: Progress,
    further: FloatArray | None = None,
) -> list[Restart]:
    """Optimise balanced readouts: from the linear model, with the signs that are best one at a time.

    Args:
        objective: The loss, of a balanced layout.
        settings: How long and how often; later starts are random changes of the best end so far.
        rng: Source of the random starts.
        progress: Called after every step.
        further: One more start, balanced parameters of shape ``(P,)``.

    Returns:
        All restarts, best first.
    """
    _, coefficients, references = objective.linear_solution()
    begin, signs = np.concatenate([*coefficients, references]), np.ones(len(coefficients))
    runs: list[tuple[Restart, BalancedObjective]] = []
    for k in range(settings.restarts):
        if k > 0:
            best, balanced = min(runs, key=lambda run: float(run[0].losses[-1]))
            signs = rng.choice([-1.0, 1.0], len(signs))
            begin = _shaken(balanced, best.parameters, settings, rng)
        runs.append(_with_best_signs(objective, signs, begin, settings, progress, label=f"fit {k + 1}"))
    if further is not None:
        other, begin = reduced_parameters(objective, further)
        runs.append(_with_best_signs(objective, other.signs, begin, settings, progress, label="fit again"))
    found = [Restart(run.losses, balanced.parameters(run.parameters)) for run, balanced in runs]
    return sorted(found, key=lambda run: float(run.losses[-1]))


def _with_best_signs(
    objective: Objective, signs: FloatArray, start: FloatArray, settings: SolverSettings, progress: Progress, label: str
) -> tuple[Restart, BalancedObjective]:
    """Optimise, then try the other sign of every species."""
    balanced = BalancedObjective(objective, signs)
    best = levenberg_marquardt(balanced, start, settings, progress=progress, label=label)
    trial = replace(settings, max_iterations=min(settings.max_iterations, TRIAL_STEPS))
    for s in range(len(signs)):
        flipped = balanced.signs.copy()
        flipped[s] = -flipped[s]
        other = BalancedObjective(objective, flipped)
        run = levenberg_marquardt(other, best.parameters, trial, progress=progress, label=label)
        if run.losses[-1] < (1.0 - LEAST_GAIN) * best.losses[-1]:
            best, balanced = Restart(np.append(best.losses, run.losses[-1]), run.parameters), other
    return best, balanced


def _shaken(
    balanced: BalancedObjective, reduced: FloatArray, settings: SolverSettings, rng: np.random.Generator
) -> FloatArray:
    """Linear terms changed at random, each by an amount that alone would raise the loss by some of itself."""
    value, _, curvature = balanced.quadratic_model(reduced)
    natural = np.sqrt(max(value, 0.0) / np.maximum(np.diagonal(curvature), 1e-300))
    shaken = reduced.copy()
    count = balanced.n_terms
    shaken[:count] += settings.perturbation * natural[:count] * rng.normal(size=count)
    return shaken
