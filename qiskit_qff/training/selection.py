r"""Which frames to label next: greedy D-optimal design in the features that the model sees.

Each species begins with the information that training has, and every frame taken adds its atoms,

.. math:: A_s = \epsilon_s^2\, C_s^{-1}, \qquad A_s \leftarrow A_s + \sum_{i \in s} \gamma_i^2\, y_i y_i^T,

with the covariance C, the edge and the extrapolation grade of :mod:`qiskit_qff.model.uncertainty`. The scale gives
an atom at the edge of the training data a leverage :math:`y^T A^{-1} y = \gamma^2` of one, as in the active sets of
moment tensor potentials: what counts is a *new* direction, not a small step along a known one. Each atom counts by its
own leverage again, so that many known surroundings do not outweigh one that is new. With rows
:math:`\gamma_i\,y_i` in Y the gain of a frame is

.. math:: \sum_s \log\det\left(1 + Y_s A_s^{-1} Y_s^T\right),

large for frames far outside, small for frames like one that was taken already. Gains only fall as frames are taken (the
function is submodular), so a frame is looked at again only if its old gain is the largest (lazy greedy), and the result
is at least 63 % as informative as the best choice of so many frames.

References:
    A. Krause, A. Singh and C. Guestrin, J. Mach. Learn. Res. 9, 235 (2008).
    M. Minoux, Optimization Techniques 7, 234 (1978), doi:10.1007/BFb0006528.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.errors import ConfigError, DataError
from qiskit_qff.model.uncertainty import Grades, UncertaintyEstimator
from qiskit_qff.structures.frame import Frame
from qiskit_qff.training.statistics import Progress


@dataclass(frozen=True, eq=False)
class Candidate:
    """A frame that may be labelled."""

    index: int  # its place among the candidates
    grades: Grades  # of its atoms
    features: tuple[FloatArray, ...]  # whitened, of each species; their length is the leverage, shapes ``(n_s, d_s)``


class Selected(NamedTuple):
    """A frame that was taken."""

    candidate: Candidate
    gain: float  # information it added, given those taken before, in nats


def grade_candidates(
    estimator: UncertaintyEstimator, frames: Sequence[Frame], *, progress: Progress
) -> list[Candidate]:
    """Grade all candidates; their features are kept, some 20 kB a frame of 80 atoms."""
    posterior = estimator.posterior
    whitenings = [
        _root_of(posterior.covariance[block, block]) / edge
        for block, edge in zip(estimator.blocks, posterior.edges, strict=True)
    ]
    candidates = []
    for index, frame in enumerate(frames):
        progress("grades", index, len(frames))
        kinds, neighbors = estimator.surroundings(frame)
        features = estimator.features(kinds, neighbors)
        white = tuple(own @ root for own, root in zip(features, whitenings, strict=True))
        # Times their own length: leverages become their squares.
        rows = tuple(own * np.linalg.norm(own, axis=1, keepdims=True) for own in white)
        candidates.append(Candidate(index, estimator.grades_of(kinds, features), rows))
    progress("grades", len(frames), len(frames))
    return candidates


def select(candidates: Sequence[Candidate], count: int) -> list[Selected]:
    """Take the most informative frames, one after the other."""
    if count < 1:
        raise ConfigError(f"at least one frame must be selected; {count} were asked for.")
    if len(candidates) < count:
        raise DataError(f"{count} frames are to be selected, but there are only {len(candidates)} candidates.")
    # Covariances A^-1 in whitened features; the identity is what training knows.
    known = [np.eye(features.shape[1]) for features in candidates[0].features]
    queue = [(-_gain(candidate, known), k, 0) for k, candidate in enumerate(candidates)]
    heapq.heapify(queue)
    taken: list[Selected] = []
    while len(taken) < count:
        negative, k, seen = heapq.heappop(queue)
        if seen < len(taken):
            heapq.heappush(queue, (-_gain(candidates[k], known), k, len(taken)))
            continue
        taken.append(Selected(candidates[k], -negative))
        known = [_learnt(inverse, own) for inverse, own in zip(known, candidates[k].features, strict=True)]
    return taken


def _root_of(covariance: FloatArray) -> FloatArray:
    """W with ``|y W|^2 = y C y``."""
    values, vectors = np.linalg.eigh(covariance)
    root: FloatArray = vectors * np.sqrt(np.maximum(values, 0.0))
    return root


def _gain(candidate: Candidate, known: Sequence[FloatArray]) -> float:
    """Log det(1 + Y A^-1 Y^T) of all species."""
    total = 0.0
    for features, inverse in zip(candidate.features, known, strict=True):
        if len(features):
            total += float(np.linalg.slogdet(np.eye(len(inverse)) + inverse @ (features.T @ features))[1])
    return total


def _learnt(inverse: FloatArray, features: FloatArray) -> FloatArray:
    """(A + Y^T Y)^-1, by the smaller of two inversions."""
    if not len(features):
        return inverse
    pulled = features @ inverse
    updated: FloatArray = inverse - pulled.T @ np.linalg.solve(np.eye(len(features)) + pulled @ features.T, pulled)
    return 0.5 * (updated + updated.T)
