r"""Ansatz families: which shallow circuit stands between the encoded environment and its readout.

``ry_tree``
    Inverse of a state-preparation tree (RY and CZ): with its readout ``rank_one`` the operator is
    :math:`w\,uu^T` with any unit vector u, ``n_amplitudes - 1`` angles.
``brickwork_cz``
    ``layers`` times (RY on every qubit, CZ on all neighbours of a line), then RY on every qubit:
    ``(layers + 1) n`` angles, a real U.
``brickwork_rzz``
    The same with RZZ(θ) instead of CZ, ``layers (n - 1)`` angles more; U is complex and the operator is
    :math:`\mathrm{Re}\,U^\dagger O U`.

Readouts: ``rank_one`` is the projector on the first basis state, ``z_diagonal`` the first ``n_readouts`` Z strings.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterExpression, ParameterVector
from scipy.linalg import block_diag

from qiskit_qff.array_types import FloatArray
from qiskit_qff.circuit.program import CircuitProgram, projector_diagonals, z_diagonals
from qiskit_qff.encoding.amplitudes import qubits_for
from qiskit_qff.encoding.tree import Entangler, TreeLayout, loader_angles, tree_layout
from qiskit_qff.errors import ConfigError

Family = Literal["ry_tree", "brickwork_cz", "brickwork_rzz"]
Readout = Literal["rank_one", "z_diagonal"]

MAX_QUBITS, MAX_LAYERS = 10, 1000
"""Operators are compiled into matrices of 4^n numbers: nothing larger is built because a file says so."""


@dataclass(frozen=True)
class AnsatzSpec:
    """Choice of an ansatz family, its readout and its size."""

    family: Family
    """Gate layout; see the table of this module."""
    readout: Readout
    """What is measured."""
    n_amplitudes: int
    """Number of amplitudes in use, d + 1; the register is the smallest that holds them."""
    layers: int = 1
    """Entangling layers of a brickwork; not used by trees."""
    n_readouts: int = 1
    """Number of readouts, one weight each; 1 for ``rank_one``."""

    def __post_init__(self) -> None:
        """Check the choice."""
        if self.family not in get_args(Family):
            raise ConfigError(f"Unknown ansatz family '{self.family}'; choose one of {', '.join(get_args(Family))}.")
        if self.readout not in get_args(Readout):
            raise ConfigError(f"Unknown readout '{self.readout}'; choose one of {', '.join(get_args(Readout))}.")
        if not (2 <= self.n_amplitudes <= 2**MAX_QUBITS and 0 <= self.layers <= MAX_LAYERS):
            raise ConfigError(
                f"An ansatz has 2 to {2**MAX_QUBITS} amplitudes and at most {MAX_LAYERS} layers; {self.n_amplitudes} "
                f"and {self.layers} were given."
            )
        if self.readout == "rank_one" and self.n_readouts != 1:
            raise ConfigError(f"Readout 'rank_one' has n_readouts = 1; {self.n_readouts} was given.")
        if not 1 <= self.n_readouts <= 2**self.n_qubits:
            raise ConfigError(f"n_readouts lies between 1 and {2**self.n_qubits}; {self.n_readouts} was given.")
        if self.family != "ry_tree" and self.layers < 1:
            raise ConfigError(f"A brickwork needs at least 1 layer; {self.layers} was given.")

    @property
    def n_qubits(self) -> int:
        """Number of qubits."""
        return qubits_for(self.n_amplitudes)

    @property
    def n_angles(self) -> int:
        """Number of circuit angles θ."""
        if self.family == "ry_tree":
            return self.n_amplitudes - 1
        bonds = (self.n_qubits - 1) * self.layers if self.family == "brickwork_rzz" else 0
        return (self.layers + 1) * self.n_qubits + bonds


def n_parameters(spec: AnsatzSpec) -> int:
    """Number of trainable parameters: circuit angles and readout weights."""
    return spec.n_angles + spec.n_readouts


@lru_cache(maxsize=128)
def build_program(spec: AnsatzSpec) -> CircuitProgram:
    """Circuit and readouts of an ansatz; the same object for the same choice."""
    circuit = _tree_circuit(spec) if spec.family == "ry_tree" else _brickwork_circuit(spec)
    build = z_diagonals if spec.readout == "z_diagonal" else projector_diagonals
    assert circuit.num_parameters == spec.n_angles
    return CircuitProgram(circuit, build(spec.n_qubits, spec.n_readouts), spec.n_amplitudes)


def angles_for_vector(spec: AnsatzSpec, vector: FloatArray) -> FloatArray:
    """Angles of the tree whose operator is ``M = u u^T / |u|^2``.

    Args:
        spec: Family ``ry_tree`` with readout ``rank_one``.
        vector: u, shape ``(n_amplitudes,)``, not zero.

    Returns:
        θ in radians, shape ``(n_angles,)``.
    """
    if spec.family != "ry_tree" or spec.readout != "rank_one":
        raise ConfigError("Angles for a vector exist for family 'ry_tree' with readout 'rank_one' only.")
    _check_vector(spec, vector)
    return -_tree_angles(spec.n_amplitudes, vector)


def _check_vector(spec: AnsatzSpec, vector: FloatArray) -> None:
    """Refuse vectors of a wrong length or without a direction."""
    if vector.shape != (spec.n_amplitudes,):
        raise ConfigError(f"A vector of shape ({spec.n_amplitudes},) is expected; {vector.shape} was given.")
    norm = float(np.linalg.norm(vector))
    if not np.isfinite(norm) or norm == 0.0:
        raise ConfigError(f"A readout vector needs a direction; one of norm {norm} was given.")


def _tree_angles(n_amplitudes: int, vector: FloatArray) -> FloatArray:
    """Free angles of the preparing tree for a vector."""
    layout = tree_layout(n_amplitudes)
    padded = np.zeros((1, 2**layout.n_qubits))
    padded[0, :n_amplitudes] = vector
    tied = {layout.offsets[level + 1] - 1 for level in layout.half_levels}
    free = [gate for gate in range(layout.n_gates) if gate not in tied]
    return np.asarray(loader_angles(layout, padded)[0, free])


def _gate_map(layout: TreeLayout) -> FloatArray:
    """Angles of the tree's gates by the free ones, shape ``(n_gates, n_free)``.

    On a half level the last branch must keep the angle 0: its last gate depends on the others.
    """
    blocks = []
    for number, level in enumerate(layout.levels):
        free = np.eye(len(level.masks))
        if number in layout.half_levels:
            signs = level.walsh[-1]
            free = np.vstack([free[:-1, :-1], -signs[:-1] / signs[-1]])
        blocks.append(free)
    return np.asarray(block_diag(*blocks))


def _tree_circuit(spec: AnsatzSpec) -> QuantumCircuit:
    """Inverse of the tree that prepares the readout vector, with θ minus its free angles: free gates are RY(θ)."""
    layout = tree_layout(spec.n_amplitudes)
    parameters = list(ParameterVector("theta", spec.n_angles))
    rows = _gate_map(layout)
    circuit = QuantumCircuit(spec.n_qubits, name=spec.family)
    for operation in reversed(layout.operations()):
        if isinstance(operation, Entangler):
            circuit.cz(operation.control, operation.target)
        else:
            circuit.ry(_linear(rows[operation.gate], parameters), operation.target)
    return circuit


def _linear(row: FloatArray, parameters: list[ParameterExpression]) -> ParameterExpression | float:
    """``row @ parameters`` with as few terms as possible."""
    terms = [
        parameter if factor == 1.0 else float(factor) * parameter
        for factor, parameter in zip(row, parameters, strict=True)
        if factor != 0.0
    ]
    total: ParameterExpression | float = terms[0] if terms else 0.0
    for term in terms[1:]:
        total += term
    return total


def _brickwork_circuit(spec: AnsatzSpec) -> QuantumCircuit:
    """Layers of RY and of CZ or RZZ on the bonds of a line, even bonds first; a last layer of RY."""
    n_qubits = spec.n_qubits
    parameters = iter(ParameterVector("theta", spec.n_angles))
    circuit = QuantumCircuit(n_qubits, name=spec.family)
    bonds = [*range(0, n_qubits - 1, 2), *range(1, n_qubits - 1, 2)]
    for layer in range(spec.layers + 1):
        for qubit in range(n_qubits):
            circuit.ry(next(parameters), qubit)
        for bond in bonds if layer < spec.layers else ():
            if spec.family == "brickwork_cz":
                circuit.cz(bond, bond + 1)
            else:
                circuit.rzz(next(parameters), bond, bond + 1)
    return circuit
