r"""Measuring the energy matrix M of a register itself, once; everything else is computed from it.

**Rank-one readouts** are known from their vector: M = w u u^T. A circuit prepares :math:`u = U^\dagger|0\rangle`, for
fixed angles the shallowest one there is, and n + 1 settings read it: Z on every qubit, and X on qubit j with Z on the
others for every j. Each is a real orthonormal basis :math:`B_s`, in which all Z strings have

.. math:: t_{sz} = c\,\sum_k (-1)^{z\cdot k} (B_s u)_k^2 ,

with a contrast c < 1 where the device depolarises. u and c follow by weighted least squares that start at the
programmed u, which settles the sign that no measurement shows. The covariances of the strings within a setting, which
share their shots, carry over to u by the fit; settings are independent. On a noiseless device u has the covariance
:math:`(1 - uu^T)/4N(n+1)`, the smallest possible.

**Other readouts**: the ``D (D + 1) / 2`` entries of the real and symmetric M follow by linear algebra from expectation
values in as many states, the basis states and the pair states :math:`(|j\rangle + |k\rangle)/\sqrt 2` for all j < k. At
most n - 1 entangling gates prepare each of them: one RY per qubit, and a chain of CNOT gates over the qubits of the
difference mask :math:`j \oplus k`; all states of a mask are parameter sets of one circuit. Every rotation of U has a
parameter of its own there, so that the two-term parameter shift holds for each of them.

The standard errors of energies :math:`x^T M x`, gradients :math:`2 M x` and any :math:`\mathrm{Tr}(M W)` follow from
those of M. Molecular dynamics on a measured M is exactly conservative, because M does not change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, pairwise

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector

from qiskit_qff.array_types import FloatArray
from qiskit_qff.circuit.ansatz import (
    BoundProgram,
    CircuitProgram,
    MeasurementTask,
    circuit_matrix,
    gates_of,
    untied_circuit,
    z_diagonals,
)
from qiskit_qff.encoding.preparation import vector_angles, vector_circuit
from qiskit_qff.errors import ConfigError
from qiskit_qff.evaluators.measured_operator import MeasuredOperator
from qiskit_qff.evaluators.protocol import Evaluation, Request

MOST_STEPS = 100
"""Gauss-Newton steps of the fit; a handful is enough unless noise is as large as the signal."""
CONVERGED = 1e-13
"""Length of a step that ends the fit."""
EXPECTED_CONTRAST = 0.9
"""Contrast that the weights of the fit assume; without one, strings of a basis state would have no variance."""
SHORTEST = 1e-6
"""Smallest fraction of a step that is tried."""
LEAST_CONTRAST = 0.05
"""Smaller contrasts are noise: the register can't be read on this device."""


def operator_requests(bound: BoundProgram, register: int = 0) -> list[Request]:
    """What has to be measured to know M: one request per setting of a vector, or per preparation of pair states."""
    if is_rank_one(bound.program):
        angles = vector_angles(programmed_vector(bound))[None]
        return [Request(task, angles, register) for task in _fixed_tasks(bound.program.n_qubits)]
    return pair_requests(bound.program, gates_of(bound.program).rotation_angles(bound.theta)[None], register)


def assemble_operator(bound: BoundProgram, results: Sequence[Evaluation]) -> MeasuredOperator:
    """M from the answers to :func:`operator_requests`, in the same order."""
    if not is_rank_one(bound.program):
        pairs = [result.weighted(bound.weights) for result in joined(bound.program, results)]
        values, variances = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        return MeasuredOperator(np.tensordot(values, pair_response(bound.program), axes=1), variances, "pairs")
    found = fit_vectors(programmed_vector(bound)[None], results)
    variances, modes = np.linalg.eigh(found.covariances[0])
    # Amplitudes that no feature fills are no part of M.
    kept = np.where(np.arange(found.vectors.shape[1]) < bound.program.n_amplitudes, found.vectors[0], 0.0)
    matrix = float(bound.weights[0]) * np.outer(kept, kept)
    return MeasuredOperator(matrix, np.maximum(variances, 0.0), "settings", modes.T)


