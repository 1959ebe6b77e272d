"""How far uncertainties can be trusted: one factor fitted to held-out frames, and coverage.

Coverage is cross-checked: the factor of one half of the held-out frames is judged by the other half, both ways round.
Only the factor that the model keeps is fitted to all of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from scipy.stats import norm, spearmanr

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.metrics import MEV_PER_EV, Comparison
from qiskit_qff.model.spread import UncertaintyCalibration
from qiskit_qff.model.uncertainty import Committee, calibration_factor
from qiskit_qff.structures.frame import Frame

LEVELS = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.683, 0.8, 0.9, 0.954, 0.99])
"""Nominal coverages of intervals around a prediction."""


@dataclass(frozen=True, eq=False)
class Coverage:
    """Which share of the errors stays within intervals that should hold a given share."""

    nominal: FloatArray
    """Shares that a normal distribution would have, shape ``(k,)``."""
    forces: FloatArray
    """Observed shares of force components, shape ``(k,)``."""
    energies: FloatArray
    """Observed shares of energies, shape ``(k,)``."""
    force_rank: float
    """Rank correlation between uncertainty and root mean square error of the force on an atom."""
    force_std_mev_per_ang: float
    """Root mean square uncertainty of force components, in meV/Å."""
    energy_std_mev_per_atom: float
    """Root mean square uncertainty of energies, in meV/atom."""
    n_energies: int
    """Number of energies."""

    def to_dict(self) -> dict[str, object]:
        """Plain data for metrics.json."""
        return {
            "nominal": self.nominal,
            "forces": self.forces,
            "energies": self.energies,
            "force_rank_correlation": self.force_rank,
            "force_std_mev_per_ang": self.force_std_mev_per_ang,
            "energy_std_mev_per_atom": self.energy_std_mev_per_atom,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read back what ``metrics.json`` holds.

        Args:
            data: What :meth:`to_dict` gave, with the number of frames.
        """
        nominal, forces, energies = (np.array(data[name], dtype=float) for name in ("nominal", "forces", "energies"))
        return cls(
            nominal=nominal,
            forces=forces,
            energies=energies,
            force_rank=float("nan") if data["force_rank_correlation"] is None else data["force_rank_correlation"],
            force_std_mev_per_ang=data["force_std_mev_per_ang"],
            energy_std_mev_per_atom=data["energy_std_mev_per_atom"],
            n_energies=data["n_frames"],
        )


@dataclass(frozen=True, eq=False)
class Spreads:
    """Uncalibrated uncertainties of some frames beside their errors."""

    energies: FloatArray
    """Of energies, shape ``(n_frames,)``, in eV/atom."""
    energy_errors: FloatArray
    """In eV/atom, same shape."""
    forces: FloatArray
    """Of force components, shape ``(n_atoms,)``, in eV/Å."""
    force_errors: FloatArray
    """In eV/Å, shape ``(n_atoms, 3)``."""
    frame_of: IntArray
    """Frame of each atom, shape ``(n_atoms,)``."""


def spreads_of(
    field: ForceField,
    frames: Sequence[Frame],
    comparison: Comparison,
    *,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Spreads:
    """Evaluate the committee.

    Args:
        field: The model, with its committee.
        frames: Frames with energies and forces of all atoms.
        comparison: Their labels and the model's predictions.
        progress: Called with a stage's name, frames done and frames in all.

    Raises:
        ConfigError: If the model has no committee.
    """
    committee = Committee.of(field)
    found = []
    for done, frame in enumerate(frames):
        progress("committee", done, len(frames))
        found.append(committee.frame(frame))
    sizes = np.array([frame.n_atoms for frame in frames])
    return Spreads(
        energies=np.array([u.energy for u in found]) / sizes / committee.factor,
        energy_errors=comparison.energy_errors / MEV_PER_EV,
        forces=np.concatenate([u.forces for u in found]) / committee.factor,
        force_errors=comparison.force_errors / MEV_PER_EV,
        frame_of=np.repeat(np.arange(len(frames)), sizes),
    )


def calibrated(field: ForceField, spreads: Spreads) -> ForceField:
    """The model with the factor that held-out frames give.

    Args:
        field: The model.
        spreads: Of held-out frames.
    """
    factor = calibration_factor(spreads.force_errors, spreads.forces)
    return replace(field, uncertainty=UncertaintyCalibration(factor, len(spreads.energies)))


def cross_checked_coverage(spreads: Spreads) -> Coverage:
    """Coverage of each half of the frames with the factor of the other half.

    Args:
        spreads: Of at least two held-out frames; successive ones go to different halves.
    """
    force_std, energy_std = spreads.forces.copy(), spreads.energies.copy()
    for half in (0, 1):
        own = spreads.frame_of % 2 == half
        factor = calibration_factor(spreads.force_errors[~own], spreads.forces[~own])
        force_std[own] *= factor
        energy_std[half::2] *= factor
    return coverage(spreads, force_std, energy_std)


def coverage(spreads: Spreads, force_std: FloatArray, energy_std: FloatArray) -> Coverage:
    """Coverage of given uncertainties.

    Args:
        spreads: Errors.
        force_std: Shape ``(n_atoms,)``, in eV/Å.
        energy_std: Shape ``(n_frames,)``, in eV/atom.
    """
    reach = norm.ppf(0.5 + 0.5 * LEVELS)
    with np.errstate(divide="ignore"):  # members that agree to the last bit: every error is outside
        per_force = np.abs(spreads.force_errors) / force_std[:, None]
        per_energy = np.abs(spreads.energy_errors) / energy_std
    sizes = np.sqrt((spreads.force_errors**2).mean(axis=1))
    return Coverage(
        nominal=LEVELS,
        forces=np.array([(per_force < z).mean() for z in reach]),
        energies=np.array([(per_energy < z).mean() for z in reach]),
        force_rank=float(spearmanr(force_std, sizes).statistic),
        force_std_mev_per_ang=MEV_PER_EV * float(np.sqrt((force_std**2).mean())),
        energy_std_mev_per_atom=MEV_PER_EV * float(np.sqrt((energy_std**2).mean())),
        n_energies=len(spreads.energies),
    )
