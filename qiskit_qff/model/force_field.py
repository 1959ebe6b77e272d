r"""The force field: descriptors, circuits and a core repulsion joined into energies, forces and virial.

.. math:: E = \sum_i \Bigl(e_{s_i} + \sum_r x_{ir}^T M_r\, x_{ir}\Bigr) + E_\mathrm{ZBL},\qquad
          M_r = U_r^\dagger(\theta)\, O_r\, U_r(\theta)

This is the one place where chemistry and quantum circuits meet. Here M is computed exactly from each register's
circuit, or taken from a calibration; :mod:`qiskit_qff.evaluators` obtains the same numbers from any Estimator.

Model files: one versioned JSON document, data only.

The fast path: a force field folded into the arrays that the kernels take, evaluated on neighbour lists.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from qiskit_qff.array_types import BoolArray, FloatArray, IntArray
from qiskit_qff.descriptors.blocks import Surroundings, channel_values
from qiskit_qff.descriptors.channels import ChannelTables, make_tables
from qiskit_qff.descriptors.derivatives import Fence, QuadraticForms, no_fence, quadratic_forces
from qiskit_qff.durable import read_json, write_atomically
from qiskit_qff.encoding.tree import amplitude_vectors
from qiskit_qff.errors import ConfigError, ModelFileError, QFFError
from qiskit_qff.model.core_repulsion import CoreRepulsion
from qiskit_qff.model.species_model import Ledger, Register, RegisterKey, SpeciesModel, ledger_of
from qiskit_qff.model.uncertainty import LIMIT, Posterior, UncertaintyEstimator, features_of, walls_of
from qiskit_qff.structures.frame import Frame, is_among, species_index
from qiskit_qff.structures.neighbors import NeighborList, neighbor_list

FORMAT = "qiskit_qff model"
VERSION = 7
"""7 has a posterior; feature statistics and committees of older files are ignored. 6 has registers; 1 to 5 have one
circuit per species and are read as one register each."""
MAX_BYTES = 64 * 1024 * 1024
"""Larger files are refused: a real one takes a few hundred kilobytes."""


def _read_document(path: Path) -> dict[str, Any]:
    """The JSON document of a model file."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ModelFileError(f"{path}: {size} bytes is more than a model can have ({MAX_BYTES}).")
        document = read_json(path, max_bytes=MAX_BYTES)
    except FileNotFoundError as error:
        raise ModelFileError(f"{path}: no such model file; 'qff train' writes one as DIR/model.json.") from error
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise ModelFileError(f"{path}: is not JSON ({error}); give a model.json written by 'qff train'.") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ModelFileError(f"{path}: is not a model file; give a model.json written by 'qff train'.")
    return document


SEEN_FRAMES = "training_frames"
"""Key of :attr:`ForceField.metadata` that holds the hashes of the training frames."""
MAX_CUTOFF = 50.0  # Å; a file that says more would fill all memory with neighbours


