"""The parameter ledger: every number a model was fitted with, and every number it was not.

Reference energies count as many as the data can tell apart, the rank of the matrix of training compositions: frames of
one composition determine one number, whatever the number of species, and no more than that is fitted. Files from before
this was so count one per species. The angles and the weight of a balanced register follow from one linear term per
feature: a register of d features counts d.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ase.data import chemical_symbols

from qiskit_qff.model.species_model import SpeciesModel

CLAIM = 99
"""Most trainable parameters that the package's claims are about."""


def parameter_count(n_trainable: int) -> dict[str, Any]:
    """How many parameters a model has, for JSON, and whether it is beyond the package's claim."""
    return {"n_trainable": n_trainable, "beyond_claim": n_trainable > CLAIM}


def parameters_in_words(n_trainable: int) -> str:
    """The same for people."""
    beyond = f" (more than the {CLAIM} of the package's claim)" if n_trainable > CLAIM else ""
    return f"{n_trainable} trainable parameters{beyond}"


@dataclass(frozen=True)
class SpeciesLedger:
    """What one species contributes."""

    symbol: str
    n_registers: int
    n_qubits: int  # of its largest register
    angles: int
    weights: int
    channels: int  # chosen against the labels (a discrete choice)
    label_free: int  # means, scales and projections computed without labels
    tied: int = 0  # angles and weights of balanced registers that follow from the others

    @property
    def trainable(self) -> int:
        """Numbers fitted to energies or forces that belong to this species alone."""
        return self.angles + self.weights - self.tied


@dataclass(frozen=True)
class Ledger:
    """All species together."""

    species: tuple[SpeciesLedger, ...]
    reference_energies: int  #: independent ones, of all species together; the rank of the training compositions
    uncertainty: int = 0  #: numbers of the posterior; no energy or force depends on them

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
                "label_free_numbers": sum(e.label_free for e in self.species),
                "uncertainty_numbers": self.uncertainty,
            },
            "species": [asdict(e) | {"trainable": e.trainable} for e in self.species],
        }


def ledger_of(models: Sequence[SpeciesModel], *, fitted_references: int | None, uncertainty: int = 0) -> Ledger:
    """Ledger of some species' models, with so many independent reference energies; None for one per species."""
    entries = []
    for m in models:
        angles, weights = sum(r.ansatz.n_angles for r in m.registers), sum(r.ansatz.n_readouts for r in m.registers)
        entries.append(
            SpeciesLedger(
                chemical_symbols[m.number],
                n_registers=len(m.registers),
                n_qubits=max(r.n_qubits for r in m.registers),
                angles=angles,
                weights=weights,
                tied=angles + weights - sum(r.n_trainable for r in m.registers),
                channels=m.compression.channels.n_channels,
                label_free=m.label_free,
            )
        )
    return Ledger(tuple(entries), len(models) if fitted_references is None else fitted_references, uncertainty)
