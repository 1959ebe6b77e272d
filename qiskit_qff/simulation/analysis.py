r"""What a trajectory tells about structure, transport, bonds, and where ions are.

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
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from scipy.signal import find_peaks

from qiskit_qff.array_types import FloatArray
from qiskit_qff.errors import DataError, MissingDependencyError
from qiskit_qff.simulation.trajectory import Trajectory
from qiskit_qff.simulation.transport import mean_squared_displacements, relative_to_framework, transport
from qiskit_qff.structures.dataset import STRETCHED, bonded
from qiskit_qff.structures.neighbors import neighbor_list

T = TypeVar("T")
Table = Mapping[str, FloatArray]
"""Columns of equal length by name, the first of which is what the others are plotted against."""

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


@dataclass(frozen=True, eq=False)
class Analysis:
    """What a trajectory tells."""

    told: dict[str, Any]
    """Numbers, named with their units as in the JSON of ``qff analyse``; None where there is none. ``cautions`` says
    what is missing and why, and what makes numbers doubtful."""
    curves: dict[str, Table]
    """The tables that the trajectory carries: ``rdf``, ``coordination``, ``msd``."""
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
        curves: dict[str, Table] = {}
        for name in ("rdf", "rdf_reference", "msd"):
            if (path := directory / f"{name}.csv").is_file():
                with path.open(encoding="utf-8") as stream:
                    names = stream.readline().strip().split(",")
                    curves[name] = dict(zip(names, np.loadtxt(stream, delimiter=",", ndmin=2).T, strict=True))
        if not (directory / CUBE).is_file():
            return cls(told, curves, None)
        with (directory / CUBE).open(encoding="utf-8") as stream:
            cube = read_cube(stream)
        return cls(told, curves, (cube["data"], cube["atoms"]))


def analyse(
    trajectory: Trajectory,
    element: str = "Li",
    *,
    r_max: float = 6.0,
    temperature_k: float | None = None,
    charge: float = 1.0,
    reference: Table | None = None,
    progress: Callable[[str], None] = lambda _stage: None,
) -> Analysis:
    """Read everything off a trajectory.

    Args:
        element: the mobile element.
        r_max: reach of radial distributions in Å.
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

    told = _thermodynamics(trajectory, temperature_k, cautions)
    curves: dict[str, Table] = {}
    if radial := attempt("radial distributions", lambda: radial_distribution(trajectory, r_max=r_max)):
        curves |= {"rdf": radial[0], "coordination": radial[1]}
        told["coordination"] = coordination_shells(*radial)
        if reference is not None:
            curves["rdf_reference"] = reference
            errors = radial_distribution_errors(radial[0], reference)
            told |= {"rdf_mae": errors.pop(ALL, None), "rdf_mae_partial": errors}
            if alone := sorted((radial[0].keys() ^ reference.keys()) - {ALL}):
                cautions.append(f"pairs in only one of trajectory and reference, not compared: {', '.join(alone)}")
    if displacements := attempt("displacements", lambda: mean_squared_displacements(trajectory, element)):
        curves["msd"] = displacements
    known = {"temperature_k": told["temperature_k"], "charge": charge}
    if moving := attempt(f"diffusivity of {element}", lambda: transport(trajectory, element, **known)):
        cautions += moving.pop("cautions")
        told |= moving
    density = attempt("ion density", lambda: _ion_density(trajectory, element))
    told |= bond_report(trajectory) | {"diffusivity_element": element, "cautions": cautions}
    numbers = ("diffusivity_cm2_per_s", "diffusivity_error_cm2_per_s", "conductivity_s_per_cm")
    return Analysis(dict.fromkeys(("coordination", "is_caged", *numbers)) | told, curves, density)


