"""Are lengths, energies, forces and stresses in Å, eV, eV/Å and eV/Å³, and does every sign agree.

Lengths: the nearest neighbour of an atom is about as far as the covalent radii say (0.91 to 0.98 of it in
the data tested); in bohr it would be 1.9 times that.

Energies against forces: between two similar frames the energy differs by the work of the forces,

    ΔE = -½ Σ (F₁ + F₂)·Δr,

up to third order, whatever the potential. The ratio of the two sides is 1 in matching units (0.997 to 1.000
as a median over the data tested), -1 if gradients were stored as forces, and otherwise names the pair of
units. Frames of different cells add V σ:ε to the right side, which tests unit and sign of the stress in the
same way.

What the two sides have in common, the ratio can't show. The mean curvature -ΔF·Δr/Δr² can: it is 3 to 40
eV/Å² in the data tested and would be a 97th of it in hartree/bohr².
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qiskit_qff.structures.defects import Defect
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.geometry_checks import nearest_shares
from qiskit_qff.structures.similarity import FramePair

PAIR_TOLERANCE = 0.15
"""Frames closer than this, in Å rms, serve to compare energies with forces."""
PAIRS_NEEDED = 3
"""Fewer similar pairs than this prove nothing."""

_BOHR, _HARTREE, _KCAL, _KJ = 0.529177210903, 27.211386245988, 0.0433641042, 0.0103642697
_LENGTH_UNITS = {"Å": 1.0, "bohr": _BOHR, "nm": 10.0}
_ENERGY_UNITS = {"eV": 1.0, "hartree": _HARTREE, "Ry": _HARTREE / 2, "kcal/mol": _KCAL, "kJ/mol": _KJ, "meV": 1e-3}
_FORCE_UNITS = {
    "eV/Å": 1.0,
    "hartree/bohr": _HARTREE / _BOHR,
    "eV/bohr": 1.0 / _BOHR,
    "Ry/bohr": _HARTREE / 2 / _BOHR,
    "kcal/mol/Å": _KCAL,
    "kJ/mol/nm": _KJ / 10,
    "hartree/Å": _HARTREE,
    "kJ/mol/Å": _KJ,
    "meV/Å": 1e-3,
}
_RIGHT_UNITS = "energies in eV and forces in eV/Å"
_STRESS_UNITS = {"GPa": 1 / 160.21766, "kbar": 1 / 1602.1766, "hartree/bohr³": _HARTREE / _BOHR**3}


@dataclass(frozen=True)
class UnitEvidence:
    """What the numbers themselves say about their units."""

    length_share: float | None
    """Median distance of nearest neighbours in covalent radii; None without neighbours."""
    force_ratio: float | None
    """Median of energy differences over the work of the forces, between similar frames; None if too few."""
    force_spread: float
    """Half the distance between the quartiles of that ratio: small if the pairs agree."""
    n_pairs: int
    """Pairs of similar frames behind it."""
    curvature: float | None
    """Median of -ΔF·Δr/Δr² over those pairs, in the data's units."""
    stress_ratio: float | None
    """Median of the energy left unexplained by forces over that of the stress; None if the cells hardly differ."""
    force_size: float | None
    """Median over the frames of the root mean square force component; None without forces."""
    stress_size: float | None
    """Median over the frames of the largest stress component; None without stresses."""


def gather_evidence(frames: Sequence[Frame], pairs: Sequence[FramePair]) -> UnitEvidence:
    """Look at distances, forces, and differences between similar frames.

    Args:
        frames: with finite labels and sound geometry.
        pairs: similar frames, the nearest first.
    """
    picked = [frames[k] for k in np.unique(np.linspace(0, len(frames) - 1, 40).astype(int))] if frames else []
    shares = np.concatenate([nearest_shares(frame) for frame in picked]) if picked else np.empty(0)
    works = [work for pair in pairs[:300] if (work := _compare(frames[pair.first], frames[pair.second]))]
    ratios = [work.energy / work.by_forces for work in works if work.is_telling]
    strained = [work for work in works if abs(work.by_stress) > 0.3 * abs(work.by_forces) + 1e-6]
    forces = [float(np.sqrt((frame.forces**2).mean())) for frame in frames if frame.forces is not None]
    stresses = [float(np.abs(frame.stress).max()) for frame in frames if frame.stress is not None]
    spread = float(np.ptp(np.percentile(ratios, [25, 75]))) / 2 if ratios else 0.0
    return UnitEvidence(
        length_share=_median(shares.tolist(), least=1),
        force_ratio=_median(ratios),
        force_spread=spread,
        n_pairs=len(ratios),
        curvature=_median([work.curvature for work in works if work.is_telling]),
        stress_ratio=_median([(work.energy - work.by_forces) / work.by_stress for work in strained]),
        force_size=_median(forces, least=1),
        stress_size=_median(stresses, least=1),
    )


