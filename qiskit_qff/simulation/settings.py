"""Settings of a molecular dynamics run, checked before the first step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from qiskit_qff.errors import ConfigError

Ensemble = Literal["nve", "nvt", "npt"]
Thermostat = Literal["bussi", "langevin", "nose-hoover"]
Barostat = Literal["isotropic", "full"]

TIMESTEP_WITH_HYDROGEN = 0.5
"""Longest time step in fs that still resolves C-H and O-H stretches (period about 10 fs)."""
TIMESTEP = 1.0
"""Time step in fs without hydrogen."""


@dataclass(frozen=True)
class MDSettings:
    """One molecular dynamics run.

    Raises:
        ConfigError: if a setting is out of range or contradicts another one.
    """

    temperature_k: float
    """Temperature of the thermostat, and of the initial velocities, in K."""
    steps: int
    """Total number of time steps, restarts included."""
    timestep_fs: float
    """Time step in fs."""
    ensemble: Ensemble = "nvt"
    """Constant energy, constant temperature, or constant temperature and pressure."""
    thermostat: Thermostat = "bussi"
    """Thermostat of ``nvt``: stochastic velocity rescaling, Langevin (BAOAB) or a Nosé-Hoover chain. ``npt``
    always uses Nosé-Hoover chains (Martyna-Tobias-Klein)."""
    thermostat_time_fs: float = 100.0
    """Relaxation time of the thermostat in fs; for Langevin the inverse friction."""
    pressure_gpa: float = 0.0
    """Pressure of ``npt`` in GPa."""
    barostat: Barostat = "isotropic"
    """Whether ``npt`` scales the cell, or moves all its vectors."""
    barostat_time_fs: float = 1000.0
    """Relaxation time of the barostat in fs."""
    to_temperature_k: float | None = None
    """Temperature in K that the thermostat reaches at the last step, changing linearly; None keeps it constant."""
    seed: int = 0
    """Seed of the initial velocities and of the thermostat's noise."""
    interval: int = 20
    """Steps between log entries and trajectory frames."""
    checkpoint_interval: int = 1000
    """Steps between checkpoints."""

    def __post_init__(self) -> None:
        for name, choices in (("ensemble", Ensemble), ("thermostat", Thermostat), ("barostat", Barostat)):
            if getattr(self, name) not in get_args(choices):
                allowed = ", ".join(get_args(choices))
                raise ConfigError(f"{name}: expected one of {allowed}, received {getattr(self, name)!r}.")
        positive = ["temperature_k", "timestep_fs", "thermostat_time_fs", "barostat_time_fs"]
        for name in positive if self.to_temperature_k is None else [*positive, "to_temperature_k"]:
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ConfigError(f"{name}: expected a positive number, received {value}.")
        for name, least in (("steps", 0), ("seed", 0), ("interval", 1), ("checkpoint_interval", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}: expected at least {least}, received {getattr(self, name)}.")
        if not math.isfinite(self.pressure_gpa):
            raise ConfigError(f"pressure_gpa: expected a finite number, received {self.pressure_gpa}.")
        if self.ensemble != "nve" and self.thermostat_time_fs < 2.0 * self.timestep_fs:
            raise ConfigError(
                f"thermostat_time_fs {self.thermostat_time_fs} must be at least two time steps "
                f"({2.0 * self.timestep_fs} fs)."
            )
        if self.to_temperature_k is not None and not (
            self.ensemble == "nvt" and self.thermostat in {"bussi", "langevin"}
        ):
            raise ConfigError(
                "to_temperature_k: only nvt with the bussi or langevin thermostat heats and cools. Run npt afterwards."
            )

    def temperature_at(self, step: int) -> float:
        """Temperature of the thermostat in K after a number of steps."""
        if self.to_temperature_k is None:
            return self.temperature_k
        done = min(step / self.steps, 1.0) if self.steps else 1.0
        return self.temperature_k + done * (self.to_temperature_k - self.temperature_k)


def default_timestep(numbers: Sequence[int]) -> float:
    """Time step in fs that resolves the fastest bond: 0.5 fs if hydrogen is present, else 1 fs."""
    return TIMESTEP_WITH_HYDROGEN if 1 in set(numbers) else TIMESTEP