def operator_errors(bound: BoundProgram, measured: MeasuredOperator) -> FloatArray:
    """Change of M by one standard deviation of each of its independent errors, in eV, ``(n_errors, 2**n, 2**n)``."""
    sizes = np.sqrt(measured.variances)[:, None, None]
    if measured.design == "pairs":
        return np.asarray(sizes * pair_response(bound.program))
    if measured.modes is None:  # files of version 0.1 tell no errors
        return np.full((1, *measured.matrix.shape), np.nan)
    weight, row = float(bound.weights[0]), int(np.argmax(np.abs(np.diagonal(measured.matrix))))
    length = np.sqrt(weight * measured.matrix[row, row])
    vector = np.sign(weight) * measured.matrix[row] / length if length > 0.0 else programmed_vector(bound)
    used = np.arange(len(vector)) < bound.program.n_amplitudes
    half = weight * np.where(used, measured.modes, 0.0)[:, :, None] * np.where(used, vector, 0.0)
    return np.asarray(sizes * (half + half.transpose(0, 2, 1)))


def pair_requests(program: CircuitProgram, rotations: FloatArray, register: int = 0) -> list[Request]:
    """What has to be measured to know any M: one request per measurement basis and preparation circuit of pair states.

    Args:
        rotations: Angles of the rotations of U, shape ``(n_sets, R)``; all states of the first set come first.
    """
    requests = []
    for _, part in program.bases:
        for mask, states in _pair_design(program.n_amplitudes, program.n_qubits)[0]:
            prepared = np.tile(states, (len(rotations), 1))
            parameters = np.hstack([prepared, np.repeat(rotations, len(states), axis=0)])
            requests.append(Request(_pair_task(part, mask), parameters, register))
    return requests


def joined(program: CircuitProgram, answers: Sequence[Evaluation]) -> list[Evaluation]:
    """All readouts from the answers to :func:`pair_requests`; those of different bases are independent."""
    found, count = [], len(answers) // len(program.bases)
    for mask in range(count):
        size = len(answers[mask].values)
        values, noise = np.zeros((size, program.n_readouts)), np.zeros((size, program.n_readouts, program.n_readouts))
        for (places, _), one in zip(program.bases, answers[mask::count], strict=True):
            values[:, places], noise[:, places[:, None], places] = one.values, one.covariances
        found.append(Evaluation(values, noise))
    return found


@lru_cache(maxsize=1024)
def _pair_task(program: CircuitProgram, mask: int) -> MeasurementTask:
    """Task for basis states and pair states of one difference mask; parameters ``beta``, then ``rotation``.

    Qiskit sorts parameters by name, so the preparation's come first.
    """
    circuit = QuantumCircuit(program.n_qubits, name=f"pair_{mask}")
    for qubit, angle in enumerate(ParameterVector("beta", program.n_qubits)):
        circuit.ry(angle, qubit)
    for control, target in pairwise(_bits(mask)):
        circuit.cx(control, target)
    return MeasurementTask(circuit.compose(untied_circuit(program.circuit, name="rotation")), program.readouts)


def _pair_angles(n_qubits: int, first: int, mask: int) -> FloatArray:
    r"""Angles ``beta`` of :math:`(|j\rangle + |j \oplus mask\rangle)/\sqrt 2`, or of the basis state if mask is 0."""
    bits = np.array([first >> qubit & 1 for qubit in range(n_qubits)], dtype=float)
    qubits = _bits(mask)
    # The CNOT chain adds to each qubit of the mask what its predecessor holds at the end: take it off beforehand.
    for control, target in zip(qubits[-2::-1], qubits[:0:-1], strict=True):
        bits[target] = (bits[target] + bits[control]) % 2
    angles = np.pi * bits
    if qubits:
        angles[qubits[0]] = np.pi / 2
    return np.asarray(angles)


def _bits(mask: int) -> list[int]:
    """Qubits of a mask, ascending."""
    return [qubit for qubit in range(mask.bit_length()) if mask >> qubit & 1]


def pair_response(program: CircuitProgram) -> FloatArray:
    """Change of M by a unit of the value of each pair state, shape ``(n_states, 2**n, 2**n)``."""
    return _pair_design(program.n_amplitudes, program.n_qubits)[1]


