r"""Readout weights from the grid ±2^k eV: chosen, as channels are, not fitted.

A projector readout :math:`w\,uu^T` with d angles has d free directions even if its weight is given:
:math:`v = (t, \sigma\beta/2t)` with :math:`t^2 = \tfrac 1 2\left(|w| + \sqrt{w^2 - |\beta|^2}\right)` has
:math:`|v|^2 = |w|` and the linear terms β, for every β up to the length \|w\|. So a weight as a number costs a
parameter per species and gives little; what remains of it is a scale, which a grid of powers of two holds.

The scales are chosen by the loss, shot noise included: the weights are optimised with everything else, rounded, the
rest is optimised again, and then each species in turn tries half and twice its weight.

Why this is no default: shot noise grows with the weight squared, and a factor of two is coarse. At 99 parameters the
force error on frames held out goes from 80.8 to 78.7 and from 77.4 to 78.0 meV/Å on two splits of uio66, from 71.3 to
71.3 on lips83 and from 177 to 195 on Li-MOF-5, the force noise of 40,000 shots a state from 24.7 to 36.7, 28.5 to 30.4,
13.5 to 16.3 and 55 to 82 meV/Å: 1.1 to 2.2 times the shots (variant ``power_of_two`` of
``benchmarks/accuracy/suite/ablations.py``).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qiskit_qff.circuit.ansatz import angles_for_vector, build_program
from qiskit_qff.circuit.compiled import readout_matrices
from qiskit_qff.training.design import Progress
from qiskit_qff.training.objective import Objective
from qiskit_qff.training.solver import (
    Restart,
    SolverSettings,
    levenberg_marquardt,
    linear_start,
    solve_references,
)

FloatArray = NDArray[np.float64]

TRIAL_STEPS = 20
"""Levenberg-Marquardt steps by which another weight has to show that it is better."""
LEAST_GAIN = 1e-4
"""Fraction by which it has to lower the loss."""


def power_of_two_start(objective: Objective, settings: SolverSettings, *, progress: Progress) -> FloatArray:
    """Parameters whose readout weights are powers of two, the best that were found.

    Args:
        objective: The loss of a layout of rank-one trees whose weights are not trained.
        settings: How long to optimise.
        progress: Called after every step.

    Returns:
        Shape ``(P,)``.
    """
    free = objective.with_trained_weights()
    relaxed = levenberg_marquardt(free, linear_start(free), settings, progress=progress, label="scales").parameters
    start = relaxed
    for s, weight in enumerate(rounded(relaxed[objective.layout.all_weights]).tolist()):
        start = _reweighted(objective, start, s, weight)
    best = _optimised(objective, start, settings, progress)
    trial = replace(settings, max_iterations=min(settings.max_iterations, TRIAL_STEPS))
    for s in range(len(objective.layout.specs)):
        for factor in (0.5, 2.0):
            weight = float(best.parameters[objective.layout.weights[s]][0])
            found = _optimised(objective, _reweighted(objective, best.parameters, s, factor * weight), trial, progress)
            if found.losses[-1] < (1.0 - LEAST_GAIN) * best.losses[-1]:
                best = found
    return best.parameters


def power_of_two_weights(objective: Objective) -> FloatArray:
    """Weights for training that has no solution to begin from: those of the linear model's readout, rounded.

    Args:
        objective: The loss of a layout of rank-one trees.

    Returns:
        Shape ``(n_weights,)``, in eV.
    """
    weights = linear_start(objective.with_trained_weights())[objective.layout.all_weights]
    return rounded(weights)


def rounded(weights: FloatArray) -> FloatArray:
    """The nearest powers of two, signs kept, on a scale of logarithms.

    Args:
        weights: In eV, not zero.
    """
    found: FloatArray = np.sign(weights) * np.exp2(np.round(np.log2(np.abs(weights))))
    return found


def _optimised(objective: Objective, start: FloatArray, settings: SolverSettings, progress: Progress) -> Restart:
    """Angles and reference energies optimised for given weights."""
    start = solve_references(objective, start)
    return levenberg_marquardt(objective, start, settings, progress=progress, label="scales")


def _reweighted(objective: Objective, parameters: FloatArray, s: int, weight: float) -> FloatArray:
    """The same parameters with another weight of a species, and its linear terms, as far as the weight holds them."""
    layout = objective.layout
    spec, moved = layout.specs[s], parameters.copy()
    projector = readout_matrices(build_program(spec), parameters[layout.angles[s]])[0]
    beta = 2.0 * float(parameters[layout.weights[s]][0]) * projector[0, 1 : spec.n_amplitudes]
    size = max(float(np.linalg.norm(beta)), 1e-12)
    kept = min(size, abs(weight))
    t = np.sqrt(0.5 * (abs(weight) + np.sqrt(weight**2 - kept**2)))
    vector = np.concatenate([[t], np.sign(weight) * beta * (kept / size) / (2.0 * t)])
    moved[layout.angles[s]] = angles_for_vector(spec, vector)
    moved[layout.weights[s]] = weight
    return moved
