"""Which elements occur, and where each stands in a model's list."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase.data import chemical_symbols

from qiskit_qff.array_types import IntArray
from qiskit_qff.errors import DataError
from qiskit_qff.structures.frame import Frame


def species_of(frames: Sequence[Frame]) -> tuple[int, ...]:
    """All atomic numbers in some frames, ascending."""
    return tuple(int(z) for z in np.unique(np.concatenate([np.unique(f.numbers) for f in frames])))


def species_index(numbers: IntArray, species: Sequence[int], *, where: str) -> IntArray:
    """Index of every atom's species in a model's list.

    Args:
        numbers: Atomic numbers, shape ``(n,)``.
    """
    known = np.asarray(species, dtype=np.int64)
    index = np.minimum(np.searchsorted(known, numbers), len(known) - 1)
    wrong = np.flatnonzero(known[index] != numbers)
    if len(wrong):
        atom = int(wrong[0])
        names = ", ".join(chemical_symbols[int(z)] for z in known)
        raise DataError(
            f"{where}, atom {atom}: element {chemical_symbols[int(numbers[atom])]} is unknown to the model, which was "
            f"trained on {names}; train on data that contains it."
        )
    return index
