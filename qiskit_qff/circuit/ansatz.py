r"""Ansatz families: the shallow circuit between the encoded environment and its readout, and its exact matrices.

A family is a function that draws a circuit, and :func:`register_ansatz` makes one a choice. All else follows from the
circuit: matrices, derivatives, parameter counts, what a device runs.

``ry_tree``
    Inverse of a state-preparation tree (RY and CZ): with its readout ``rank_one`` the operator is
    :math:`w\,uu^T` with any unit vector u, ``n_amplitudes - 1`` angles.
``brickwork_cz``
    ``layers`` times (RY on every qubit, CZ on all neighbours of a line), then RY on every qubit:
    ``(layers + 1) n`` angles, a real U.
``brickwork_rzz``
    The same with RZZ(θ) instead of CZ, ``layers (n - 1)`` angles more; U is complex and the operator is
    :math:`\mathrm{Re}\,U^\dagger O U`.
``real_amplitudes``, ``efficient_su2``, ``excitation_preserving``
    Those of :mod:`qiskit.circuit.library` with ``layers`` repetitions, entangled along a line.

The energy operator of a register is :math:`M = U^\dagger(\theta)\, O\, U(\theta)` with trained weights in
:math:`O = \sum_k w_k R_k`. Readout ``rank_one`` is the projector on the first basis state, ``z_diagonal`` the first
``n_readouts`` Z strings (products of Z on some of the qubits), a tuple of labels any Pauli strings. Those that commute
qubit by qubit share a measurement basis: the circuit ends with the rotation in which they are diagonal.

*Exact matrices and their derivatives* come from the circuit's own gates.

For real amplitudes x the expectation value of readout k is a quadratic form,

.. math:: \langle x|U^\dagger\, \mathrm{diag}(r_k)\, U|x\rangle = x^T M_k x, \qquad
          M_k = \mathrm{Re} \sum_z r_k[z]\, U_z^\dagger U_z,

with :math:`U_z` the rows of U. The gates are read once from the program's :class:`~qiskit.QuantumCircuit`, so these
are the matrices of the circuit that a device runs: each becomes a 2x2 matrix on one qubit, a diagonal on two, or a
CNOT, and each rotation knows its angle as an affine function of the circuit's parameters, :math:`\alpha = A\theta + b`.
Derivatives follow from the parameter-shift rule, which is exact. Only rows that some readout looks at are computed: one
for a projector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import entry_points
from itertools import combinations
from typing import Any, Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import CircuitInstruction, Parameter, ParameterExpression, ParameterVector
from qiskit.circuit.library import efficient_su2, excitation_preserving, real_amplitudes
from qiskit.quantum_info import PauliList, SparsePauliOp

from qiskit_qff.array_types import ComplexArray, FloatArray, IntArray
from qiskit_qff.encoding.tree import loader_angles, loader_circuit, qubits_for, tied_gates
from qiskit_qff.errors import ConfigError

MAX_QUBITS, MAX_LAYERS = 10, 1000
"""Operators are compiled into matrices of 4^n numbers: nothing larger is built because a file says so."""


@dataclass(frozen=True, eq=False)
class MeasurementTask:
    """A parametrised circuit and what is measured at its end."""

    circuit: QuantumCircuit
    """Without measurement; its ``parameters``, in Qiskit's order, are the columns of parameter arrays."""
    readouts: FloatArray
    """Diagonals r_k of the readout observables, shape ``(n_readouts, 2**n_qubits)``."""


@dataclass(frozen=True, eq=False)
class CircuitProgram(MeasurementTask):
    """U(θ) with the parameters ``theta[0]``, ``theta[1]``, ... and its Z-diagonal readouts."""

    n_amplitudes: int
    """Number of basis states on which input states live: the first ones, d + 1 of them."""
    parts: tuple[tuple[IntArray, CircuitProgram], ...] = ()
    """Where one basis does not show all readouts: which of them each basis shows, and the program that ends in it."""

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

    @property
    def bases(self) -> tuple[tuple[IntArray, CircuitProgram], ...]:
        """Which readouts each measurement basis shows, and the program that ends in it."""
        return self.parts or ((np.arange(self.n_readouts), self),)


