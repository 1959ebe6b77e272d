"""Finding the ab initio energy, forces and stress under the names that programs give them.

Conventions: a *stress* is in eV/Å³ with ASE's sign, ``σ = (1/V) dE/dε``; a *virial*, as GAP and NEP files
store it, is in eV with the other sign, ``W = -V σ``. Names are compared without regard to case; the first one
present wins. ``free_energy`` is only a fall-back: programs that write both mean ``energy`` to be learnt.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.errors import DataError

ENERGY_NAMES = ("energy", "ref_energy", "dft_energy", "free_energy")
FORCE_NAMES = ("forces", "force", "ref_forces", "ref_force", "dft_forces", "dft_force")
STRESS_NAMES = ("stress", "ref_stress", "dft_stress")
VIRIAL_NAMES = ("virial", "virials", "ref_virial", "ref_virials", "dft_virial", "dft_virials")

_VOIGT = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])


@dataclass(frozen=True, eq=False)
class Labels:
    """What ab initio told about one structure."""

    energy: float | None
    """Total energy in eV."""
    forces: FloatArray | None
    """Forces, shape ``(n_atoms, 3)``, in eV/Å."""
    stress: FloatArray | None
    """Symmetric stress, shape ``(3, 3)``, in eV/Å³, ASE's sign."""
    used: frozenset[str]
    """The names under which they were found; what is left may be kept as tags."""


def find_labels(values: Mapping[str, Any], arrays: Mapping[str, Any], *, volume: float, where: str) -> Labels:
    """Labels among a structure's global values and per-atom arrays.

    Args:
        values: global properties by name, for example ``energy`` and ``stress``.
        arrays: per-atom properties by name, for example ``forces``.
        volume: of the cell in Å³, NaN where there is none; needed only to turn a virial into a stress.
        where: file and frame, for messages.

    Raises:
        DataError: if a label has a shape or type that its name does not allow.
    """
    energy_key = _first(ENERGY_NAMES, values)
    force_key = _first(FORCE_NAMES, arrays)
    stress_key = _first(STRESS_NAMES, values)
    virial_key = _first(VIRIAL_NAMES, values)
    stress = None
    if stress_key is not None:
        stress = symmetric_tensor(values[stress_key], name=stress_key, where=where)
    elif virial_key is not None and np.isfinite(volume) and volume > 0.0:
        stress = -symmetric_tensor(values[virial_key], name=virial_key, where=where) / volume
    used = {key for key in (energy_key, force_key, stress_key, virial_key) if key is not None}
    return Labels(
        energy=None if energy_key is None else _scalar(values[energy_key], name=energy_key, where=where),
        forces=None if force_key is None else np.asarray(arrays[force_key], dtype=np.float64),
        stress=stress,
        used=frozenset(used),
    )


def symmetric_tensor(value: Any, *, name: str, where: str) -> FloatArray:
    """Symmetric tensor, shape ``(3, 3)``, from 9 or 3 x 3 numbers, or 6 in Voigt order xx yy zz yz xz xy.

    Raises:
        DataError: if there are not 6 or 9 numbers.
    """
    try:
        tensor = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        tensor = np.empty(0)
    if tensor.size == 6:
        flat: FloatArray = tensor.ravel()
        return np.take(flat, _VOIGT)
    if tensor.size == 9:
        tensor = tensor.reshape(3, 3)
        return 0.5 * (tensor + tensor.T)
    raise DataError(
        f"{where}: {name!r} should be 9 numbers (3 x 3) or 6 (Voigt: xx yy zz yz xz xy), found {value!r}. "
        "Correct the value or remove the key."
    )


def _first(names: tuple[str, ...], available: Mapping[str, Any]) -> str | None:
    """The available key that matches the earliest of the names, whatever its case."""
    by_lower = {key.lower(): key for key in available if available[key] is not None}
    return next((by_lower[name] for name in names if name in by_lower), None)


def _scalar(value: Any, *, name: str, where: str) -> float:
    """A single number.

    Raises:
        DataError: if it is none.
    """
    try:
        return float(np.asarray(value, dtype=np.float64).reshape(()))
    except (TypeError, ValueError):
        raise DataError(
            f"{where}: {name!r} should be one number in eV, found {value!r}. Correct it or remove the key."
        ) from None
