r"""What a model knows of one species: its features, spread over registers, and what their circuits make of them.

.. math:: E_i = e_s + \sum_r x_r^T M_r\, x_r,\qquad x_r = (1, y_r),
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from qiskit_qff.array_types import FloatArray
from qiskit_qff.circuit.ansatz import AnsatzSpec, build_program
from qiskit_qff.circuit.compiled import readout_jacobian, readout_matrices
from qiskit_qff.compression.linear_map import LinearMap
from qiskit_qff.errors import ConfigError
from qiskit_qff.model.calibrated_operator import CalibratedOperator
from qiskit_qff.model.domain import TrainingDomain
from qiskit_qff.model.register import Register
from qiskit_qff.model.spread import ModelSpread


@dataclass(frozen=True, eq=False)
class SpeciesModel:
    """What the model knows of one species."""

    number: int
    """Atomic number."""
    compression: LinearMap
    """From channels to features y."""
    registers: tuple[Register, ...]
    """Circuits, each with the next features in order."""
    reference_energy: float
    """Energy added to every atom, in eV."""
    domain: TrainingDomain | None = None
    """Feature statistics of its training atoms; None in files from before extrapolation grades."""
    spread: ModelSpread | None = None
    """What the data leave open of the parameters; None where it was not drawn."""

    def __post_init__(self) -> None:
        """Check that the parts fit each other.

        Raises:
            ConfigError: If a number of features or of the committee is wrong.
        """
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
        if self.domain is not None and len(self.domain.moments) != self.compression.n_features:
            raise ConfigError(
                f"species {self.number}: a training domain of {self.compression.n_features} features is expected, "
                f"found {len(self.domain.moments)}."
            )
        triangles = sum((r.n_features + 1) * (r.n_features + 2) // 2 for r in self.registers)
        if self.spread is not None and self.spread.triangles.shape[1] != triangles:
            raise ConfigError(f"species {self.number}: the committee is of other registers.")

    @property
    def slices(self) -> tuple[slice, ...]:
        """Features of each register."""
        bounds = np.concatenate([[0], np.cumsum([register.n_features for register in self.registers])])
        return tuple(slice(int(a), int(b)) for a, b in itertools.pairwise(bounds))

    def operator_matrix(self) -> FloatArray:
        """M of all registers together in x = (1, y), shape ``(d + 1, d + 1)``, in eV."""
        return self._assembled([register.operator_matrix() for register in self.registers])

    def member_matrix(self, k: int) -> tuple[FloatArray, float]:
        """M and reference energy of one member of the committee, in eV.

        Args:
            k: Its number.
        """
        assert self.spread is not None
        changes, place = [], 0
        for register in self.registers:
            size = register.n_features + 1
            upper = np.triu_indices(size)
            change = np.zeros((size, size))
            change[upper] = self.spread.triangles[k, place : place + len(upper[0])]
            changes.append(change + np.triu(change, 1).T)
            place += len(upper[0])
        return self.operator_matrix() + self._assembled(changes), self.reference_energy + float(
            self.spread.references[k]
        )

    def _assembled(self, matrices: list[FloatArray]) -> FloatArray:
        """The sum of matrices of registers in the features of the species."""
        total = np.zeros((self.compression.n_features + 1,) * 2)
        for own, matrix in zip(self.slices, matrices, strict=True):
            places = np.concatenate([[0], np.arange(own.start, own.stop) + 1])
            total[np.ix_(places, places)] += matrix[: len(places), : len(places)]
        return total

    @property
    def label_free(self) -> int:
        """Numbers computed without labels: means, scales, projections, levels of products, and the training domain."""
        numbers = self.compression.mean.size + int(np.count_nonzero(self.compression.matrix))
        numbers += self.compression.channels.offsets.size + self.compression.channels.widths.size
        return numbers if self.domain is None else numbers + self.domain.n_numbers

    def origin(self) -> float:
        """Sum of the registers' M_00 of the circuits in eV."""
        return sum(register.origin() for register in self.registers)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists for a model file."""
        content = {
            "number": self.number,
            "compression": self.compression.to_dict(),
            "registers": [register.to_dict() for register in self.registers],
            "reference_energy": self.reference_energy,
        }
        if self.domain is not None:
            content["domain"] = self.domain.to_dict()
        if self.spread is not None:
            content["spread"] = self.spread.to_dict()
        return content

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SpeciesModel:
        """Read back what :meth:`to_dict` wrote; files of version 0.1 have one register a species.

        Args:
            data: The dictionary.
        """
        compression = LinearMap.from_dict(data["compression"])
        if "registers" in data:
            registers = tuple(Register.from_dict(entry) for entry in data["registers"])
            spread = ModelSpread.from_dict(data["spread"]) if "spread" in data else None
        else:
            registers, spread = _single_register(data, compression.n_features)
        return cls(
            number=int(data["number"]),
            compression=compression,
            registers=registers,
            reference_energy=float(data["reference_energy"]),
            domain=TrainingDomain.from_dict(data["domain"]) if "domain" in data else None,
            spread=spread,
        )


def _single_register(data: Mapping[str, Any], n_features: int) -> tuple[tuple[Register], ModelSpread | None]:
    """The register of a species in a file of version 0.1, and its committee, which was kept as angles and weights."""
    register = Register(
        n_features=n_features,
        ansatz=AnsatzSpec(**data["ansatz"]),
        theta=np.asarray(data["theta"], dtype=np.float64),
        weights=np.asarray(data["weights"], dtype=np.float64),
        balanced=bool(data.get("balanced", False)),
        measured=CalibratedOperator.from_dict(data["measured"]) if "measured" in data else None,
    )
    if "spread" not in data:
        return (register,), None
    program, old = build_program(register.ansatz), data["spread"]
    references = np.asarray(old["references"], dtype=np.float64)
    theta, weights = (np.asarray(old[k], dtype=np.float64).reshape(len(references), -1) for k in ("theta", "weights"))
    slopes = np.tensordot(register.weights, readout_jacobian(program, register.theta), axes=(0, 1))
    changes = np.tensordot(theta, slopes, axes=1)
    changes += np.tensordot(weights, readout_matrices(program, register.theta), axes=1)
    changes[:, 0, 0] = 0.0
    size = n_features + 1
    return (register,), ModelSpread(changes[(slice(None), *np.triu_indices(size))], references)