@dataclass(frozen=True, eq=False)
class BoundProgram:
    """A program with values for its trainable parameters: the energy operator M of one register."""

    program: CircuitProgram
    theta: FloatArray
    """Circuit angles in radians, shape ``(n_angles,)``."""
    weights: FloatArray
    """Readout weights in eV, shape ``(n_readouts,)``."""


class Ansatz(Protocol):
    """Draws U(θ) on the smallest register that holds the amplitudes."""

    def __call__(self, n_amplitudes: int, layers: int) -> QuantumCircuit:
        """Circuit of ``ceil(log2(n_amplitudes))`` qubits without measurement, of any gates of Qiskit.

        Its ``parameters``, in Qiskit's order, are θ; angles of gates are affine functions of them.
        """
        ...  # pragma: no cover


def register_ansatz(name: str, ansatz: Ansatz) -> None:
    """Make a circuit of your own a choice of ``circuit.family``, in configurations and in model files.

    A package can also name it as an entry point of the group ``qiskit_qff.ansatz``; it is then found by itself, from
    the command line too.

    Args:
        name: What configurations and model files call it.

    Raises:
        ConfigError: If the name belongs to another ansatz.
    """
    if FAMILIES.setdefault(name, ansatz) is not ansatz:
        raise ConfigError(f"The ansatz '{name}' exists already; choose another name.")


def find_ansatz(name: str) -> Ansatz:
    """The ansatz of a name.

    Raises:
        ConfigError: If nobody has registered it.
    """
    if name not in FAMILIES:
        found = entry_points(group="qiskit_qff.ansatz", name=name)
        if not found:
            raise ConfigError(
                f"Unknown ansatz family '{name}'; choose one of {', '.join(FAMILIES)}, or register your own with "
                "qiskit_qff.register_ansatz or as an entry point of the group 'qiskit_qff.ansatz'."
            )
        register_ansatz(name, next(iter(found)).load())
    return FAMILIES[name]


@dataclass(frozen=True)
class AnsatzSpec:
    """Choice of an ansatz family, its readout and its size."""

    family: str
    """Name of an ansatz, see :func:`find_ansatz`."""
    readout: str | tuple[str, ...]
    """What is measured: ``rank_one``, ``z_diagonal``, or labels of Pauli strings, the first qubit last as in Qiskit."""
    n_amplitudes: int
    """Number of amplitudes in use, d + 1; the register is the smallest that holds them."""
    layers: int = 1
    """Entangling layers of a brickwork; not used by trees."""
    n_readouts: int = 1
    """Number of readouts, one weight each; 1 for ``rank_one``."""

    def __post_init__(self) -> None:
        """Check the choice."""
        find_ansatz(self.family)
        if not isinstance(self.readout, str):
            object.__setattr__(self, "readout", tuple(self.readout))  # lists in model files
            object.__setattr__(self, "n_readouts", len(self.readout))
            check_pauli_labels(self.readout, self.n_qubits)
        elif self.readout not in READOUTS:
            raise ConfigError(f"Unknown readout '{self.readout}'; choose {', '.join(READOUTS)} or Pauli strings.")
        if not (2 <= self.n_amplitudes <= 2**MAX_QUBITS and 0 <= self.layers <= MAX_LAYERS):
            raise ConfigError(
                f"An ansatz has 2 to {2**MAX_QUBITS} amplitudes and at most {MAX_LAYERS} layers; {self.n_amplitudes} "
                f"and {self.layers} were given."
            )
        if self.readout == "rank_one" and self.n_readouts != 1:
            raise ConfigError(f"Readout 'rank_one' has n_readouts = 1; {self.n_readouts} was given.")
        if isinstance(self.readout, str) and not 1 <= self.n_readouts <= 2**self.n_qubits:
            raise ConfigError(f"n_readouts lies between 1 and {2**self.n_qubits}; {self.n_readouts} was given.")
        if self.family != "ry_tree" and self.layers < 1:
            raise ConfigError(f"Ansatz '{self.family}' needs at least 1 layer; {self.layers} was given.")

    @property
    def n_qubits(self) -> int:
        """Number of qubits."""
        return qubits_for(self.n_amplitudes)

    @property
    def n_angles(self) -> int:
        """Number of circuit angles θ."""
        return build_program(self).n_angles

    @property
    def n_parameters(self) -> int:
        """Number of trainable parameters: circuit angles and readout weights."""
        return self.n_angles + self.n_readouts


