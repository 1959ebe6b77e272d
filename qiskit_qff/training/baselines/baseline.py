"""What every baseline is: a name, a way to predict, and a ledger that counts as strictly as the quantum model's.

Every number fitted to a label is trainable. Discrete choices made against labels (which channels, which
neighbour weights) and numbers computed without labels (means, scales) are listed beside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qiskit_qff.array_types import FloatArray
from qiskit_qff.model.core_repulsion import CoreRepulsion
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.neighbors import neighbor_list
from qiskit_qff.structures.species import species_index

Predict = Callable[[Frame], tuple[float, FloatArray]]
"""Energy in eV and forces, shape ``(n, 3)``, in eV/Å, of one frame."""


@dataclass(frozen=True, kw_only=True)
class BaselineLedger:
    """What a baseline was fitted with, and what it was not."""

    coefficients: int
    """Coefficients, weights and biases."""
    reference_energies: int
    """Reference energies that the training compositions tell apart, as the quantum model counts them."""
    choices: int = 0
    """Discrete choices made against the labels, such as selected channels."""
    label_free: int = 0
    """Numbers computed without labels."""

    @property
    def n_trainable(self) -> int:
        """All numbers fitted to an energy, a force or a stress."""
        return self.coefficients + self.reference_energies

    def to_dict(self) -> dict[str, Any]:
        """Totals for JSON, under the names of the quantum model's ledger where they mean the same."""
        return {
            "coefficients": self.coefficients,
            "reference_energies": self.reference_energies,
            "n_trainable": self.n_trainable,
            "not_trained": {"selected_channels": self.choices, "label_free_numbers": self.label_free},
        }


@dataclass(frozen=True, eq=False)
class Baseline:
    """A fitted classical model."""

    name: str
    """Its key in results."""
    words: str
    """What it is, in a few words."""
    ledger: BaselineLedger
    """What it was fitted with."""
    predict: Predict
    """Its energy and forces of a frame."""


def with_core(predict: Predict, repulsion: CoreRepulsion, *, r_cut: float) -> Predict:
    """The same model with the core repulsion that the quantum model has, too; zero on all training frames.

    Args:
        predict: A model without it.
        repulsion: The repulsion, which has no trainable parameter.
        r_cut: Cutoff radius in Å.
    """

    def repelled(frame: Frame) -> tuple[float, FloatArray]:
        energy, forces = predict(frame)
        kinds = species_index(frame.numbers, repulsion.species, where=frame.where)
        core, push, _ = repulsion.evaluate(kinds, neighbor_list(frame.positions, frame.cell, frame.pbc, r_cut))
        return energy + float(core.sum()), forces + push

    return repelled
