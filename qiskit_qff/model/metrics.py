"""Energy, force and stress errors of predictions against ab initio labels.

    energy error   ΔE_f = (E_f - E_f^ref) / n_f            one per frame f, in meV/atom
    force error    ΔF_a = F_a - F_a^ref                    one per atom and Cartesian component, in meV/Å
    stress error   Δσ_c = σ_c - σ_c^ref                    six per frame (xx, yy, zz, yz, xz, xy), in meV/Å³

MAE is the mean of the absolute errors, RMSE the root of the mean square. With ``shift_energy`` the mean of ΔE
over the frames of one composition is removed first, for data whose energies have another zero.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol, Self

import numpy as np
from ase.data import chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.errors import DataError
from qiskit_qff.model.prediction import Prediction
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.validation import formula

MEV_PER_EV = 1000.0


@dataclass(frozen=True, eq=False)
class Comparison:
    """Labels and predictions of a data set side by side; frames and atoms without a label are left out."""

    n_frames: int
    """Number of frames, labelled or not."""
    n_atoms: int
    """Number of atoms in all frames together."""
    energies: FloatArray
    """Reference energies per atom, shape ``(n_energies,)``, in eV/atom."""
    predicted_energies: FloatArray
    """Predicted energies per atom, same shape and unit."""
    forces: FloatArray
    """Reference forces, shape ``(n_force_atoms, 3)``, in eV/Å."""
    predicted_forces: FloatArray
    """Predicted forces, same shape and unit."""
    species: IntArray
    """Atomic number of each row of the forces, shape ``(n_force_atoms,)``."""
    stresses: FloatArray = field(default_factory=lambda: np.empty((0, 6)))
    """Reference stresses as xx, yy, zz, yz, xz, xy, shape ``(n_stresses, 6)``, in eV/Å³."""
    predicted_stresses: FloatArray = field(default_factory=lambda: np.empty((0, 6)))
    """Predicted stresses, same shape and unit."""
    compositions: tuple[str, ...] = ()
    """Formula of the frame of each energy; empty where it is not known, then all count as one."""

    @property
    def energy_errors(self) -> FloatArray:
        """Energy errors, shape ``(n_energies,)``, in meV/atom."""
        return MEV_PER_EV * (self.predicted_energies - self.energies)

    @property
    def force_errors(self) -> FloatArray:
        """Force errors, shape ``(n_force_atoms, 3)``, in meV/Å."""
        return MEV_PER_EV * (self.predicted_forces - self.forces)

    @property
    def stress_errors(self) -> FloatArray:
        """Stress errors, shape ``(n_stresses, 6)``, in meV/Å³."""
        return MEV_PER_EV * (self.predicted_stresses - self.stresses)


@dataclass(frozen=True)
class SpeciesErrors:
    """Force errors on the atoms of one element."""

    n_atoms: int
    """Number of atoms with a reference force, over all frames."""
    force_mae_mev_per_ang: float
    """Mean absolute error of the force components, in meV/Å."""
    force_rmse_mev_per_ang: float
    """Root mean square error of the force components, in meV/Å."""
    force_reference_rms_mev_per_ang: float
    """Root mean square of the reference force components, in meV/Å: the error of predicting zero."""


@dataclass(frozen=True)
class Metrics:
    """The errors of a model on a data set, under the names that ``--json`` prints."""

    n_frames: int
    """Number of frames."""
    n_atoms: int
    """Number of atoms in all frames together."""
    energy_mae_mev_per_atom: float
    """Mean absolute energy error, in meV/atom; NaN without reference energies."""
    energy_rmse_mev_per_atom: float
    """Root mean square energy error, in meV/atom; NaN without reference energies."""
    force_mae_mev_per_ang: float
    """Mean absolute error of the force components, in meV/Å; NaN without reference forces."""
    force_rmse_mev_per_ang: float
    """Root mean square error of the force components, in meV/Å; NaN without reference forces."""
    energy_shifted: bool = False
    """Whether one constant per composition was removed from the energies."""
    species: Mapping[str, SpeciesErrors] = field(default_factory=dict)
    """Force errors by chemical symbol."""
    stress_mae_mev_per_ang3: float | None = None
    """Mean absolute error of the stress components, in meV/Å³; None without reference stresses."""
    stress_rmse_mev_per_ang3: float | None = None
    """Root mean square error of the stress components, in meV/Å³; None without reference stresses."""

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON; no stress keys where the data has no stresses."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read back what :meth:`to_dict` gave, perhaps through JSON, where null stands for NaN.

        Args:
            data: Plain numbers.
        """
        known = {entry.name for entry in fields(cls)} - {"species"}
        numbers: dict[str, Any] = {
            name: float("nan") if value is None else value for name, value in data.items() if name in known
        }
        species = {symbol: SpeciesErrors(**entry) for symbol, entry in data.get("species", {}).items()}
        return cls(**numbers, species=species)


