r"""M_k of every register, and by parameter shift of all registers at once their derivatives by all circuit angles.

Registers are independent: the circuit in which the j-th rotation of *every* register is shifted gives the derivative of
every register's M by its own j-th rotation. With R rotations a register that makes 2 R + 1 parameter sets, however
many registers, species, atoms and frames there are, times n + 1 settings for rank-one readouts or the pair states of
others (:mod:`~qiskit_qff.evaluators.operator`). The shift rule holds for M, whose entries are expectation
values:

.. math:: \partial M_k / \partial\alpha = \tfrac12\left[M_k(\alpha + \tfrac\pi2) - M_k(\alpha - \tfrac\pi2)\right].

What is fitted to a measurement looks better in it than it is. So M_k is returned twice, from different shots: *fitted*
for solving readout weights, *checked* for judging them. With derivatives, rank-one readouts have both without another
circuit: a rotation by α turns the real u by α/2, so that :math:`u_+ + u_- = \sqrt2\,u` for every pair of shifts, a
second u from the 2 R shifted sets. Otherwise the programmed angles are measured twice, with half the shots each where
nothing else is measured.

References:
    Schuld, Bergholm, Gogolin, Izaac, Killoran, "Evaluating analytic gradients on quantum hardware",
    Phys. Rev. A 99, 032331 (2019), https://doi.org/10.1103/PhysRevA.99.032331
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.circuit.ansatz import BoundProgram, CircuitProgram, gates_of, untied_circuit
from qiskit_qff.evaluators.operator import (
    MeasuredVectors,
    fit_vectors,
    is_rank_one,
    joined,
    pair_requests,
    pair_response,
    programmed_vector,
    vector_tasks,
)
from qiskit_qff.evaluators.primitive import PrimitiveEvaluator
from qiskit_qff.evaluators.protocol import Cost, Evaluation, Evaluator, Request

Circuits = Sequence[tuple[CircuitProgram, FloatArray]]
"""Programs of registers with their angles θ."""


@dataclass(frozen=True, eq=False)
class Forms:
    """M_k of one register at some parameter sets, with their errors."""

    matrices: FloatArray
    """M_k, dimensionless, shape ``(n_sets, n_readouts, 2**n, 2**n)``; zero beyond the program's amplitudes."""
    errors: FloatArray
    """Change of M_k by one standard deviation of each independent error, shape ``(n_sets, n_errors, n_readouts, 2**n,
    2**n)``; no errors where values are exact. Parameter sets are independent."""

    def __getitem__(self, sets: slice) -> Forms:
        """Some of the parameter sets."""
        return Forms(self.matrices[sets], self.errors[sets])

    def contract(self, cotangents: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Values and variances of ``sum_k Tr(W_k M_k)``, shape ``(n_sets,)`` each, for W ``(n_readouts, D, D)``."""
        pulled = np.einsum("sekij,kij->se", self.errors, cotangents, optimize=True)
        return np.einsum("skij,kij->s", self.matrices, cotangents), np.sum(pulled**2, axis=1)


@dataclass(frozen=True, eq=False)
class MeasuredRegister:
    """All M_k of one circuit, and what is needed for their derivatives."""

    fitted: Forms
    """One set to solve readout weights on."""
    checked: Forms
    """One set to judge them by: other shots, unless values are exact."""
    shifted: Forms | None
    """At every shifted rotation, + before -; None where derivatives were not asked for."""
    angle_matrix: FloatArray
    """Rotations by angles θ, shape ``(n_rotations, n_angles)``."""

    def derivatives(self) -> FloatArray:
        """dM_k/dθ, shape ``(n_angles, n_readouts, 2**n, 2**n)``."""
        assert self.shifted is not None
        ahead, behind = self.shifted.matrices[0::2], self.shifted.matrices[1::2]
        return np.asarray(np.tensordot(self.angle_matrix.T, 0.5 * (ahead - behind), axes=1))

    def slopes(self, cotangents: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Derivatives of ``sum_k Tr(W_k M_k)`` by θ and their variances, ``(n_angles,)`` each, for symmetric W_k."""
        assert self.shifted is not None
        values, variances = self.shifted.contract(cotangents)
        slopes = 0.5 * (values[0::2] - values[1::2]) @ self.angle_matrix
        return slopes, 0.25 * (variances[0::2] + variances[1::2]) @ self.angle_matrix**2


def measure_registers(
    evaluator: Evaluator, circuits: Circuits, *, slopes: bool = False, shots: int | None = None
) -> list[MeasuredRegister]:
    """Measure every M_k of several programs at their angles side by side."""
    plans = [_Plan.of(*circuit, slopes=slopes, twice=shots is not None) for circuit in circuits]
    requests = [plan.requests(number) for number, plan in enumerate(plans)]
    flat = [request for own in requests for request in own]
    found = iter(evaluator.evaluate(flat, shots=_shots_per_set(shots, slopes=slopes)))
    answers = [[next(found) for _ in own] for own in requests]
    vectors = _fitted(plans, answers)
    return [plan.read(own, one) for plan, own, one in zip(plans, answers, vectors, strict=True)]


def cost_of_registers(
    evaluator: Evaluator, circuits: Circuits, *, slopes: bool = False, shots: int | None = None, first: bool = False
) -> Cost:
    """What the same takes, including noise learning if ``first``; nothing is run."""
    plans = [_Plan.of(*circuit, slopes=slopes, twice=shots is not None) for circuit in circuits]
    requests = [request for number, plan in enumerate(plans) for request in plan.requests(number)]
    used = _shots_per_set(shots, slopes=slopes)
    cost = evaluator.cost(requests, shots=used)
    if first and isinstance(evaluator, PrimitiveEvaluator):
        cost += evaluator.learning(requests, shots=used)
    return cost


def _shots_per_set(shots: int | None, *, slopes: bool) -> int | None:
    """Executions per setting of each parameter set: half of those of a loss where two sets share them."""
    return shots if shots is None or slopes else max(1, shots // 2)


@dataclass(frozen=True, eq=False)
class _Plan:
    """Parameter sets of one register."""

    program: CircuitProgram
    """Circuit with a parameter of its own for every rotation."""
    angle_matrix: FloatArray
    """Rotations by angles θ."""
    rotations: FloatArray
    """Rotation angles of every set, the programmed ones first, then the shifted ones, shape ``(n_sets, R)``."""
    n_plain: int
    """How often the programmed angles are measured."""

    @classmethod
    def of(cls, program: CircuitProgram, theta: FloatArray, *, slopes: bool, twice: bool) -> _Plan:
        """Programmed and shifted sets; what has noise must be known twice."""
        gates = gates_of(program)
        plain = gates.rotation_angles(theta)[None]
        n_plain = 2 if twice and not (slopes and is_rank_one(program)) else 1
        shifts = np.kron(np.eye(plain.shape[1]), [[0.5 * np.pi], [-0.5 * np.pi]])
        shifted = plain + shifts if slopes else plain[:0]
        sets = np.vstack([np.repeat(plain, n_plain, axis=0), shifted])
        return cls(_untied(program), gates.angle_matrix, sets, n_plain)

    def requests(self, register: int) -> list[Request]:
        """One request per setting or preparation circuit."""
        if is_rank_one(self.program):
            return [Request(task, self.rotations, register) for task in vector_tasks(self.program)]
        return pair_requests(self.program, self.rotations, register)

    def read(self, answers: Sequence[Evaluation], vectors: MeasuredVectors | None) -> MeasuredRegister:
        """The register from the answers to the requests, or from its vectors where they determine it."""
        forms = self._pair_forms(answers) if vectors is None else self._vector_forms(vectors)
        fitted, shifted = forms[self.n_plain - 1 : self.n_plain], None
        if len(self.rotations) > self.n_plain:
            shifted = forms[self.n_plain :]
            if vectors is not None:
                fitted = self._vector_forms(_from_shifts(vectors[self.n_plain :]))
        return MeasuredRegister(fitted, forms[:1], shifted, self.angle_matrix)

    def programmed(self) -> FloatArray:
        """U of every set on a perfect device, shape ``(n_sets, 2**n)``."""
        weights = np.ones(self.program.n_readouts)
        return np.array([programmed_vector(BoundProgram(self.program, angles, weights)) for angles in self.rotations])

    def _vector_forms(self, found: MeasuredVectors) -> Forms:
        """U u^T on the amplitudes in use."""
        vectors, covariances = found.vectors, found.covariances
        used = np.arange(vectors.shape[1]) < self.program.n_amplitudes
        variances, modes = np.linalg.eigh(covariances)
        moved = np.where(used, (modes * np.sqrt(np.maximum(variances, 0.0))[:, None, :]).swapaxes(1, 2), 0.0)
        kept = np.where(used, vectors, 0.0)
        half = moved[:, :, :, None] * kept[:, None, None, :]
        errors = half + half.swapaxes(2, 3) if covariances.any() else half[:, :0]
        return Forms((kept[:, :, None] * kept[:, None, :])[:, None], errors[:, :, None])

    def _pair_forms(self, answers: Sequence[Evaluation]) -> Forms:
        """M_k from the values in pair states."""
        program, n_sets, size = self.program, len(self.rotations), 2**self.program.n_qubits
        answers = joined(program, answers)
        values = np.concatenate([one.values.reshape(n_sets, -1, program.n_readouts) for one in answers], axis=1)
        noise = np.concatenate(
            [one.covariances.reshape(n_sets, -1, *one.covariances.shape[1:]) for one in answers], axis=1
        )
        response = pair_response(program)
        variances, modes = np.linalg.eigh(noise)
        spread = (modes * np.sqrt(np.maximum(variances, 0.0))[..., None, :]).swapaxes(-1, -2)
        errors = np.einsum("samk,aij->samkij", spread, response, optimize=True)
        errors = errors.reshape(n_sets, -1, program.n_readouts, size, size)
        return Forms(np.einsum("sak,aij->skij", values, response), errors if noise.any() else errors[:, :0])


def _fitted(plans: Sequence[_Plan], answers: Sequence[Sequence[Evaluation]]) -> list[MeasuredVectors | None]:
    """Vectors of the rank-one registers; None for the others.

    PERF: all registers and parameter sets in one fit; one by one took most of the time of a training step.
    """
    found: list[MeasuredVectors | None] = [None] * len(plans)
    for size in {plan.program.n_qubits for plan in plans}:
        chosen = [k for k, p in enumerate(plans) if p.program.n_qubits == size and is_rank_one(p.program)]
        settings = [
            Evaluation(
                np.concatenate([one.values for one in setting]),
                np.concatenate([one.covariances for one in setting]),
            )
            for setting in zip(*(answers[k] for k in chosen), strict=True)
        ]
        start = 0
        if chosen:
            whole = fit_vectors(np.concatenate([plans[k].programmed() for k in chosen]), settings)
        for k in chosen:
            stop = start + len(plans[k].rotations)
            found[k], start = whole[start:stop], stop
    return found


def _from_shifts(shifted: MeasuredVectors) -> MeasuredVectors:
    """The vector at the programmed angles from those at all shifted ones, along whose sum it lies."""
    total = shifted.vectors.sum(axis=0)
    length = np.linalg.norm(total)
    vector = total / length
    across = (np.eye(len(vector)) - np.outer(vector, vector)) / length
    covariance = across @ shifted.covariances.sum(axis=0) @ across
    return MeasuredVectors(vector[None], covariance[None], shifted.contrasts.mean(keepdims=True))


@lru_cache(maxsize=64)
def _untied(program: CircuitProgram) -> CircuitProgram:
    """The same program with one parameter for every rotation."""
    circuit = untied_circuit(program.circuit, name="theta")
    parts = tuple((places, _untied(part)) for places, part in program.parts)
    return CircuitProgram(circuit, program.readouts, program.n_amplitudes, parts)
