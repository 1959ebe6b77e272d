r"""Do energies belong to the forces: one sign, one pair of units.

A small linear model is fitted to the forces alone. The energies it predicts are those of the labels up to a reference
energy per element, a function of the volume, which forces don't show, and a factor,

.. math:: E_k = \sum_s n_{ks} e_s + e(V_k) + f\,\hat E_k + \varepsilon_k,

and f is 1 if energies are in eV, forces in eV/Å and forces minus the gradient. Negated forces make it -1, energies in
Hartree 1/27.2, forces in Hartree/bohr 51.4. The stress of the same model tests unit and sign of stress labels.

The model is crude, so f of good data is 0.7 to 1.2 (twelve data sets of crystals, melts and frameworks, 20 frames and
more). Therefore only a negative factor, or one below :data:`SMALLEST` or above :data:`LARGEST`, is held against the
data, and only where the regression leaves no doubt. Errors of the prediction pull f towards zero; the opposite bound is
f over r². Where the data are too few, or the model too poor, nothing is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from qiskit_qff.array_types import BoolArray, FloatArray
from qiskit_qff.compression.normal_equations import NormalEquations
from qiskit_qff.descriptors.channels import make_tables
from qiskit_qff.descriptors.design_rows import STRAIN_COLUMNS, STRAIN_ROWS
from qiskit_qff.descriptors.pool import PoolSettings, build_channels
from qiskit_qff.errors import DataError
from qiskit_qff.structures.frame import Frame, species_of
from qiskit_qff.training.loss import LossWeights, composition_directions, compositions
from qiskit_qff.training.objective import solve_scaled
from qiskit_qff.training.statistics import channel_rows, find_shortest

ATOMS = 4000
"""Atoms that a model is fitted to, as far as these are between :data:`LEAST` and :data:`MOST` frames."""
LEAST, MOST = 12, 200
"""Fewest and most frames to take of as many as there are."""
FEWEST = 5
"""Degrees of freedom below which a regression says nothing."""
MOST_ELEMENTS = 8
"""With more, the model would have too many channels."""
RIDGE = 1e-3
"""Tikhonov term, as a fraction of the diagonal."""
SMALLEST, LARGEST = 1.0 / 3.0, 1.5
"""Factors between these are not held against the data; errors of the model lower a factor more than they raise it."""
EXPLAINED = 0.5
"""Part of the variance of forces, and of energies, that has to be explained before anything is concluded."""
DOUBT = 1e-4
"""Probability of a mistake that is still too large."""
NEAR = 1.6
"""A factor so close, up or down, to that of a pair of units is theirs."""
_SEPARATE = 20  # frames of a file from which on it is checked by itself
_FILES = 3  # that are checked by themselves at most

_BOHR, _HARTREE, _KCAL, _KJ = 0.529177210903, 27.211386245988, 0.0433641042, 0.0103642697
_ENERGY_UNITS = {"Hartree": _HARTREE, "Rydberg": _HARTREE / 2, "kcal/mol": _KCAL, "kJ/mol": _KJ, "meV": 1e-3}
_FORCE_UNITS = {
    "Hartree/bohr": _HARTREE / _BOHR,
    "Rydberg/bohr": _HARTREE / 2 / _BOHR,
    "kcal/mol/Å": _KCAL,
    "kJ/mol/Å": _KJ,
    "kJ/mol/nm": _KJ / 10,
    "meV/Å": 1e-3,
}
_GRADIENTS = "forces of the wrong sign (gradients instead of forces)"
_PRESSURES = "the sign opposite to ASE's (pressure positive instead of stress)"
_STRESS_UNITS = {"GPa": 1 / 160.21766, "kbar": 1 / 1602.1766, "Hartree/bohr³": _HARTREE / _BOHR**3}


@dataclass(frozen=True)
class Factor:
    """What labels are multiplied by, in comparison with a prediction."""

    value: float
    """Slope of the regression."""
    error: float
    """Its standard error."""
    r_squared: float
    """Square of the correlation."""
    dof: int
    """Degrees of freedom left."""

    @property
    def is_clear(self) -> bool:
        """Whether the regression explains enough, and its sign is beyond doubt."""
        return self.r_squared > EXPLAINED and self._doubt(abs(self.value)) < DOUBT

    @property
    def is_wrong(self) -> bool:
        """Whether the factor is beyond doubt negative, or farther from 1 than a crude model explains."""
        if not self.is_clear:
            return False
        size = abs(self.value)
        too_small = size / self.r_squared < SMALLEST and self._doubt(SMALLEST - size) < DOUBT
        return self.value < 0.0 or too_small or (size > LARGEST and self._doubt(size - LARGEST) < DOUBT)

    def _doubt(self, distance: float) -> float:
        """Probability that the factor is off by at least so much by chance, towards one side."""
        return float(student.sf(distance / max(self.error, 1e-300), self.dof))

    def __str__(self) -> str:
        return f"{self.value:.3g} ± {self.error:.1g}"


@dataclass(frozen=True)
class LabelConsistency:
    """What the labels of some frames say about each other."""

    source: str
    """File, or what else the frames have in common."""
    n_frames: int
    """Frames that were looked at."""
    energy: Factor | None
    """Energies over those that the forces predict; None if not determined."""
    stress: Factor | None
    """Stresses over those that the forces predict; None if not determined."""
    problem: str = ""
    """What is wrong with energies and forces; empty if nothing was found."""
    stress_problem: str = ""
    """What is wrong with the stresses; empty if nothing was found."""
    unchecked: str = ""
    """Why nothing could be concluded about energies and forces; empty where something was."""


def check_label_consistency(frames: Sequence[Frame], *, stresses: bool = False) -> list[LabelConsistency]:
    """Refuse frames whose forces have the wrong sign, or whose energies and forces are in units that don't match.

    Takes 1 to 4 s a file of 100-atom frames, whatever their number. Where the data can't tell, nothing happens.

    Args:
        frames: Frames fit for training, with energies and forces.
        stresses: Whether stress labels are to be used, so that they have to match too.

    Returns:
        What was found, per file.

    Raises:
        DataError: If something is wrong beyond doubt; says what it looks like.
    """
    found = label_consistency(frames)
    for one in found:
        problem = one.problem or (one.stress_problem if stresses else "")
        if problem:
            raise DataError(f"{one.source}: {problem}. Convert them; 'qff validate' says more.")
    return found


def label_consistency(frames: Sequence[Frame]) -> list[LabelConsistency]:
    """Compare the labels of every larger file by itself, for units belong to files, and of all other files together."""
    labelled = [frame for frame in frames if _is_labelled(frame)]
    counts = Counter(frame.source for frame in labelled)
    alone = {source for source, count in counts.most_common(_FILES) if count >= _SEPARATE or len(counts) == 1}
    groups = {source or "data": [frame for frame in labelled if frame.source == source] for source in sorted(alone)}
    if rest := [frame for frame in labelled if frame.source not in alone]:
        groups["other files" if groups else "data"] = rest
    return [_compare(source, _sample(members)) for source, members in groups.items()]


def _is_labelled(frame: Frame) -> bool:
    """Whether energy and forces are there and finite."""
    if frame.energy is None or frame.forces is None or frame.n_atoms < 2:
        return False
    return bool(np.isfinite(frame.energy) and np.isfinite(frame.forces).all())


def _sample(frames: Sequence[Frame]) -> list[Frame]:
    """Some of the frames, evenly spread."""
    size = float(np.mean([frame.n_atoms for frame in frames]))
    count = int(np.clip(ATOMS / size, LEAST, MOST))
    return [frames[k] for k in np.unique(np.linspace(0, len(frames) - 1, count).astype(int))]


def _compare(source: str, frames: list[Frame]) -> LabelConsistency:
    """Fit the forces of some frames, and compare energies and stresses with what the fit predicts."""
    species = species_of(frames)
    directions = composition_directions(compositions(frames, species))

    def nothing(reason: str) -> LabelConsistency:
        return LabelConsistency(source, len(frames), None, None, unchecked=reason)

    if len(frames) - directions.shape[1] - 1 < FEWEST:
        return nothing(f"{len(frames)} frames are too few")
    if len(species) > MOST_ELEMENTS:
        return nothing(f"more than {MOST_ELEMENTS} elements")
    model = _force_model(frames, species)
    if model is None:
        return nothing("too few forces")
    predictions, explained = model
    if explained < EXPLAINED:
        return nothing(f"a simple model explains only {100 * max(explained, 0.0):.0f} % of the forces")
    factor = _energy_factor(frames, species, np.array([energy for energy, _ in predictions]))
    stress = _stress_factor(frames, [virial for _, virial in predictions])
    problem = stress_problem = unchecked = ""
    if factor is None or not factor.is_clear:
        unchecked = "the energies differ too little, or for other reasons than the forces"
        factor = None
    elif factor.is_wrong:
        problem = _named(
            factor,
            "energies differ by",
            _energy_guesses(frames),
            _GRADIENTS,
        )
    if stress is not None and stress.is_wrong and factor is not None and not problem:
        stress_problem = _named(
            stress,
            "stresses are",
            _stress_guesses(frames),
            _PRESSURES,
        )
    return LabelConsistency(source, len(frames), factor, stress, problem, stress_problem, unchecked)


def _force_model(
    frames: Sequence[Frame], species: tuple[int, ...]
) -> tuple[list[tuple[float, FloatArray]], float] | None:
    """Energies and virials by a linear model of the forces, and the part of their variance that it explains.

    None if there are fewer than two forces for each channel.
    """
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
        return None
    weights, equations, rows = LossWeights(), NormalEquations.empty(n_channels), []
    for frame in frames:
        energy, others = channel_rows(tables, frame)
        rows.append((energy, others[3 * frame.n_atoms :].copy()))
        equations.add(others[: 3 * frame.n_atoms], weights.force_labels(frame), np.ones(3 * frame.n_atoms))
    gram = equations.symmetric()
    gram[np.diag_indices_from(gram)] *= 1.0 + RIDGE
    coefficients = solve_scaled(gram, equations.moment)
    gram[np.diag_indices_from(gram)] /= 1.0 + RIDGE
    left = equations.loss(coefficients) / max(equations.constant, 1e-300)
    explained = 1.0 - left * n_forces / (n_forces - n_channels)
    return [(float(energy @ coefficients), virial @ coefficients) for energy, virial in rows], explained


def _energy_factor(frames: Sequence[Frame], species: tuple[int, ...], predicted: FloatArray) -> Factor | None:
    """Regress energies per atom on predicted ones, beside what forces can't tell, and without outliers."""
    counts = compositions(frames, species)
    size = counts.sum(axis=1)
    others = np.column_stack([(counts / size[:, None]) @ composition_directions(counts), *_volumes(frames)])
    labels = np.array([frame.energy for frame in frames], dtype=np.float64) / size
    x, y = _without(others, predicted / size), _without(others, labels)
    kept = _inliers(x) & _inliers(y)
    # Two kinds of frames whose energies are far apart may have two references: only differences inside each count.
    others = np.column_stack([others, *_largest_gap(y, kept)])[kept]
    fitted = int(np.linalg.matrix_rank(others, tol=1e-8 * np.sqrt(len(others))))
    return _regress(_without(others, (predicted / size)[kept]), _without(others, labels[kept]), fitted)


