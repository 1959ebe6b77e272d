r"""The shallowest circuits that prepare a known real vector, with which rank-one registers are measured.

A vector of three qubits needs three CZ gates on a line, where the tree needs seven. Its Schmidt decomposition

.. math:: |u\rangle = \sum_{k=0,1} \sigma_k\, W|k\rangle_2 \otimes V|k0\rangle_{10}

takes one CZ for the two Schmidt states, a rotation W, and an orthogonal V on two qubits, for which two CZ suffice:
:math:`V = (R \otimes R)\, e^{-i(a\,Y\otimes Z + b\,Z\otimes Y)/2}\, (R \otimes R)` with rotations R about y. In the
Bell basis this is a cosine-sine decomposition, which gives the angles.

References:
    Žnidarič, Giraud, Georgeot, "Optimal number of controlled-NOT gates to generate a three-qubit state",
    Phys. Rev. A 77, 032320 (2008), https://doi.org/10.1103/PhysRevA.77.032320
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector
from scipy.linalg import cossin, null_space

from qiskit_qff.array_types import FloatArray
from qiskit_qff.encoding.tree import loader_angles, loader_circuit
from qiskit_qff.errors import ConfigError

_BELL = np.array([[0, 1, 1, 0], [1, 0, 0, -1], [1, 0, 0, 1], [0, 1, -1, 0]]).T * np.sqrt(0.5)
"""Columns are the Bell states that YY leaves alone, then those that it negates."""


@lru_cache(maxsize=16)
def vector_circuit(n_qubits: int, *, name: str = "rotation") -> QuantumCircuit:
    """The shallowest circuit here that prepares any real vector from |0...0>, the same for all vectors.

    Two-qubit gates on a line: none for one qubit, 1 for two, 3 for three; the rotation tree beyond.
    """
    if n_qubits != 3:
        return loader_circuit(2**n_qubits, name=name)
    angles = iter(ParameterVector(name, 9))
    circuit = QuantumCircuit(3, name="vector")
    layers: list[tuple[tuple[int, ...], tuple[int, int] | None]] = [
        ((2, 1), (2, 1)),
        ((2, 1, 0), (1, 0)),
        ((1, 0), (1, 0)),
        ((1, 0), None),
    ]
    for turned, joined in layers:
        for qubit in turned:
            circuit.ry(next(angles), qubit)
        if joined is not None:
            circuit.cz(*joined)
    return circuit


def vector_angles(vector: FloatArray) -> FloatArray:
    """Angles of :func:`vector_circuit` in radians for a real vector of any norm, shape ``(2**n,)``, signs included."""
    norm = float(np.linalg.norm(vector))
    if not np.isfinite(norm) or norm == 0.0:
        raise ConfigError(f"A vector to prepare needs a direction; one of norm {norm} was given.")
    if len(vector) != 8:
        n_qubits = len(vector).bit_length() - 1
        return np.asarray(loader_angles(2**n_qubits, vector[None])[0])
    outer, lengths, inner = np.linalg.svd(vector.reshape(2, 4) / norm, full_matrices=False)
    if np.linalg.det(outer) < 0.0:
        outer[:, 1], inner[1] = -outer[:, 1], -inner[1]
    # V maps |00> and |10> of qubits 1 and 0 to the Schmidt vectors; the rest of it completes a rotation.
    rest = null_space(inner)
    whole = np.column_stack([inner[0], rest[:, 0], inner[1], rest[:, 1]])
    if np.linalg.det(whole) < 0.0:
        whole[:, 3] = -whole[:, 3]
    before, middle, after = _rotation_of_two_qubits(whole)
    quarter = np.pi / 2.0
    schmidt = 2.0 * np.arctan2(lengths[1], lengths[0])
    turn = 2.0 * np.arctan2(outer[1, 0], outer[0, 0])
    return np.array([schmidt, -quarter, turn, quarter + before[0], before[1], *middle, *after])


def _rotation_of_two_qubits(matrix: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Angles of RY on qubits 1 and 0 before, between and after two CZ gates that make a 4 x 4 rotation matrix."""
    (u, v), cosines, (p, q) = cossin(_BELL.T @ matrix @ _BELL, p=2, q=2, separate=True)
    u, v, p, q, theta = u.copy(), v.copy(), p.copy(), q.copy(), np.array(cosines)
    # Reflections in pairs, of the second direction, leave the product as it is and make each factor a rotation.
    if np.linalg.det(u) < 0.0:
        u[:, 1], p[1], theta[1] = -u[:, 1], -p[1], -theta[1]
    if np.linalg.det(v) < 0.0:
        v[:, 1], q[1], theta[1] = -v[:, 1], -q[1], -theta[1]
    if np.linalg.det(p) < 0.0:
        p[1], q[1], theta[1] = -p[1], -q[1], theta[1] + np.pi
    after, before = _turns(u, v), _turns(p, q)
    return before, -np.array([theta.sum(), theta[0] - theta[1]]), after


def _turns(upper: FloatArray, lower: FloatArray) -> FloatArray:
    """Angles of RY on qubits 1 and 0 that turn the two halves of the Bell basis so."""
    angles = [np.arctan2(half[0, 1], half[0, 0]) for half in (upper, lower)]
    return np.array([angles[0] + angles[1], angles[0] - angles[1]])
