"""Can a data set be trained on, what in it deserves a look before, and what it consists of.

:func:`validate_frames` looks for missing and non-finite labels, clashes, duplicates and outliers.
:func:`ensure_trainable` and :func:`ensure_sound` are the gates in front of training and evaluation. Whether energies
belong to the forces takes a fit: :mod:`qiskit_qff.training.label_consistency`.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from ase.data import chemical_symbols, covalent_radii

from qiskit_qff.array_types import IntArray
from qiskit_qff.errors import DataError
from qiskit_qff.structures.dataset import group_tag, is_time_ordered, missing_bonds, number_problems
from qiskit_qff.structures.frame import Frame, frame_hash
from qiskit_qff.structures.neighbors import neighbor_list

SAME_SITE = 0.1
"""Two atoms closer than this, in Å, sit on one site."""
DENSEST = 1.0
"""Å³ per atom; diamond has 5.7, hydrogen at 400 GPa about 1.3."""
IMPOSSIBLE = 0.4
"""Closer than this share of the sum of the covalent radii no two atoms come, even at thousands of kelvin."""
SUSPICIOUS = 0.6
"""Closer than this share is rare; the 3000 K melts and rattled frames tested reach down to 0.74."""
LARGE_FORCE = 30.0
"""eV/Å; rattled covalent frameworks reach some 20. If typical forces are large, ten times those."""
OUTLIER_SIGMA = 10.0
"""Energies farther from the median than this many robust standard deviations are outliers,"""
OUTLIER_LEAST = 0.05
"""if they are also so many eV/atom away,"""
OUTLIER_IMPOSSIBLE = 5.0
"""and beyond so many eV/atom they are no energies of this kind of calculation."""
_LISTED = 5


@dataclass(frozen=True)
class Defect:
    """One thing that is wrong, or looks wrong, in one place."""

    severity: Literal["error", "warning"]
    """``error``: not to be trained on as it is; ``warning``: worth a look."""
    code: str
    """Kind of defect, for example ``close-atoms``; the same word for all of a kind."""
    where: str
    """File and frame, or the file alone if the whole of it is meant."""
    atom: int | None
    """Index of the atom, counted from 0, or None if no single atom is meant."""
    message: str
    """What was found, and what to do."""

    def __str__(self) -> str:
        place = self.where if self.atom is None else f"{self.where}, atom {self.atom}"
        return f"{place}: {self.message}"


def validate_frames(frames: Sequence[Frame]) -> list[Defect]:
    """Every defect of a data set: errors first, then warnings, each in the order of the frames.

    Args:
        frames: Read with ``strict=False``, so that defects are reported here instead of on reading.
    """
    defects = [defect for frame in frames for defect in (*check_structure(frame), *_check_labels(frame))]
    sound = [frame for frame in frames if is_sound(frame)]
    defects += [*_check_size(frames), *_check_forces(sound), *_check_duplicates(sound), *_check_energies(sound)]
    order = {frame.where: place for place, frame in enumerate(frames)}
    return sorted(defects, key=lambda defect: (defect.severity, order.get(defect.where, -1)))


def ensure_trainable(frames: Sequence[Frame]) -> None:
    """Refuse data that can't be trained on: missing or non-finite labels, impossible geometry, too few frames."""
    defects = [*_check_size(frames)]
    defects += [defect for frame in frames for defect in (*check_structure(frame), *_check_labels(frame))]
    _refuse(defects, "training")


def ensure_sound(frames: Sequence[Frame]) -> None:
    """Refuse geometry that no energy can be evaluated for; labels may be missing."""
    defects = [defect for frame in frames for defect in check_structure(frame)]
    _refuse([defect for defect in defects if defect.code != "close-atoms"], "evaluation")


def _refuse(defects: Sequence[Defect], purpose: str) -> None:
    """Raise if there are errors among the defects."""
    errors = [defect for defect in defects if defect.severity == "error"]
    if errors:
        listed = " ".join(str(defect) for defect in errors[:_LISTED])
        more = f" ... and {len(errors) - _LISTED} more." if len(errors) > _LISTED else ""
        raise DataError(f"not fit for {purpose}: {listed}{more} 'qff validate' lists everything.")