def _volumes(frames: Sequence[Frame]) -> Iterator[FloatArray]:
    """Volumes per atom and their squares where cells differ.

    Forces act at a fixed cell, so an energy that depends on the volume alone leaves no trace in them.
    """
    volumes = np.array([frame.volume / frame.n_atoms for frame in frames])
    spread = float(np.std(volumes))
    if np.isfinite(volumes).all() and spread > 1e-4 * float(np.mean(volumes)):
        offsets = (volumes - np.mean(volumes)) / spread
        yield offsets
        yield offsets**2


def _stress_factor(frames: Sequence[Frame], virials: Sequence[FloatArray]) -> Factor | None:
    """Regress stress components, less their mean over the frames and less the pressure, on predicted ones."""
    known = [
        (frame, virial)
        for frame, virial in zip(frames, virials, strict=True)
        if frame.stress is not None and frame.pbc.all() and np.isfinite(frame.stress).all() and frame.stress.any()
    ]
    if len(known) < FEWEST:
        return None
    order = (STRAIN_ROWS, STRAIN_COLUMNS)
    predicted = _offsets(np.array([virial / frame.volume for frame, virial in known]))
    labels = _offsets(np.array([frame.stress[order] for frame, _ in known if frame.stress is not None]))
    return _regress(predicted, labels, len(known) + 6)


