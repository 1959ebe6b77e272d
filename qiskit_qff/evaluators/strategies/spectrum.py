"""What the readout tells about M before anything is measured: its eigenvalues, and which states suffice."""

from __future__ import annotations

from typing import cast, get_args

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.circuit.compiled import compile_program
from qiskit_qff.circuit.program import BoundProgram
from qiskit_qff.errors import ConfigError
from qiskit_qff.evaluators.strategies.designs import DesignName, operator_design
from qiskit_qff.evaluators.strategies.vector import is_rank_one


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


def default_design(bound: BoundProgram) -> DesignName:
    """The cheapest design that determines M: ``settings`` for a rank-one readout, or ``pairs``.

    Args:
        bound: Circuit with its parameters.
    """
    return "settings" if is_rank_one(bound.program) else "pairs"


def n_measured(bound: BoundProgram, design: str) -> int:
    """States times settings that a design measures.

    Args:
        bound: Circuit with its parameters.
        design: ``auto`` or a design.

    Raises:
        ConfigError: If there is no such design.
    """
    chosen, program = chosen_design(design, bound), bound.program
    if chosen == "settings":
        return program.n_qubits + 1
    return operator_design(program.n_amplitudes, program.n_qubits, chosen).n_states


def chosen_design(wanted: str, bound: BoundProgram) -> DesignName:
    """The design of a name: one of the designs, or ``auto`` for the one with the fewest states.

    Args:
        wanted: What the user asked for.
        bound: Circuit with its parameters.

    Raises:
        ConfigError: If there is no such design.
    """
    check_design(wanted)
    return default_design(bound) if wanted == "auto" else cast("DesignName", wanted)


def check_design(wanted: str) -> None:
    """Refuse a design that does not exist.

    Args:
        wanted: What the user asked for.

    Raises:
        ConfigError: If it is neither ``auto`` nor a design.
    """
    if wanted != "auto" and wanted not in get_args(DesignName):
        raise ConfigError(f"Unknown design '{wanted}'; choose auto or one of {', '.join(get_args(DesignName))}.")
