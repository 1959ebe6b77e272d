"""What a data set consists of, in numbers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols, covalent_radii

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.framework import missing_bonds
from qiskit_qff.structures.neighbors import neighbor_list
from qiskit_qff.structures.splitting import group_tag, is_time_ordered
from qiskit_qff.structures.validation import sound_frames

GPA = 160.21766208
"""GPa per eV/Å³."""


@dataclass(frozen=True)
class Range:
    """Smallest, median and largest of some numbers."""

    low: float
    """Smallest."""
    middle: float
    """Median."""
    high: float
    """Largest."""


@dataclass(frozen=True)
class DataSummary:
    """What a data set consists of; ranges are None where no frame has such a label."""

    n_frames: int
    """Number of frames."""
    files: Mapping[str, int]
    """Frames per file."""
    compositions: Mapping[str, int]
    """Frames per composition, for example ``Li27P12S44``."""
    elements: Mapping[str, int]
    """Frames that contain each element."""
    periodicity: Mapping[str, int]
    """Frames per kind of periodicity, such as ``TTT`` (bulk) or ``FFF`` (molecule)."""
    tags: Mapping[str, int]
    """How many different words each tag takes that all frames carry; numbers are left out."""
    n_with_energy: int
    """Frames with an energy."""
    n_with_forces: int
    """Frames with forces."""
    n_with_stress: int
    """Frames with a stress."""
    atoms: Range | None
    """Atoms per frame."""
    energy_ev_per_atom: Range | None
    """Energy in eV/atom."""
    energy_std_mev_per_atom: float | None
    """Spread of the energy per atom about the mean of its composition, in meV/atom."""
    force_ev_per_ang: Range | None
    """Length of the force vectors, in eV/Å."""
    force_std_mev_per_ang: float | None
    """Root mean square of the force components, in meV/Å: the error of predicting zero."""
    volume_ang3_per_atom: Range | None
    """Volume of the cell in Å³/atom, of frames with three periods."""
    pressure_gpa: Range | None
    """Pressure, minus a third of the trace of the stress, in GPa."""
    shortest_distances_ang: Mapping[str, float]
    """Shortest distance found per pair of elements, in Å, for pairs closer than 1.3 times their bond length."""
    group_tag: str | None
    """Tag that divides the frames into groups, such as runs; None if there is none."""
    is_time_ordered: bool
    """Whether successive frames resemble each other far more than others do, as in a trajectory."""
    lacking_bonds: Mapping[str, str]
    """Frames that lack bonds which most others have, and which (:mod:`qiskit_qff.structures.framework`)."""


def summarize(frames: Sequence[Frame]) -> DataSummary:
    """Counts, ranges and spreads of a data set; distances and ranges are those of sound frames.

    Args:
        frames: Read with ``strict=False``.
    """
    sound = sound_frames(frames)
    volumes = [frame.volume / frame.n_atoms for frame in sound if frame.pbc.all()]
    energies = [frame.energy / frame.n_atoms for frame in sound if frame.energy is not None]
    forces = [frame.forces for frame in sound if frame.forces is not None]
    pressures = [-np.trace(frame.stress) / 3 * GPA for frame in sound if frame.stress is not None]
    components = np.concatenate(forces) if forces else np.empty((0, 3))
    return DataSummary(
        n_frames=len(frames),
        files=dict(Counter(frame.source or "data" for frame in frames)),
        compositions=dict(Counter(formula(frame.numbers) for frame in frames)),
        elements=_elements(frames),
        periodicity=_periodicity(frames),
        tags=_tags(frames),
        n_with_energy=sum(frame.energy is not None for frame in frames),
        n_with_forces=sum(frame.forces is not None for frame in frames),
        n_with_stress=sum(frame.stress is not None for frame in frames),
        atoms=_range([frame.n_atoms for frame in frames]),
        energy_ev_per_atom=_range(energies),
        energy_std_mev_per_atom=_energy_spread(sound),
        force_ev_per_ang=_range(np.linalg.norm(components, axis=1)),
        force_std_mev_per_ang=1e3 * float(np.sqrt((components**2).mean())) if len(components) else None,
        volume_ang3_per_atom=_range(volumes),
        pressure_gpa=_range(pressures),
        shortest_distances_ang=_shortest(sound),
        group_tag=group_tag(frames),
        is_time_ordered=is_time_ordered(sound),
        lacking_bonds=_lacking_bonds(sound),
    )


def formula(numbers: IntArray) -> str:
    """Composition such as ``Li27P12S44``, elements by atomic number."""
    counts = sorted(Counter(numbers.tolist()).items())
    return "".join(f"{chemical_symbols[number]}{count if count > 1 else ''}" for number, count in counts)


def _elements(frames: Sequence[Frame]) -> dict[str, int]:
    """How many frames contain each element, by atomic number."""
    counts = Counter(number for frame in frames for number in np.unique(frame.numbers).tolist())
    return {chemical_symbols[number]: counts[number] for number in sorted(counts)}


def _periodicity(frames: Sequence[Frame]) -> dict[str, int]:
    """Number of frames per kind of periodicity, for example ``TTF`` for a slab."""
    return dict(Counter("".join("FT"[int(period)] for period in frame.pbc) for frame in frames))


def _tags(frames: Sequence[Frame]) -> dict[str, int]:
    """Number of different words of each tag that is a word in all frames."""
    words = [{tag for tag, value in frame.tags.items() if isinstance(value, str)} for frame in frames]
    common = set.intersection(*words) if words else set()
    return {tag: len({frame.tags[tag] for frame in frames}) for tag in sorted(common)}


def _energy_spread(frames: Sequence[Frame]) -> float | None:
    """Standard deviation of the energy per atom about its composition's mean, in meV; None of single frames."""
    groups: dict[str, list[float]] = {}
    for frame in frames:
        if frame.energy is not None:
            groups.setdefault(formula(frame.numbers), []).append(frame.energy / frame.n_atoms)
    offsets = [energy - np.mean(group) for group in groups.values() if len(group) > 1 for energy in group]
    return 1e3 * float(np.std(offsets)) if offsets else None


