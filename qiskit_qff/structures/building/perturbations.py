"""Strained and rattled copies of a structure: what a force field has to see beside the structure itself."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from qiskit_qff.errors import ConfigError, DataError
from qiskit_qff.structures.building.crystal_symmetry import ensure_crystal
from qiskit_qff.structures.frame import Frame, Tag
from qiskit_qff.structures.neighbors import neighbor_list

Floats = NDArray[np.float64]
Mode = Literal["all", "volume", "shear"]

CLOSEST = 0.6
"""Least share of the sum of covalent radii that rattled atoms keep, or 0.95 of what they had if that is less."""
REDRAWS = 200
"""Draws per rattled copy before giving up."""


def strained(frame: Frame, *, count: int, largest: float, mode: Mode, rng: np.random.Generator) -> list[Frame]:
    """Copies whose cells, and the atoms with them, are strained homogeneously.

    The new cell is ``cell @ (1 + ε)`` with symmetric ε. ``volume``: ε = δ·1 with δ in equal steps from ``-largest`` to
    ``largest`` (no random number). ``shear``: ε random and traceless. ``all``: all six components random. Random
    components are uniform within ``±largest``.

    Args:
        frame: periodic in all directions.
        count: number of copies.
        largest: largest component of the strain, such as 0.03.
        mode: which strains.
        rng: random numbers.

    Raises:
        DataError: if the structure is no crystal.
        ConfigError: if the strain is not between 0 and 0.5.
    """
    ensure_crystal(frame)
    if not 0.0 < largest < 0.5:
        raise ConfigError(f"largest strain {largest}: expected a number between 0 and 0.5, such as 0.03.")
    steps = np.linspace(-largest, largest, count) if count > 1 else np.array([largest])
    copies = []
    for step in steps:
        strain = step * np.eye(3)
        if mode != "volume":
            draw = rng.uniform(-largest, largest, (3, 3))
            strain = np.tril(draw) + np.tril(draw, -1).T
            if mode == "shear":
                strain -= np.trace(strain) / 3.0 * np.eye(3)
        deformation = np.eye(3) + strain
        xx, yy, zz, yz, xz, xy = full_3x3_to_voigt_6_stress(strain)
        tags: dict[str, Tag] = {
            "build": "strain",
            "build_mode": mode,
            "build_strain": f"xx {xx:.6f} yy {yy:.6f} zz {zz:.6f} yz {yz:.6f} xz {xz:.6f} xy {xy:.6f}",
        }
        copies.append(_copy(frame, frame.positions @ deformation, frame.cell @ deformation, tags))
    return copies


def rattled(
    frame: Frame, *, count: int, amplitude: float, amplitudes: Mapping[str, float], rng: np.random.Generator
) -> list[Frame]:
    """Copies whose coordinates are displaced at random, normally distributed; the centre of mass stays.

    Copies with atoms closer than 0.6 of the sum of their covalent radii (or 0.95 of the closest before) are drawn anew.

    Args:
        frame: of any periodicity.
        count: number of copies.
        amplitude: standard deviation of each coordinate in Å.
        amplitudes: the same for some elements.
        rng: random numbers.

    Raises:
        ConfigError: if an amplitude is not positive, or is given for an element that is not there.
        DataError: if no draw keeps the atoms apart.
    """
    symbols = frame.symbols
    for element, value in {"all elements": amplitude, **amplitudes}.items():
        if not value > 0.0:
            raise ConfigError(f"amplitude of {element}: {value} should be above 0 Å, such as 0.05.")
        if element not in {"all elements", *symbols}:
            raise ConfigError(f"amplitude of {element}: the structure has only {', '.join(sorted(set(symbols)))}.")
    from ase.data import atomic_masses

    scale = np.array([amplitudes.get(symbol, amplitude) for symbol in symbols])[:, None]
    masses = atomic_masses[frame.numbers][:, None]
    limit = min(CLOSEST, 0.95 * _closest_share(frame, frame.positions))
    words = " ".join([f"{amplitude:g}", *(f"{element}={value:g}" for element, value in amplitudes.items())])
    copies = []
    for _ in range(count):
        for _ in range(REDRAWS):
            moves = scale * rng.standard_normal((frame.n_atoms, 3))
            positions = frame.positions + moves - (masses * moves).sum(axis=0) / masses.sum()
            if _closest_share(frame, positions) >= limit:
                break
        else:
            raise DataError(
                f"{frame.where}: {REDRAWS} draws all brought atoms too close to each other. Lower the amplitude."
            )
        tags: dict[str, Tag] = {"build": "rattle", "build_amplitude": f"{words} Å"}
        copies.append(_copy(frame, positions, frame.cell, tags))
    return copies


def _copy(frame: Frame, positions: Floats, cell: Floats, tags: Mapping[str, Tag]) -> Frame:
    """The frame with other positions and cell; its labels no longer hold and are left out."""
    return Frame(
        numbers=frame.numbers,
        positions=positions,
        cell=cell,
        pbc=frame.pbc,
        source=frame.source,
        index=frame.index,
        tags={**frame.tags, **tags},
    )


def _closest_share(frame: Frame, positions: Floats) -> float:
    """Smallest distance over the sum of covalent radii; infinite where no two atoms are near."""
    radii = covalent_radii[frame.numbers]
    pairs = neighbor_list(positions, frame.cell, frame.pbc, 2.0 * float(radii.max()))
    shares = pairs.distances / (radii[pairs.centers] + radii[pairs.neighbor])
    return float(shares.min(initial=np.inf))


def parse_amounts(words: list[str], *, what: str) -> dict[str, float]:
    """Numbers by element from words such as ``H=0.03``.

    Raises:
        ConfigError: if a word is of another form, or names no element.
    """
    amounts: dict[str, float] = {}
    for word in words:
        element, _, number = word.partition("=")
        try:
            amounts[element] = float(number)
        except ValueError:
            raise ConfigError(f"{what} {word!r}: expected ELEMENT=NUMBER, for example H=0.03.") from None
        if element not in chemical_symbols[1:]:
            raise ConfigError(f"{what} {word!r}: {element!r} is no chemical element.")
    return amounts
