"""The parameter ledger: every number a model was fitted with, and every number it was not.

Reference energies count as many as the data can tell apart, the rank of the matrix of training compositions: frames of
one composition determine one number, whatever the number of species, and no more than that is fitted. Files from before
this was so count one per species. Readout weights that are powers of two were chosen like channels, by the loss among a
few, and are listed like them. Of a balanced readout the angles and the weight obey one equation (the constant amplitude
of its vector is 1/√2), so one number less is independent, and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ase.data import chemical_symbols

from qiskit_qff.model.species_model import SpeciesModel


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
    channels: int
    """Channels chosen against the labels (a discrete choice)."""
    label_free: int
    """Means, scales, projections and second moments computed without labels."""
    uncertainty: int = 0
    """Draws of the committee; no energy or force depends on them."""
    tied: int = 0
    """Equations that tie angles and weights of a balanced readout: so many of these numbers follow from the others."""
    scales: int = 0
    """Readout weights that were chosen against the labels among ±2^k eV (a discrete choice), not fitted."""

    @property
    def trainable(self) -> int:
        """Numbers fitted to energies or forces that belong to this species alone."""
        return self.angles + self.weights - self.tied


@dataclass(frozen=True)
class Ledger:
    """All species together."""

    species: tuple[SpeciesLedger, ...]
    """One entry each."""
    reference_energies: int
    """Independent reference energies, of all species together; the rank of the training compositions."""

    @property
    def n_trainable(self) -> int:
        """All numbers fitted to an energy, a force or a stress."""
        return sum(entry.trainable for entry in self.species) + self.reference_energies

    def to_dict(self) -> dict[str, Any]:
        """Totals and one entry per species, for JSON."""
        return {
            "angles": sum(e.angles for e in self.species),
            "weights": sum(e.weights for e in self.species),
            "tied": sum(e.tied for e in self.species),
            "reference_energies": self.reference_energies,
            "n_trainable": self.n_trainable,
            "not_trained": {
                "selected_channels": sum(e.channels for e in self.species),
                "readout_scales_powers_of_two": sum(e.scales for e in self.species),
                "label_free_numbers": sum(e.label_free for e in self.species),
                "uncertainty_numbers": sum(e.uncertainty for e in self.species),
            },
            "species": [asdict(e) | {"trainable": e.trainable} for e in self.species],
        }


def ledger_of(models: Sequence[SpeciesModel], *, shared_angles: bool, fitted_references: int | None) -> Ledger:
    """Ledger of some species' models.

    Args:
        models: The models.
        shared_angles: Whether they have one set of angles.
        fitted_references: Independent reference energies; None for one per species.
    """
    return Ledger(
        tuple(
            SpeciesLedger(
                chemical_symbols[m.number],
                n_qubits=m.ansatz.n_qubits,
                angles=0 if shared_angles and k > 0 else m.ansatz.n_angles,
                weights=0 if m.chosen_weights else m.ansatz.n_readouts,
                tied=int(m.balanced),
                scales=m.ansatz.n_readouts if m.chosen_weights else 0,
                channels=m.compression.channels.n_channels,
                label_free=m.label_free,
                uncertainty=0 if m.spread is None else m.spread.n_numbers,
            )
            for k, m in enumerate(models)
        ),
        len(models) if fitted_references is None else fitted_references,
    )