@lru_cache(maxsize=128)
def build_program(spec: AnsatzSpec) -> CircuitProgram:
    """Circuit and readouts of an ansatz; the same object for the same choice."""
    circuit = find_ansatz(spec.family)(spec.n_amplitudes, spec.layers)
    if circuit.num_qubits != spec.n_qubits:
        raise ConfigError(
            f"Ansatz '{spec.family}' drew {circuit.num_qubits} qubits for {spec.n_amplitudes} amplitudes; "
            f"{spec.n_qubits} are expected."
        )
    if not {entry.operation.name for entry in circuit.data} <= {*GATES, "barrier"}:
        circuit = transpile(circuit, basis_gates=list(GATES), optimization_level=0)
    circuit.name, circuit.global_phase = spec.family, 0.0  # no expectation value depends on the phase
    if spec.readout == "rank_one":
        return CircuitProgram(circuit, np.eye(1, 2**spec.n_qubits), spec.n_amplitudes)
    labels = z_labels(spec.n_qubits, spec.n_readouts) if spec.readout == "z_diagonal" else list(spec.readout)
    parts = []
    for group in PauliList(labels).group_commuting(qubit_wise=True):
        places = np.sort([labels.index(label) for label in group.to_labels()])
        letters = np.array([list(labels[place][::-1]) for place in places])
        ended = circuit.copy()
        for qubit in range(spec.n_qubits):
            if "Y" in letters[:, qubit]:
                ended.sdg(qubit)
            if {"X", "Y"} & {*letters[:, qubit]}:
                ended.h(qubit)
        masks = (letters != "I") @ (1 << np.arange(spec.n_qubits))
        parts.append((places, CircuitProgram(ended, walsh_signs(masks, 2**spec.n_qubits), spec.n_amplitudes)))
    if len(parts) == 1:
        return parts[0][1]
    readouts = np.concatenate([part.readouts for _, part in parts])
    order = np.argsort(np.concatenate([places for places, _ in parts]))
    return CircuitProgram(circuit, readouts[order], spec.n_amplitudes, tuple(parts))


def check_pauli_labels(labels: Sequence[str], n_qubits: int) -> None:
    """Refuse what are no different Pauli strings on some qubits."""
    if not labels or len(set(labels)) < len(labels) or any(len(x) != n_qubits or set(x) - set("IXYZ") for x in labels):
        raise ConfigError(
            f"Readouts are different strings of {n_qubits} letters I, X, Y or Z, one letter per qubit; "
            f"{', '.join(labels) or 'none'} were given."
        )


def z_labels(n_qubits: int, n_readouts: int) -> list[str]:
    """Labels of the first Z strings of :func:`z_supports`."""
    supports = z_supports(n_qubits)[:n_readouts]
    return ["".join("Z" if qubit in own else "I" for qubit in reversed(range(n_qubits))) for own in supports]


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
    if vector.shape != (spec.n_amplitudes,):
        raise ConfigError(f"A vector of shape ({spec.n_amplitudes},) is expected; {vector.shape} was given.")
    norm = float(np.linalg.norm(vector))
    if not np.isfinite(norm) or norm == 0.0:
        raise ConfigError(f"A readout vector needs a direction; one of norm {norm} was given.")
    padded = np.zeros((1, 2**spec.n_qubits))
    padded[0, : spec.n_amplitudes] = vector
    gates = loader_angles(spec.n_amplitudes, padded)[0]
    return -np.delete(gates, [place for place, _ in tied_gates(spec.n_amplitudes)])


def _tree(n_amplitudes: int, layers: int) -> QuantumCircuit:
    """Inverse of the tree that prepares the readout vector, with θ minus its free angles: free gates are RY(θ)."""
    del layers
    loader, tied = loader_circuit(n_amplitudes), tied_gates(n_amplitudes)
    rows = np.eye(loader.num_parameters)
    for place, factors in tied:
        rows[place, place] = 0.0
        rows[place, place - len(factors) : place] = factors
    rows = np.delete(rows, [place for place, _ in tied], axis=1)
    parameters = list(ParameterVector("theta", rows.shape[1]))
    angles = iter([_linear(row, parameters) for row in rows[::-1]])
    circuit = QuantumCircuit(loader.num_qubits)
    for entry in reversed(loader.data):
        qubits = [loader.find_bit(qubit).index for qubit in entry.qubits]
        if len(qubits) == 2:
            circuit.cz(*qubits)
        else:
            circuit.ry(next(angles), *qubits)
    return circuit