def check_units(evidence: UnitEvidence, where: str) -> Iterator[Defect]:
    """What the evidence says against Å, eV, eV/Å and eV/Å³."""
    yield from _check_lengths(evidence, where)
    ratio = evidence.force_ratio
    if ratio is not None and evidence.force_spread < 0.25 * abs(ratio) and not 0.8 < ratio < 1.25:
        yield _mismatch(evidence, ratio, where)
    else:
        yield from _check_sizes(evidence, where)
    yield from _check_stress(evidence, where)


@dataclass(frozen=True)
class _Work:
    """Energy difference of two similar frames and what explains it."""

    energy: float
    """E₂ - E₁ in eV."""
    by_forces: float
    """-½ Σ (F₁ + F₂)·Δr in eV."""
    by_stress: float
    """½ (V₁σ₁ + V₂σ₂):ε in eV; 0 for equal cells or without stresses."""
    curvature: float
    """-ΔF·Δr/Δr² in eV/Å²."""
    is_telling: bool
    """Whether the cells are equal and the work is well above rounding."""


def _compare(one: Frame, other: Frame) -> _Work | None:
    """Energy difference and work between two frames; None if labels lack or nothing moved."""
    if one.forces is None or other.forces is None or one.energy is None or other.energy is None:
        return None
    moves = other.positions - one.positions
    strain: NDArray[np.float64] = np.zeros((3, 3))
    if one.pbc.all():
        cell = (one.cell + other.cell) / 2.0
        scaled = [np.linalg.solve(frame.cell.T, frame.positions.T).T for frame in (one, other)]
        moves = scaled[1] - scaled[0]
        moves = (moves - np.round(moves)) @ cell
        strain = np.asarray(np.linalg.solve(cell, other.cell - one.cell), dtype=np.float64)
    square = float((moves**2).sum())
    if square < 1e-12 and np.abs(strain).max() < 1e-9:
        return None
    by_stress = 0.0
    if one.stress is not None and other.stress is not None and one.pbc.all():
        work = one.volume * one.stress + other.volume * other.stress
        by_stress = 0.5 * float((work * strain).sum())
    by_forces = -0.5 * float(((one.forces + other.forces) * moves).sum())
    return _Work(
        energy=other.energy - one.energy,
        by_forces=by_forces,
        by_stress=by_stress,
        curvature=-float(((other.forces - one.forces) * moves).sum()) / max(square, 1e-12),
        is_telling=bool(np.abs(strain).max() < 1e-6 and by_forces != 0.0),
    )


def _check_lengths(evidence: UnitEvidence, where: str) -> Iterator[Defect]:
    """Distances that fit another unit of length better."""
    share = evidence.length_share
    if share is None or 0.6 < share < 1.6:
        return
    guess = "bohr: multiply positions and cell by 0.529177" if 1.6 <= share < 2.4 else "a far larger unit"
    if share <= 0.6:
        guess = "nm (multiply by 10), or fractional coordinates stored as Cartesian ones"
    yield Defect(
        severity="error",
        code="position-units",
        where=where,
        atom=None,
        message=f"nearest neighbours are {share:.2f} covalent bond lengths apart, 0.8 to 1.3 is usual in Å",
        remedy=f"The positions look like {guess}.",
    )


