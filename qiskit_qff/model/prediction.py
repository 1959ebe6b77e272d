"""What a force field says of one structure."""

from __future__ import annotations

from dataclasses import dataclass

from qiskit_qff.array_types import FloatArray


@dataclass(frozen=True)
class Prediction:
    """What the force field says of one structure."""

    energies: FloatArray
    """Energy of each atom, shape ``(n,)``, in eV."""
    forces: FloatArray
    """Forces, shape ``(n, 3)``, in eV/Å."""
    virial: FloatArray
    """dE/dstrain, symmetric, shape ``(3, 3)``, in eV; divided by the volume it is the stress."""

    @property
    def energy(self) -> float:
        """Total energy in eV."""
        return float(self.energies.sum())

    def stress(self, volume: float) -> FloatArray:
        """Stress, ASE sign.

        Args:
            volume: Cell volume in Å^3.

        Returns:
            Shape ``(3, 3)``, in eV/Å^3.
        """
        return self.virial / volume
