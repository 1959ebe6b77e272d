r"""Do energies and stresses belong to the forces: one sign, one set of units.

A small linear model is fitted to the forces alone. The energies it predicts are those of the labels up to a reference
energy per element, a function of the volume, which forces don't show, and a factor,

.. math:: E_k = \sum_s n_{ks} e_s + e(V_k) + f\,\hat E_k + \varepsilon_k,

and f is 1 if energies are in eV, forces in eV/Å and forces minus the gradient. Negated forces make it -1, energies in
Hartree 1/27.2, forces in Hartree/bohr 51.4. Stresses less their pressure, which forces don't show either, are compared
with those of the model in the same way.

The model is crude, so f of good data is 0.7 to 1.2 (twelve data sets of crystals, melts and frameworks, 20 frames and
more). Therefore only a negative factor, or one below :data:`SMALLEST` or above :data:`LARGEST`, is held against the
data, and only where the regression leaves no doubt. Where the data are too few, or the model too poor, nothing is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.compression.least_squares import NormalEquations
from qiskit_qff.descriptors.channels import PoolSettings, build_channels, make_tables
from qiskit_qff.descriptors.derivatives import STRAIN_COLUMNS, STRAIN_ROWS
from qiskit_qff.errors import DataError
from qiskit_qff.structures.frame import Frame, species_of
from qiskit_qff.training.objective import solve_scaled
from qiskit_qff.training.statistics import (
    LossWeights,
    channel_rows,
    composition_directions,
    compositions,
    find_shortest,
)

ATOMS = 4000
"""Atoms that a model is fitted to, as far as these are between :data:`LEAST` and :data:`MOST` frames."""
LEAST, MOST = 12, 200
"""Fewest and most frames to take of as many as there are."""
FEWEST = 5
"""Degrees of freedom below which a regression says nothing."""
RIDGE = 1e-3
"""Tikhonov term, as a fraction of the diagonal."""
SMALLEST, LARGEST = 1.0 / 3.0, 1.5
"""Factors between these are not held against the data; errors of the model lower a factor more than they raise it."""
EXPLAINED = 0.5
"""Part of the variance of forces, and of energies, that has to be explained before anything is concluded."""
SIGMAS = 8.0
"""Standard errors between a factor and a bound that leave no doubt."""
_SEPARATE, _FILES = 20, 3  # at most so many files of at least so many frames are checked each by itself

_CAUSES = (
    "-1: forces of the wrong sign (gradients); 0.0367: energies in Hartree; 51.4: forces in Hartree/bohr; 1.89: both; "
    "23.1 or 0.0434: energies or forces in kcal/mol; 96.5: energies in kJ/mol; 0.001: forces in meV/Å; 1/N: "
    "energies per atom, of N atoms"
)
"""Factors that usual mistakes make."""


@dataclass(frozen=True)
class LabelConsistency:
    """What the labels of some frames say about each other."""

    source: str
    """File, or ``data`` for frames of several."""
    n_frames: int
    """Frames that were looked at."""
    energy_factor: float | None = None
    """Energies over those that the forces predict; None if not determined."""
    problem: str = ""
    """What is wrong with energies and forces; empty if nothing was found."""
    stress_problem: str = ""
    """What is wrong with stresses; empty if nothing was found."""
    unchecked: str = ""
    """Why nothing could be concluded about energies and forces; empty where something was."""


def check_label_consistency(frames: Sequence[Frame], *, stresses: bool = False) -> list[LabelConsistency]:
    """Refuse frames whose forces have the wrong sign, or whose energies and forces are in units that don't match.

    Takes 1 to 4 s a file of 100-atom frames, whatever their number. Where the data can't tell, nothing happens.

    Args:
        frames: Frames fit for training, with energies and forces.
        stresses: Whether stresses are fitted, so that they have to match too.

    Returns:
        What was found, per file.

    Raises:
        DataError: If something is wrong beyond doubt; says what it looks like.
    """
    found = label_consistency(frames)
    for one in found:
        if problem := one.problem or (stresses and one.stress_problem):
            raise DataError(f"{one.source}: {problem} 'qff validate' says more.")
    return found


def label_consistency(frames: Sequence[Frame]) -> list[LabelConsistency]:
    """Compare the labels, file by file where there are a few large ones, for units belong to files."""
    labelled = [f for f in frames if f.energy is not None and f.forces is not None and f.n_atoms > 1]
    counts = Counter(frame.source for frame in labelled)
    if len(counts) > _FILES or min(counts.values(), default=0) < _SEPARATE:
        counts = Counter([""]) if len(counts) > 1 else counts
    groups = {source: [frame for frame in labelled if source in {"", frame.source}] for source in sorted(counts)}
    return [_compare(source or "data", _sample(members)) for source, members in groups.items()]


def _sample(frames: Sequence[Frame]) -> list[Frame]:
    """Some of the frames, evenly spread."""
    size = float(np.mean([frame.n_atoms for frame in frames]))
    count = int(np.clip(ATOMS / size, LEAST, MOST))
    return [frames[k] for k in np.unique(np.linspace(0, len(frames) - 1, count).astype(int))]


def _compare(source: str, frames: list[Frame]) -> LabelConsistency:
    """Fit the forces of some frames, and compare energies with what the fit predicts."""
    species, found = species_of(frames), partial(LabelConsistency, source, len(frames))
    if len(frames) - composition_directions(compositions(frames, species)).shape[1] - 1 < FEWEST:
        return found(unchecked=f"{len(frames)} frames are too few")
    (energies, virials), explained = _predict_by_forces(frames, species)
    if explained < EXPLAINED:
        return found(unchecked=f"a simple model explains only {100 * max(explained, 0.0):.0f} % of the forces")
    found = partial(found, stress_problem=_stress_problem(frames, virials))
    energy = _energy_factor(frames, species, energies)
    if energy is None:
        return found(unchecked="the energies differ too little, or for other reasons than the forces")
    factor, is_wrong = energy
    problem = f"energies change by {factor:.3g} times what the forces predict (1 is right). Usual causes: {_CAUSES}."
    return found(factor, problem=problem if is_wrong else "")


def _predict_by_forces(
    frames: Sequence[Frame], species: tuple[int, ...]
) -> tuple[tuple[FloatArray, FloatArray], float]:
    """Energies and virials by a linear model of the forces, and the part of the forces' variance that it explains."""
    settings = PoolSettings(
        n_narrow=0, n_broad=5, powers=(1.0, 4.0, 9.0), n_radial=2 if len(species) < 6 else 1, l_max=2, bonds=False,
        radial_pairs="same",
    )  # fmt: skip
    shortest = find_shortest(frames, species, settings.r_cut, lambda *_: None)
    sets = {
        z: build_channels(
            z, {t: shortest[s, k] for k, t in enumerate(species) if np.isfinite(shortest[s, k])}, settings
        )
        for s, z in enumerate(species)
    }
    tables = make_tables(sets, settings.r_cut)
    n_channels = int(tables.channel_start[-1])
    n_forces = 3 * sum(frame.n_atoms for frame in frames)
    if n_forces < 2 * n_channels or not n_channels:
        return (np.zeros(len(frames)), np.zeros((len(frames), 6))), 0.0
    weights, equations, rows = LossWeights(), NormalEquations.empty(n_channels), []
    for frame in frames:
        energy, others = channel_rows(tables, frame)
        rows.append(np.vstack([energy, others[3 * frame.n_atoms :]]))
        equations.add(others[: 3 * frame.n_atoms], weights.force_labels(frame), np.ones(3 * frame.n_atoms))
    gram = equations.symmetric()
    gram[np.diag_indices_from(gram)] *= 1.0 + RIDGE
    coefficients = solve_scaled(gram, equations.moment)
    gram[np.diag_indices_from(gram)] /= 1.0 + RIDGE
    left = equations.loss(coefficients) / max(equations.constant, 1e-300)
    explained = 1.0 - left * n_forces / (n_forces - n_channels)
    predicted = np.array([row @ coefficients for row in rows])
    return (predicted[:, 0], predicted[:, 1:]), explained