@dataclass(frozen=True)
class ForceField:
    """A trained quantum force field."""

    models: tuple[SpeciesModel, ...]
    """One entry per species, atomic numbers ascending."""
    r_cut: float
    """Cutoff radius in Å."""
    repulsion: CoreRepulsion
    """Core repulsion; no trainable number in it."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """How the model came about (configuration, data, seeds, errors)."""
    posterior: Posterior | None = None
    """What training left open, for uncertainties and extrapolation grades; None in files of versions 1 to 6."""
    fitted_references: int | None = None
    """Independent reference energies that the training compositions determined; None in files from before these were
    counted: one per species."""
    walls: bool = False
    """Whether walls keep dynamics near the training data, see :meth:`within_walls`; never in files."""

    def __post_init__(self) -> None:
        """Check that the parts fit each other."""
        if not 0.0 < self.r_cut <= MAX_CUTOFF:
            raise ConfigError(f"r_cut must be a positive length in Å, up to {MAX_CUTOFF:g}; {self.r_cut} was given.")
        if self.fitted_references is not None and not 1 <= self.fitted_references <= len(self.models):
            raise ConfigError(
                f"{self.fitted_references} reference energies were fitted, to {len(self.models)} species."
            )
        sizes = tuple(m.compression.n_features for m in self.models)
        if self.posterior is not None and len(self.posterior.covariance) != sum(sizes) + len(sizes):
            raise ConfigError("the posterior is of another model.")
        if list(self.species) != sorted(set(self.species)):
            raise ConfigError(f"Species must be ascending and different; {self.species} were given.")

    @property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers."""
        return tuple(m.number for m in self.models)

    @cached_property
    def training_hashes(self) -> frozenset[str]:
        """Hashes of the training frames (:func:`~qiskit_qff.structures.frame.frame_hash`); empty if unknown."""
        return frozenset(map(str, self.metadata.get(SEEN_FRAMES, ())))

    def has_seen(self, frame: Frame) -> bool:
        """Whether the model was trained on this geometry, as far as it knows its training frames."""
        return is_among(frame, self.training_hashes)

    @property
    def cutoff(self) -> float:
        """Cutoff radius in Å."""
        return self.r_cut

    @property
    def registers(self) -> dict[RegisterKey, Register]:
        """Every register of every species, by atomic number and place."""
        return {(m.number, k): register for m in self.models for k, register in enumerate(m.registers)}

    @property
    def n_qubits(self) -> int:
        """Qubits of the largest register."""
        return max(register.n_qubits for register in self.registers.values())

    @property
    def n_trainable(self) -> int:
        """Numbers fitted to energies, forces or stresses."""
        return self.ledger.n_trainable

    @property
    def reference_energies(self) -> dict[int, float]:
        """Energy added to every atom of a species, in eV."""
        return {m.number: m.reference_energy for m in self.models}

    @property
    def stress_scale(self) -> float | None:
        """The error that counted as one unit when stresses were fitted, in meV/Å³; None where they were not."""
        scale = ((self.metadata.get("config") or {}).get("loss") or {}).get("stress_scale_mev_per_ang3")
        return None if scale is None else float(scale)

    @property
    def ledger(self) -> Ledger:
        """Every number that was fitted, and every one that was not."""
        uncertainty = 0 if self.posterior is None else self.posterior.n_numbers
        return ledger_of(self.models, fitted_references=self.fitted_references, uncertainty=uncertainty)

    def uncertainty(self, *, grade_limit: float | None = None) -> UncertaintyEstimator:
        """What tells uncertainties and extrapolation grades of structures.

        Args:
            grade_limit: Largest grade that counts as known; 1.2 by default.

        Raises:
            ConfigError: If the model file has no posterior, or the limit is not positive.
        """
        if self.posterior is None:
            raise ConfigError(
                "the model tells no uncertainties or extrapolation grades (its file is older, or it was trained "
                "without them); train it again with 'qff train'."
            )
        limit = LIMIT if grade_limit is None else grade_limit
        return UncertaintyEstimator(self.models, self.posterior, self.r_cut, limit)

    def operator_matrices(self) -> dict[int, FloatArray]:
        """M of each species in x = (1, y), measured where it is calibrated, else of its circuits, in eV."""
        return {m.number: m.operator_matrix() for m in self.models}

    @cached_property
    def folded(self) -> FoldedForceField:
        """Channels and quadratic forms as the kernels take them."""
        fence = walls_of(self.models, self.posterior) if self.walls and self.posterior else None
        return FoldedForceField.of(
            self.models, self.operator_matrices(), r_cut=self.r_cut, repulsion=self.repulsion, fence=fence
        )

    def predict(self, frame: Frame) -> Prediction:
        """Evaluate one structure; its labels are not used.

        Raises:
            DataError: If an atom is of a species the model does not know.
        """
        return self.folded.predict(frame)

    def evaluate(
        self,
        numbers: IntArray,
        positions: FloatArray,
        cell: FloatArray,
        pbc: BoolArray,
        neighbors: NeighborList,
    ) -> Prediction:
        """Evaluate a structure whose neighbours are known; the hot path of dynamics.

        Args:
            numbers: Atomic numbers, shape ``(n,)``.
            positions: Positions in Å, shape ``(n, 3)``; unused beyond ``neighbors``.
            cell: Cell vectors in Å, shape ``(3, 3)``; unused beyond ``neighbors``.
            pbc: Periods, shape ``(3,)``; unused beyond ``neighbors``.
            neighbors: Full list with at least this cutoff; pairs beyond it have no effect.

        Raises:
            DataError: If an atom is of a species the model does not know.
        """
        del positions, cell, pbc
        return self.folded.evaluate(species_index(numbers, self.species, where="structure"), neighbors)

    def amplitudes(self, frame: Frame) -> dict[RegisterKey, FloatArray]:
        """What a device would encode: x = (1, y, 0...) of every atom, in every register of its species.

        Returns:
            Per register, shape ``(n_atoms_of_species, 2^n)``; atoms in the order of the frame.
        """
        near = Surroundings.in_frame(frame, self.folded.tables)
        values = channel_values(self.folded.tables, near)
        return {
            (m.number, k): amplitude_vectors(features[:, place], n_qubits=register.n_qubits)
            for m, features in zip(self.models, features_of(self.models, near.kinds, values), strict=True)
            for k, (register, place) in enumerate(zip(m.registers, m.slices, strict=True))
        }

    def with_registers(self, changed: Mapping[RegisterKey, Register]) -> ForceField:
        """The same force field with other registers, by atomic number and place."""
        models = []
        for m in self.models:
            registers = tuple(changed.get((m.number, k), old) for k, old in enumerate(m.registers))
            models.append(replace(m, registers=registers))
        return replace(self, models=tuple(models))

    def within_walls(self) -> ForceField:
        """The force field for simulations: walls around its training data, exactly zero on training frames.

        Without walls where the model file is older and does not say how far training reached.
        """
        return self if self.posterior is None else replace(self, walls=True)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists for a model file."""
        content = {
            "r_cut": self.r_cut,
            "repulsion": self.repulsion.to_dict(),
            "species": [m.to_dict() for m in self.models],
            "metadata": dict(self.metadata),
        }
        if self.fitted_references is not None:
            content["fitted_references"] = self.fitted_references
        return content | ({} if self.posterior is None else {"posterior": self.posterior.to_dict()})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ForceField:
        """Read back what :meth:`to_dict` wrote."""
        return cls(
            models=tuple(SpeciesModel.from_dict(entry) for entry in data["species"]),
            r_cut=float(data["r_cut"]),
            repulsion=CoreRepulsion.from_dict(data["repulsion"]),
            metadata=data.get("metadata", {}),
            posterior=Posterior.from_dict(data["posterior"]) if "posterior" in data else None,
            fitted_references=int(data["fitted_references"]) if "fitted_references" in data else None,
        )

    def save(self, path: str | Path, *, replace: bool = True) -> None:
        """Write a model file; either the whole file appears or none.

        Args:
            path: Where to.
            replace: Whether a file that is there already is replaced; else FileExistsError is raised.
        """
        document = {"format": FORMAT, "version": VERSION, **self.to_dict()}
        try:
            text = json.dumps(document, indent=1, allow_nan=False)
        except ValueError as error:
            raise ModelFileError(f"{path}: the model holds a number that is not finite; it was not written.") from error
        write_atomically(Path(path), text + "\n", replace=replace)

    @classmethod
    def load(cls, path: str | Path) -> ForceField:
        """Read a model file; nothing in it is executed.

        Raises:
            ModelFileError: If it is missing, malformed, or of a newer format.
        """
        document = _read_document(Path(path))
        version = document.get("version")
        if not isinstance(version, int) or version < 1:
            raise ModelFileError(f"{path}: has no valid version number (found {version!r}); train the model again.")
        if version > VERSION:
            raise ModelFileError(
                f"{path}: is a model of format version {version}, this package reads up to {VERSION}; "
                "upgrade it with 'pip install --upgrade qiskit_qff'."
            )
        try:
            return cls.from_dict(document)
        except QFFError as error:
            raise ModelFileError(f"{path}: {error}") from error
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError) as error:
            raise ModelFileError(
                f"{path}: is damaged or was edited ({type(error).__name__}: {error}); restore it or train again."
            ) from error


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


@dataclass(frozen=True)
class FoldedForceField:
    """Everything an energy needs: channels, and per species one quadratic form in them."""

    tables: ChannelTables
    forms: QuadraticForms  # of all species, in eV; without walls unless a simulation asks for them
    references: FloatArray  # energy added to every atom of a species, shape ``(S,)``, in eV
    repulsion: CoreRepulsion

    @classmethod
    def of(
        cls,
        models: Sequence[SpeciesModel],
        matrices: Mapping[int, FloatArray],
        *,
        r_cut: float,
        repulsion: CoreRepulsion,
        fence: Fence | None = None,
    ) -> FoldedForceField:
        """Fold each species' compression into its matrix M, given by atomic number."""
        forms = []
        for m in models:
            used = m.compression.n_features + 1
            forms.append(m.compression.fold(matrices[m.number][:used, :used]))
        return cls(
            tables=make_tables({m.number: m.compression.channels for m in models}, r_cut, core_start=repulsion.level),
            forms=QuadraticForms(
                means=np.concatenate([m.compression.mean for m in models]),
                matrices=np.concatenate([f.ravel() for f in forms]),
                start=np.concatenate([[0], np.cumsum([f.size for f in forms])]).astype(np.int64),
                fence=fence or no_fence(len(models)),
            ),
            references=np.array([m.reference_energy for m in models]),
            repulsion=repulsion,
        )

    def predict(self, frame: Frame) -> Prediction:
        """Evaluate one structure."""
        kinds = species_index(frame.numbers, tuple(self.tables.species.tolist()), where=frame.where)
        return self.evaluate(kinds, neighbor_list(frame.positions, frame.cell, frame.pbc, self.tables.r_cut))

    def evaluate(self, kinds: IntArray, neighbors: NeighborList) -> Prediction:
        """Energies of the centres of a neighbour list, and the forces they cause on all atoms of these kinds."""
        energies, forces, virial = quadratic_forces(self.tables, self.forms, Surroundings.of(kinds, neighbors))
        n_centers = neighbors.n_atoms
        core_energies, core_forces, core_virial = self.repulsion.evaluate(kinds, neighbors)
        energies += self.references[kinds[:n_centers]] + core_energies
        forces[:n_centers] += core_forces
        virial += core_virial
        return Prediction(energies, forces, 0.5 * (virial + virial.T))