def is_sound(frame: Frame) -> bool:
    """Whether all numbers are finite and the cell has room for its atoms, so that distances mean something."""
    return not any(number_problems(frame)) and not frame.volume < DENSEST * frame.n_atoms


def check_structure(frame: Frame) -> Iterator[Defect]:
    """What no structure can have: numbers that are not finite, no room, atoms far closer than their radii allow."""
    problems = list(number_problems(frame))
    for atom, problem in problems:
        yield Defect("error", "not-finite", frame.where, atom, problem)
    if problems:
        return
    if frame.volume < DENSEST * frame.n_atoms:
        message = (
            f"the cell has {frame.volume / frame.n_atoms:.2g} Å³ per atom; solids and liquids have 5 to 60. Check the "
            "unit of length (nm: multiply by 10) and the number of atoms."
        )
        yield Defect("error", "no-room", frame.where, None, message)
        return
    radii = covalent_radii[frame.numbers]
    pairs = neighbor_list(frame.positions, frame.cell, frame.pbc, 2.0 * SUSPICIOUS * float(radii.max()))
    centers = pairs.centers
    shares = pairs.distances / (radii[centers] + radii[pairs.neighbor])
    close = np.flatnonzero((shares < SUSPICIOUS) & (centers <= pairs.neighbor))
    close = close[np.argsort(shares[close], kind="stable")]
    for pair in close[np.sort(np.unique(centers[close], return_index=True)[1])]:  # the closest neighbour of each atom
        i, j, share = int(centers[pair]), int(pairs.neighbor[pair]), float(shares[pair])
        first, second = (chemical_symbols[int(frame.numbers[k])] for k in (i, j))
        message = (
            f"{first} is {pairs.distances[pair]:.2f} Å from {second} atom {j}, {share:.2f} of the sum of their "
            "covalent radii. "
        )
        if pairs.distances[pair] < SAME_SITE:
            yield Defect("error", "same-site", frame.where, i, f"{message}Remove one of the two, or correct the cell.")
        elif share < IMPOSSIBLE:
            yield Defect("error", "close-atoms", frame.where, i, f"{message}Check cell, periods and length unit.")
        else:
            yield Defect("warning", "close-atoms", frame.where, i, f"{message}Keep it only if it was meant so close.")


def _check_labels(frame: Frame) -> Iterator[Defect]:
    """Energy and forces that are missing."""
    remedy = "found under any usual name. Label the frame again or remove it."
    if frame.energy is None:
        yield Defect("error", "missing-energy", frame.where, None, f"no energy {remedy}")
    if frame.forces is None:
        yield Defect("error", "missing-forces", frame.where, None, f"no forces {remedy}")


def _check_forces(frames: Sequence[Frame]) -> Iterator[Defect]:
    """Forces very large beside typical ones."""
    sizes = {n: np.linalg.norm(frame.forces, axis=1) for n, frame in enumerate(frames) if frame.forces is not None}
    typical = float(np.median([np.sqrt((size**2).mean() / 3.0) for size in sizes.values()])) if sizes else 0.0
    limit = max(LARGE_FORCE, 10.0 * typical)
    for n, size in sizes.items():
        for atom in np.flatnonzero(size > limit):
            message = (
                f"the force on {frames[n].symbols[atom]} is {size[atom]:.1f} eV/Å, beyond {limit:.0f}. Check the unit, "
                "and that this calculation converged."
            )
            yield Defect("warning", "large-force", frames[n].where, int(atom), message)


def _check_size(frames: Sequence[Frame]) -> Iterator[Defect]:
    """Too few frames to train and test."""
    if len(frames) < 2:
        where = frames[0].source if frames else "data"
        message = f"too few frames ({len(frames)}); one to train on and one to test with is the least. Add frames."
        yield Defect("error", "too-few-frames", where, None, message)


