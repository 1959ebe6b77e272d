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
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import covalent_radii

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.descriptors.blocks import Surroundings, channel_values
from qiskit_qff.descriptors.channels import ChannelTables, OwnTables, make_tables
from qiskit_qff.descriptors.derivatives import Fence, QuadraticForms, no_fence, quadratic_forces
from qiskit_qff.durable import read_json, write_atomically
from qiskit_qff.encoding.tree import amplitude_vectors
from qiskit_qff.errors import ConfigError, ModelFileError, QFFError
from qiskit_qff.model.species_model import Ledger, Register, RegisterKey, SpeciesModel, ledger_of
from qiskit_qff.model.uncertainty import LIMIT, Posterior, UncertaintyEstimator, features_of, walls_of
from qiskit_qff.structures.frame import Frame, frame_hash, species_index
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
    """Provenance: configuration, data, seeds, errors."""
    posterior: Posterior | None = None
    """Posterior covariance for uncertainties and extrapolation grades; None in files of versions 1 to 6."""
    fitted_references: int | None = None
    """Number of reference energies counted as trainable: the rank of the training compositions; None, one per species,
    in files from before these were counted."""
    walls: bool = False
    """Whether a restraint keeps dynamics near the training data, see :meth:`within_walls`; not saved in files."""

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
        return frame_hash(frame) in self.training_hashes

    @property
    def cutoff(self) -> float:
        """Cutoff radius in Å."""
        return self.r_cut

    @property
    def registers(self) -> dict[RegisterKey, Register]:
        """All registers, keyed by atomic number and index."""
        return {(m.number, k): register for m in self.models for k, register in enumerate(m.registers)}

    @property
    def n_qubits(self) -> int:
        """Qubits of the largest register."""
        return max(register.n_qubits for register in self.registers.values())

    @property
    def n_trainable(self) -> int:
        """Number of trainable parameters: all numbers fitted to energies, forces or stresses."""
        return self.ledger.n_trainable

    @property
    def stress_scale(self) -> float | None:
        """Stress error that counted as one unit in the loss, in meV/Å³; None if stresses were not fitted."""
        scale = ((self.metadata.get("config") or {}).get("loss") or {}).get("stress_scale_mev_per_ang3")
        return None if scale is None else float(scale)

    @property
    def ledger(self) -> Ledger:
        """The ledger: trainable numbers by species, and numbers that used no labels."""
        uncertainty = 0 if self.posterior is None else self.posterior.n_numbers
        return ledger_of(self.models, fitted_references=self.fitted_references, uncertainty=uncertainty)

    def uncertainty(self, *, grade_limit: float | None = None) -> UncertaintyEstimator:
        """Calculator of uncertainties and extrapolation grades.

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
        """Matrix M of each species in eV, for x = (1, y); measured if the model is calibrated, else computed."""
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

    def evaluate(self, numbers: IntArray, neighbors: NeighborList) -> Prediction:
        """Evaluate a structure with a given neighbour list, which may reach beyond the cutoff; used in dynamics.

        Raises:
            DataError: If an atom is of a species the model does not know.
        """
        return self.folded.evaluate(species_index(numbers, self.species, where="structure"), neighbors)

    def amplitudes(self, frame: Frame) -> dict[RegisterKey, FloatArray]:
        """Amplitudes x = (1, y, 0, ...) of every atom in every register of its species, as a device would encode them.

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
        """The same force field with other registers, keyed by atomic number and index."""
        models = []
        for m in self.models:
            registers = tuple(changed.get((m.number, k), old) for k, old in enumerate(m.registers))
            models.append(replace(m, registers=registers))
        return replace(self, models=tuple(models))

    def within_walls(self) -> ForceField:
        """The force field with a restraint for simulations, which is exactly zero on training frames.

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
    """Predicted energy, forces and virial of one structure."""

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

    tables: ChannelTables | OwnTables
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


#: e^2 / (4 pi epsilon_0) in eV Å (CODATA 2018).
COULOMB_CONSTANT = 14.3996454784
#: Amplitudes and decay rates of the universal screening function.
SCREENING = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))

#: Repulsion and levelling begin at this fraction of a distance that atoms are known or expected to reach,
OUTER_FRACTION = 0.95
#: and the repulsion is unswitched below this one: soft, since bonds of ions to oxygen or sulphur are short.
INNER_FRACTION = 0.65
#: Pairs that were never seen as close as a bond may still bond: at this multiple of the sum of their covalent radii.
BOND_FRACTION = 0.9
#: Above that the repulsion adds no more than this, in eV: ten kT at room temperature.
HEIGHT = 0.25


@dataclass(frozen=True)
class CoreRepulsion:
    """Fixed repulsion where atoms are closer than in any training frame, and where channels level off.

    Arrays are symmetric, shape ``(S, S)``, in Å.

    Training data do not tell how atoms behave that come closer than they ever did there. Two rules take over, without
    a trainable parameter and without effect on any training frame. For two species whose shortest training distance is
    d and whose covalent radii add up to c:

    - Channels level off below 0.95 d (:func:`qiskit_qff.descriptors.blocks.core_distance`): nothing is extrapolated.
    - The screened nuclear repulsion of Ziegler, Biersack and Littmark (ZBL) acts, low at first, high where no bond can
      be::

        E = 1/2 sum_i sum_{j != i} e(r_ij)
        e = ZBL S(r; outer) + h tanh{ZBL [S(r; level) - S(r; outer)] / h}
        level = 0.95 d,  outer = 0.95 R,  h = 0.25 eV
        R = d where d <= c: the bond is known;  R = max(2 c - d, 0.9 c) where d > c;  R = d = 0.9 c if the two never met
        S(r; x) = 1 - 10 t^3 + 15 t^4 - 6 t^5,    t = (r - y) / (x - y),    1 below y = 0.65 x / 0.95, 0 above x

        ZBL = k Z_i Z_j / r  [0.18175 exp(-3.19980 x) + 0.50986 exp(-0.94229 x) + 0.28022 exp(-0.40290 x)
              + 0.02817 exp(-0.20162 x)],    x = r (Z_i^0.23 + Z_j^0.23) / 0.46850 Å

    e is positive, falls monotonically and has two continuous derivatives. Where the data know the bond, e is ZBL S. A
    bond that they merely lack is possible chemistry: down to 0.855 c it costs at most h, ten kT at room temperature
    (docs/design_notes.md). R falls from c to 0.9 c as d grows to 1.1 c: no wall jumps when one more frame is added.

    References:
        J. F. Ziegler, J. P. Biersack, U. Littmark, The Stopping and Range of Ions in Matter
        (Pergamon, New York, 1985), doi:10.1007/978-1-4615-8103-1_3. Constants as in LAMMPS
        ``pair_style zbl``; covalent radii: B. Cordero et al., Dalton Trans. 2832 (2008),
        doi:10.1039/b801115j.
    """

    species: tuple[int, ...]  # atomic numbers, in the order of ``species_index``
    inner: FloatArray  # below it the pair is unswitched ZBL
    outer: FloatArray  # above it the high part is zero
    scale: FloatArray  # factor on the distance that ZBL is evaluated at; below 1 only in the oldest models
    level: FloatArray  # below it channels level off and the low part acts; ``outer`` or more
    height: float  # most that the low part adds to a pair, in eV; 0 in older models

    def __post_init__(self) -> None:
        """Check shapes, symmetry and order of the radii."""
        shape = (len(self.species), len(self.species))
        for name in ("inner", "outer", "scale", "level"):
            radii = getattr(self, name)
            if radii.shape != shape or not np.array_equal(radii, radii.T):
                raise ModelFileError(
                    f"core repulsion: '{name}' must be a symmetric {shape} array, one row per "
                    f"species {self.species}; received shape {radii.shape}"
                )
        if not (np.all(self.inner > 0.0) and np.all(self.outer > self.inner)):
            raise ModelFileError("core repulsion: every pair needs 0 < inner < outer radius (Å)")
        if not (np.all(self.scale > 0.0) and np.all(self.scale <= 1.0)):
            raise ModelFileError("core repulsion: every pair needs a scale above 0 and up to 1")
        if not (np.all(self.level >= self.outer) and np.isfinite(self.level).all()):
            raise ModelFileError("core repulsion: every pair needs a level of at least its outer radius (Å)")
        if not 0.0 <= self.height < math.inf:
            raise ModelFileError("core repulsion: the height must be an energy (eV), not below 0")

    @classmethod
    def from_shortest_distances(
        cls, species: Sequence[int], shortest: FloatArray, *, cutoff: float = np.inf
    ) -> CoreRepulsion:
        """The repulsion that is zero on every frame whose shortest distances in Å, ``(S, S)``, are given.

        Pairs that were never seen have ``inf``; pairs beyond the cutoff are not listed, so no core may reach it.
        """
        radii = covalent_radii[list(species)]
        covalent = radii[:, None] + radii
        bond = BOND_FRACTION * covalent
        known = np.minimum(np.where(np.isfinite(shortest), shortest, bond), cutoff)
        reach = np.where(known <= covalent, known, np.maximum(2.0 * covalent - known, bond))
        return cls(
            species=tuple(int(z) for z in species),
            inner=INNER_FRACTION * reach,
            outer=OUTER_FRACTION * reach,
            scale=np.ones_like(reach),
            level=OUTER_FRACTION * known,
            height=HEIGHT,
        )

    def evaluate(self, species_index: IntArray, neighbors: NeighborList) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Energies of the centres of a full neighbour list (half of each pair), forces on them, and dE/dstrain."""
        n_atoms = len(neighbors.first) - 1
        # PERF: few pairs are closer than the widest core, and nearly none is in its own.
        pairs = np.flatnonzero(neighbors.distances < self.level.max())
        centers = np.searchsorted(neighbors.first, pairs, side="right") - 1
        a, b = species_index[centers], species_index[neighbors.neighbor[pairs]]
        inside = neighbors.distances[pairs] < self.level[a, b]
        if not inside.any():
            return np.zeros(n_atoms), np.zeros((n_atoms, 3)), np.zeros((3, 3))
        pairs, centers, a, b = pairs[inside], centers[inside], a[inside], b[inside]
        energy, slope = self.pair_energies(a, b, neighbors.distances[pairs])
        vectors = neighbors.vectors[pairs]
        # The full list holds (i, j) and (j, i): each centre collects its own force, and half of the pair's energy.
        pull = (slope / neighbors.distances[pairs])[:, None] * vectors
        energies, forces = np.zeros(n_atoms), np.zeros((n_atoms, 3))
        np.add.at(energies, centers, 0.5 * energy)
        np.add.at(forces, centers, pull)
        return energies, forces, 0.5 * pull.T @ vectors

    def pair_energies(self, a: IntArray, b: IntArray, r: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Energies in eV of pairs of species indices at distances r, and their derivatives in eV/Å."""
        charges, scale = np.asarray(self.species, dtype=np.float64), self.scale[a, b]
        bare, bare_slope = _universal(r, charges[a], charges[b], scale)
        switch, switch_slope = _switch(r, self.inner[a, b], self.outer[a, b])
        energy, slope = bare * switch, bare_slope * switch + bare * switch_slope
        if self.height > 0.0:
            level = self.level[a, b]
            wider, wider_slope = _switch(r, INNER_FRACTION / OUTER_FRACTION * level, level)
            ratio = np.tanh(bare * (wider - switch) / self.height)
            missing_slope = bare_slope * (wider - switch) + bare * (wider_slope - switch_slope)
            energy, slope = energy + self.height * ratio, slope + (1.0 - ratio**2) * missing_slope
        return energy, slope

    def to_dict(self) -> dict[str, Any]:
        """Plain lists for a model file."""
        arrays = {name: getattr(self, name).tolist() for name in ("inner", "outer", "scale", "level")}
        return {"species": list(self.species), **arrays, "height": self.height}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> CoreRepulsion:
        """Read back what :meth:`to_dict` wrote; in older files channels level off where the repulsion begins."""
        document = {"level": document["outer"], "height": 0.0, **document}
        arrays = {name: np.asarray(document[name], dtype=float) for name in ("inner", "outer", "scale", "level")}
        return cls(species=tuple(map(int, document["species"])), height=float(document["height"]), **arrays)


def _universal(
    r: FloatArray, charge: FloatArray, other: FloatArray, scale: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """The unswitched potential in eV and its derivative in eV/Å."""
    rate = scale * (charge**0.23 + other**0.23) / 0.46850
    terms = [(amplitude * np.exp(-decay * rate * r), decay * rate) for amplitude, decay in SCREENING]
    screening, slope = sum(term for term, _ in terms), -sum(term * decay for term, decay in terms)
    coulomb = COULOMB_CONSTANT * charge * other / (scale * r)
    return coulomb * screening, coulomb * (slope - screening / r)


def _switch(r: FloatArray, inner: FloatArray, outer: FloatArray) -> tuple[FloatArray, FloatArray]:
    """S, which is 1 below the inner and 0 above the outer distance, and its derivative in 1/Å."""
    t = np.clip((r - inner) / (outer - inner), 0.0, 1.0)
    return 1.0 + t**3 * (-10.0 + t * (15.0 - 6.0 * t)), -30.0 * t**2 * (1.0 - t) ** 2 / (outer - inner)
