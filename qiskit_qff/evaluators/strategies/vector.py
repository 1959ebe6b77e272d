r"""Measure a rank-one register by its vector: M = w u u^T is known once u is.

A circuit prepares :math:`u = U^\dagger|0\rangle`, for fixed angles the shallowest one there is, and n + 1 settings
read it: Z on every qubit, and X on
qubit j with Z on the others for every j. Each is a real orthonormal basis :math:`B_s`, in which all Z strings have

.. math:: t_{sz} = c\,\sum_k (-1)^{z\cdot k} (B_s u)_k^2 ,

with a contrast c < 1 where the device depolarises. u and c follow by weighted least squares that start at the
programmed u, which settles the sign that no measurement shows. The covariances of the strings within a setting, which
share their shots, carry over to u by the fit; settings are independent. On a noiseless device u has the covariance
:math:`(1 - uu^T)/4N(n+1)`, the smallest possible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from qiskit import QuantumCircuit

from qiskit_qff.array_types import FloatArray
from qiskit_qff.circuit.compiled import circuit_matrix, compile_program, untied_circuit
from qiskit_qff.circuit.program import BoundProgram, CircuitProgram, z_diagonals
from qiskit_qff.encoding.preparation import vector_angles, vector_circuit
from qiskit_qff.errors import ConfigError
from qiskit_qff.evaluators.protocol import Evaluation, MeasurementTask, Request

MOST_STEPS = 100
"""Gauss-Newton steps of the fit; a handful is enough unless noise is as large as the signal."""
CONVERGED = 1e-13
"""Length of a step that ends the fit."""
EXPECTED_CONTRAST = 0.9
"""Contrast that the weights of the fit assume; without one, strings of a basis state would have no variance."""
LEAST_CONTRAST = 0.05
"""Smaller contrasts are noise: the register can't be read on this device."""


@dataclass(frozen=True, eq=False)
class MeasuredVector:
    """The readout vector of a register with its uncertainty."""

    vector: FloatArray
    """u, of unit length, shape ``(2**n,)``."""
    covariance: FloatArray
    """Covariance of u, shape ``(2**n, 2**n)``; zero along u."""
    contrast: float
    """What noise has left of the expectation values; 1 without noise."""


def is_rank_one(program: CircuitProgram) -> bool:
    """Whether M is w u u^T with a real u: one readout, the projector on the first basis state, of a real circuit.

    Args:
        program: Circuit and readouts.
    """
    first = np.zeros(2**program.n_qubits)
    first[0] = 1.0
    return (
        program.n_readouts == 1
        and np.array_equal(program.readouts[0], first)
        and (compile_program(program).gates.is_real)
    )


def programmed_vector(bound: BoundProgram) -> FloatArray:
    """U of the circuit, shape ``(2**n,)``.

    Args:
        bound: Circuit with its parameters.
    """
    return np.asarray(circuit_matrix(bound.program, bound.theta)[0].real, dtype=np.float64)


@lru_cache(maxsize=64)
def vector_tasks(program: CircuitProgram) -> tuple[MeasurementTask, ...]:
    """One task per setting, with the program's own rotations as parameters: for derivatives by parameter shift.

    Args:
        program: A rank-one program.

    Raises:
        ConfigError: If it is not.
    """
    _check(program)
    return _settings(untied_circuit(program.circuit, name="rotation").inverse())


@lru_cache(maxsize=16)
def _fixed_tasks(n_qubits: int) -> tuple[MeasurementTask, ...]:
    """One task per setting, with the shallowest preparation there is: for registers whose angles are known."""
    return _settings(vector_circuit(n_qubits))


def _settings(prepare: QuantumCircuit) -> tuple[MeasurementTask, ...]:
    """Z on all qubits, then X on each qubit with Z on the others."""
    n_qubits = prepare.num_qubits
    strings = z_diagonals(n_qubits, 2**n_qubits)[1:]
    tasks = [MeasurementTask(prepare, strings, 0)]
    for qubit in range(n_qubits):
        rotated = prepare.copy()
        rotated.h(qubit)
        tasks.append(MeasurementTask(rotated, strings, 0))
    return tuple(tasks)


def _check(program: CircuitProgram) -> None:
    """Refuse readouts that are not of rank one."""
    if not is_rank_one(program):
        raise ConfigError("Design 'settings' needs the readout 'rank_one' and a real circuit; use design 'pairs'.")


def vector_requests(bound: BoundProgram) -> list[Request]:
    """What has to be measured to know u: n + 1 settings.

    Args:
        bound: Circuit with its parameters; one readout vector.

    Raises:
        ConfigError: If M has more than one vector.
    """
    _check(bound.program)
    angles = vector_angles(programmed_vector(bound))[None]
    return [Request(task, angles) for task in _fixed_tasks(bound.program.n_qubits)]