def _check_duplicates(frames: Sequence[Frame]) -> Iterator[Defect]:
    """Frames of exactly the same atoms and positions: copies, or worse, with labels that contradict each other."""
    seen: dict[str, Frame] = {}
    for frame in frames:
        original = seen.setdefault(frame_hash(frame), frame)
        if original is frame:
            continue
        energy = force = 0.0
        if frame.energy is not None and original.energy is not None:
            energy = abs(frame.energy - original.energy) / frame.n_atoms
        if frame.forces is not None and original.forces is not None:
            force = float(np.abs(frame.forces - original.forces).max())
        message = (
            f"the same structure as {original.where}, whose energy differs by {1e3 * energy:.3g} meV/atom and a force "
            f"by {1e3 * force:.3g} meV/Å. Keep one: a copy on both sides of a split makes the test error too good."
        )
        if energy > 0.01 or force > 0.1:
            yield Defect("error", "contradiction", frame.where, None, message)
        else:
            yield Defect("warning", "duplicate", frame.where, None, message)


def _by_composition(frames: Sequence[Frame]) -> dict[str, list[tuple[Frame, float]]]:
    """Frames with their energies per atom in eV."""
    groups: dict[str, list[tuple[Frame, float]]] = {}
    for frame in frames:
        if frame.energy is not None:
            groups.setdefault(formula(frame.numbers), []).append((frame, frame.energy / frame.n_atoms))
    return groups


def _check_energies(frames: Sequence[Frame]) -> Iterator[Defect]:
    """Energies that stand apart from the others of their composition."""
    for group in _by_composition(frames).values():
        energies = np.array([energy for _, energy in group])
        offsets = energies - np.median(energies)
        sigma = 1.4826 * float(np.median(np.abs(offsets)))
        limit = max(OUTLIER_SIGMA * sigma, OUTLIER_LEAST)
        for n in np.flatnonzero(np.abs(offsets) > limit) if len(group) >= 8 else ():
            message = (
                f"the energy is {offsets[n]:+.3f} eV/atom from the median of its composition, whose robust spread is "
                f"{sigma:.3f}. Check for another method or unit, or a failed calculation; remove it if it is one."
            )
            severity: Literal["error", "warning"] = "error" if abs(offsets[n]) > OUTLIER_IMPOSSIBLE else "warning"
            yield Defect(severity, "energy-outlier", group[n][0].where, None, message)


def summarize(frames: Sequence[Frame]) -> dict[str, Any]:
    """What a data set consists of: counts, and the spread of the labels of sound frames.

    Args:
        frames: Read with ``strict=False``.
    """
    sound = [frame for frame in frames if is_sound(frame)]
    forces = [frame.forces for frame in sound if frame.forces is not None]
    groups = [[energy for _, energy in group] for group in _by_composition(sound).values()]
    offsets = [energy - np.mean(group) for group in groups if len(group) > 1 for energy in group]
    return {
        "n_frames": len(frames),
        "files": Counter(frame.source or "data" for frame in frames),
        "compositions": dict(Counter(formula(frame.numbers) for frame in frames).most_common()),
        "n_labelled": {
            name: sum(getattr(frame, name) is not None for frame in frames) for name in ("energy", "forces", "stress")
        },
        # About the mean of each composition, and about zero: the errors of predicting nothing.
        "energy_std_mev_per_atom": 1e3 * float(np.std(offsets)) if offsets else None,
        "force_std_mev_per_ang": 1e3 * float(np.sqrt((np.concatenate(forces) ** 2).mean())) if forces else None,
        "group_tag": group_tag(frames),
        "is_time_ordered": is_time_ordered(sound),
        "lacking_bonds": {sound[index].where: bonds for index, bonds in missing_bonds(sound).items()},
    }


def formula(numbers: IntArray) -> str:
    """Composition such as ``Li27P12S44``, elements by atomic number."""
    counts = sorted(Counter(numbers.tolist()).items())
    return "".join(f"{chemical_symbols[number]}{count if count > 1 else ''}" for number, count in counts)