def _offsets(stresses: FloatArray) -> FloatArray:
    """Six components of every frame, less the pressure and less their mean over the frames, flat."""
    pressure = np.zeros_like(stresses)
    pressure[:, :3] = stresses[:, :3].mean(axis=1, keepdims=True)
    deviators = stresses - pressure
    offsets: FloatArray = deviators - deviators.mean(axis=0)
    return offsets.ravel()


def _without(others: FloatArray, values: FloatArray) -> FloatArray:
    """What is left of values after a least-squares fit by other columns."""
    left: FloatArray = values - others @ np.linalg.lstsq(others, values, rcond=None)[0]
    return left


def _inliers(values: FloatArray) -> BoolArray:
    """Which values are within five robust standard deviations of the median."""
    offsets = np.abs(values - np.median(values))
    near: BoolArray = offsets <= 5.0 * 1.4826 * np.median(offsets)
    return near


def _largest_gap(values: FloatArray, kept: BoolArray) -> Iterator[FloatArray]:
    """A column of zeros and ones for the sides of the largest gap, if it spans a third of the range."""
    ordered = np.sort(values[kept])
    gaps = np.diff(ordered)
    if len(gaps) and gaps.max() > (ordered[-1] - ordered[0]) / 3.0:
        yield (values > ordered[int(gaps.argmax())]).astype(np.float64)


