"""A model's channels in words and its circuits: drawn in characters, and their depth on a heavy-hex lattice.

The depth counted is that of two-qubit gates, the ones that cost errors and time, after transpiling to IBM's
native gates (RZ, SX, X, CZ) on a heavy-hex lattice of 19 qubits.
"""

from collections import Counter

from ase.data import chemical_symbols
from qiskit import QuantumCircuit, transpile
from qiskit.transpiler import CouplingMap

from qiskit_qff.circuit.ansatz import AnsatzSpec, build_program
from qiskit_qff.model.force_field import ForceField

_HEAVY_HEX_DISTANCE = 3
_NATIVE_GATES = ("rz", "sx", "x", "cz")
_SEED = 7  # of the transpiler's layout search, so that the same model always reports the same depth


def two_qubit_cost(circuit: QuantumCircuit) -> tuple[int, int]:
    """Number of two-qubit gates on a heavy-hex device, and of layers of them."""
    native = transpile(
        circuit,
        coupling_map=CouplingMap.from_heavy_hex(_HEAVY_HEX_DISTANCE),
        basis_gates=list(_NATIVE_GATES),
        optimization_level=3,
        seed_transpiler=_SEED,
    )
    return native.num_nonlocal_gates(), int(native.depth(lambda instruction: len(instruction.qubits) == 2))


def draw(circuit: QuantumCircuit) -> str:
    """The circuit in characters, on one line per qubit however long."""
    return str(circuit.draw("text", fold=-1, idle_wires=True))


def circuit_costs(field: ForceField) -> list[tuple[AnsatzSpec, int, int, int]]:
    """For every different circuit: registers, and two-qubit gates and depth of U."""
    counts = Counter(register.ansatz for register in field.registers.values())
    return [(spec, count, *two_qubit_cost(build_program(spec).circuit)) for spec, count in counts.items()]


def channels_in_words(field: ForceField) -> dict[str, list[str]]:
    """Channels by chemical symbol, such as ``P-S two-body at 2.05 Å``."""
    return {
        chemical_symbols[model.number]: [
            model.compression.channels.describe(channel) for channel in range(model.compression.channels.n_channels)
        ]
        for model in field.models
    }