def _linear(row: FloatArray, parameters: list[ParameterExpression]) -> ParameterExpression | float:
    """``row @ parameters`` with as few terms as possible."""
    terms = [
        parameter if factor == 1.0 else float(factor) * parameter
        for factor, parameter in zip(row, parameters, strict=True)
        if factor != 0.0
    ]
    return sum(terms[1:], terms[0]) if terms else 0.0


def _brickwork(n_amplitudes: int, layers: int, *, has_angles: bool) -> QuantumCircuit:
    """Layers of RY and of CZ or RZZ on the bonds of a line, even bonds first; a last layer of RY."""
    n_qubits = qubits_for(n_amplitudes)
    bonds = [*range(0, n_qubits - 1, 2), *range(1, n_qubits - 1, 2)]
    angles = iter(ParameterVector("theta", (layers + 1) * n_qubits + layers * len(bonds) * has_angles))
    circuit = QuantumCircuit(n_qubits)
    for layer in range(layers + 1):
        for qubit in range(n_qubits):
            circuit.ry(next(angles), qubit)
        for bond in bonds if layer < layers else ():
            if has_angles:
                circuit.rzz(next(angles), bond, bond + 1)
            else:
                circuit.cz(bond, bond + 1)
    return circuit


def _of_library(draw: Callable[..., QuantumCircuit], n_amplitudes: int, layers: int) -> QuantumCircuit:
    """A circuit of Qiskit's library."""
    return draw(qubits_for(n_amplitudes), entanglement="linear", reps=layers)


def z_supports(n_qubits: int) -> list[tuple[int, ...]]:
    """Qubits of every Z string in the order in which readouts take them: by their number, then by their extent."""
    supports: list[tuple[int, ...]] = [()]
    for size in range(1, n_qubits + 1):
        supports += sorted(combinations(range(n_qubits), size), key=lambda qubits: (qubits[-1] - qubits[0], qubits))
    return supports


def z_diagonals(n_qubits: int, n_readouts: int) -> FloatArray:
    """The first ``n_readouts`` Z strings of :func:`z_supports`, shape ``(n_readouts, 2**n_qubits)``."""
    masks = np.array([sum(1 << qubit for qubit in support) for support in z_supports(n_qubits)[:n_readouts]])
    return walsh_signs(masks, 2**n_qubits)


def walsh_signs(masks: IntArray, size: int) -> FloatArray:
    """Diagonals of the Z strings on the qubits of each mask, shape ``(n_masks, size)``."""
    return np.where(np.bitwise_count(masks[:, None] & np.arange(size)) % 2 == 1, -1.0, 1.0)


def diagonal_observable(diagonal: FloatArray) -> SparsePauliOp:
    """Sum of Z strings with the given little-endian diagonal, shape ``(2**n_qubits,)``."""
    size = len(diagonal)
    n_qubits = size.bit_length() - 1
    coefficients = walsh_signs(np.arange(size), size) @ diagonal / size
    kept = np.flatnonzero(np.abs(coefficients) > 1e-14 * max(1.0, float(np.abs(diagonal).max()))).tolist()
    supports = [[qubit for qubit in range(n_qubits) if mask >> qubit & 1] for mask in kept]
    terms = [("Z" * len(qubits), qubits, coefficients[mask]) for mask, qubits in zip(kept, supports, strict=True)]
    return SparsePauliOp.from_sparse_list(terms or [("", [], 0.0)], num_qubits=n_qubits)


FAMILIES: dict[str, Ansatz] = {
    "ry_tree": _tree,
    "brickwork_cz": partial(_brickwork, has_angles=False),
    "brickwork_rzz": partial(_brickwork, has_angles=True),
    "real_amplitudes": partial(_of_library, real_amplitudes),
    "efficient_su2": partial(_of_library, efficient_su2),
    "excitation_preserving": partial(_of_library, excitation_preserving),
}
"""Circuits by name, as configurations and model files have them; :func:`register_ansatz` adds to them."""
GATES = ("rx", "ry", "rz", "rzz", "x", "h", "cz", "cx")
"""Gates of which programs are made; others are translated to these."""
READOUTS = ("rank_one", "z_diagonal")
"""What can be measured, by name."""


