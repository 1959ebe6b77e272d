r"""Initial velocities and the temperature of a moving structure.

Momenta are drawn from the Maxwell-Boltzmann distribution, freed of the drift of the centre of mass and scaled
to the wanted temperature, with

.. math:: T = \frac{2 E_\mathrm{kin}}{(3N - 3) k_B}

The centre of mass rests in every ensemble here, so 3N - 3 degrees of freedom carry the temperature
everywhere: in the start, the log and the thermostats.
"""

from dataclasses import replace

import numpy as np
from ase import Atoms, units

from qiskit_qff.array_types import FloatArray
from qiskit_qff.errors import ConfigError
from qiskit_qff.simulation.settings import MDSettings

_AT_REST = 1e-9
"""Momenta that count as zero, in ASE's units: a hydrogen atom that has them moves by 1e-10 Å/fs."""


def degrees_of_freedom(n_atoms: int) -> int:
    """Number of momenta that carry temperature when the centre of mass rests."""
    return 3 * n_atoms - 3


def kinetic_energy(momenta: FloatArray, masses: FloatArray) -> float:
    """Kinetic energy in eV of momenta, shape ``(n_atoms, 3)``, and masses, shape ``(n_atoms,)``."""
    return 0.5 * float(np.einsum("ij,ij,i->", momenta, momenta, 1.0 / masses))


def temperature(kinetic: float, n_atoms: int) -> float:
    """Temperature in K of a kinetic energy in eV."""
    return 2.0 * kinetic / (degrees_of_freedom(n_atoms) * units.kB)


def assign_velocities(atoms: Atoms, temperature_k: float, *, rng: np.random.Generator) -> None:
    """Give the atoms thermal momenta at exactly the temperature, with the centre of mass at rest.

    Args:
        atoms: changed in place.
        temperature_k: in K.
        rng: source of the random numbers.

    Raises:
        ConfigError: if there are fewer than two atoms, so that nothing can move.
    """
    if len(atoms) < 2:
        raise ConfigError("molecular dynamics needs at least two atoms: the centre of mass is kept at rest.")
    masses = atoms.get_masses()
    momenta = rng.standard_normal((len(atoms), 3)) * np.sqrt(masses * units.kB * temperature_k)[:, None]
    momenta = without_drift(momenta, masses)
    now = temperature(kinetic_energy(momenta, masses), len(atoms))
    atoms.set_momenta(momenta * np.sqrt(temperature_k / now))


def keep_velocities(atoms: Atoms) -> None:
    """Leave the atoms the momenta that they have, but bring the centre of mass to rest.

    Args:
        atoms: changed in place.

    Raises:
        ConfigError: if they have none, or none but a common drift.
    """
    momenta = without_drift(atoms.get_momenta(), atoms.get_masses())
    if not np.abs(momenta).max() > _AT_REST:
        raise ConfigError(
            "the structure has no velocities to start with. Take a frame of a run that wrote them, or draw them."
        )
    atoms.set_momenta(momenta)


def allowing_for_kept(settings: MDSettings, atoms: Atoms) -> MDSettings:
    """Settings whose largest temperature is not passed by the velocities that a run is to keep.

    Args:
        settings: of the run.
        atoms: its first structure.
    """
    if not settings.keep_velocities or settings.maximum_temperature_k is not None:
        return settings
    now = temperature(kinetic_energy(atoms.get_momenta(), atoms.get_masses()), len(atoms))
    hotter = replace(settings, temperature_k=max(now, settings.temperature_k))
    return replace(settings, maximum_temperature_k=hotter.temperature_limit_k)


def without_drift(momenta: FloatArray, masses: FloatArray) -> FloatArray:
    """Momenta with the motion of the centre of mass taken out; shapes ``(n_atoms, 3)`` and ``(n_atoms,)``."""
    drift: FloatArray = momenta.sum(axis=0) / masses.sum()
    return momenta - masses[:, None] * drift
