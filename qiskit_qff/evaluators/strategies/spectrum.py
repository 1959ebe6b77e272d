"""What the readout tells about M before anything is measured: its eigenvalues."""

from __future__ import annotations

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.circuit.compiled import compile_program
from qiskit_qff.circuit.program import BoundProgram


def known_spectrum(bound: BoundProgram) -> FloatArray | None:
    """Eigenvalues that M must have, shape ``(n_amplitudes,)`` in eV, or None where it is not fixed.

    A real circuit conjugates the readout, so M has its eigenvalues if all basis states are in use; a tree whose first
    readout vector alone has a weight has only that one. (The second lies partly outside the amplitudes in use.)
    """
    program = bound.program
    size = 2**program.n_qubits
    if not compile_program(program).gates.is_real:
        return None
    diagonal = program.weighted_diagonal(bound.weights)
    if program.n_amplitudes == size:
        return diagonal
    if np.array_equal(np.flatnonzero(diagonal), [0]) and program.circuit.name.startswith("ry_tree"):
        return np.where(np.arange(program.n_amplitudes) == 0, diagonal[0], 0.0)
    return None