def _stress_problem(frames: Sequence[Frame], virials: FloatArray) -> str:
    """What is wrong with stresses, shape ``(3, 3)`` of each frame, beside predicted virials, shape ``(n, 6)``."""
    pairs = [
        (frame.stress[STRAIN_ROWS, STRAIN_COLUMNS], virial / frame.volume)
        for frame, virial in zip(frames, virials, strict=True)
        if frame.stress is not None and frame.pbc.all()
    ]
    if len(pairs) < FEWEST:
        return ""
    both = np.array(pairs)
    both[..., :3] -= both[..., :3].mean(axis=-1, keepdims=True)
    labels, predicted = (both - both.mean(axis=0)).swapaxes(0, 1).reshape(2, -1)
    found = _regress(predicted, labels, len(pairs) + 6)
    if found is None or not found[1]:
        return ""
    return (
        f"stresses differ by {found[0]:.3g} times what the forces predict. They are expected in eV/Å³ (1 GPa is "
        "0.00624), positive under tension; a virial is the negative of stress times volume. Convert them."
    )


def _energy_factor(
    frames: Sequence[Frame], species: tuple[int, ...], predicted: FloatArray
) -> tuple[float, bool] | None:
    """Regress energies per atom on predicted ones, beside what forces can't tell, and without outliers."""
    counts = compositions(frames, species)
    size = counts.sum(axis=1)
    beside = (counts / size[:, None]) @ composition_directions(counts)
    # Forces act at a fixed cell, so an energy that depends on the volume alone leaves no trace in them.
    volumes = np.array([frame.volume for frame in frames]) / size
    offsets = volumes / volumes.mean() - 1.0
    if np.isfinite(offsets).all() and (spread := float(offsets.std())) > 1e-4:
        beside = np.column_stack([beside, offsets / spread, (offsets / spread) ** 2])
    energies = np.array([frame.energy for frame in frames], dtype=np.float64)
    values = np.column_stack([predicted, energies]) / size[:, None]
    left = _without(beside, values)
    left = np.abs(left - np.median(left, axis=0))
    kept = (left <= 5.0 * 1.4826 * np.median(left, axis=0)).all(axis=1)
    x, y = _without(beside[kept], values[kept]).T
    return _regress(x, y, int(np.linalg.matrix_rank(beside[kept])))


def _without(others: FloatArray, values: FloatArray) -> FloatArray:
    """What is left of values, shape ``(n, 2)``, after a least-squares fit by other columns."""
    left: FloatArray = values - others @ np.linalg.lstsq(others, values, rcond=None)[0]
    return left


def _regress(x: FloatArray, y: FloatArray, fitted: int) -> tuple[float, bool] | None:
    """Slope of y over x, and whether it is wrong beyond doubt; None if it is not clear.

    Errors of the prediction pull the slope towards zero; the opposite bound is the slope over r².
    """
    dof = len(x) - fitted - 1
    xx, xy, yy = float(x @ x), float(x @ y), float(y @ y)
    if dof < FEWEST or xx < 1e-14 * len(x) or yy < 1e-24 * len(y):
        return None
    slope, r_squared = xy / xx, xy**2 / (xx * yy)
    size, doubt = abs(slope), SIGMAS * float(np.sqrt(max(yy - slope * xy, 0.0) / dof / xx))
    if r_squared < EXPLAINED or size < doubt:
        return None
    too_small = size / r_squared < SMALLEST and size + doubt < SMALLEST
    return slope, slope < 0.0 or too_small or size - doubt > LARGEST
