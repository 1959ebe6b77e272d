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

A *program* is the circuit that a device runs, together with what is measured at its end. The energy operator of a
register is :math:`M = U^\dagger(\theta)\, O\, U(\theta)` with a readout that is diagonal in the Z basis, :math:`O =
\sum_k w_k\, \mathrm{diag}(r_k)`: everything is measured in one setting. Readouts are projectors on single basis states,
:math:`|k\rangle\langle k|`, or products of Z on some of the qubits (Z strings). The circuit is the single source of
truth; matrices are derived from it in :mod:`qiskit_qff.circuit.compiled`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Literal, get_args

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterExpression, ParameterVector
from qiskit.quantum_info import SparsePauliOp
from scipy.linalg import block_diag

from qiskit_qff.array_types import FloatArray
from qiskit_qff.encoding.tree import Entangler, TreeLayout, loader_angles, qubits_for, tree_layout
from qiskit_qff.errors import ConfigError


@dataclass(frozen=True, eq=False)
class CircuitProgram:
    """A parametrised circuit U(θ) without measurements and its Z-diagonal readouts."""

    circuit: QuantumCircuit
    """U, with the parameters ``theta[0]``, ``theta[1]``, ...; no measurement."""
    readouts: FloatArray
    """Diagonals r_k of the readout observables, shape ``(n_readouts, 2**n_qubits)``."""
    n_amplitudes: int
    """Number of basis states on which input states live: the first ones, d + 1 of them."""

    def __post_init__(self) -> None:
        """Check that the parts fit."""
        size = 2**self.circuit.num_qubits
        if self.readouts.ndim != 2 or self.readouts.shape[1] != size or len(self.readouts) == 0:
            raise ConfigError(
                f"Readouts of a {self.circuit.num_qubits}-qubit circuit have shape (n_readouts, {size}); "
                f"{self.readouts.shape} was given."
            )
        if not 2 <= self.n_amplitudes <= size:
            raise ConfigError(f"n_amplitudes lies between 2 and {size} here; {self.n_amplitudes} was given.")
        if self.circuit.num_clbits:
            raise ConfigError(
                "The circuit of a program has no classical bits; measurements are added by the evaluator."
            )

    @property
    def n_qubits(self) -> int:
        """Number of qubits."""
        return int(self.circuit.num_qubits)

    @property
    def n_angles(self) -> int:
        """Number of circuit angles θ."""
        return int(self.circuit.num_parameters)

    @property
    def n_readouts(self) -> int:
        """Number of readout observables, and of their weights."""
        return len(self.readouts)

    def observables(self) -> list[SparsePauliOp]:
        """One observable per readout, as sums of Z strings on all qubits of the circuit."""
        return [diagonal_observable(diagonal) for diagonal in self.readouts]

    def weighted_diagonal(self, weights: FloatArray) -> FloatArray:
        """Diagonal of ``O = sum_k w_k diag(r_k)`` in units of the weights (eV), shape ``(2**n_qubits,)``."""
        if weights.shape != (self.n_readouts,):
            raise ConfigError(f"{self.n_readouts} readout weights are expected; shape {weights.shape} was given.")
        return np.asarray(weights @ self.readouts)


@dataclass(frozen=True, eq=False)
class BoundProgram:
    """A program with values for its trainable parameters: the energy operator M of one species."""

    program: CircuitProgram
    """Circuit and readouts."""
    theta: FloatArray
    """Circuit angles in radians, shape ``(n_angles,)``."""
    weights: FloatArray
    """Readout weights in eV, shape ``(n_readouts,)``."""

    def __post_init__(self) -> None:
        """Check that the parameters fit the program."""
        for label, values, expected in (
            ("angles", self.theta, self.program.n_angles),
            ("readout weights", self.weights, self.program.n_readouts),
        ):
            if values.shape != (expected,):
                raise ConfigError(f"{expected} {label} are expected; an array of shape {values.shape} was given.")


def projector_diagonals(n_qubits: int, n_readouts: int) -> FloatArray:
    """Projectors on the basis states 0, 1, ..., shape ``(n_readouts, 2**n_qubits)``."""
    size = 2**n_qubits
    if not 1 <= n_readouts <= size:
        raise ConfigError(f"{n_qubits} qubits have 1 to {size} projectors; {n_readouts} were asked for.")
    return np.eye(n_readouts, size)


def z_supports(n_qubits: int) -> list[tuple[int, ...]]:
    """Qubits of every Z string, in the order in which readouts take them.

    Identity first; then single Z by qubit; then pairs by distance, nearest neighbours first; then triples and
    larger sets by their extent along the line.
    """
    supports: list[tuple[int, ...]] = [()]
    for size in range(1, n_qubits + 1):
        supports += sorted(combinations(range(n_qubits), size), key=lambda qubits: (qubits[-1] - qubits[0], qubits))
    return supports


def z_diagonals(n_qubits: int, n_readouts: int) -> FloatArray:
    """The first ``n_readouts`` Z strings of :func:`z_supports`, shape ``(n_readouts, 2**n_qubits)``."""
    supports = z_supports(n_qubits)
    if not 1 <= n_readouts <= len(supports):
        raise ConfigError(f"{n_qubits} qubits have 1 to {len(supports)} Z strings; {n_readouts} were asked for.")
    states = np.arange(2**n_qubits)
    masks = np.array([sum(1 << qubit for qubit in support) for support in supports[:n_readouts]])
    return np.where(np.bitwise_count(states[None, :] & masks[:, None]) % 2 == 1, -1.0, 1.0)


def diagonal_observable(diagonal: FloatArray) -> SparsePauliOp:
    """Sum of Z strings with the given diagonal.

    Args:
        diagonal: Shape ``(2**n_qubits,)``, little-endian.
    """
    size = len(diagonal)
    n_qubits = size.bit_length() - 1
    states = np.arange(size)
    signs = np.where(np.bitwise_count(states[None, :] & states[:, None]) % 2 == 1, -1.0, 1.0)
    coefficients = signs @ diagonal / size
    kept = np.flatnonzero(np.abs(coefficients) > 1e-14 * max(1.0, float(np.abs(diagonal).max())))
    terms = [("Z" * int(mask).bit_count(), _qubits_of(int(mask), n_qubits), coefficients[mask]) for mask in kept]
    return SparsePauliOp.from_sparse_list(terms or [("", [], 0.0)], num_qubits=n_qubits)


def _qubits_of(mask: int, n_qubits: int) -> list[int]:
    """Qubits whose bit is set."""
    return [qubit for qubit in range(n_qubits) if mask >> qubit & 1]


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