def _shortest(frames: Sequence[Frame]) -> dict[str, float]:
    """Shortest distance per pair of elements over at most 100 frames, evenly spread; shortest pair first."""
    found: dict[tuple[int, int], float] = {}
    for k in np.unique(np.linspace(0, len(frames) - 1, 100).astype(int)) if frames else ():
        for pair, distance in shortest_distances(frames[k]).items():
            found[pair] = min(distance, found.get(pair, distance))
    return {
        f"{chemical_symbols[a]}-{chemical_symbols[b]}": distance
        for (a, b), distance in sorted(found.items(), key=lambda item: item[1])
    }


def shortest_distances(frame: Frame) -> dict[tuple[int, int], float]:
    """Shortest distance per pair of elements, in Å, among pairs closer than 1.3 times their covalent radii."""
    radii = covalent_radii[frame.numbers]
    pairs = neighbor_list(frame.positions, frame.cell, frame.pbc, 2.6 * float(radii.max()))
    bonded = pairs.distances < 1.3 * (radii[pairs.centers] + radii[pairs.neighbor])
    elements = np.sort(
        np.stack([frame.numbers[pairs.centers[bonded]], frame.numbers[pairs.neighbor[bonded]]], axis=1), axis=1
    )
    codes = elements[:, 0] * 1000 + elements[:, 1]
    distances = pairs.distances[bonded]
    return {(int(code) // 1000, int(code) % 1000): float(distances[codes == code].min()) for code in np.unique(codes)}


def _lacking_bonds(frames: Sequence[Frame]) -> dict[str, str]:
    """Where bonds are missing that most other frames have, and which."""
    return {frames[index].where: bonds for index, bonds in missing_bonds(frames).items()}


def _range(values: Sequence[float] | FloatArray) -> Range | None:
    """Smallest, median and largest, or None of nothing."""
    if not len(values):
        return None
    return Range(low=float(np.min(values)), middle=float(np.median(values)), high=float(np.max(values)))
