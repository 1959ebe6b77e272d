r"""What a model knows of one species: its features, spread over registers, and what their circuits make of them.

.. math:: E_i = e_s + \sum_r x_r^T M_r\, x_r,\qquad x_r = (1, y_r),

A register is a small circuit with its parameters, and the features of a species that it holds.

The parameter ledger: every number a model was fitted with, and every number it was not.

Reference energies count as many as the data can tell apart, the rank of the matrix of training compositions: frames of
one composition determine one number, whatever the number of species, and no more than that is fitted. Files from before
this was so count one per species. The angles and the weight of a balanced register follow from one linear term per
feature: a register of d features counts d.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import chemical_symbols

from qiskit_qff.array_types import FloatArray
from qiskit_qff.circuit.ansatz import AnsatzSpec, BoundProgram, build_program, operator_matrix
from qiskit_qff.compression.selection import LinearMap
from qiskit_qff.errors import ConfigError

if TYPE_CHECKING:
    from qiskit_qff.evaluators.measured_operator import MeasuredOperator

RegisterKey = tuple[int, int]
"""Atomic number, and place of the register among those of its species."""


@dataclass(frozen=True, eq=False)
class Register:
    """A circuit on n qubits that adds x^T M x with x = (1, y) to the energy of an atom."""

    n_features: int
    """Features y that it holds, at most 2^n - 1; further amplitudes stay zero."""
    ansatz: AnsatzSpec
    """Circuit family, readout and size."""
    theta: FloatArray
    """Circuit angles in radians, shape ``(n_angles,)``."""
    weights: FloatArray
    """Readout weights in eV, shape ``(n_readouts,)``."""
    balanced: bool = False
    """Whether angles and weight follow from one linear term per feature; see :mod:`qiskit_qff.training.objective`."""
    measured: MeasuredOperator | None = None
    """M as a device measured it, used instead of the circuit's own; None where the model is not calibrated."""

    def __post_init__(self) -> None:
        """Check that the parts fit each other."""
        if not 1 <= self.n_features < self.ansatz.n_amplitudes:
            raise ConfigError(
                f"a register of {self.ansatz.n_amplitudes} amplitudes holds 1 to {self.ansatz.n_amplitudes - 1} "
                f"features; {self.n_features} were given."
            )
        for name, array, expected in (
            ("angles", self.theta, self.ansatz.n_angles),
            ("weights", self.weights, self.ansatz.n_readouts),
        ):
            if array.shape != (expected,):
                raise ConfigError(f"a register has {expected} {name}; found shape {array.shape}.")
            if not np.isfinite(array).all():
                raise ConfigError(f"some {name} of a register are not finite numbers.")
        total = float(self.weights.sum())
        if self.balanced and abs(self.origin() - 0.5 * total) > 1e-6 * abs(total):
            raise ConfigError("the readout of a register is said to be balanced and is not.")
        if self.measured is not None:
            self.measured.check(self.n_qubits, self.ansatz.n_amplitudes)

    @property
    def n_qubits(self) -> int:
        """Number of qubits."""
        return self.ansatz.n_qubits

    @property
    def n_trainable(self) -> int:
        """Independent fitted numbers: one per feature of a balanced register, else all angles and weights."""
        return self.n_features if self.balanced else self.ansatz.n_angles + self.ansatz.n_readouts

    def bound_program(self) -> BoundProgram:
        """The circuit with its parameters."""
        return BoundProgram(build_program(self.ansatz), self.theta, self.weights)

    def circuit_matrix(self) -> FloatArray:
        """M of the circuit, shape ``(2**n, 2**n)``, in eV."""
        return operator_matrix(build_program(self.ansatz), self.theta, self.weights)

    def operator_matrix(self) -> FloatArray:
        """M, measured where the register is calibrated, else of the circuit, shape ``(2**n, 2**n)``, in eV.

        A measured M keeps the circuit's M_00: the mean environment has its trained energy, and what is measured is the
        difference to it.
        """
        if self.measured is None:
            return self.circuit_matrix()
        matrix = self.measured.matrix.copy()
        matrix[0, 0] = self.origin()
        return matrix

    def origin(self) -> float:
        """M_00 of the circuit in eV."""
        return float(self.circuit_matrix()[0, 0])

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists for a model file."""
        content: dict[str, Any] = {
            "n_features": self.n_features,
            "ansatz": asdict(self.ansatz),
            "theta": self.theta.tolist(),
            "weights": self.weights.tolist(),
            "balanced": self.balanced,
        }
        return content if self.measured is None else {**content, "measured": self.measured.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Register:
        """Read back what :meth:`to_dict` wrote."""
        from qiskit_qff.evaluators.measured_operator import MeasuredOperator  # calibrated models have one

        return cls(
            n_features=int(data["n_features"]),
            ansatz=AnsatzSpec(**data["ansatz"]),
            theta=np.asarray(data["theta"], dtype=np.float64),
            weights=np.asarray(data["weights"], dtype=np.float64),
            balanced=bool(data["balanced"]),
            measured=MeasuredOperator.from_dict(data["measured"]) if "measured" in data else None,
        )


@dataclass(frozen=True, eq=False)
class SpeciesModel:
    """What the model knows of one species."""

    number: int  # atomic number
    compression: LinearMap  # from channels to features y
    registers: tuple[Register, ...]  # circuits, each with the next features in order
    reference_energy: float  # energy added to every atom, in eV

    def __post_init__(self) -> None:
        """Check that the parts fit each other."""
        if not (1 <= self.number < len(chemical_symbols) and np.isfinite(self.reference_energy)):
            raise ConfigError(
                f"species {self.number}, {self.reference_energy} eV: no atomic number, or no finite energy."
            )
        held = sum(register.n_features for register in self.registers)
        if held != self.compression.n_features:
            raise ConfigError(
                f"species {self.number}: the registers hold {held} features, the compression makes "
                f"{self.compression.n_features}."
            )

    @property
    def slices(self) -> tuple[slice, ...]:
        """Features of each register."""
        bounds = np.concatenate([[0], np.cumsum([register.n_features for register in self.registers])])
        return tuple(slice(int(a), int(b)) for a, b in itertools.pairwise(bounds))

    def operator_matrix(self) -> FloatArray:
        """M of all registers together in x = (1, y), shape ``(d + 1, d + 1)``, in eV."""
        total = np.zeros((self.compression.n_features + 1,) * 2)
        for own, register in zip(self.slices, self.registers, strict=True):
            places = np.concatenate([[0], np.arange(own.start, own.stop) + 1])
            total[np.ix_(places, places)] += register.operator_matrix()[: len(places), : len(places)]
        return total

    @property
    def label_free(self) -> int:
        """Numbers computed without labels: means, scales, projections and levels of products."""
        numbers = self.compression.mean.size + int(np.count_nonzero(self.compression.matrix))
        return numbers + 4 * len(self.compression.channels.products)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists for a model file."""
        return {
            "number": self.number,
            "compression": self.compression.to_dict(),
            "registers": [register.to_dict() for register in self.registers],
            "reference_energy": self.reference_energy,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SpeciesModel:
        """Read back what :meth:`to_dict` wrote; files of versions 1 to 5 have one register a species.

        The feature statistics and committees of versions up to 6 are ignored, see
        :mod:`~qiskit_qff.model.uncertainty`.
        """
        compression = LinearMap.from_dict(data["compression"])
        whole = {**data, "n_features": compression.n_features, "balanced": data.get("balanced", False)}
        registers = tuple(Register.from_dict(entry) for entry in data.get("registers", [whole]))
        return cls(
            number=int(data["number"]),
            compression=compression,
            registers=registers,
            reference_energy=float(data["reference_energy"]),
        )


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