def _regress(x: FloatArray, y: FloatArray, fitted: int) -> Factor | None:
    """Slope of y over x, both without means; None of too few values or of values that don't differ."""
    dof = len(x) - fitted - 1
    xx, xy, yy = float(x @ x), float(x @ y), float(y @ y)
    if dof < FEWEST or xx < 1e-14 * len(x) or yy < 1e-24 * len(y):
        return None
    slope = xy / xx
    error = float(np.sqrt(max(yy - slope * xy, 0.0) / dof / xx))
    return Factor(slope, error, xy**2 / (xx * yy), dof)


def _energy_guesses(frames: Sequence[Frame]) -> dict[str, float]:
    """Factors by what would explain them."""
    guesses = {f"energies in {unit}": 1.0 / factor for unit, factor in _ENERGY_UNITS.items()}
    guesses |= {f"forces in {unit}": factor for unit, factor in _FORCE_UNITS.items()}
    guesses["forces in eV/bohr"] = 1.0 / _BOHR
    guesses["energies in Hartree and forces in Hartree/bohr"] = 1.0 / _BOHR
    guesses["energies in kJ/mol and forces in kJ/mol/nm"] = 0.1
    guesses["energies per atom"] = 1.0 / float(np.mean([frame.n_atoms for frame in frames]))
    return guesses


def _stress_guesses(frames: Sequence[Frame]) -> dict[str, float]:
    """Factors by what would explain them."""
    guesses = {f"stresses in {unit}": 1.0 / factor for unit, factor in _STRESS_UNITS.items()}
    guesses["virials instead of stresses"] = float(np.median([frame.volume for frame in frames]))
    return guesses


def _named(factor: Factor, relation: str, guesses: dict[str, float], negative: str) -> str:
    """The problem in words.

    Args:
        negative: What a negative factor looks like.
    """
    size = abs(factor.value)
    apart = {name: abs(np.log(size / guess)) for name, guess in guesses.items()}
    near = sorted((name for name in apart if apart[name] < np.log(NEAR)), key=lambda name: apart[name])
    causes = [negative] if factor.value < 0.0 else []
    if not SMALLEST < size < LARGEST:
        causes.append(" or ".join(near[:2]) or "different units, though no common pair of units has this ratio")
    return f"{relation} {factor} times what the forces predict; this looks like {', and '.join(causes)}"
