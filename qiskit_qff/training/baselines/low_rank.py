r"""Quadratic models of low rank, fitted classically on the sums that circuits are trained on.

.. math:: E_i = e_s + \beta_s\cdot y_i + \sum_{k=1}^{r} \sigma_{sk} (v_{sk}\cdot y_i)^2,\qquad \sigma = \pm 1

has ``d (1 + r)`` coefficients per species. The signs are fixed before each start and the best start is kept; like the
sign of a readout weight each belongs to its vector. Levenberg-Marquardt of MINPACK (scipy) minimises the loss of
training, written as a sum of squares by a root of its Gram matrix; it starts at the linear solution with small v.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import least_squares

from qiskit_qff.array_types import FloatArray
from qiskit_qff.compression.linear_map import LinearMap
from qiskit_qff.descriptors.fence import no_fence
from qiskit_qff.descriptors.tables import make_tables
from qiskit_qff.model.core_repulsion import CoreRepulsion
from qiskit_qff.model.evaluation import FoldedForceField
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.neighbors import neighbor_list
from qiskit_qff.structures.species import species_index
from qiskit_qff.training.baselines.baseline import Baseline, BaselineLedger
from qiskit_qff.training.objective import RIDGE
from qiskit_qff.training.statistics import QuadraticStatistics


@dataclass(frozen=True, eq=False)
class LowRankFit:
    """Outcome of a fit."""

    forms: tuple[FloatArray, ...]
    """Matrix M of each species over (1, y), shape ``(d_s + 1, d_s + 1)``, in eV; its first entry is the reference
    energy."""
    loss: float
    """Loss per frame."""
    n_coefficients: int
    """Numbers fitted besides reference energies."""
    n_references: int
    """Reference energies that the data tell apart."""


def fit_low_rank(
    statistics: QuadraticStatistics, rank: int, *, starts: int, rng: np.random.Generator, max_evaluations: int = 400
) -> LowRankFit:
    """Fit from several starts.

    Args:
        statistics: Sums over products of features.
        rank: Number of squares per species; 0 for the linear model.
        starts: Number of starts.
        rng: Source of signs and small vectors.
        max_evaluations: Most evaluations of one start.
    """
    problem = _Problem(statistics, rank)
    linear = problem.linear()
    best: tuple[float, FloatArray, FloatArray] | None = None
    for k in range(max(starts, 1) if rank else 1):
        signs = np.sign(rng.uniform(-1.0, 1.0, (len(statistics.sizes), rank))) if k else _alternating(problem)
        start = problem.start(linear, rng)
        # MINPACK wants at least as many residuals as parameters, which tiny data sets do not have.
        method: Literal["lm", "trf"] = "lm" if problem.n_residuals >= len(start) else "trf"
        found = least_squares(
            problem.residual, start, jac=problem.jacobian, method=method, args=(signs,), max_nfev=max_evaluations
        )
        loss = 2.0 * float(found.cost) + problem.rest
        if best is None or loss < best[0]:
            best = loss, found.x, signs
    assert best is not None
    forms = problem.forms(best[1], best[2])
    count = statistics.references.count
    return LowRankFit(forms, best[0], len(best[1]) - count, count)


def _alternating(problem: _Problem) -> FloatArray:
    """Plus for the first square of every species, minus for the second, and so on."""
    row = np.where(np.arange(problem.rank) % 2 == 0, 1.0, -1.0)
    return np.tile(row, (len(problem.sizes), 1))


class _Problem:
    """The loss as a sum of squares of ``R m(p) - t``."""

    def __init__(self, statistics: QuadraticStatistics, rank: int) -> None:
        self.rank, self.sizes = rank, statistics.sizes.tolist()
        self._statistics = statistics
        starts, count = statistics.starts, statistics.references.count
        keep = np.ones(len(statistics.equations.moment), dtype=np.bool_)
        keep[starts[:-1]] = False  # M_00 does what the reference energy does
        self._kept = np.flatnonzero(keep)
        gram = statistics.equations.gram[np.ix_(keep, keep)].copy()
        ridge = RIDGE * np.diagonal(gram).copy()
        ridge[-count:] = 0.0
        gram[np.diag_indices_from(gram)] += ridge
        moment = statistics.equations.moment[keep]
        scale = 1.0 / np.sqrt(np.maximum(np.diagonal(gram), 1e-300))
        values, vectors = np.linalg.eigh(gram * np.outer(scale, scale))
        good = values > 1e-12 * values[-1]
        root = np.sqrt(values[good])
        self._root = root[:, None] * vectors[:, good].T / scale
        self._target = (vectors[:, good].T @ (scale * moment)) / root
        self.rest = statistics.equations.constant - float(self._target @ self._target)
        self._offsets = np.concatenate([[0], np.cumsum([(1 + rank) * (n - 1) for n in self.sizes])])

    @property
    def n_residuals(self) -> int:
        """Independent rows of the data."""
        return len(self._target)

    def _operator(self, parameters: FloatArray, signs: FloatArray) -> tuple[FloatArray, ...]:
        """M of every species, without its first entry."""
        forms = []
        for s, size in enumerate(self.sizes):
            own = parameters[self._offsets[s] : self._offsets[s + 1]].reshape(1 + self.rank, size - 1)
            form = np.zeros((size, size))
            form[0, 1:] = form[1:, 0] = 0.5 * own[0]
            form[1:, 1:] = (own[1:].T * signs[s]) @ own[1:]
            forms.append(form)
        return tuple(forms)

    def residual(self, parameters: FloatArray, signs: FloatArray) -> FloatArray:
        """R m - t, shape ``(n,)``."""
        parts = [form[np.triu_indices(len(form))][1:] for form in self._operator(parameters, signs)]
        vector = np.concatenate([*parts, parameters[self._offsets[-1] :]])
        return np.asarray(self._root @ vector - self._target)

    def jacobian(self, parameters: FloatArray, signs: FloatArray) -> FloatArray:
        """Derivative of the residual, shape ``(n, P)``."""
        inner = np.zeros((len(self._kept), len(parameters)))
        row = 0
        for s, size in enumerate(self.sizes):
            rows, cols = (index[1:] for index in np.triu_indices(size))
            own = parameters[self._offsets[s] : self._offsets[s + 1]].reshape(1 + self.rank, size - 1)
            place, column = row + np.arange(len(rows)), self._offsets[s]
            first = rows == 0
            inner[place[first], column + cols[first] - 1] = 0.5
            a, b, place = rows[~first] - 1, cols[~first] - 1, place[~first]
            for k in range(self.rank):
                column += size - 1
                inner[place, column + a] += signs[s, k] * own[1 + k, b]
                inner[place, column + b] += signs[s, k] * own[1 + k, a]
            row += len(rows)
        count = self._statistics.references.count
        inner[row:, -count:] = np.eye(count)
        return np.asarray(self._root @ inner)

    def linear(self) -> FloatArray:
        """Best parameters without squares, shape ``(P,)``."""
        parameters = np.zeros(int(self._offsets[-1]) + self._statistics.references.count)
        none = np.zeros((len(self.sizes), self.rank))
        linear = np.concatenate(
            [
                *(self._offsets[s] + np.arange(size - 1) for s, size in enumerate(self.sizes)),
                np.arange(self._offsets[-1], len(parameters)),
            ]
        )
        jacobian = self.jacobian(parameters, none)[:, linear]
        parameters[linear] = np.linalg.lstsq(jacobian, self._target, rcond=None)[0]
        return parameters

    def start(self, linear: FloatArray, rng: np.random.Generator) -> FloatArray:
        """The linear solution, with vectors whose squares change the energy little."""
        parameters = linear.copy()
        for s, size in enumerate(self.sizes):
            own = parameters[self._offsets[s] : self._offsets[s + 1]].reshape(1 + self.rank, size - 1)
            own[1:] = 0.3 * np.sqrt(np.linalg.norm(own[0]) / (size - 1)) * rng.normal(size=own[1:].shape)
        return parameters

    def forms(self, parameters: FloatArray, signs: FloatArray) -> tuple[FloatArray, ...]:
        """M of every species with its reference energy as first entry."""
        forms = self._operator(parameters, signs)
        references = self._statistics.references.energies(parameters[self._offsets[-1] :])
        for form, reference in zip(forms, references, strict=True):
            form[0, 0] = reference
        return forms


def low_rank_baseline(
    name: str, words: str, fit: LowRankFit, maps: dict[int, LinearMap], repulsion: CoreRepulsion, *, r_cut: float
) -> Baseline:
    """A fitted quadratic model.

    Args:
        name: Its key.
        words: What it is.
        fit: The fit.
        maps: Compression of each species that its sums were made with.
        repulsion: Core repulsion, as the quantum model has it.
        r_cut: Cutoff radius in Å.
    """
    species = tuple(sorted(maps))
    folded = [maps[z].fold(form) for z, form in zip(species, fit.forms, strict=True)]
    field = FoldedForceField(
        tables=make_tables({z: maps[z].channels for z in species}, r_cut, core_start=repulsion.level),
        means=np.concatenate([maps[z].mean for z in species]),
        forms=np.concatenate([f.ravel() for f in folded]),
        form_start=np.concatenate([[0], np.cumsum([f.size for f in folded])]).astype(np.int64),
        references=np.zeros(len(species)),
        repulsion=repulsion,
        fence=no_fence(len(species)),
    )

    def predict(frame: Frame) -> tuple[float, FloatArray]:
        kinds = species_index(frame.numbers, species, where=frame.where)
        prediction = field.evaluate(kinds, neighbor_list(frame.positions, frame.cell, frame.pbc, r_cut))
        return prediction.energy, prediction.forces

    ledger = BaselineLedger(
        coefficients=fit.n_coefficients,
        reference_energies=fit.n_references,
        choices=sum(m.channels.n_channels for m in maps.values()),
        label_free=sum(m.mean.size + m.matrix.size for m in maps.values()),
    )
    return Baseline(name, words, ledger, predict)