AnyArray = NDArray[np.inexact[Any]]

SINGLE, DIAGONAL, CNOT = 0, 1, 2
"""Kinds of gates: 2x2 matrix on one qubit, diagonal on two qubits, controlled NOT."""

_GENERATORS: dict[str, ComplexArray] = {
    "rx": -0.5j * np.array([[0, 1], [1, 0]], dtype=complex),
    "ry": -0.5j * np.array([[0, -1j], [1j, 0]], dtype=complex),
    "rz": -0.5j * np.diag([1.0 + 0j, -1.0]),
    "rzz": -0.5j * np.array([[1, -1], [-1, 1]], dtype=complex),
}
_FIXED: dict[str, ComplexArray] = {
    "x": np.array([[0, 1], [1, 0]], dtype=complex),
    "h": np.array([[1, 1], [1, -1]], dtype=complex) / np.sqrt(2.0),
    "sdg": np.diag([1.0, -1j]),
    "cz": np.array([[1, 1], [1, -1]], dtype=complex),
    "cx": np.zeros((2, 2), dtype=complex),
}
_KINDS = {"rzz": DIAGONAL, "cz": DIAGONAL, "cx": CNOT}
_REAL_GATES = frozenset({"ry", "x", "h", "cz", "cx"})


@dataclass(frozen=True, eq=False)
class GateTable:
    """Gates of a circuit in order, and the map from its parameters to rotation angles."""

    n_qubits: int
    """Number of qubits."""
    kinds: IntArray
    """SINGLE, DIAGONAL or CNOT, shape ``(n_gates,)``."""
    qubits: IntArray
    """Qubits of each gate (control first), shape ``(n_gates, 2)``; the second is repeated for one-qubit
    gates."""
    matrices: ComplexArray
    """Gates without angle, shape ``(n_gates, 2, 2)``: a matrix, or ``[q1, q0]`` entries of a diagonal."""
    generators: ComplexArray
    """-i P / 2 of each rotation in the same form, shape ``(n_gates, 2, 2)``; zero where there is no angle."""
    rotations: IntArray
    """Gates that have an angle, shape ``(n_rotations,)``."""
    angle_matrix: FloatArray
    """A in ``angles = A @ theta + b``, shape ``(n_rotations, n_angles)``."""
    angle_offset: FloatArray
    """b in radians, shape ``(n_rotations,)``."""
    is_real: bool
    """Whether all gates are real matrices, so that U is."""

    def rotation_angles(self, theta: FloatArray) -> FloatArray:
        """Angles of the rotations in radians, ``(..., n_rotations)``, from parameters ``(..., n_angles)``."""
        return np.asarray(theta @ self.angle_matrix.T + self.angle_offset)

    def run(self, angles: FloatArray, states: IntArray, *, transposed: bool = False) -> AnyArray:
        """Columns of U, or of its transpose, for basis states, real where U is.

        Args:
            angles: Of the rotations in radians, shape ``(batch, n_rotations)``.
            states: Which columns, shape ``(n_columns,)``.

        Returns:
            Shape ``(batch, 2**n, n_columns)``.
        """
        matrices = self._at(angles)
        kinds, qubits = self.kinds, self.qubits
        if transposed:
            matrices = np.where((kinds == SINGLE)[:, None, None], matrices.swapaxes(-1, -2), matrices)[:, ::-1]
            kinds, qubits = kinds[::-1].copy(), qubits[::-1].copy()
        gates: AnyArray = np.ascontiguousarray(matrices.real if self.is_real else matrices)
        columns = np.zeros((len(angles), 2**self.n_qubits, len(states)), dtype=gates.dtype)
        columns[:, states, np.arange(len(states))] = 1.0
        _run_gates(kinds, qubits, gates, columns)
        return columns

    def _at(self, angles: FloatArray) -> ComplexArray:
        """Matrices or diagonals of all gates, ``(batch, n_gates, 2, 2)``."""
        matrices = np.repeat(self.matrices[None], len(angles), axis=0)
        half = 0.5 * angles[..., None, None]
        generators = self.generators[self.rotations]
        # exp(-i P a/2) = cos(a/2) 1 + 2 sin(a/2) (-i P / 2), because P squared is 1.
        identity = np.where(self.kinds[self.rotations, None, None] == DIAGONAL, np.ones((2, 2)), np.eye(2))
        matrices[:, self.rotations] = np.cos(half) * identity + 2.0 * np.sin(half) * generators
        return matrices


