"""What a molecular dynamics run is asked to do, checked before the first step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from qiskit_qff.errors import ConfigError

Ensemble = Literal["nve", "nvt", "npt"]
Thermostat = Literal["bussi", "langevin", "nose-hoover"]
Barostat = Literal["isotropic", "full"]

#: Longest time step at which a C-H or O-H stretch (period about 10 fs) is still integrated well, in fs.
TIMESTEP_WITH_HYDROGEN = 0.5
#: Time step for everything heavier, in fs.
TIMESTEP = 1.0


@dataclass(frozen=True)
class MDSettings:
    """One molecular dynamics run.

    Raises:
        ConfigError: if a setting is out of range or contradicts another one.
    """

    temperature_k: float
    """Temperature of the thermostat, and of the initial velocities, in K."""
    steps: int
    """Number of time steps in all, counted from the start of the run, not from a restart."""
    timestep_fs: float
    """Time step in fs."""
    ensemble: Ensemble = "nvt"
    """Constant energy, constant temperature, or constant temperature and pressure."""
    thermostat: Thermostat = "bussi"
    """Thermostat of ``nvt``, stochastic velocity rescaling, Langevin (BAOAB) or a Nosé-Hoover chain. ``npt``
    always has Nosé-Hoover chains (Martyna-Tobias-Klein)."""
    thermostat_time_fs: float = 100.0
    """Relaxation time of the thermostat in fs; for Langevin the inverse friction."""
    pressure_gpa: float = 0.0
    """Pressure of ``npt`` in GPa."""
    barostat: Barostat = "isotropic"
    """Whether ``npt`` scales the cell, or moves all its vectors."""
    barostat_time_fs: float = 1000.0
    """Relaxation time of the barostat in fs."""
    to_temperature_k: float | None = None
    """Temperature in K that the thermostat is heated or cooled to; None keeps it."""
    ramp_steps: int = 0
    """Steps over which that happens, linearly; then the temperature stays."""
    seed: int = 0
    """Seed of the initial velocities and of the thermostat's noise."""
    interval: int = 20
    """Steps between lines of the log and frames of the trajectory."""
    checkpoint_interval: int = 1000
    """Steps between checkpoints."""
    velocities: bool = True
    """Whether the trajectory holds momenta, which the vibrational density of states needs."""
    keep_velocities: bool = False
    """Whether the run starts with the velocities of its structure, instead of drawn ones."""
    compact: bool = False
    """Whether the trajectory is compressed and rounded to 1e-5 Å."""
    maximum_temperature_k: float | None = None
    """The run stops as exploded above this; default five times the temperature plus 1000 K."""
    maximum_step_ang: float = 0.5
    """The run stops as exploded when an atom moves farther in one step, in Å."""

    def __post_init__(self) -> None:
        _check_choice("ensemble", self.ensemble, get_args(Ensemble))
        _check_choice("thermostat", self.thermostat, get_args(Thermostat))
        _check_choice("barostat", self.barostat, get_args(Barostat))
        for name in (
            "temperature_k",
            "timestep_fs",
            "thermostat_time_fs",
            "barostat_time_fs",
            "maximum_step_ang",
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ConfigError(f"{name}: expected a positive number, received {value}.")
        for name, least in (("steps", 0), ("seed", 0), ("interval", 1), ("checkpoint_interval", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}: expected at least {least}, received {getattr(self, name)}.")
        self._check_ramp()
        if not math.isfinite(self.pressure_gpa):
            raise ConfigError(f"pressure_gpa: expected a finite number, received {self.pressure_gpa}.")
        if self.ensemble != "nve" and self.thermostat_time_fs < 2.0 * self.timestep_fs:
            raise ConfigError(
                f"thermostat_time_fs {self.thermostat_time_fs} must be at least two time steps "
                f"({2.0 * self.timestep_fs} fs)."
            )

    def _check_ramp(self) -> None:
        """Refuse a ramp that is none.

        Raises:
            ConfigError: naming what is missing.
        """
        if self.to_temperature_k is None:
            return
        if not (math.isfinite(self.to_temperature_k) and self.to_temperature_k > 0.0):
            raise ConfigError(f"to_temperature_k: expected a positive number, received {self.to_temperature_k}.")
        if self.ensemble == "nve":
            raise ConfigError("to_temperature_k: nve has no thermostat to heat or cool with; use nvt or npt.")
        if self.ramp_steps < 1:
            raise ConfigError(f"ramp_steps: expected at least 1 with to_temperature_k, received {self.ramp_steps}.")

    @property
    def temperature_limit_k(self) -> float:
        """Temperature in K above which the run counts as exploded."""
        if self.maximum_temperature_k is not None:
            return self.maximum_temperature_k
        return 5.0 * max(self.temperature_k, self.to_temperature_k or 0.0) + 1000.0

    def temperature_at(self, step: int) -> float:
        """Temperature of the thermostat in K after a number of steps."""
        if self.to_temperature_k is None:
            return self.temperature_k
        done = min(step / self.ramp_steps, 1.0)
        return self.temperature_k + done * (self.to_temperature_k - self.temperature_k)


def default_timestep(numbers: Sequence[int]) -> float:
    """Time step in fs that resolves the fastest bond: 0.5 fs where hydrogen is present, else 1 fs."""
    return TIMESTEP_WITH_HYDROGEN if 1 in set(numbers) else TIMESTEP


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a word that is not among the choices.

    Raises:
        ConfigError: naming the choices.
    """
    if value not in choices:
        raise ConfigError(f"{name}: expected one of {', '.join(choices)}, received {value!r}.")