def radial_distribution(trajectory: Trajectory, *, r_max: float = 6.0, n_bins: int = 120) -> tuple[Table, Table]:
    """Partial radial distribution functions, averaged over the frames.

    Args:
        r_max: largest distance in Å; may exceed half the cell.

    Returns:
        Centres of the shells ``r_ang`` and g(r) by pair, named like ``Li-S`` in order of atomic number, and ``all``;
        and ends of the shells ``r_ang`` and the running coordination number by ordered pair: ``Li-S`` counts the S up
        to there around a Li.
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
    return {"r_ang": 0.5 * (edges[1:] + edges[:-1]), **curves}, {"r_ang": edges[1:], **neighbors}


def coordination_shells(curves: Table, neighbors: Table) -> dict[str, dict[str, float]]:
    """First coordination shell of every ordered pair of elements, named like ``Li-S``: the neighbours S of a Li.

    Of each, the distance of the peak and the end of the shell in Å, and the mean number of neighbours up to there.

    A shell ends where g(r) stays near zero. Where it never does, as around the ions of a melt, it ends at the lowest
    point between the first two peaks. Peaks are sought in g(r) smoothed over 0.1 Å, and count if they stand out by at
    least a tenth of the highest one. A pair with one peak and no end within reach has no shell.
    """
    r = curves["r_ang"]
    step, shells = float(r[1] - r[0]), {}
    width = round(_GAP_ANG / step)
    for name in neighbors.keys() - {"r_ang"}:
        curve = curves.get(name, curves.get("-".join(reversed(name.split("-")))))
        if curve is None or not curve.any():
            continue
        smooth = gaussian_filter1d(curve, 0.1 / step, mode="nearest")
        # A peak right at the end of the curve counts too: the shell before it is whole.
        peaks, _ = find_peaks(np.append(smooth, 0.0), prominence=0.1 * smooth.max())
        if not len(peaks):
            continue
        gaps = np.flatnonzero(np.convolve(curve < _NEAR_ZERO, np.ones(width), "valid") > width - 0.5)
        if (gaps > peaks[0]).any():
            end = int(gaps[gaps > peaks[0]][0])
        elif len(peaks) > 1:
            end = int(peaks[0] + smooth[peaks[0] : peaks[1]].argmin())
        else:
            continue
        shells[name] = {
            "peak_ang": float(r[peaks[0]]),
            "end_ang": float(neighbors["r_ang"][end]),
            "neighbors": float(neighbors[name][end]),
        }
    return dict(sorted(shells.items()))


def radial_distribution_errors(first: Table, second: Table) -> dict[str, float]:
    """Mean absolute difference over all distances, for each pair that both have, and for ``all``."""
    if not np.array_equal(first["r_ang"], second["r_ang"]):
        raise DataError("the radial distribution functions are on different distances; use one r_max and n_bins.")
    both = [name for name in first if name in second and name != "r_ang"]
    return {name: float(np.abs(first[name] - second[name]).mean()) for name in both}


def bond_report(trajectory: Trajectory, *, reach: float = LOST_ANG) -> dict[str, Any]:
    """Follow the bonds of the first frame through a trajectory (:func:`~qiskit_qff.structures.dataset.bonded`).

    Args:
        reach: an atom without any other this close is lost, in Å.

    Returns:
        Number of bonds, of those broken in the last frame, and of atoms that have lost all neighbours by then; the
        smallest fraction of unbroken bonds in any frame, 1 if there are none.
    """
    first, last = (
        neighbor_list(trajectory.positions[frame], trajectory.cells[frame], trajectory.pbc, reach) for frame in (0, -1)
    )
    one, other = first.centers, first.neighbor
    # Each bond once; an atom bonded to its own image is kept by the sign of its vector.
    once = (one < other) | ((one == other) & (first.vectors[:, 0] > 0.0))
    chosen = bonded(trajectory.numbers, first) & once
    one, other = one[chosen], other[chosen]
    apart = first.vectors[chosen] - (trajectory.positions[0, other] - trajectory.positions[0, one])
    shifts = np.rint(apart @ np.linalg.pinv(trajectory.cells[0]))
    radii = covalent_radii[trajectory.numbers]
    limits = STRETCHED * (radii[one] + radii[other])
    # Positions are continuous, so the image of the first frame stays the bond's image.
    broken = np.array([
        np.linalg.norm(positions[other] - positions[one] + shifts @ cell, axis=1) > limits
        for positions, cell in zip(trajectory.positions, trajectory.cells, strict=True)
    ])  # fmt: skip
    lost = (np.diff(first.first) > 0) & (np.diff(last.first) == 0)
    persistence = float(1.0 - broken.mean(axis=1).max()) if len(one) else 1.0
    found = {"n_bonds": len(one), "broken_bonds": int(broken[-1].sum()), "lost_atoms": int(lost.sum())}
    return found | {"bond_persistence_min": persistence}


def _thermodynamics(trajectory: Trajectory, temperature_k: float | None, cautions: list[str]) -> dict[str, Any]:
    """Size, temperature, volume and density; cautions of a drift, and of moves too large between two frames."""
    told: dict[str, Any] = {"n_frames": trajectory.n_frames, "n_atoms": trajectory.n_atoms, "time_ps": None}
    told |= {"temperature_k": temperature_k, "density_g_per_cm3": None, "volume_ang3": None}
    if trajectory.times_ps is not None:
        told["time_ps"] = float(np.ptp(trajectory.times_ps))
    if (temperatures := trajectory.temperatures_k) is not None:
        mean, fifth = float(temperatures.mean()), max(1, len(temperatures) // 5)
        told["temperature_k"] = mean if temperature_k is None else temperature_k
        drift = temperatures[-fifth:].mean() - temperatures[:fifth].mean()
        if abs(drift) > _DRIFT * mean:
            cautions.append(f"the temperature changes by {drift:+.0f} K: averages and diffusivity mix temperatures")
    pbc = trajectory.pbc
    if pbc.all():
        volume = float(np.abs(np.linalg.det(trajectory.cells)).mean())
        told |= {"volume_ang3": volume}
        told["density_g_per_cm3"] = float(atomic_masses[trajectory.numbers].sum()) / volume * G_PER_CM3
    if pbc.any() and trajectory.n_frames > 1:
        cells = np.where(pbc[:, None], trajectory.cells[1:], np.eye(3))
        moves = np.einsum("tai,tij->taj", np.diff(trajectory.positions, axis=0), np.linalg.inv(cells))
        if (largest := float(np.abs(moves[:, :, pbc]).max())) > _FARTHEST:
            cautions.append(
                f"an atom moves by {largest:.2f} of a cell vector between two frames, so displacements across borders "
                "are a guess; write frames more often"
            )
    return told


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
    counts = np.zeros(np.ceil(lengths / _GRID_ANG).astype(int))
    points = np.round(fractional[:, chosen] * counts.shape).astype(np.int64).reshape(-1, 3) % counts.shape
    np.add.at(counts, tuple(points.T), 1.0)
    smooth = gaussian_filter(counts, _SMEARING * np.array(counts.shape) / lengths, mode="wrap")
    voxel = float(abs(np.linalg.det(cell))) / counts.size
    framework = Atoms(trajectory.numbers[~chosen], cell=cell, pbc=True)
    framework.set_scaled_positions(fractional[:, ~chosen].mean(axis=0))
    framework.wrap()
    return smooth / (trajectory.n_frames * voxel), framework
