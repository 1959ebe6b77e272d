"""Can a data set be trained on, what in it deserves a look before, and what it consists of.

:func:`validate_frames` looks for missing and non-finite labels, clashes, duplicates, outliers, and lengths and forces
whose size suggests another unit. :func:`ensure_trainable` and :func:`ensure_sound` are the gates in front of training
and evaluation. Whether energies belong to the forces takes a fit: :mod:`qiskit_qff.training.label_consistency`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.units import GPa

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.errors import DataError
from qiskit_qff.structures.frame import Frame, frame_hash
from qiskit_qff.structures.framework import Pair, missing_bonds, shortest_bonds
from qiskit_qff.structures.neighbors import neighbor_list
from qiskit_qff.structures.reading import has_volume
from qiskit_qff.structures.splitting import group_tag, is_time_ordered

SAME_SITE = 0.1
"""Two atoms closer than this, in Å, sit on one site."""
DENSEST = 1.0
"""Å³ per atom; diamond has 5.7, hydrogen at 400 GPa about 1.3."""
IMPOSSIBLE = 0.4
"""Closer than this share of the sum of the covalent radii no two atoms come, even at thousands of kelvin."""
SUSPICIOUS = 0.6
"""Closer than this share is rare; the 3000 K melts and rattled frames tested reach down to 0.74."""
USUAL_NEIGHBOR = (0.6, 1.6)
"""Median distance of nearest neighbours in covalent radii; 0.8 to 1.35 in elements, in bohr 1.9 times that."""
LARGE_FORCE = 30.0
"""eV/Å; rattled covalent frameworks reach some 20. If typical forces are large, ten times those."""
USUAL_FORCE = (0.05, 12.0)
"""Root mean square force component in eV/Å, from cold crystals to violently rattled molecules."""
OUTLIER_SIGMA = 10.0
"""Energies farther from the median than this many robust standard deviations are outliers,"""
OUTLIER_LEAST = 0.05
"""if they are also so many eV/atom away,"""
OUTLIER_IMPOSSIBLE = 5.0
"""and beyond so many eV/atom they are no energies of this kind of calculation."""
_LISTED = 5
_NOBLE_GASES = (2, 10, 18, 36, 54, 86)

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Defect:
    """One thing that is wrong, or looks wrong, in one place."""

    severity: Severity
    """``error``: not to be trained on as it is; ``warning``: worth a look."""
    code: str
    """Kind of defect, for example ``close-atoms``; the same word for all of a kind."""
    where: str
    """File and frame, or the file alone if the whole of it is meant."""
    atom: int | None
    """Index of the atom, counted from 0, or None if no single atom is meant."""
    message: str
    """What was found, and what would be right."""
    remedy: str
    """What to do."""

    def __str__(self) -> str:
        place = self.where if self.atom is None else f"{self.where}, atom {self.atom}"
        return f"{place}: {self.message}. {self.remedy}"


def validate_frames(frames: Sequence[Frame]) -> list[Defect]:
    """Every defect of a data set: errors first, then warnings, each in the order of the frames.

    Args:
        frames: Read with ``strict=False``, so that defects are reported here instead of on reading.
    """
    defects = [defect for frame in frames for defect in (*check_structure(frame), *_check_labels(frame))]
    sound = sound_frames(frames)
    forces = [float((frame.forces**2).mean()) for frame in sound if frame.forces is not None]
    typical = float(np.sqrt(np.median(forces))) if forces else 0.0
    defects += [defect for frame in sound for defect in _check_forces(frame, typical)]
    defects += [*_check_size(frames), *_check_duplicates(sound), *_check_energies(sound)]
    order = {frame.where: place for place, frame in enumerate(frames)}
    for source in dict.fromkeys(frame.source for frame in sound):
        defects += _check_units([frame for frame in sound if frame.source == source], source or "data")
    return sorted(defects, key=lambda defect: (defect.severity, order.get(defect.where, -1)))


def sound_frames(frames: Sequence[Frame]) -> list[Frame]:
    """The frames whose geometry has a meaning and whose labels, where there are any, are finite.

    Args:
        frames: Read with ``strict=False``.
    """
    return [f for f in frames if is_sound(f) and all(defect.code != "not-finite" for defect in _check_labels(f))]


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
        listed = "; ".join(str(defect) for defect in errors[:_LISTED])
        more = f" ... and {len(errors) - _LISTED} more." if len(errors) > _LISTED else ""
        raise DataError(f"not fit for {purpose}: {listed}{more} 'qff validate' lists everything.")


def is_sound(frame: Frame) -> bool:
    """Whether positions and cell are finite and the cell has room for its atoms, so that distances mean something."""
    finite = np.isfinite(frame.positions).all() and np.isfinite(frame.cell).all()
    return bool(finite) and has_volume(frame) and not frame.volume < DENSEST * frame.n_atoms


def check_structure(frame: Frame) -> Iterator[Defect]:
    """What no structure can have: numbers that are not finite, no room, atoms far closer than their radii allow."""
    yield from _check_geometry(frame)
    if is_sound(frame):
        yield from _check_distances(frame)


def _check_geometry(frame: Frame) -> Iterator[Defect]:
    """Positions or cell that are not finite, and cells without volume."""
    remedy = "Correct it or remove the frame."
    for atom in np.flatnonzero(~np.isfinite(frame.positions).all(axis=1)):
        message = f"position {frame.positions[atom].tolist()} is not finite"
        yield Defect("error", "not-finite", frame.where, int(atom), message, remedy)
    if not np.isfinite(frame.cell).all():
        yield Defect("error", "not-finite", frame.where, None, "the cell is not finite", remedy)
    elif not has_volume(frame):
        message = f"the periodic cell vectors {frame.cell[frame.pbc].tolist()} enclose no volume"
        remedy = "Correct the cell, or switch off the periods that are none."
        yield Defect("error", "no-volume", frame.where, None, message, remedy)
    elif frame.volume < DENSEST * frame.n_atoms:
        message = f"the cell has {frame.volume / frame.n_atoms:.2g} Å³ per atom; solids and liquids have 5 to 60"
        remedy = "Check the unit of length (nm: multiply by 10) and the number of atoms."
        yield Defect("error", "no-room", frame.where, None, message, remedy)


def _check_distances(frame: Frame) -> Iterator[Defect]:
    """Atoms on one site, and atoms closer than their covalent radii allow; for each atom its closest neighbour."""
    radii = covalent_radii[frame.numbers]
    pairs = neighbor_list(frame.positions, frame.cell, frame.pbc, 2.0 * SUSPICIOUS * float(radii.max()))
    centers = pairs.centers
    shares = pairs.distances / (radii[centers] + radii[pairs.neighbor])
    close = np.flatnonzero((shares < SUSPICIOUS) & (centers <= pairs.neighbor))
    seen: set[int] = set()
    for pair in close[np.argsort(shares[close], kind="stable")]:
        i, j = int(centers[pair]), int(pairs.neighbor[pair])
        if i not in seen:
            seen.add(i)
            yield _close_pair(frame, i, j, float(pairs.distances[pair]), float(shares[pair]))


def _close_pair(frame: Frame, i: int, j: int, distance: float, share: float) -> Defect:
    """The defect of two atoms that are too close, ``share`` of the sum of their covalent radii apart."""
    first, second = (chemical_symbols[int(frame.numbers[k])] for k in (i, j))
    other = "its own periodic image" if i == j else f"{second} atom {j}"
    if distance < SAME_SITE:
        message = f"{first} sits on the site of {other} ({distance:.3f} Å apart)"
        return Defect("error", "same-site", frame.where, i, message, "Remove one of the two, or correct the cell.")
    message = f"{first} is {distance:.2f} Å from {other}, {share:.2f} of the sum of their covalent radii"
    if share < IMPOSSIBLE:
        return Defect("error", "close-atoms", frame.where, i, message, "Check cell, periods and length unit.")
    return Defect("warning", "close-atoms", frame.where, i, message, "Keep it only if it was meant so close.")


def _check_labels(frame: Frame) -> Iterator[Defect]:
    """Energy and forces that are missing, and labels that are not finite."""
    remedy = "Label the frame again or remove it."
    if frame.energy is None:
        yield Defect("error", "missing-energy", frame.where, None, "no energy found under any usual name", remedy)
    elif not np.isfinite(frame.energy):
        yield Defect("error", "not-finite", frame.where, None, f"the energy is {frame.energy}", remedy)
    if frame.stress is not None and not np.isfinite(frame.stress).all():
        yield Defect("error", "not-finite", frame.where, None, "the stress is not finite", remedy)
    if frame.forces is None:
        yield Defect("error", "missing-forces", frame.where, None, "no forces found under any usual name", remedy)
        return
    for atom in np.flatnonzero(~np.isfinite(frame.forces).all(axis=1)):
        message = f"the force {frame.forces[atom].tolist()} is not finite"
        yield Defect("error", "not-finite", frame.where, int(atom), message, remedy)
    if frame.n_atoms > 1 and not frame.forces.any():
        message = "all forces are exactly zero, as where they were not calculated"
        remedy = "Remove the forces or label the frame again, unless symmetry demands it."
        yield Defect("warning", "zero-forces", frame.where, None, message, remedy)


def _check_forces(frame: Frame, typical: float) -> Iterator[Defect]:
    """Forces very large beside typical ones."""
    if frame.forces is None:
        return
    limit = max(LARGE_FORCE, 10.0 * typical)
    sizes = np.linalg.norm(frame.forces, axis=1)
    for atom in np.flatnonzero(sizes > limit):
        symbol = chemical_symbols[int(frame.numbers[atom])]
        message = f"the force on {symbol} is {sizes[atom]:.1f} eV/Å, beyond {limit:.0f}"
        remedy = "Check the unit, and that this calculation converged."
        yield Defect("warning", "large-force", frame.where, int(atom), message, remedy)


def _check_size(frames: Sequence[Frame]) -> Iterator[Defect]:
    """Too few frames to train and test."""
    if len(frames) < 2:
        where = frames[0].source if frames else "data"
        message = f"too few frames ({len(frames)}); one to train on and one to test with is the least"
        yield Defect("error", "too-few-frames", where, None, message, "Add frames.")


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
        if energy > 1e-5 or force > 1e-3:
            message = (
                f"the same structure as {original.where}, but its energy differs by {1e3 * energy:.3g} meV/atom "
                f"and a force by {1e3 * force:.3g} meV/Å"
            )
            severity: Severity = "error" if energy > 0.01 or force > 0.1 else "warning"
            yield Defect(
                severity, "contradiction", frame.where, None, message, "Keep the one with the better settings."
            )
        else:
            remedy = "Remove it: a copy on both sides of a split makes the test error too good."
            yield Defect("warning", "duplicate", frame.where, None, f"repeats {original.where}", remedy)


def _check_energies(frames: Sequence[Frame]) -> Iterator[Defect]:
    """Energies that stand apart from the others of their composition."""
    by_composition: dict[str, list[tuple[Frame, float]]] = {}
    for frame in frames:
        if frame.energy is not None:
            by_composition.setdefault(formula(frame.numbers), []).append((frame, frame.energy / frame.n_atoms))
    for group in by_composition.values():
        if len(group) < 8:
            continue
        energies = np.array([energy for _, energy in group])
        middle = float(np.median(energies))
        sigma = 1.4826 * float(np.median(np.abs(energies - middle)))
        for (frame, _), offset in zip(group, energies - middle, strict=True):
            if abs(offset) > max(OUTLIER_SIGMA * sigma, OUTLIER_LEAST):
                message = (
                    f"the energy is {offset:+.3f} eV/atom from the median of its composition, whose robust spread "
                    f"is {sigma:.3f}"
                )
                severity: Severity = "error" if abs(offset) > OUTLIER_IMPOSSIBLE else "warning"
                remedy = "Check for another method or unit, or a failed calculation; remove it if it is one."
                yield Defect(severity, "energy-outlier", frame.where, None, message, remedy)


def _check_units(frames: Sequence[Frame], where: str) -> Iterator[Defect]:
    """Distances and forces of one file whose size fits other units better, where both labels may share them."""
    picked = [frames[k] for k in np.unique(np.linspace(0, len(frames) - 1, 40).astype(int))]
    shares = np.concatenate([nearest_shares(frame) for frame in picked])
    share = float(np.median(shares)) if len(shares) else 1.0
    if not USUAL_NEIGHBOR[0] < share < USUAL_NEIGHBOR[1]:
        message = f"nearest neighbours are {share:.2f} covalent bond lengths apart, 0.8 to 1.3 is usual in Å"
        remedy = (
            "The positions may be in bohr: multiply positions and cell by 0.529177."
            if share > 1.0
            else "The positions may be in nm (multiply by 10), or fractional coordinates stored as Cartesian ones."
        )
        yield Defect("error", "position-units", where, None, message, remedy)
    sizes = [float(np.sqrt((frame.forces**2).mean())) for frame in frames if frame.forces is not None]
    size = float(np.median(sizes)) if sizes else 0.0
    if 0.0 < size < USUAL_FORCE[0]:
        remedy = "Check that they are not in Hartree/bohr, with energies in Hartree; fine for relaxed structures."
        yield Defect("warning", "force-units", where, None, f"forces are {size:.2g} eV/Å rms", remedy)
    elif size > USUAL_FORCE[1]:
        remedy = "Check that they are not in kcal/mol/Å or kJ/mol/nm."
        yield Defect("error", "force-units", where, None, f"forces are {size:.2g} eV/Å rms", remedy)


def nearest_shares(frame: Frame) -> FloatArray:
    """Distance of each atom's nearest neighbour in covalent radii, shape ``(n_with_neighbors,)``.

    Near 1 in any condensed matter when lengths are in Å; noble gases, which form no bonds, are left out.
    """
    radii = covalent_radii[frame.numbers]
    bonded = ~np.isin(frame.numbers, _NOBLE_GASES)
    for reach in (1.3, 2.5):
        pairs = neighbor_list(frame.positions, frame.cell, frame.pbc, 2.0 * reach * float(radii.max()))
        starts, ends = pairs.first[:-1], pairs.first[1:]
        centers = np.flatnonzero((ends > starts) & bonded)
        if 2 * len(centers) > bonded.sum():
            break
    shares = pairs.distances / (radii[pairs.centers] + radii[pairs.neighbor])
    return np.array([shares[starts[i] : ends[i]].min() for i in centers])


@dataclass(frozen=True)
class DataSummary:
    """What a data set consists of."""

    n_frames: int
    files: Mapping[str, int]  # frames per file
    compositions: Mapping[str, int]  # frames per composition, for example Li27P12S44
    elements: Mapping[str, int]  # frames that contain each element
    n_labelled: Mapping[str, int]  # frames with an energy, with forces, with a stress
    ranges: Mapping[str, tuple[float, float, float]]  # least, median and largest value by quantity and unit
    energy_std_mev_per_atom: float | None  # about the mean of each composition
    force_std_mev_per_ang: float | None  # root mean square component: the error of predicting zero
    shortest_distances_ang: Mapping[str, float]  # the shortest bond per pair of elements
    group_tag: str | None  # tag that divides the frames into groups, such as runs
    is_time_ordered: bool  # as in a trajectory, where successive frames resemble each other
    lacking_bonds: Mapping[str, str]  # which bonds a frame lacks that most others have, by frame


def summarize(frames: Sequence[Frame]) -> DataSummary:
    """Counts, ranges and spreads of a data set; distances and ranges are those of sound frames.

    Args:
        frames: Read with ``strict=False``.
    """
    sound = sound_frames(frames)
    forces = [frame.forces for frame in sound if frame.forces is not None]
    components = np.concatenate(forces) if forces else np.empty((0, 3))
    quantities = {
        "atoms": [frame.n_atoms for frame in frames],
        "energy, eV/atom": [frame.energy / frame.n_atoms for frame in sound if frame.energy is not None],
        "force, eV/Å": np.linalg.norm(components, axis=1),
        "volume, Å³/atom": [frame.volume / frame.n_atoms for frame in sound if frame.pbc.all()],
        "pressure, GPa": [-np.trace(frame.stress) / 3 / GPa for frame in sound if frame.stress is not None],
    }
    elements = Counter(number for frame in frames for number in np.unique(frame.numbers).tolist())
    return DataSummary(
        n_frames=len(frames),
        files=dict(Counter(frame.source or "data" for frame in frames)),
        compositions=dict(Counter(formula(frame.numbers) for frame in frames)),
        elements={chemical_symbols[number]: elements[number] for number in sorted(elements)},
        n_labelled={
            name: sum(getattr(frame, name) is not None for frame in frames) for name in ("energy", "forces", "stress")
        },
        ranges={
            name: (float(np.min(values)), float(np.median(values)), float(np.max(values)))
            for name, values in quantities.items()
            if len(values)
        },
        energy_std_mev_per_atom=_energy_spread(sound),
        force_std_mev_per_ang=1e3 * float(np.sqrt((components**2).mean())) if len(components) else None,
        shortest_distances_ang=_shortest(sound),
        group_tag=group_tag(frames),
        is_time_ordered=is_time_ordered(sound),
        lacking_bonds={sound[index].where: bonds for index, bonds in missing_bonds(sound).items()},
    )


def formula(numbers: IntArray) -> str:
    """Composition such as ``Li27P12S44``, elements by atomic number."""
    counts = sorted(Counter(numbers.tolist()).items())
    return "".join(f"{chemical_symbols[number]}{count if count > 1 else ''}" for number, count in counts)


def _energy_spread(frames: Sequence[Frame]) -> float | None:
    """Standard deviation of the energy per atom about its composition's mean, in meV; None of single frames."""
    groups: dict[str, list[float]] = {}
    for frame in frames:
        if frame.energy is not None:
            groups.setdefault(formula(frame.numbers), []).append(frame.energy / frame.n_atoms)
    offsets = [energy - np.mean(group) for group in groups.values() if len(group) > 1 for energy in group]
    return 1e3 * float(np.std(offsets)) if offsets else None


def _shortest(frames: Sequence[Frame]) -> dict[str, float]:
    """Shortest bond per pair of elements over at most 100 frames, evenly spread; shortest pair first."""
    found: dict[Pair, float] = {}
    for k in np.unique(np.linspace(0, len(frames) - 1, 100).astype(int)) if frames else ():
        for pair, distance in shortest_bonds(frames[k]).items():
            found[pair] = min(distance, found.get(pair, distance))
    return {
        f"{chemical_symbols[a]}-{chemical_symbols[b]}": distance
        for (a, b), distance in sorted(found.items(), key=lambda item: item[1])
    }