def fit_vector(bound: BoundProgram, results: Sequence[Evaluation]) -> MeasuredVector:
    """U from the answers to :func:`vector_requests`, in the same order.

    Args:
        bound: Circuit with its parameters.
        results: One evaluation per setting.

    Raises:
        ConfigError: If nothing is left of the signal.
    """
    n_qubits = bound.program.n_qubits
    bases, strings = _bases(n_qubits), z_diagonals(n_qubits, 2**n_qubits)[1:]
    values = np.concatenate([result.values[0] for result in results])
    vector, contrast = programmed_vector(bound), 1.0
    whitening = [_whitening(strings, basis @ vector) for basis in bases]
    residual = _residual(bases, strings, whitening, values, vector, contrast)
    for _ in range(MOST_STEPS):
        jacobian, tangents = _jacobian(bases, strings, whitening, vector, contrast)
        step = np.linalg.lstsq(jacobian, residual, rcond=None)[0]
        scale = 1.0
        while scale > 1e-6:
            moved = vector + scale * (tangents @ step[:-1])
            moved /= np.linalg.norm(moved)
            trial = _residual(bases, strings, whitening, values, moved, contrast + scale * step[-1])
            if trial @ trial <= residual @ residual * (1.0 + 1e-12) + 1e-28:
                break
            scale *= 0.5
        vector, contrast, residual = moved, contrast + scale * step[-1], trial
        if np.linalg.norm(scale * step) < CONVERGED:
            break
    if contrast < LEAST_CONTRAST:
        raise ConfigError(
            f"a register of {n_qubits} qubits was read with a contrast of {contrast:.2g}: noise has left nothing of "
            "it. Choose smaller registers (circuit.n_qubits) or a better device."
        )
    jacobian, tangents = _jacobian(bases, strings, whitening, vector, contrast)
    response = np.linalg.pinv(jacobian)[:-1]
    noise = [white @ result.covariances[0] @ white.T for white, result in zip(whitening, results, strict=True)]
    spread, begin = np.zeros((len(response),) * 2), 0
    for block in noise:
        part = response[:, begin : begin + len(block)]
        spread += part @ block @ part.T
        begin += len(block)
    return MeasuredVector(vector, tangents @ spread @ tangents.T, float(contrast))


@lru_cache(maxsize=16)
def _bases(n_qubits: int) -> tuple[FloatArray, ...]:
    """B_s of every setting, little-endian."""
    hadamard = np.array([[1.0, 1.0], [1.0, -1.0]]) * np.sqrt(0.5)
    others = [
        np.kron(np.eye(2 ** (n_qubits - 1 - qubit)), np.kron(hadamard, np.eye(2**qubit))) for qubit in range(n_qubits)
    ]
    return tuple(np.asarray(basis, dtype=np.float64) for basis in (np.eye(2**n_qubits), *others))


def _whitening(strings: FloatArray, amplitudes: FloatArray) -> FloatArray:
    """Inverse root of the covariance that the strings of a setting would have."""
    shares = EXPECTED_CONTRAST * amplitudes**2 + (1.0 - EXPECTED_CONTRAST) / len(amplitudes)
    covariance = (strings * shares) @ strings.T - np.outer(strings @ shares, strings @ shares)
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors / np.sqrt(values)) @ vectors.T)


def _residual(
    bases: Sequence[FloatArray],
    strings: FloatArray,
    whitening: Sequence[FloatArray],
    values: FloatArray,
    vector: FloatArray,
    contrast: float,
) -> FloatArray:
    """Measured minus expected strings of all settings, in units of their expected spread."""
    expected = [contrast * (strings @ (basis @ vector) ** 2) for basis in bases]
    parts = np.split(values, len(bases))
    return np.concatenate(
        [white @ (value - model) for white, value, model in zip(whitening, parts, expected, strict=True)]
    )


def _jacobian(
    bases: Sequence[FloatArray],
    strings: FloatArray,
    whitening: Sequence[FloatArray],
    vector: FloatArray,
    contrast: float,
) -> tuple[FloatArray, FloatArray]:
    """Derivatives of the expected strings by u across itself, and by the contrast; and the directions across u."""
    tangents = np.linalg.svd(vector[None])[2][1:].T
    rows = []
    for basis, white in zip(bases, whitening, strict=True):
        amplitudes = basis @ vector
        by_vector = 2.0 * contrast * (strings * amplitudes) @ basis @ tangents
        rows.append(white @ np.column_stack([by_vector, strings @ amplitudes**2]))
    return np.concatenate(rows), tangents
