r"""The loader: one circuit for all environments, whose angles are bound per atom.

The rotation tree of :mod:`qiskit_qff.encoding.tree` as a :class:`~qiskit.QuantumCircuit` with one parameter
per RY gate, so that it is transpiled once and every derivative follows from the two-term parameter shift.
"""

from __future__ import annotations

from collections.abc import Sequence

from qiskit import QuantumCircuit
from qiskit.circuit import ParameterExpression, ParameterVector

from qiskit_qff.encoding.multiplexor import Entangler, Rotation
from qiskit_qff.encoding.tree import tree_layout


def loader_circuit(n_amplitudes: int, *, name: str = "phi") -> QuantumCircuit:
    """Circuit that prepares ``sum_j x_j |j>`` over the first ``n_amplitudes`` basis states from |0...0>.

    Args:
        n_amplitudes: Number of amplitudes that may differ from zero.
        name: Name of the parameter vector; element ``g`` is the angle of RY gate ``g`` as
            :func:`~qiskit_qff.encoding.tree_angles.loader_angles` orders them.

    Raises:
        ConfigError: If there are fewer than two amplitudes.
    """
    layout = tree_layout(n_amplitudes)
    circuit = QuantumCircuit(layout.n_qubits, name="loader")
    append_operations(circuit, layout.operations(), list(ParameterVector(name, layout.n_gates)))
    return circuit


def append_operations(
    circuit: QuantumCircuit,
    operations: Sequence[Rotation | Entangler],
    angles: Sequence[ParameterExpression | float],
) -> None:
    """Append multiplexor gates to a circuit.

    Args:
        circuit: Changed in place.
        operations: Gates in the order in which they are appended.
        angles: Angle of every rotation by its gate index, radians.
    """
    for operation in operations:
        if isinstance(operation, Entangler):
            circuit.cz(operation.control, operation.target)
        else:
            circuit.ry(angles[operation.gate], operation.target)
