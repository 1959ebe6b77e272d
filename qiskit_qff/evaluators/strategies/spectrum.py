"""What the readout tells about M before anything is measured: its eigenvalues, and which states suffice."""

from __future__ import annotations

from typing import cast, get_args

import numpy as np
from numpy.typing import NDArray

from qiskit_qff.circuit.compiled import compile_program, readout_matrices
from qiskit_qff.circuit.program import BoundProgram
from qiskit_qff.errors import ConfigError
from qiskit_qff.evaluators.strategies.designs import DesignName

FloatArray = NDArray[np.float64]

_LEAST_OVERLAP = 0.02
"""Least squared overlap of a readout vector with the first basis state for measuring by its column."""


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
    """The design with the fewest states that determines M: ``first_column`` for one readout vector, or ``pairs``.

    A vector that hardly touches the first basis state would make its column small against the noise; it is measured by
    ``pairs`` as well.

    Args:
        bound: Circuit with its parameters.
    """
    spectrum = known_spectrum(bound)
    if spectrum is None or np.count_nonzero(spectrum) != 1:
        return "pairs"
    matrices = readout_matrices(bound.program, bound.theta)
    overlap = float(bound.weights @ matrices[:, 0, 0]) / float(spectrum[np.flatnonzero(spectrum)[0]])
    return "first_column" if overlap > _LEAST_OVERLAP else "pairs"


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


def only_weight(bound: BoundProgram) -> float:
    """The one eigenvalue of M that is not zero, in eV.

    Args:
        bound: Circuit with its parameters.

    Raises:
        ConfigError: If there is not exactly one, or it is not known.
    """
    spectrum = known_spectrum(bound)
    if spectrum is None or np.count_nonzero(spectrum) != 1:
        raise ConfigError(
            "Design 'first_column' needs a readout with one vector (family 'ry_tree', readout 'rank_one'); "
            "use design 'pairs'."
        )
    return float(spectrum[np.flatnonzero(spectrum)[0]])
