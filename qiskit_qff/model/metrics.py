"""Energy, force and stress errors of predictions against ab initio labels, and how well uncertainties cover them.

    energy error   ΔE_f = (E_f - E_f^ref) / n_f            one per frame f, in meV/atom
    force error    ΔF_a = F_a - F_a^ref                    one per atom and Cartesian component, in meV/Å
    stress error   Δσ_c = σ_c - σ_c^ref                    six per frame (xx, yy, zz, yz, xz, xy), in meV/Å³

MAE is the mean of the absolute errors, RMSE the root of the mean square.

Coverage is cross-checked: the factor of one half of the held-out frames is judged by the other half, both ways round.
Only the factor that the model keeps is fitted to all of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Protocol, Self

import numpy as np
from ase.data import chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress
from scipy.stats import norm, spearmanr

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.errors import DataError
from qiskit_qff.model.force_field import Prediction
from qiskit_qff.model.uncertainty import UncertaintyEstimator, scaling_factor
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.validation import formula

MEV_PER_EV = 1000.0
LEVELS, ONE_SIGMA = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.683, 0.8, 0.9, 0.954, 0.99]), 6
"""Nominal coverages of intervals around a prediction, and which of them is that of one standard deviation."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Labels and predictions of a data set side by side; frames and atoms without a label are left out."""

    n_frames: int  # labelled or not
    n_atoms: int
    energies: FloatArray  # reference energies, shape ``(n_energies,)``, in eV/atom
    predicted_energies: FloatArray
    forces: FloatArray  # reference forces, shape ``(n_force_atoms, 3)``, in eV/Å
    predicted_forces: FloatArray
    species: IntArray  # atomic number of each row of the forces
    stresses: FloatArray = field(default_factory=lambda: np.empty((0, 6)))  # xx, yy, zz, yz, xz, xy, in eV/Å³
    predicted_stresses: FloatArray = field(default_factory=lambda: np.empty((0, 6)))
    compositions: tuple[str, ...] = ()  # formula of the frame of each energy; if empty, all count as one

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
class Metrics:
    """The errors of a model on a data set, under the names that ``--json`` prints; NaN where there are no labels."""

    n_frames: int
    n_atoms: int
    energy_mae_mev_per_atom: float
    energy_rmse_mev_per_atom: float
    force_mae_mev_per_ang: float
    force_rmse_mev_per_ang: float
    species: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # force errors by chemical symbol
    stress_mae_mev_per_ang3: float | None = None  # None without reference stresses
    stress_rmse_mev_per_ang3: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON; no stress keys where the data has no stresses."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read back what :meth:`to_dict` gave, perhaps through JSON, where null stands for NaN."""
        names = {entry.name for entry in fields(cls)}
        known: dict[str, Any] = {name: np.nan if value is None else value for name, value in data.items()}
        return cls(**{name: known[name] for name in names & set(known)})


