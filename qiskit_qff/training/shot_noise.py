r"""The noise that a finite number of shots adds to the loss, in closed form, so that training can lower it.

A measured M carries errors :math:`\delta m = B\,\epsilon` with one independent :math:`\epsilon_v` for every state v of
the calibration (B solves expectation values for entries of M). With the Gram matrix G of the loss the expected loss of
the measured model is that of the exact one plus

.. math:: N(p) = \frac 1 {\mathrm{shots}} \sum_v q_v\,\mathrm{Var}_v,\qquad q = \mathrm{diag}(B^T G B),\qquad
          \mathrm{Var}_v = v^T M^{(2)} v - (v^T M v)^2,\qquad M^{(2)} = U^\dagger O^2 U .

Both matrices are linear in products of readout weights and smooth in the angles, so N has an analytic gradient; as
:math:`\sum_v (\sqrt{q_v}\,\sigma_v)^2` it is a sum of squares, which Levenberg-Marquardt takes like any other.

Rank-one readouts of trees are measured by their vector; their noise is in :mod:`~qiskit_qff.training.balance`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.circuit.ansatz import AnsatzSpec, build_program
from qiskit_qff.circuit.compiled import readout_jacobian, readout_matrices
from qiskit_qff.circuit.program import CircuitProgram
from qiskit_qff.evaluators.strategies.designs import operator_design


@dataclass(frozen=True, eq=False)
class RegisterNoise:
    """Noise of one register's M, measured in pair states, as a function of its angles and weights."""

    spec: AnsatzSpec
    """Circuit and readout."""
    first: IntArray
    """Measured states v are :math:`|j\\rangle` or :math:`(|j\\rangle \\pm |k\\rangle)/\\sqrt 2`: j, shape
    ``(n_states,)``."""
    second: IntArray
    """k of each state; j again for a basis state."""
    sign: FloatArray
    """The sign between them."""
    sensitivity: FloatArray
    """q: what a unit of variance of each state adds to the loss, shape ``(n_states,)``, in 1/eV²."""

    @classmethod
    def from_gram(cls, spec: AnsatzSpec, size: int, gram: FloatArray) -> RegisterNoise:
        """Sensitivities on given data.

        Args:
            spec: Circuit and readout.
            size: Amplitudes in use, D.
            gram: Gram matrix of the entries of M, upper triangle, shape ``(D (D + 1) / 2, D (D + 1) / 2)``.
        """
        plan = operator_design(size, spec.n_qubits, "pairs")
        place = np.zeros((size, size), dtype=np.int64)
        place[np.triu_indices(size)] = np.arange(size * (size + 1) // 2)
        entries = place[plan.rows, plan.columns]
        kept = gram[np.ix_(entries, entries)].copy()
        # M_00 only shifts the energy of all atoms of the species: the reference energy takes it up.
        constant = entries == 0
        kept[constant] = kept[:, constant] = 0.0
        sensitivity = np.einsum("es,ef,fs->s", plan.solution, kept, plan.solution, optimize=True)
        first = np.argmax(plan.states != 0.0, axis=1)
        second = size - 1 - np.argmax(plan.states[:, ::-1] != 0.0, axis=1)
        every = np.arange(plan.n_states)
        sign = np.sign(plan.states[every, first] * plan.states[every, second])
        return cls(spec, first, second, sign, np.maximum(sensitivity, 0.0))

    def value(self, theta: FloatArray, weights: FloatArray) -> float:
        """Loss that one shot a state would add.

        Args:
            theta: Angles in radians, shape ``(n_angles,)``.
            weights: Readout weights in eV, shape ``(n_readouts,)``.
        """
        first, second = self._expectations(theta)
        mean = weights @ first
        variance = np.einsum("k,kls,l->s", weights, second, weights) - mean**2
        return float(self.sensitivity @ np.maximum(variance, 0.0))

    def quadratic_model(self, theta: FloatArray, weights: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """Value with half its gradient and half its Gauss-Newton matrix, angles before weights.

        Args:
            theta: Angles in radians, shape ``(n_angles,)``.
            weights: Readout weights in eV, shape ``(n_readouts,)``.
        """
        first, second = self._expectations(theta)
        first_slope, second_slope = self._slopes(theta)
        mean, twice = weights @ first, np.einsum("kls,l->ks", second, weights)
        variance = np.maximum(weights @ twice - mean**2, 0.0)
        by_angle = np.einsum("k,jkls,l->js", weights, second_slope, weights, optimize=True)
        by_angle -= 2.0 * mean * np.einsum("k,jks->js", weights, first_slope)
        by_weight = 2.0 * twice - 2.0 * mean * first
        slopes = np.concatenate([by_angle, by_weight])
        # A state without spread has a kink of σ; the floor keeps its curvature finite.
        floor = 1e-12 * max(float(variance.max()), 1e-300)
        curvature = (slopes * (0.25 * self.sensitivity / np.maximum(variance, floor))) @ slopes.T
        return float(self.sensitivity @ variance), 0.5 * slopes @ self.sensitivity, curvature

    def _expectations(self, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Expectation values of the readouts ``(K, n_states)`` and of their products ``(K, K, n_states)``."""
        program, (products, index) = build_program(self.spec), _products(self.spec)
        first = self._in_states(readout_matrices(program, theta))
        second = first if products is None else self._in_states(readout_matrices(products, theta))
        return first, _spread(second, index)

    def _slopes(self, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Derivatives of both with respect to the angles, which are the first axis."""
        program, (products, index) = build_program(self.spec), _products(self.spec)
        first = self._in_states(readout_jacobian(program, theta))
        second = first if products is None else self._in_states(readout_jacobian(products, theta))
        return first, np.stack([_spread(part, index) for part in second])

    def _in_states(self, matrices: FloatArray) -> FloatArray:
        """Expectation values ``v^T A v``, shape ``(..., n_states)``, of symmetric matrices."""
        diagonal = np.diagonal(matrices, axis1=-2, axis2=-1)
        mixed = 0.5 * (diagonal[..., self.first] + diagonal[..., self.second])
        mixed += self.sign * matrices[..., self.first, self.second]
        return np.asarray(np.where(self.first == self.second, diagonal[..., self.first], mixed))


@lru_cache(maxsize=64)
def _products(spec: AnsatzSpec) -> tuple[CircuitProgram | None, IntArray]:
    """A program that reads products of readouts, None where they are the readouts, and where each pair is found."""
    program = build_program(spec)
    count = program.n_readouts
    pairs = (program.readouts[:, None] * program.readouts[None]).reshape(count * count, -1)
    distinct, index = np.unique(pairs, axis=0, return_inverse=True)
    zero = np.flatnonzero(~distinct.any(axis=1))
    place = np.where(np.isin(index, zero), -1, index).reshape(count, count)
    if np.array_equal(pairs[:: count + 1], program.readouts) and (place[~np.eye(count, dtype=bool)] == -1).all():
        return None, np.where(np.eye(count, dtype=bool), np.arange(count)[:, None], -1)
    return CircuitProgram(program.circuit, distinct, program.n_amplitudes), place


def _spread(values: FloatArray, index: IntArray) -> FloatArray:
    """Values of distinct products, shape ``(L, n_states)``, on all pairs of readouts, ``(K, K, n_states)``."""
    return np.asarray(np.where(index[..., None] < 0, 0.0, values[index]))
