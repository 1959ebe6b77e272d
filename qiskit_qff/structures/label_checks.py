"""Are the labels of each frame there, finite and believable beside those of the other frames."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from ase.data import chemical_symbols

from qiskit_qff.structures.defects import Defect, error, warning
from qiskit_qff.structures.frame import Frame

LARGE_FORCE = 30.0
"""eV/Å; rattled covalent frameworks reach some 20. If typical forces are large, ten times those."""
NET_FORCE = 0.02
"""Net force per atom over the root mean square force; noise of integration grids reaches 0.003."""
OUTLIER_SIGMA = 10.0
"""Energies farther from the median than this many robust standard deviations are outliers,"""
OUTLIER_LEAST = 0.05
"""if they are also so many eV/atom away,"""
OUTLIER_IMPOSSIBLE = 5.0
"""and beyond so many eV/atom they are no energies of this kind of calculation."""


def check_labels(frame: Frame) -> Iterator[Defect]:
    """Energy and forces that are missing, not finite or all zero, and such stresses."""
    recompute = "Label the frame again or remove it."
    if frame.energy is None:
        yield error("missing-energy", frame, "no energy found under any usual name", recompute)
    elif not np.isfinite(frame.energy):
        yield error("not-finite", frame, f"the energy is {frame.energy}", recompute)
    if frame.stress is not None and not np.isfinite(frame.stress).all():
        yield error("not-finite", frame, "the stress is not finite", recompute)
    if frame.stress is not None and frame.pbc.all() and not frame.stress.any():
        message = "the stress is exactly zero, as where it was not calculated"
        yield warning("zero-stress", frame, message, "Remove the stress, or fit none (no --stress-scale).")
    if frame.forces is None:
        yield error("missing-forces", frame, "no forces found under any usual name", recompute)
        return
    for atom in np.flatnonzero(~np.isfinite(frame.forces).all(axis=1)):
        message = f"the force {frame.forces[atom].tolist()} is not finite"
        yield error("not-finite", frame, message, recompute, atom=int(atom))
    if frame.n_atoms > 1 and not frame.forces.any():
        message = "all forces are exactly zero, as where they were not calculated"
        remedy = "Remove the forces or label the frame again, unless symmetry demands it."
        yield warning("zero-forces", frame, message, remedy)


def check_forces(frame: Frame, *, typical: float) -> Iterator[Defect]:
    """Very large forces, and a net force beyond the noise of a calculation; forces must be finite.

    Args:
        frame: one frame.
        typical: root mean square force component of the data set, in eV/Å.
    """
    if frame.forces is None:
        return
    limit = max(LARGE_FORCE, 10.0 * typical)
    sizes = np.linalg.norm(frame.forces, axis=1)
    for atom in np.flatnonzero(sizes > limit):
        symbol = chemical_symbols[int(frame.numbers[atom])]
        message = f"the force on {symbol} is {sizes[atom]:.1f} eV/Å, beyond {limit:.0f}"
        remedy = "Check the unit, and that this calculation converged."
        yield warning("large-force", frame, message, remedy, atom=int(atom))
    net = float(np.linalg.norm(frame.forces.sum(axis=0))) / frame.n_atoms
    own = float(np.sqrt((frame.forces**2).mean()))
    if frame.n_atoms > 1 and net > max(NET_FORCE * own, 0.005):
        message = f"the forces add up to {net * frame.n_atoms:.2f} eV/Å ({net:.3f} per atom) instead of zero"
        yield warning("net-force", frame, message, "Check for fixed atoms set to zero, missing atoms or a coarse grid.")


def check_energies(frames: Sequence[Frame]) -> Iterator[Defect]:
    """Energies far from those of the same composition, all the same, or of another reference than similar data."""
    by_composition: dict[tuple[tuple[int, int], ...], list[Frame]] = {}
    for frame in frames:
        if frame.energy is not None and np.isfinite(frame.energy):
            counts = Counter(frame.numbers.tolist())
            by_composition.setdefault(tuple(sorted(counts.items())), []).append(frame)
    for group in by_composition.values():
        yield from _outliers(group)
    yield from _references(by_composition)


def _outliers(group: Sequence[Frame]) -> Iterator[Defect]:
    """Energies of one composition that stand apart."""
    energies = np.array([float(frame.energy or 0.0) / frame.n_atoms for frame in group])
    if len(group) > 2 and np.ptp(energies) == 0.0:
        first = group[0]
        message = f"{len(group)} frames of one composition all have the energy {first.energy} eV"
        yield error("equal-energies", first, message, "Give each frame its own energy.")
    if len(group) < 8:
        return
    middle = float(np.median(energies))
    sigma = 1.4826 * float(np.median(np.abs(energies - middle)))
    for frame, offset in zip(group, energies - middle, strict=True):
        if abs(offset) > max(OUTLIER_SIGMA * sigma, OUTLIER_LEAST):
            message = (
                f"the energy is {offset:+.3f} eV/atom from the median of its composition, whose robust spread "
                f"is {sigma:.3f}"
            )
            if abs(offset) > OUTLIER_IMPOSSIBLE:
                remedy = "Remove it: another method, unit or a failed calculation."
                yield error("energy-outlier", frame, message, remedy)
            else:
                remedy = "Check that this calculation converged; remove it if not."
                yield warning("energy-outlier", frame, message, remedy)


def _references(groups: dict[tuple[tuple[int, int], ...], list[Frame]]) -> Iterator[Defect]:
    """Nearly equal compositions whose energies per atom differ by more than the composition explains."""
    entries = []
    for counts, group in groups.items():
        shares = np.zeros(119)
        for number, count in counts:
            shares[number] = count / group[0].n_atoms
        median = float(np.median([float(frame.energy or 0.0) / frame.n_atoms for frame in group]))
        entries.append((shares, median, group[0]))
    # NOTE: every pair is compared; sets of very many compositions (molecules) have no common reference
    # anyway.
    for index, (shares, energy, frame) in enumerate(entries[:300]):
        for other_shares, other_energy, other in entries[:index]:
            apart = float(np.abs(shares - other_shares).sum())
            explained = OUTLIER_IMPOSSIBLE + 5.0 * apart * max(abs(energy), abs(other_energy))
            if apart < 0.1 and abs(energy - other_energy) > explained:
                message = (
                    f"{energy:.1f} eV/atom, but {other_energy:.1f} in {other.where} of nearly the same "
                    "composition: another energy reference"
                )
                remedy = "Train on them separately, or shift one by reference energies per element."
                yield warning("energy-reference", frame, message, remedy)
                break