@lru_cache(maxsize=32)
def _pair_design(n_amplitudes: int, n_qubits: int) -> tuple[list[tuple[int, FloatArray]], FloatArray]:
    """Difference mask of each preparation circuit with the angles ``beta`` of its states, and the response of M."""
    members: dict[int, list[tuple[int, int]]] = {0: [(j, 0) for j in range(n_amplitudes)]}
    for j, k in combinations(range(n_amplitudes), 2):
        mask = j ^ k
        first = j if not j & mask & -mask else k
        # One qubit in superposition needs no CNOT: those states share the circuit of the basis states.
        members.setdefault(0 if mask.bit_count() == 1 else mask, []).append((first, mask))
    groups = [
        (group, np.array([_pair_angles(n_qubits, first, mask) for first, mask in entries]))
        for group, entries in members.items()
    ]
    basis = np.eye(2**n_qubits)[:, :n_amplitudes]
    pairs = [basis[first] + (mask > 0) * basis[first ^ mask] for entries in members.values() for first, mask in entries]
    states = np.array(pairs) / np.linalg.norm(pairs, axis=1, keepdims=True)
    rows, columns = np.triu_indices(n_amplitudes)
    products = states[:, rows] * states[:, columns] * np.where(rows == columns, 1.0, 2.0)
    response = np.zeros((len(states), 2**n_qubits, 2**n_qubits))
    response[:, rows, columns] = response[:, columns, rows] = np.linalg.inv(products).T
    return groups, response


@dataclass(frozen=True, eq=False)
class MeasuredVectors:
    """Readout vectors of a batch of circuits with their uncertainty."""

    vectors: FloatArray
    """u, of unit length, shape ``(batch, 2**n)``."""
    covariances: FloatArray
    """Covariance of each u, shape ``(batch, 2**n, 2**n)``; zero along u."""
    contrasts: FloatArray
    """What noise has left of the expectation values, shape ``(batch,)``; 1 without noise."""

    def __getitem__(self, chosen: slice) -> MeasuredVectors:
        """Part of the batch."""
        return MeasuredVectors(self.vectors[chosen], self.covariances[chosen], self.contrasts[chosen])


def is_rank_one(program: CircuitProgram) -> bool:
    """Whether M is w u u^T with a real u: one readout, the projector on the first basis state, of a real circuit."""
    first = np.zeros(2**program.n_qubits)
    first[0] = 1.0
    return program.n_readouts == 1 and np.array_equal(program.readouts[0], first) and gates_of(program).is_real


def programmed_vector(bound: BoundProgram) -> FloatArray:
    """U of the circuit, shape ``(2**n,)``."""
    return np.asarray(circuit_matrix(bound.program, bound.theta)[0].real, dtype=np.float64)


@lru_cache(maxsize=64)
def vector_tasks(program: CircuitProgram) -> tuple[MeasurementTask, ...]:
    """One task per setting, with the program's own rotations as parameters: for derivatives by parameter shift."""
    return _settings(untied_circuit(program.circuit, name="rotation").inverse())


@lru_cache(maxsize=16)
def _fixed_tasks(n_qubits: int) -> tuple[MeasurementTask, ...]:
    """One task per setting, with the shallowest preparation there is: for registers whose angles are known."""
    return _settings(vector_circuit(n_qubits))


def _settings(prepare: QuantumCircuit) -> tuple[MeasurementTask, ...]:
    """Z on all qubits, then X on each qubit with Z on the others."""
    n_qubits = prepare.num_qubits
    strings = z_diagonals(n_qubits, 2**n_qubits)[1:]
    tasks = [MeasurementTask(prepare, strings)]
    for qubit in range(n_qubits):
        rotated = prepare.copy()
        rotated.h(qubit)
        tasks.append(MeasurementTask(rotated, strings))
    return tuple(tasks)


