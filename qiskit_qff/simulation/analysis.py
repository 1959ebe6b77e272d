r"""What a trajectory tells about structure, transport, vibrations, bonds, and where ions are.

A quantity that cannot be computed (no times, no periods, too short) is None, with a caution that says why.

Partial radial distribution functions are ours because minimum-image counts, as in ASE and others, end at half the cell:

.. math:: g_{ab}(r) = \frac{\langle n_{ab}(r) \rangle}
          {N_a (N_b - \delta_{ab}) / V \; \tfrac{4\pi}{3}[(r + dr)^3 - r^3]}

with :math:`n_{ab}(r)` the ordered pairs of different atoms, all their images included. A uniform gas gives 1 at every
distance and for every number of atoms.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations_with_replacement, product
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, chemical_symbols, covalent_radii
from ase.io.cube import read_cube, write_cube
from scipy.constants import atomic_mass
from scipy.ndimage import gaussian_filter, gaussian_filter1d, label
from scipy.signal import find_peaks, welch

from qiskit_qff.array_types import FloatArray
from qiskit_qff.errors import DataError, MissingDependencyError
from qiskit_qff.simulation.trajectory import Trajectory
from qiskit_qff.simulation.transport import (
    CM2_PER_S,
    Transport,
    conductivity_s_per_cm,
    mean_squared_displacements,
    relative_to_framework,
    transport,
)
from qiskit_qff.structures.framework import STRETCHED, bonded
from qiskit_qff.structures.neighbors import neighbor_list

T = TypeVar("T")

CUBE = "sites.cube"
G_PER_CM3 = atomic_mass * 1e3 / 1e-24  # 1 u/Å³ in g/cm³
ALL = "all"  # name of the radial distribution that does not tell elements apart
LOST_ANG = 5.0  # an atom without any other this close is lost
# More evenly chosen frames than these change no radial distribution.
_FRAMES = 2000
# A shell ends where g(r) stays below a tenth of a uniform density for half an Å: the split first shell of a distorted
# octahedron has narrower gaps inside, a framework's shells have wider ones between.
_NEAR_ZERO, _GAP_ANG = 0.1, 0.5
# Width of the Gaussian that an ion density is spread by, and distance of its grid points, in Å.
_SMEARING, _GRID_ANG = 0.3, 0.25
# A temperature that drifts by more than this fraction is no temperature of a diffusivity.
_DRIFT = 0.1
# Moves between frames, in cell vectors, that leave no doubt about the image; half a cell vector is the end.
_FARTHEST = 0.4
# The fastest vibrations in THz, with and without hydrogen (C-H and O-H stretches; P-S, C=C below 50 THz).
_FASTEST = {True: 115.0, False: 50.0}
# Spacing of the frequencies of the density of states, and the fewest frames that give one.
_RESOLUTION_THZ, _FEWEST_FOR_VIBRATIONS = 0.25, 16


@dataclass(frozen=True, eq=False)
class RadialDistribution:
    """Radial distribution functions of one set of frames; all arrays have the shape ``(n_bins,)``."""

    r: FloatArray
    """Centres of the shells in Å."""
    curves: Mapping[str, FloatArray]
    """g(r) by pair, named like ``Li-S`` in order of atomic number, and ``all``."""
    neighbors: Mapping[str, FloatArray]
    """Running coordination number by ordered pair: ``Li-S`` counts the S up to the end of a shell around a Li."""


@dataclass(frozen=True, eq=False)
class Analysis:
    """What a trajectory tells."""

    told: dict[str, Any]
    """Numbers, named with their units as in the JSON of ``qff analyse``; None where there is none. ``cautions`` says
    what is missing and why, and what makes numbers doubtful."""
    curves: dict[str, Mapping[str, FloatArray]]
    """Columns of tables: ``rdf``, ``coordination``, ``msd``, ``vdos``, those that the trajectory carries."""
    density: tuple[FloatArray, Atoms] | None
    """Number density of the mobile element in 1/Å³ on the grid of fractional coordinates k/n, and mean positions of the
    other elements."""

    def write(self, directory: Path) -> None:
        """Write the tables as CSV, and the density as ``sites.cube``."""
        for name, columns in self.curves.items():
            values = np.column_stack(list(columns.values()))
            header = ",".join(columns)
            np.savetxt(directory / f"{name}.csv", values, fmt="%.8g", delimiter=",", header=header, comments="")
        if self.density is not None:
            values, framework = self.density
            words = f"{self.told['diffusivity_element']} density in 1/Angstrom^3"
            with (directory / CUBE).open("w", encoding="utf-8") as stream:
                write_cube(stream, framework, data=values, comment=words)

    @classmethod
    def read(cls, directory: Path, told: dict[str, Any]) -> Self:
        """The analysis of these numbers, with the files that :meth:`write` wrote."""
        curves: dict[str, Mapping[str, FloatArray]] = {}
        for name in ("rdf", "rdf_reference", "msd", "vdos"):
            if (path := directory / f"{name}.csv").is_file():
                with path.open(encoding="utf-8") as stream:
                    names = stream.readline().strip().split(",")
                    curves[name] = dict(zip(names, np.loadtxt(stream, delimiter=",", ndmin=2).T, strict=True))
        if not (directory / CUBE).is_file():
            return cls(told, curves, None)
        with (directory / CUBE).open(encoding="utf-8") as stream:
            cube = read_cube(stream)
        return cls(told, curves, (cube["data"], cube["atoms"]))


@dataclass(frozen=True, eq=False)
class BondReport:
    """What became of the bonds of the first frame."""

    n_bonds: int
    # Fraction of them unbroken in each frame; 1 if there were none.
    persistence: FloatArray
    # Pairs whose bond is broken in the last frame, and atoms that have lost all neighbours by then.
    broken: list[list[int]]
    lost: list[int]


def analyse(
    trajectory: Trajectory,
    element: str = "Li",
    *,
    r_max: float = 6.0,
    fit_from_ps: float | None = None,
    temperature_k: float | None = None,
    charge: float = 1.0,
    reference: RadialDistribution | None = None,
    progress: Callable[[str], None] = lambda _stage: None,
) -> Analysis:
    """Read everything off a trajectory.

    Args:
        element: the mobile element.
        r_max: reach of radial distributions in Å.
        fit_from_ps: shortest lag time of the fit of the diffusivity in ps; default 5 % of the trajectory.
        temperature_k: temperature in K, where frames do not say.
        charge: charge of a mobile ion in elementary charges.
        reference: radial distributions to compare with, with the same reach.
        progress: told each stage.
    """
    cautions: list[str] = []

    def attempt(name: str, make: Callable[[], T]) -> T | None:
        """What a call gives, or None with a caution."""
        progress(name)
        try:
            return make()
        except (DataError, MissingDependencyError) as error:
            cautions.append(f"no {name}: {str(error).rstrip('.')}")
            return None

    told: dict[str, Any] = {"n_frames": trajectory.n_frames, "n_atoms": trajectory.n_atoms}
    told["time_ps"] = None if trajectory.times_ps is None else float(np.ptp(trajectory.times_ps))
    told |= _thermodynamics(trajectory, temperature_k, cautions)
    curves: dict[str, Mapping[str, FloatArray]] = {}
    radial = attempt("radial distributions", lambda: radial_distribution(trajectory, r_max=r_max))
    if radial is not None:
        ends = radial.r + 0.5 * (radial.r[1] - radial.r[0])
        curves |= {"rdf": {"r_ang": radial.r, **radial.curves}, "coordination": {"r_ang": ends, **radial.neighbors}}
        told["rdf_peaks_ang"] = {name: float(radial.r[g.argmax()]) for name, g in radial.curves.items() if g.any()}
        told["coordination"] = coordination_shells(radial)
        if reference is not None:
            curves["rdf_reference"] = {"r_ang": reference.r, **reference.curves}
            errors = radial_distribution_errors(radial, reference)
            told |= {"rdf_mae": errors.pop(ALL, None), "rdf_mae_partial": errors}
            if alone := sorted((radial.curves.keys() ^ reference.curves.keys()) - {ALL}):
                cautions.append(f"pairs in only one of trajectory and reference, not compared: {', '.join(alone)}")
    if displacements := attempt("displacements", lambda: mean_squared_displacements(trajectory, element)):
        curves["msd"] = displacements
        told["msd_last_ang2"] = {name: float(curve[-1]) for name, curve in list(displacements.items())[1:]}
    moving = attempt(f"diffusivity of {element}", lambda: transport(trajectory, element, fit_from_ps=fit_from_ps))
    told["diffusivity_element"] = element
    told |= _transport(moving, told["volume_ang3"], told["temperature_k"], charge, cautions)
    if vibrations := attempt("vibrations", lambda: _vibrations(trajectory)):
        curves["vdos"] = vibrations
        frequencies, fastest = vibrations["frequency_thz"], _FASTEST[bool((trajectory.numbers == 1).any())]
        peaks = {name: float(frequencies[curve.argmax()]) for name, curve in list(vibrations.items())[1:]}
        highest = float(frequencies[-1])
        told["vibrations"] = {"highest_thz": highest, "highest_peak_thz": peaks}
        if highest < fastest:
            cautions.append(
                f"velocities show vibrations up to {highest:.3g} THz; faster ones appear at wrong places. For all of "
                f"them, write a frame every {1e3 / (2 * fastest):.2g} fs (qff md --interval)"
            )
    density = attempt("ion density", lambda: _ion_density(trajectory, element))
    bonds = bond_report(trajectory)
    told |= {"n_bonds": bonds.n_bonds, "broken_bonds": len(bonds.broken), "lost_atoms": len(bonds.lost)}
    told |= {"bond_persistence_min": float(bonds.persistence.min()), "cautions": cautions}
    told["sites"] = None if density is None else {"cube": CUBE}
    missing = dict.fromkeys(("rdf_peaks_ang", "coordination", "msd_last_ang2", "vibrations"))
    return Analysis(missing | told, curves, density)


def radial_distribution(trajectory: Trajectory, *, r_max: float = 6.0, n_bins: int = 120) -> RadialDistribution:
    """Partial radial distribution functions, averaged over the frames.

    Args:
        r_max: largest distance in Å; may exceed half the cell.
    """
    if not trajectory.pbc.all():
        raise DataError("radial distribution functions need a structure periodic in all three directions.")
    species, kinds = np.unique(trajectory.numbers, return_inverse=True)
    n, counts = len(species), np.bincount(kinds)
    total, inverse_volume = np.zeros(n * n * n_bins), 0.0
    chosen = slice(None, None, -(-trajectory.n_frames // _FRAMES))
    frames = list(zip(trajectory.positions[chosen], trajectory.cells[chosen], strict=True))
    for positions, cell in frames:
        near = neighbor_list(positions, cell, trajectory.pbc, r_max)
        shells = (near.distances * (n_bins / r_max)).astype(np.int64)
        # An atom and its own image say nothing about the structure.
        kept = (near.centers != near.neighbor) & (shells < n_bins)
        places = (kinds[near.centers] * n + kinds[near.neighbor]) * n_bins + shells
        total += np.bincount(places[kept], minlength=len(total))
        inverse_volume += 1.0 / abs(np.linalg.det(cell))
    pairs = total.reshape(n, n, n_bins)
    edges = np.linspace(0.0, r_max, n_bins + 1)
    # Summed over frames: what a uniform gas of one pair of atoms would count.
    chance = inverse_volume * 4.0 / 3.0 * np.pi * np.diff(edges**3)
    names = [chemical_symbols[number] for number in species]
    curves = {
        f"{names[a]}-{names[b]}": pairs[a, b] / (counts[a] * (counts[b] - (a == b)) * chance)
        for a, b in combinations_with_replacement(range(n), 2)
        if a != b or counts[a] > 1
    }
    if (n_atoms := int(counts.sum())) > 1:
        curves[ALL] = pairs.sum(axis=(0, 1)) / (n_atoms * (n_atoms - 1) * chance)
    neighbors = {
        f"{names[a]}-{names[b]}": pairs[a, b].cumsum() / (counts[a] * len(frames))
        for a, b in product(range(n), repeat=2)
    }
    return RadialDistribution(0.5 * (edges[1:] + edges[:-1]), curves, neighbors)


def coordination_shells(found: RadialDistribution) -> dict[str, dict[str, float]]:
    """First coordination shell of every ordered pair of elements, named like ``Li-S``: the neighbours S of a Li.

    Of each, the distance of the peak and the end of the shell in Å, and the mean number of neighbours up to there.

    A shell ends where g(r) stays near zero. Where it never does, as around the ions of a melt, it ends at the lowest
    point between the first two peaks. Peaks are sought in g(r) smoothed over 0.1 Å, and count if they stand out by at
    least a tenth of the highest one. A pair with one peak and no end within reach has no shell.
    """
    step = float(found.r[1] - found.r[0])
    shells = {}
    for name, neighbors in found.neighbors.items():
        first, second = name.split("-")
        curve = found.curves.get(name, found.curves.get(f"{second}-{first}"))
        if curve is None or not curve.any():
            continue
        smooth = gaussian_filter1d(curve, 0.1 / step, mode="nearest")
        # A peak right at the end of the curve counts too: the shell before it is whole.
        peaks, _ = find_peaks(np.append(smooth, 0.0), prominence=0.1 * smooth.max())
        if len(peaks) and (end := _end_of_shell(curve, smooth, peaks.tolist(), step)) is not None:
            shells[name] = {
                "peak_ang": float(found.r[peaks[0]]),
                "end_ang": float(found.r[end] + 0.5 * step),
                "neighbors": float(neighbors[end]),
            }
    return shells


def _end_of_shell(curve: FloatArray, smooth: FloatArray, peaks: list[int], step: float) -> int | None:
    """The last bin of the first shell."""
    gaps, n_gaps = label(curve < _NEAR_ZERO)
    for gap in range(1, n_gaps + 1):
        inside = np.flatnonzero(gaps == gap)
        if inside[0] > peaks[0] and len(inside) * step >= _GAP_ANG - 1e-9:
            return int(inside[0])
    if len(peaks) < 2:
        return None
    between = smooth[peaks[0] : peaks[1]]
    lowest = np.flatnonzero(between == between.min())
    return peaks[0] + int(lowest[len(lowest) // 2])


def radial_distribution_errors(first: RadialDistribution, second: RadialDistribution) -> dict[str, float]:
    """Mean absolute difference over all distances, for each pair that both have, and for ``all``."""
    if not np.array_equal(first.r, second.r):
        raise DataError("the radial distribution functions are on different distances; use one r_max and n_bins.")
    return {
        name: float(np.abs(values - second.curves[name]).mean())
        for name, values in first.curves.items()
        if name in second.curves
    }


def bond_report(trajectory: Trajectory, *, reach: float = LOST_ANG) -> BondReport:
    """Follow the bonds of the first frame through a trajectory (:func:`~qiskit_qff.structures.framework.bonded`).

    Args:
        reach: an atom without any other this close is lost, in Å.
    """
    first, last = (
        neighbor_list(trajectory.positions[frame], trajectory.cells[frame], trajectory.pbc, reach) for frame in (0, -1)
    )
    one, other = first.centers, first.neighbor
    # Each bond once; an atom bonded to its own image is kept by the sign of its vector.
    once = (one < other) | ((one == other) & (first.vectors[:, 0] > 0.0))
    chosen = bonded(trajectory.numbers, first) & once
    one, other, shifts = one[chosen], other[chosen], first.shifts[chosen].astype(np.float64)
    radii = covalent_radii[trajectory.numbers]
    limits = STRETCHED * (radii[one] + radii[other])
    # Positions are continuous, so the image of the first frame stays the bond's image.
    broken = np.array([
        np.linalg.norm(positions[other] - positions[one] + shifts @ cell, axis=1) > limits
        for positions, cell in zip(trajectory.positions, trajectory.cells, strict=True)
    ])  # fmt: skip
    had, has = np.diff(first.first) > 0, np.diff(last.first) > 0
    return BondReport(
        n_bonds=len(one),
        persistence=1.0 - broken.mean(axis=1) if len(one) else np.ones(trajectory.n_frames),
        broken=np.stack([one, other], axis=1)[broken[-1]].tolist(),
        lost=np.flatnonzero(had & ~has).tolist(),
    )


def blocked_mean(values: FloatArray) -> tuple[float, float, float]:
    """Mean of a series, its standard error from the means of five blocks, and last minus first of these."""
    means = np.array([block.mean() for block in np.array_split(values, min(5, len(values)))])
    value = float(values.mean())
    if np.ptp(means) < 1e-12 * abs(value):  # a fixed cell: what differs is rounding
        return value, 0.0, 0.0
    return value, float(means.std(ddof=1) / np.sqrt(len(means))), float(means[-1] - means[0])


def _thermodynamics(trajectory: Trajectory, temperature_k: float | None, cautions: list[str]) -> dict[str, Any]:
    """Temperature, volume and density, and the largest move between two frames."""
    told: dict[str, Any] = {"temperature_k": temperature_k, "density_g_per_cm3": None, "volume_ang3": None}
    if trajectory.temperatures_k is not None:
        mean, _, drift = blocked_mean(trajectory.temperatures_k)
        told["temperature_k"] = mean if temperature_k is None else temperature_k
        if abs(drift) > _DRIFT * mean:
            cautions.append(f"the temperature changes by {drift:+.0f} K: averages and diffusivity mix temperatures")
    if trajectory.pbc.all():
        volume, error, _ = blocked_mean(np.abs(np.linalg.det(trajectory.cells)))
        density = float(atomic_masses[trajectory.numbers].sum()) / volume * G_PER_CM3
        told |= {"volume_ang3": volume, "volume_error_ang3": error}
        told |= {"density_g_per_cm3": density, "density_error_g_per_cm3": density * error / volume}
    told["largest_move"] = largest = _largest_move(trajectory)
    if largest > _FARTHEST:
        cautions.append(
            f"an atom moves by {largest:.2f} of a cell vector between two frames, so displacements across borders are "
            "a guess; write frames more often"
        )
    return told


def _transport(
    moving: Transport | None, volume: float | None, temperature_k: float | None, charge: float, cautions: list[str]
) -> dict[str, Any]:
    """Diffusivity and conductivity."""
    numbers = ("diffusivity_cm2_per_s", "diffusivity_error_cm2_per_s", "conductivity_s_per_cm", "is_caged")
    told: dict[str, Any] = dict.fromkeys(numbers)
    if moving is None:
        return told
    cautions += moving.cautions
    told |= {"n_ions": moving.n_ions, "is_caged": moving.is_caged, "msd_exponent": moving.exponent}
    told |= {"n_hops": moving.n_hops, "msd_intercept_ang2": moving.intercept_ang2}
    told["diffusivity_upper_cm2_per_s"] = None if moving.upper is None else moving.upper * CM2_PER_S
    told["diffusivity_fit_range_ps"] = moving.fit_range_ps
    if moving.diffusivity is None or moving.error is None or moving.interval is None:
        return told
    told["diffusivity_cm2_per_s"] = moving.diffusivity * CM2_PER_S
    told["diffusivity_error_cm2_per_s"] = moving.error * CM2_PER_S
    told["diffusivity_interval95_cm2_per_s"] = [CM2_PER_S * end for end in moving.interval]
    if volume is None or temperature_k is None:
        cautions.append("no conductivity: it needs a volume and a temperature (--temperature)")
        return told
    for name, value in (("conductivity", moving.diffusivity), ("conductivity_error", moving.error)):
        told[f"{name}_s_per_cm"] = conductivity_s_per_cm(
            value, n_ions=moving.n_ions, volume_ang3=volume, temperature_k=temperature_k, charge=charge
        )
    return told


def _largest_move(trajectory: Trajectory) -> float:
    """Largest move of an atom between two frames along a period, in cell vectors."""
    pbc = trajectory.pbc
    if not pbc.any() or trajectory.n_frames < 2:
        return 0.0
    cells = np.where(pbc[:, None], trajectory.cells[1:], np.eye(3))
    moves = np.einsum("tai,tij->taj", np.diff(trajectory.positions, axis=0), np.linalg.inv(cells))
    return float(np.abs(moves[:, :, pbc]).max())


def _vibrations(trajectory: Trajectory) -> dict[str, FloatArray]:
    """Vibrational density of states: power spectrum of the velocities, weighted by mass (Welch's estimate).

    Returns:
        Frequencies in THz, and by element modes per THz, which all together hold 3N - 3 modes.
    """
    if trajectory.velocities is None:
        raise DataError("the frames carry no velocities; write momenta with the trajectory, as qff md does.")
    spacing = trajectory.spacing_ps()
    length = min(trajectory.n_frames, max(_FEWEST_FOR_VIBRATIONS, round(1.0 / (_RESOLUTION_THZ * spacing))))
    if length < _FEWEST_FOR_VIBRATIONS:
        raise DataError(f"{length} frames are too few; at least {_FEWEST_FOR_VIBRATIONS} are needed.")
    masses = atomic_masses[trajectory.numbers]
    moving = trajectory.velocities - np.einsum("tai,a->ti", trajectory.velocities, masses / masses.sum())[:, None]
    power: dict[str, FloatArray] = {}
    for number in np.unique(trajectory.numbers):
        chosen = moving[:, trajectory.numbers == number] * np.sqrt(atomic_masses[number])
        # The zero of frequency is kept: a diffusing element has modes there.
        frequencies, spectra = welch(chosen, fs=1.0 / spacing, nperseg=length, detrend=False, axis=0)
        power[chemical_symbols[number]] = spectra.sum(axis=(1, 2))
    total = np.trapezoid(sum(power.values()), frequencies)
    modes = 3 * len(masses) - 3
    return {"frequency_thz": frequencies, **{name: curve * (modes / total) for name, curve in power.items()}}


def _ion_density(trajectory: Trajectory, element: str) -> tuple[FloatArray, Atoms]:
    """Number density of one element about the framework, counted in fractional coordinates and smeared.

    The Gaussian is round in orthogonal cells, and skewed like the cell in others.
    """
    chosen = np.array([chemical_symbols[number] == element for number in trajectory.numbers])
    if not chosen.any():
        raise DataError(f"the trajectory has no {element!r} atom.")
    if not trajectory.pbc.all():
        raise DataError("a density on a grid needs a structure periodic in all three directions.")
    relative = relative_to_framework(trajectory, element)
    placed = relative + (trajectory.positions[0, 0] - relative[0, 0])
    fractional = np.einsum("tai,tij->taj", placed, np.linalg.inv(trajectory.cells))
    cell = trajectory.cells.mean(axis=0)
    lengths = np.linalg.norm(cell, axis=1)
    shape = tuple(np.ceil(lengths / _GRID_ANG).astype(int).tolist())
    points = np.round(fractional[:, chosen] * shape).astype(np.int64).reshape(-1, 3) % shape
    counts = np.bincount(np.ravel_multi_index(tuple(points.T), shape), minlength=int(np.prod(shape))).reshape(shape)
    smooth = gaussian_filter(counts.astype(np.float64), _SMEARING * np.array(shape) / lengths, mode="wrap")
    voxel = float(abs(np.linalg.det(cell))) / counts.size
    framework = Atoms(trajectory.numbers[~chosen], cell=cell, pbc=True)
    framework.set_scaled_positions(fractional[:, ~chosen].mean(axis=0))
    framework.wrap()
    return smooth / (trajectory.n_frames * voxel), framework
