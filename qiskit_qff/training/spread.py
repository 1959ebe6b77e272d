"""A committee from the curvature of the loss: draws of what the data leave open; see :mod:`qiskit_qff.model.spread`."""

from __future__ import annotations

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.model.spread import ModelSpread
from qiskit_qff.training.balance import reduced_parameters
from qiskit_qff.training.objective import Objective

MEMBERS = 16
"""Members of a committee: their spread, averaged over three components, is then known to 10 %."""
SOFTEST = 1e-6
"""Directions in which the loss is softer than this, relative to the stiffest in unit-diagonal scaling, move no more
than one of this stiffness: the quadratic form says nothing about what lies so far away."""


def draw_spread(
    objective: Objective, parameters: FloatArray, *, n_frames: int, rng: np.random.Generator, members: int = MEMBERS
) -> dict[int, ModelSpread]:
    """Draw the members of a committee.

    Args:
        objective: The loss.
        parameters: Its minimum, shape ``(P,)``.
        n_frames: Frames behind the loss.
        rng: Source of the draws.
        members: How many.

    Returns:
        Per atomic number.
    """
    statistics = objective.statistics
    if objective.layout.balanced:
        balanced, reduced = reduced_parameters(objective, parameters)
        value, _, curvature = balanced.quadratic_model(reduced)
        slopes = balanced.slopes(reduced)
    else:
        value, _, curvature = objective.quadratic_model(parameters)
        slopes = objective.jacobian(parameters)
    diagonal = np.diagonal(curvature)
    scale = 1.0 / np.sqrt(np.maximum(diagonal, 1e-14 * diagonal.max()))
    values, vectors = np.linalg.eigh(curvature * np.outer(scale, scale))
    lengths = np.sqrt(max(value, 0.0) / n_frames / np.maximum(values, SOFTEST * values[-1]))
    moved = (rng.normal(size=(members, len(values))) * lengths) @ vectors.T * scale
    # To first order in M, as the loss was expanded: soft directions would otherwise turn angles through full circles.
    draws = moved @ slopes.T
    references = statistics.references.changes(draws[:, statistics.starts[-1] :])
    found = {}
    for s, number in enumerate(statistics.species):
        own = np.flatnonzero(statistics.owners == s)
        triangles = draws[:, statistics.starts[own[0]] : statistics.starts[own[-1] + 1]]
        found[number] = ModelSpread(triangles, references[:, s])
    return found
