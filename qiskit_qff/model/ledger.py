"""The parameter ledger: every number a model was fitted with, and every number it was not."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ase.data import chemical_symbols


@dataclass(frozen=True)
class SpeciesLedger:
    """What one species contributes."""

    symbol: str
    """Chemical symbol."""
    n_qubits: int
    """Qubits of its register."""
    angles: int
    """Trainable circuit angles; with shared circuits they are counted for the first species only."""
    weights: int
    """Trainable readout weights."""
    reference_energies: int
    """Fitted reference energies, always 1."""
    channels: int
    """Channels chosen against the labels (a discrete choice)."""
    label_free: int
    """Means, scales, projections and second moments computed without labels."""
    uncertainty: int = 0
    """Draws of the committee; no energy or force depends on them."""

    @property
    def trainable(self) -> int:
        """Numbers fitted to energies or forces."""
        return self.angles + self.weights + self.reference_energies


@dataclass(frozen=True)
class Ledger:
    """All species together."""

    species: tuple[SpeciesLedger, ...]
    """One entry each."""

    @property
    def n_trainable(self) -> int:
        """All numbers fitted to an energy or a force."""
        return sum(entry.trainable for entry in self.species)

    def to_dict(self) -> dict[str, Any]:
        """Totals and one entry per species, for JSON."""
        return {
            "angles": sum(e.angles for e in self.species),
            "weights": sum(e.weights for e in self.species),
            "reference_energies": sum(e.reference_energies for e in self.species),
            "n_trainable": self.n_trainable,
            "not_trained": {
                "selected_channels": sum(e.channels for e in self.species),
                "label_free_numbers": sum(e.label_free for e in self.species),
                "uncertainty_numbers": sum(e.uncertainty for e in self.species),
            },
            "species": [asdict(e) | {"trainable": e.trainable} for e in self.species],
        }


def species_entry(
    number: int, *, n_qubits: int, angles: int, weights: int, channels: int, label_free: int, uncertainty: int = 0
) -> SpeciesLedger:
    """Entry of one species.

    Args:
        number: Atomic number.
        n_qubits: Qubits of its register.
        angles: Trainable angles.
        weights: Trainable readout weights.
        channels: Selected channels.
        label_free: Numbers computed without labels.
        uncertainty: Numbers that only uncertainties depend on.
    """
    return SpeciesLedger(chemical_symbols[number], n_qubits, angles, weights, 1, channels, label_free, uncertainty)