def fit_vectors(programmed: FloatArray, results: Sequence[Evaluation]) -> MeasuredVectors:
    """Vectors u from one evaluation per setting, in order, each of a whole batch of parameter sets.

    The fit starts at the programmed vectors, shape ``(batch, 2**n)``.
    """
    n_qubits = programmed.shape[1].bit_length() - 1
    values = np.stack([result.values for result in results], axis=1)
    noise = np.stack([result.covariances for result in results], axis=1)
    model = _Settings.of(n_qubits)
    vectors, contrasts = programmed, np.ones(len(programmed))
    whitening = model.whitening(vectors)
    residual = model.residual(whitening, values, vectors, contrasts)
    for _ in range(MOST_STEPS):
        jacobian, tangents = model.jacobian(whitening, vectors, contrasts)
        step = (np.linalg.pinv(jacobian) @ residual[:, :, None])[:, :, 0]
        turn = np.einsum("bit,bt->bi", tangents, step[:, :-1])
        # A step that would raise the misfit is halved, for each vector by itself.
        scale = np.ones(len(vectors))
        while True:
            moved = vectors + scale[:, None] * turn
            moved /= np.linalg.norm(moved, axis=1, keepdims=True)
            trial = model.residual(whitening, values, moved, contrasts + scale * step[:, -1])
            limit = np.sum(residual**2, axis=1) * (1.0 + 1e-12) + 1e-28
            worse = (np.sum(trial**2, axis=1) > limit) & (scale > SHORTEST)
            if not worse.any():
                break
            scale[worse] *= 0.5
        vectors, contrasts, residual = moved, contrasts + scale * step[:, -1], trial
        if np.all(scale * np.linalg.norm(step, axis=1) < CONVERGED):
            break
    if contrasts.min() < LEAST_CONTRAST:
        raise ConfigError(
            f"a register of {n_qubits} qubits was read with a contrast of {contrasts.min():.2g}: noise has left "
            "nothing of it. Choose smaller registers (circuit.n_qubits) or a better device."
        )
    jacobian, tangents = model.jacobian(whitening, vectors, contrasts)
    response = np.linalg.pinv(jacobian)[:, :-1].reshape(len(vectors), -1, *values.shape[1:])
    # Settings are independent, the strings of a setting are not.
    pulled = tangents[:, None] @ response.swapaxes(1, 2) @ whitening
    covariances = np.sum(pulled @ noise @ pulled.swapaxes(2, 3), axis=1)
    return MeasuredVectors(vectors, covariances, contrasts)


@dataclass(frozen=True, eq=False)
class _Settings:
    """What a vector would show in every setting; batches of vectors come first in all arrays."""

    bases: FloatArray
    """B_s, little-endian, shape ``(n + 1, 2**n, 2**n)``."""
    strings: FloatArray
    """Diagonals of the Z strings, shape ``(n_strings, 2**n)``."""

    @classmethod
    @lru_cache(maxsize=16)
    def of(cls, n_qubits: int) -> _Settings:
        """The settings of a register."""
        hadamard = np.array([[1.0, 1.0], [1.0, -1.0]]) * np.sqrt(0.5)
        turned = [np.kron(np.eye(2 ** (n_qubits - 1 - q)), np.kron(hadamard, np.eye(2**q))) for q in range(n_qubits)]
        return cls(np.array([np.eye(2**n_qubits), *turned]), z_diagonals(n_qubits, 2**n_qubits)[1:])

    def amplitudes(self, vectors: FloatArray) -> FloatArray:
        """B_s u, shape ``(batch, n + 1, 2**n)``."""
        return np.asarray(np.einsum("sij,bj->bsi", self.bases, vectors))

    def whitening(self, vectors: FloatArray) -> FloatArray:
        """Inverse root of the covariance that the strings of a setting would have, ``(batch, n + 1, z, z)``."""
        shares = EXPECTED_CONTRAST * self.amplitudes(vectors) ** 2 + (1.0 - EXPECTED_CONTRAST) / vectors.shape[1]
        means = shares @ self.strings.T
        covariances = (self.strings * shares[..., None, :]) @ self.strings.T
        values, rotations = np.linalg.eigh(covariances - means[..., :, None] * means[..., None, :])
        return np.asarray((rotations / np.sqrt(values)[..., None, :]) @ rotations.swapaxes(-1, -2))

    def residual(
        self, whitening: FloatArray, values: FloatArray, vectors: FloatArray, contrasts: FloatArray
    ) -> FloatArray:
        """Measured minus expected strings in units of their expected spread, shape ``(batch, settings * strings)``."""
        expected = contrasts[:, None, None] * (self.amplitudes(vectors) ** 2 @ self.strings.T)
        return np.asarray(np.einsum("bszy,bsy->bsz", whitening, values - expected).reshape(len(vectors), -1))

    def jacobian(
        self, whitening: FloatArray, vectors: FloatArray, contrasts: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Derivatives of the expected strings by u across itself and by the contrast; and the directions across u."""
        tangents = np.linalg.svd(vectors[:, None, :])[2][:, 1:].swapaxes(1, 2)
        amplitudes = self.amplitudes(vectors)
        turned = 2.0 * contrasts[:, None, None, None] * (self.bases @ tangents[:, None])
        by_vector = (self.strings * amplitudes[..., None, :]) @ turned
        by_contrast = (amplitudes**2 @ self.strings.T)[..., None]
        whole = whitening @ np.concatenate([by_vector, by_contrast], axis=-1)
        return whole.reshape(len(vectors), -1, whole.shape[-1]), tangents