def compare(
    frames: Sequence[Frame],
    *,
    energies: Sequence[float],
    forces: Sequence[FloatArray],
    stresses: Sequence[FloatArray | None] | None = None,
    shift_energy: bool = False,
) -> Comparison:
    """Put predictions beside the labels of the frames.

    Args:
        frames: the labelled structures.
        energies: predicted total energy of each frame, in eV.
        forces: predicted forces of each frame, shape ``(n_atoms, 3)``, in eV/Å.
        stresses: predicted stress of each frame, shape ``(3, 3)``, in eV/Å³, None for frames that have none.
        shift_energy: remove the mean error per atom of each composition from its predictions.

    Raises:
        DataError: if there are no frames, or none has an energy or forces.
    """
    if not frames:
        raise DataError("no frames to compare with. Give a file that holds at least one.")
    with_energy = [index for index, frame in enumerate(frames) if frame.energy is not None]
    with_forces = [index for index, frame in enumerate(frames) if frame.forces is not None]
    if not with_energy and not with_forces:
        raise DataError(
            f"{frames[0].where}: no frame has an energy or forces to compare with. "
            "Add them (extxyz: energy=... and a forces column), or use a labelled file."
        )
    pairs = [(f.stress, s) for f, s in zip(frames, stresses or [], strict=bool(stresses)) if f.stress is not None]
    known = [(label, stress) for label, stress in pairs if stress is not None]
    predicted = np.array([energies[index] / frames[index].n_atoms for index in with_energy])
    compositions = tuple(formula(frames[index].numbers) for index in with_energy)
    reference = np.array([(frames[index].energy or 0.0) / frames[index].n_atoms for index in with_energy])
    if shift_energy:
        predicted = predicted - composition_means(compositions, predicted - reference)
    return Comparison(
        n_frames=len(frames),
        n_atoms=sum(frame.n_atoms for frame in frames),
        energies=reference,
        predicted_energies=predicted,
        forces=_stack([frames[index].forces for index in with_forces]),
        predicted_forces=_stack([forces[index] for index in with_forces]),
        species=np.concatenate([frames[i].numbers for i in with_forces]) if with_forces else np.empty(0, int),
        stresses=six_components([label for label, _ in known]),
        predicted_stresses=six_components([stress for _, stress in known]),
        compositions=compositions,
    )


class Predicts(Protocol):
    """Anything that predicts a frame: a force field or one of its relatives."""

    def predict(self, frame: Frame) -> Prediction:
        """Energy, forces and virial of a frame."""


def compare_model(
    model: Predicts,
    frames: Sequence[Frame],
    *,
    shift_energy: bool = False,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Comparison:
    """Predictions of a model beside the labels of the frames.

    Args:
        model: the model.
        frames: the labelled structures.
        shift_energy: remove the mean error per atom of each composition from its predictions.
        progress: called with a stage's name, frames done and frames in all.

    Raises:
        DataError: if a frame holds an element that the model does not know, or no frame has labels.
    """
    predictions = []
    for done, frame in enumerate(frames, start=1):
        predictions.append(model.predict(frame))
        progress("evaluating", done, len(frames))
    pairs = zip(predictions, frames, strict=True)
    return compare(
        frames,
        energies=[prediction.energy for prediction in predictions],
        forces=[prediction.forces for prediction in predictions],
        stresses=[prediction.stress(frame.volume) if frame.pbc.all() else None for prediction, frame in pairs],
        shift_energy=shift_energy,
    )


def measure(comparison: Comparison, *, shift_energy: bool = False) -> Metrics:
    """MAE and RMSE of energies and forces, in all and by element.

    Args:
        comparison: labels and predictions.
        shift_energy: whether the comparison was made with the energies shifted; only recorded.
    """
    energy_errors, force_errors = comparison.energy_errors, comparison.force_errors
    stress_errors = comparison.stress_errors
    return Metrics(
        n_frames=comparison.n_frames,
        n_atoms=comparison.n_atoms,
        energy_mae_mev_per_atom=mean_absolute(energy_errors),
        energy_rmse_mev_per_atom=root_mean_square(energy_errors),
        force_mae_mev_per_ang=mean_absolute(force_errors),
        force_rmse_mev_per_ang=root_mean_square(force_errors),
        energy_shifted=shift_energy,
        species={
            chemical_symbols[number]: _species_errors(comparison, int(number))
            for number in np.unique(comparison.species)
        },
        stress_mae_mev_per_ang3=mean_absolute(stress_errors) if stress_errors.size else None,
        stress_rmse_mev_per_ang3=root_mean_square(stress_errors) if stress_errors.size else None,
    )


def mean_absolute(errors: FloatArray) -> float:
    """Mean of the absolute values; NaN of nothing."""
    return float(np.mean(np.abs(errors))) if errors.size else float("nan")


def root_mean_square(errors: FloatArray) -> float:
    """Root of the mean square; NaN of nothing."""
    return float(np.sqrt(np.mean(errors**2))) if errors.size else float("nan")


def _species_errors(comparison: Comparison, number: int) -> SpeciesErrors:
    """Force errors on the atoms of one atomic number."""
    chosen = comparison.species == number
    errors = comparison.force_errors[chosen]
    return SpeciesErrors(
        n_atoms=int(chosen.sum()),
        force_mae_mev_per_ang=mean_absolute(errors),
        force_rmse_mev_per_ang=root_mean_square(errors),
        force_reference_rms_mev_per_ang=MEV_PER_EV * root_mean_square(comparison.forces[chosen]),
    )


def composition_means(compositions: Sequence[str], values: FloatArray) -> FloatArray:
    """For each value the mean of those of its composition.

    Args:
        compositions: formula of each value.
        values: shape ``(n,)``.
    """
    _, group = np.unique(np.asarray(compositions), return_inverse=True)
    return np.array((np.bincount(group, weights=values) / np.bincount(group))[group])


def _stack(arrays: Sequence[FloatArray | None]) -> FloatArray:
    """Rows of all arrays below each other, shape ``(n_rows, 3)``."""
    present = [np.asarray(array, dtype=np.float64) for array in arrays if array is not None]
    return np.concatenate(present) if present else np.empty((0, 3))


def six_components(tensors: Sequence[FloatArray]) -> FloatArray:
    """Symmetric tensors as xx, yy, zz, yz, xz, xy, shape ``(n_tensors, 6)``."""
    rows = [full_3x3_to_voigt_6_stress(tensor) for tensor in tensors]  # type: ignore[no-untyped-call]
    return np.array(rows).reshape(-1, 6)