def _mismatch(evidence: UnitEvidence, ratio: float, where: str) -> Defect:
    """The defect of energies and forces that contradict each other, with the units that would explain it."""
    told = (
        f"between {evidence.n_pairs} pairs of similar frames the energy changes by {ratio:.3g} times what the forces "
        "say (should be 1)"
    )
    if -1.25 < ratio < -0.8:
        return Defect(
            severity="error",
            code="force-sign",
            where=where,
            atom=None,
            message=told,
            remedy="The forces have the wrong sign: these are gradients; multiply them by -1.",
        )
    guesses = _guess_units(evidence, ratio)
    remedy = f"Looks like {' or '.join(guesses)}; convert to eV and eV/Å."
    if guesses[:1] == [_RIGHT_UNITS]:
        remedy = "The unit of length explains it."
    return Defect(
        severity="error",
        code="energy-force-units",
        where=where,
        atom=None,
        message=told,
        remedy=remedy if guesses else "Convert to eV and eV/Å.",
    )


def _guess_units(evidence: UnitEvidence, ratio: float) -> list[str]:
    """Up to two units of energy and force that give this ratio, with positions in the unit they look like."""
    share = evidence.length_share or 1.0
    length = "bohr" if 1.6 <= share < 2.4 else "nm" if share < 0.2 else "Å"
    matches = []
    for energy, energy_unit in _ENERGY_UNITS.items():
        for force, force_unit in _FORCE_UNITS.items():
            expected = force_unit * _LENGTH_UNITS[length] / energy_unit
            curvature = (evidence.curvature or 0.0) * force_unit / _LENGTH_UNITS[length]
            if abs(abs(ratio) / expected - 1.0) < 0.05 and 0.3 < abs(curvature) < 150.0:
                rank = (energy != "eV") + (force != "eV/Å") + list(_FORCE_UNITS).index(force) / 100
                matches.append((rank, f"energies in {energy} and forces in {force}"))
    return [text for _, text in sorted(matches)[:2]]


def _check_sizes(evidence: UnitEvidence, where: str) -> Iterator[Defect]:
    """Forces whose size or stiffness fits another unit better, where energies don't contradict them."""
    size, stiffness = evidence.force_size, evidence.curvature
    small = stiffness < 0.25 if stiffness is not None else size is not None and 0.0 < size < 0.02
    large = (stiffness or 0.0) > 150.0 or (size or 0.0) > 12.0
    if not (small or large):
        return
    found = f"forces are {size:.2g} eV/Å rms" if size is not None else "forces"
    if stiffness is not None:
        found += f" and change by {stiffness:.2g} eV/Å² with position, 1 to 50 is usual"
    units = "hartree/bohr, with energies in hartree" if small else "kcal/mol/Å or kJ/mol/nm"
    yield Defect(
        severity="error" if (size or 0.0) > 12.0 else "warning",
        code="force-units",
        where=where,
        atom=None,
        message=found,
        remedy=f"Check that they are not in {units}" + ("; fine for relaxed structures." if small else "."),
    )


def _check_stress(evidence: UnitEvidence, where: str) -> Iterator[Defect]:
    """Stresses whose size, or whose work between strained frames, fits another unit or sign better."""
    ratio, size = evidence.stress_ratio, evidence.stress_size
    if ratio is not None and not 0.5 < ratio < 2.0:
        named = [unit for unit, factor in _STRESS_UNITS.items() if 0.67 < abs(ratio) / factor < 1.5]
        sign = " and the sign is the opposite of ASE's" if ratio < 0 else ""
        remedy = f"Looks like {named[0]}{sign}; convert." if named else f"Check unit and sign{sign}."
        message = f"between frames of different cells the energy changes by {ratio:.2g} times what the stress says"
        yield Defect("warning", "stress-units", where, None, message, remedy)
    elif size is not None and size > 0.6:
        message = f"stresses are typically {size:.2g} eV/Å³, that is {size * 160.2:.0f} GPa"
        yield Defect("warning", "stress-units", where, None, message, "Check that they are not in GPa or kbar.")


def _median(values: Sequence[float], *, least: int = PAIRS_NEEDED) -> float | None:
    """Median, or None of fewer values than needed."""
    return float(np.median(values)) if len(values) >= least else None