def gate_table(circuit: QuantumCircuit) -> GateTable:
    """Read the gates of a circuit."""
    entries = [entry for entry in circuit.data if entry.operation.name != "barrier"]
    parameters = {parameter: column for column, parameter in enumerate(circuit.parameters)}
    n_gates = len(entries)
    matrices, generators = np.zeros((2, n_gates, 2, 2), dtype=complex)
    rows: list[FloatArray] = []
    offsets: list[float] = []
    rotations = []
    for index, entry in enumerate(entries):
        name = entry.operation.name
        if name in _GENERATORS:
            row, offset = _linear_angle(entry, parameters)
            rows.append(row)
            offsets.append(offset)
            rotations.append(index)
            generators[index] = _GENERATORS[name]
        elif name in _FIXED:
            matrices[index] = _FIXED[name]
        else:
            known = ", ".join(sorted({*_GENERATORS, *_FIXED}))
            raise ConfigError(f"The compiled circuit knows {known} and barrier; it was given '{name}' (gate {index}).")
    names = [entry.operation.name for entry in entries]
    positions = [[circuit.find_bit(qubit).index for qubit in entry.qubits] for entry in entries]
    return GateTable(
        n_qubits=int(circuit.num_qubits),
        kinds=np.array([_KINDS.get(name, SINGLE) for name in names], dtype=np.int64),
        qubits=np.array([(pair[0], pair[-1]) for pair in positions], dtype=np.int64).reshape(-1, 2),
        matrices=matrices,
        generators=generators,
        rotations=np.array(rotations, dtype=np.int64),
        angle_matrix=np.array(rows).reshape(len(rows), len(parameters)),
        angle_offset=np.array(offsets),
        is_real=set(names) <= _REAL_GATES,
    )


def untied_circuit(circuit: QuantumCircuit, *, name: str) -> QuantumCircuit:
    """The same circuit with one parameter of its own for every rotation, constants included.

    Args:
        name: Name of the new parameter vector; element ``r`` is the angle of rotation ``r`` in circuit order.
    """
    rotations = [entry for entry in circuit.data if entry.operation.name in _GENERATORS]
    angles = iter(ParameterVector(name, len(rotations)))
    untied = circuit.copy_empty_like()
    for entry in circuit.data:
        operation = entry.operation
        if operation.name in _GENERATORS:
            operation = operation.to_mutable()
            operation.params = [next(angles)]
        untied.append(operation, entry.qubits)
    return untied


def _linear_angle(entry: CircuitInstruction, parameters: dict[Parameter, int]) -> tuple[FloatArray, float]:
    """Coefficients ``(n_angles,)`` and constant of a rotation's angle."""
    row = np.zeros(len(parameters))
    angle = entry.operation.params[0]
    if not isinstance(angle, ParameterExpression):
        return row, float(angle)
    for parameter in angle.parameters:
        slope = angle.gradient(parameter)
        if isinstance(slope, ParameterExpression) and slope.parameters:
            raise ConfigError(f"Angles must be linear in the circuit's parameters; '{angle}' is not.")
        row[parameters[parameter]] = float(np.real(complex(slope)))
    constant = angle.bind(dict.fromkeys(angle.parameters, 0.0))
    return row, float(constant)


@njit(cache=True)
def _apply_gate(columns, kind, first, second, matrix):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202, C901
    """Apply one gate to the columns of an array, in place, shape ``(2**n, n_columns)``."""
    size, n_columns = columns.shape
    bit_a, bit_b = 1 << first, 1 << second
    if kind == 0:
        for low in range(size):
            if low & bit_a == 0:
                high = low | bit_a
                for column in range(n_columns):
                    a, b = columns[low, column], columns[high, column]
                    columns[low, column] = matrix[0, 0] * a + matrix[0, 1] * b
                    columns[high, column] = matrix[1, 0] * a + matrix[1, 1] * b
    elif kind == 1:
        for row in range(size):
            phase = matrix[1 if row & bit_b else 0, 1 if row & bit_a else 0]
            if phase != 1.0:
                for column in range(n_columns):
                    columns[row, column] *= phase
    else:
        for low in range(size):
            if low & bit_a and low & bit_b == 0:
                high = low | bit_b
                for column in range(n_columns):
                    columns[low, column], columns[high, column] = columns[high, column], columns[low, column]