def compare(frames: Sequence[Frame], predictions: Sequence[Prediction]) -> Comparison:
    """Put predictions beside the labels of the frames.

    Args:
        frames: the labelled structures.
        predictions: one a frame.

    Raises:
        DataError: if there are no frames, or none has an energy or forces.
    """
    if not frames:
        raise DataError("no frames to compare with. Give a file that holds at least one.")
    pairs = list(zip(frames, predictions, strict=True))
    energies = [(f.energy / f.n_atoms, p.energy / f.n_atoms) for f, p in pairs if f.energy is not None]
    forces = [(f.forces, p.forces, f.numbers) for f, p in pairs if f.forces is not None]
    stresses = [(f.stress, p.stress(f.volume)) for f, p in pairs if f.stress is not None and f.pbc.all()]
    if not energies and not forces:
        raise DataError(
            f"{frames[0].where}: no frame has an energy or forces to compare with. "
            "Add them (extxyz: energy=... and a forces column), or use a labelled file."
        )
    compositions = tuple(formula(frame.numbers) for frame in frames if frame.energy is not None)
    reference, predicted = np.array(energies).reshape(-1, 2).T
    return Comparison(
        n_frames=len(frames),
        n_atoms=sum(frame.n_atoms for frame in frames),
        energies=reference,
        predicted_energies=predicted,
        forces=np.concatenate([np.empty((0, 3)), *(label for label, _, _ in forces)]),
        predicted_forces=np.concatenate([np.empty((0, 3)), *(found for _, found, _ in forces)]),
        species=np.concatenate([np.empty(0, int), *(numbers for _, _, numbers in forces)]),
        stresses=six_components([label for label, _ in stresses]),
        predicted_stresses=six_components([found for _, found in stresses]),
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
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Comparison:
    """Predictions of a model beside the labels of the frames, as :func:`compare` has them.

    Raises:
        DataError: if a frame holds an element that the model does not know, or no frame has labels.
    """
    predictions = []
    for done, frame in enumerate(frames, start=1):
        predictions.append(model.predict(frame))
        progress("evaluating", done, len(frames))
    return compare(frames, predictions)


def measure(comparison: Comparison) -> Metrics:
    """MAE and RMSE of energies and forces, in all and by element."""
    energy_errors, force_errors = comparison.energy_errors, comparison.force_errors
    stress_errors = comparison.stress_errors
    return Metrics(
        n_frames=comparison.n_frames,
        n_atoms=comparison.n_atoms,
        energy_mae_mev_per_atom=mean_absolute(energy_errors),
        energy_rmse_mev_per_atom=root_mean_square(energy_errors),
        force_mae_mev_per_ang=mean_absolute(force_errors),
        force_rmse_mev_per_ang=root_mean_square(force_errors),
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


def _species_errors(comparison: Comparison, number: int) -> dict[str, float]:
    """Force errors on the atoms of one atomic number; the RMS of the labels is the error of predicting zero."""
    chosen = comparison.species == number
    errors = comparison.force_errors[chosen]
    return {
        "n_atoms": int(chosen.sum()),
        "force_mae_mev_per_ang": mean_absolute(errors),
        "force_rmse_mev_per_ang": root_mean_square(errors),
        "force_reference_rms_mev_per_ang": MEV_PER_EV * root_mean_square(comparison.forces[chosen]),
    }


def composition_means(compositions: Sequence[str], values: FloatArray) -> FloatArray:
    """For each value the mean of those of its composition."""
    _, group = np.unique(np.asarray(compositions), return_inverse=True)
    return np.array((np.bincount(group, weights=values) / np.bincount(group))[group])


def six_components(tensors: Sequence[FloatArray]) -> FloatArray:
    """Symmetric tensors as xx, yy, zz, yz, xz, xy, shape ``(n_tensors, 6)``."""
    rows = [full_3x3_to_voigt_6_stress(tensor) for tensor in tensors]  # type: ignore[no-untyped-call]
    return np.array(rows).reshape(-1, 6)


@dataclass(frozen=True, eq=False)
class Deviations:
    """Standard deviations that a model expects, beside its errors."""

    energies: FloatArray  # expected of energies, shape ``(n_frames,)``, in eV/atom
    energy_errors: FloatArray
    forces: FloatArray  # expected of force components, shape ``(n_atoms,)``, in eV/Å
    force_errors: FloatArray  # shape ``(n_atoms, 3)``
    frame_of: IntArray  # frame of each atom
    largest_grades: FloatArray  # largest extrapolation grade of each frame

    @property
    def factor(self) -> float:
        """What would make the standard deviations of forces as large as the errors."""
        return scaling_factor(self.force_errors, self.forces)


def deviations_of(
    estimator: UncertaintyEstimator,
    frames: Sequence[Frame],
    comparison: Comparison,
    *,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Deviations:
    """Uncertainties of some frames beside their errors."""
    found = []
    for done, frame in enumerate(frames):
        progress("uncertainty", done, len(frames))
        found.append(estimator.frame(frame))
    sizes = np.array([frame.n_atoms for frame in frames])
    return Deviations(
        energies=np.array([u.energy_std for u in found]) / sizes,
        energy_errors=comparison.energy_errors / MEV_PER_EV,
        forces=np.concatenate([u.force_std for u in found]),
        force_errors=comparison.force_errors / MEV_PER_EV,
        frame_of=np.repeat(np.arange(len(frames)), sizes),
        largest_grades=np.array([u.grades.values[u.grades.worst] for u in found]),
    )


def cross_checked_coverage(deviations: Deviations) -> dict[str, Any]:
    """Coverage of each half of at least two held-out frames with the factor of the other half, in turns."""
    force_std, energy_std = deviations.forces.copy(), deviations.energies.copy()
    for half in (0, 1):
        own = deviations.frame_of % 2 == half
        factor = scaling_factor(deviations.force_errors[~own], deviations.forces[~own])
        force_std[own] *= factor
        energy_std[half::2] *= factor
    return coverage(replace(deviations, forces=force_std, energies=energy_std))


def coverage(deviations: Deviations) -> dict[str, Any]:
    """Which shares of the errors stay within intervals that should hold nominal shares, under the names of JSON."""
    reach = norm.ppf(0.5 + 0.5 * LEVELS)
    force_std, energy_std = deviations.forces, deviations.energies
    with np.errstate(divide="ignore", invalid="ignore"):  # a fit without any error expects none
        per_force = np.abs(deviations.force_errors) / force_std[:, None]
        per_energy = np.abs(deviations.energy_errors) / energy_std
    sizes = np.sqrt((deviations.force_errors**2).mean(axis=1))
    return {
        "nominal": LEVELS,
        "forces": np.array([(per_force < z).mean() for z in reach]),
        "energies": np.array([(per_energy < z).mean() for z in reach]),
        # Between the uncertainty and the root mean square error of the force on an atom.
        "force_rank_correlation": float(spearmanr(force_std, sizes).statistic),
        "force_std_mev_per_ang": MEV_PER_EV * root_mean_square(force_std),
        "energy_std_mev_per_atom": MEV_PER_EV * root_mean_square(energy_std),
    }