@njit(cache=True)
def _run_gates(kinds, qubits, matrices, columns):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Apply all gates, in place; matrices ``(batch, n_gates, 2, 2)``, columns ``(batch, 2**n, n_columns)``."""
    for item in range(len(columns)):
        for gate in range(len(kinds)):
            _apply_gate(columns[item], kinds[gate], qubits[gate, 0], qubits[gate, 1], matrices[item, gate])


@lru_cache(maxsize=1024)
def gates_of(task: MeasurementTask) -> GateTable:
    """Gates of a task, a program for example, read once."""
    return gate_table(task.circuit)


def circuit_matrix(program: CircuitProgram, theta: FloatArray) -> AnyArray:
    """U(θ), shape ``(2**n, 2**n)``, real where all gates are."""
    return np.asarray(gates_of(program).run(_angles(program, theta), np.arange(2**program.n_qubits))[0])


def readout_matrices(program: CircuitProgram, theta: FloatArray) -> FloatArray:
    """M_k of every readout.

    Args:
        theta: Angles in radians, shape ``(n_angles,)``.

    Returns:
        Symmetric matrices, dimensionless, shape ``(n_readouts, 2**n, 2**n)``.
    """
    return np.asarray(_all_forms(program, _angles(program, theta))[0])


def operator_matrix(program: CircuitProgram, theta: FloatArray, weights: FloatArray) -> FloatArray:
    """M = sum_k w_k M_k in eV, shape ``(2**n, 2**n)``."""
    angles = _angles(program, theta)
    parts = [_quadratic_forms(own, (weights[k] @ own.readouts)[None], angles)[0, 0] for k, own in program.bases]
    return np.asarray(sum(parts[1:], parts[0]))


def readout_jacobian(program: CircuitProgram, theta: FloatArray) -> FloatArray:
    """Derivatives of M_k with respect to every angle.

    Args:
        theta: Angles in radians, shape ``(n_angles,)``.

    Returns:
        Per radian, shape ``(n_angles, n_readouts, 2**n, 2**n)``.
    """
    angles = _angles(program, theta)
    shifts = 0.5 * np.pi * np.eye(angles.shape[1])
    ahead, behind = (_all_forms(program, angles + sign * shifts) for sign in (1.0, -1.0))
    return np.asarray(np.tensordot(gates_of(program).angle_matrix.T, 0.5 * (ahead - behind), axes=1))


def _angles(program: CircuitProgram, theta: FloatArray) -> FloatArray:
    """Angles of the rotations, shape ``(1, n_rotations)``."""
    if theta.shape != (program.n_angles,):
        raise ConfigError(f"{program.n_angles} angles are expected; an array of shape {theta.shape} was given.")
    return gates_of(program).rotation_angles(theta)[None]


def _all_forms(program: CircuitProgram, angles: FloatArray) -> FloatArray:
    """M_k of every readout, shape ``(batch, n_readouts, 2**n, 2**n)``."""
    forms = [_quadratic_forms(own, own.readouts, angles) for _, own in program.bases]
    order = np.argsort(np.concatenate([places for places, _ in program.bases]))
    return forms[0] if len(forms) == 1 else np.concatenate(forms, axis=1)[:, order]


def _quadratic_forms(program: CircuitProgram, readouts: FloatArray, angles: FloatArray) -> FloatArray:
    """``Re sum_z r_k[z] U_z^dagger U_z``, shape ``(batch, n_readouts, 2**n, 2**n)``."""
    states = np.flatnonzero(readouts.any(axis=0))
    rows = gates_of(program).run(angles, states, transposed=True)[:, None]
    weighted = rows.conj() * readouts[:, None, states]
    return np.ascontiguousarray((weighted @ rows.swapaxes(-1, -2)).real)
