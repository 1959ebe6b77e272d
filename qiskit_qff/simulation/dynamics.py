"""Molecular dynamics with ASE's integrators, restartable after a kill at any moment.

A run lives in a directory with its trajectory, log and checkpoint (:mod:`~qiskit_qff.simulation.recording`). Starting
the same run there again restores atoms and random numbers from the checkpoint, truncates trajectory and log to it, and
continues.

========  ===========  ==============================================  ================================
ensemble  thermostat   integrator of ASE                               conserved quantity
========  ===========  ==============================================  ================================
nve       -            ``VelocityVerlet``                              E
nvt       bussi        ``Bussi`` (stochastic velocity rescaling)       E minus the energy exchanged
nvt       langevin     ``LangevinBAOAB`` with ``FixCom``               none
nvt       nose-hoover  ``NoseHooverChainNVT`` (chain of three)         E plus energy of the chain
npt       (chains)     ``IsotropicMTKNPT`` or ``MTKNPT`` (full cell)   E + PV plus energies of the chains
========  ===========  ==============================================  ================================

The centre of mass rests in all of them, so 3N - 3 degrees of freedom carry the temperature.

A restart of nve and of the stochastic thermostats gives the same files, bit for bit, as a run without interruption. ASE
has no interface to save Nosé-Hoover chains: after a restart they and the barostat begin at rest. That is a valid
trajectory of the same ensemble, but not the uninterrupted one; the conserved quantity continues without a jump.

References:
    Bussi, Donadio, Parrinello, doi:10.1063/1.2408420; Leimkuhler, Matthews, doi:10.1063/1.4802990; Martyna,
    Klein, Tuckerman, doi:10.1063/1.463940; Martyna, Tobias, Klein, doi:10.1063/1.467468.
"""

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from ase import Atoms, units
from ase.constraints import FixCom
from ase.md.bussi import Bussi
from ase.md.langevinbaoab import LangevinBAOAB
from ase.md.nose_hoover_chain import MTKNPT, IsotropicMTKNPT, NoseHooverChainNVT
from ase.md.velocitydistribution import Stationary
from ase.md.verlet import VelocityVerlet

from qiskit_qff.array_types import FloatArray
from qiskit_qff.errors import ConfigError, DataError, SimulationError
from qiskit_qff.simulation.calculator import QFFCalculator
from qiskit_qff.simulation.extrapolation import EXTRAPOLATING, ExtrapolationWatch
from qiskit_qff.simulation.recording import (
    CHECKPOINT,
    LOG,
    TRAJECTORY,
    Recorder,
    drift_mev_per_atom_per_ps,
    read_checkpoint,
    read_log,
    write_checkpoint,
)

if TYPE_CHECKING:
    from qiskit_qff.model.force_field import ForceField

Ensemble = Literal["nve", "nvt", "npt"]
Thermostat = Literal["bussi", "langevin", "nose-hoover"]
Barostat = Literal["isotropic", "full"]

TIMESTEP_WITH_HYDROGEN = 0.5
"""Longest time step in fs that still resolves C-H and O-H stretches (period about 10 fs)."""
TIMESTEP = 1.0
"""Time step in fs without hydrogen."""

MAX_STEP_ANG = 0.5  # a run counts as exploded when an atom moves farther than this in one step
_REMEDY = (
    "Use a shorter time step or a lower temperature, or train on data that cover these structures; "
    "the last checkpoint is kept."
)
# Settings that may change when a run continues: they do not touch the physics.
_FREE_SETTINGS = {"steps", "checkpoint_interval"}

Progress = Callable[[str, int, int], None]
"""Takes a few words, the steps done and the total number of steps."""


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
        for name in ("temperature_k", "timestep_fs", "thermostat_time_fs", "barostat_time_fs"):
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


def default_timestep(numbers: Sequence[int]) -> float:
    """Time step in fs that resolves the fastest bond: 0.5 fs if hydrogen is present, else 1 fs."""
    return TIMESTEP_WITH_HYDROGEN if 1 in set(numbers) else TIMESTEP


@dataclass(frozen=True)
class MDSummary:
    """What a run did, restarts included; ``md.json`` holds it."""

    completed: bool
    """Whether all steps were done; False if the run was asked to stop."""
    steps: int
    """Number of steps done since the start of the run."""
    time_ps: float
    """Simulated time in ps."""
    ensemble: str
    """``nve``, ``nvt`` or ``npt``."""
    temperature_mean_k: float
    """Mean temperature in K over the log."""
    temperature_std_k: float
    """Standard deviation of the temperature in K."""
    drift_mev_per_atom_per_ps: float
    """Slope of a straight line through the conserved quantity, in meV/atom/ps; NaN where there is none."""
    pressure_mean_gpa: float
    """Mean pressure in GPa; NaN unless periodic in all directions."""
    ms_per_step: float
    """Wall time per step in ms, of the steps done by this process; NaN if there were none."""
    resumed_from_step: int | None
    """Step of the checkpoint that this process started from; None for a new run."""
    trajectory: Path
    """The trajectory, extended XYZ."""
    log: Path
    """The log, CSV."""
    extrapolation: Mapping[str, Any] | None = None
    """Counts of the extrapolation watch; None if there was none."""


def run_dynamics(
    atoms: Atoms,
    potential: "ForceField",
    settings: MDSettings,
    directory: Path,
    *,
    model_digest: str = "",
    progress: Progress = lambda _words, _done, _total: None,
    should_stop: Callable[[], bool] = lambda: False,
    extrapolation: ExtrapolationWatch | None = None,
) -> MDSummary:
    """Run molecular dynamics in a directory, or continue the run that is there.

    Args:
        atoms: the initial structure; not changed.
        potential: the force field.
        settings: what to run.
        directory: where trajectory, log and checkpoint are; made when missing.
        model_digest: identifies the model, so that a run is not continued with another one.
        progress: called at each log entry.
        should_stop: asked after each step; when true, a checkpoint is written and the run ends.
        extrapolation: grades the atoms every few steps; may end the run like ``should_stop``.

    Raises:
        ConfigError: if the checkpoint there belongs to another run.
        DataError: if the structure does not fit the model, or the checkpoint is damaged.
        SimulationError: if the run explodes; the last checkpoint is kept.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if len(atoms) < 2:
        raise ConfigError("molecular dynamics needs at least two atoms: the centre of mass is kept at rest.")
    if settings.ensemble == "npt" and not atoms.pbc.all():
        raise DataError("npt needs a structure that is periodic in all three directions; use nvt or nve.")
    path = directory / CHECKPOINT
    checkpoint = read_checkpoint(path) if path.exists() else None
    run = _Run(atoms, potential, settings, identity=_identity(atoms, settings, model_digest), watch=extrapolation)
    begin = time.perf_counter()
    try:
        run.begin(directory, checkpoint)
        first_step = run.step
        completed = run.advance(progress, should_stop)
    finally:
        run.close()
    n_done, log = run.step - first_step, read_log(directory / LOG)
    temperatures = log["temperature_k"]
    return MDSummary(
        completed=completed,
        steps=run.step,
        time_ps=run.step * settings.timestep_fs / 1e3,
        ensemble=settings.ensemble,
        temperature_mean_k=float(temperatures.mean()),
        temperature_std_k=float(temperatures.std()),
        drift_mev_per_atom_per_ps=drift_mev_per_atom_per_ps(log, len(atoms)),
        pressure_mean_gpa=float(log["pressure_gpa"].mean()),
        ms_per_step=1e3 * (time.perf_counter() - begin) / n_done if n_done else float("nan"),
        resumed_from_step=None if checkpoint is None else first_step,
        trajectory=directory / TRAJECTORY,
        log=directory / LOG,
        extrapolation=None if extrapolation is None else extrapolation.counts,
    )


def temperature_of(atoms: Atoms) -> float:
    """Temperature in K of atoms whose centre of mass rests: 3N - 3 degrees of freedom carry it."""
    return 2.0 * float(atoms.get_kinetic_energy()) / ((3 * len(atoms) - 3) * units.kB)


def assign_velocities(atoms: Atoms, temperature_k: float, *, rng: np.random.Generator) -> None:
    """Draw Maxwell-Boltzmann momenta at exactly this temperature, with the centre of mass at rest.

    Args:
        atoms: at least two; changed in place.
        temperature_k: in K.
    """
    scale = np.sqrt(atoms.get_masses() * units.kB * temperature_k)
    atoms.set_momenta(rng.standard_normal((len(atoms), 3)) * scale[:, None])
    Stationary(atoms, preserve_temperature=False)
    atoms.set_momenta(atoms.get_momenta() * np.sqrt(temperature_k / temperature_of(atoms)))


def build_integrator(atoms: Atoms, settings: MDSettings, *, rng: np.random.Generator) -> Any:
    """Set up ASE's integrator for an ensemble."""
    timestep, relaxation = settings.timestep_fs * units.fs, settings.thermostat_time_fs * units.fs
    temperature = settings.temperature_k
    # ASE's chains thermalise 3N degrees of freedom, of which 3N - 3 move; at this temperature the moving ones get what
    # they should have.
    chain_temperature = temperature * (len(atoms) - 1) / len(atoms)
    if settings.ensemble == "nve":
        return VelocityVerlet(atoms, timestep)
    if settings.ensemble == "npt":
        kind = IsotropicMTKNPT if settings.barostat == "isotropic" else MTKNPT
        pressure, damping = settings.pressure_gpa * units.GPa, settings.barostat_time_fs * units.fs
        return kind(
            atoms, timestep, temperature_K=chain_temperature, pressure_au=pressure, tdamp=relaxation, pdamp=damping
        )
    if settings.thermostat == "nose-hoover":
        return NoseHooverChainNVT(atoms, timestep, chain_temperature, relaxation)
    if settings.thermostat == "langevin":
        atoms.set_constraint(FixCom())
        # PERF: hydrostatic only spares a matrix exponential a step; the cell is fixed.
        return LangevinBAOAB(atoms, timestep, temperature_K=temperature, T_tau=relaxation, hydrostatic=True, rng=rng)
    dynamics = Bussi(atoms, timestep, temperature, relaxation, rng=rng)
    dynamics.ndof = 3 * len(atoms) - 3
    dynamics.target_kinetic_energy = 0.5 * units.kB * temperature * dynamics.ndof
    return dynamics


class _Run:
    """A run at work: the moving atoms and their integrator, and, once it has begun, its open files."""

    def __init__(
        self,
        atoms: Atoms,
        potential: "ForceField",
        settings: MDSettings,
        *,
        identity: Mapping[str, Any],
        watch: ExtrapolationWatch | None,
    ) -> None:
        """Put the force field on a copy of the atoms, and remember what they must not lose."""
        self.step, self.close = 0, lambda: None
        self._stopped, self._restored_ev = False, 0.0
        self._settings, self._identity, self._watch = settings, identity, watch
        self._rng = np.random.default_rng(settings.seed)
        self._atoms = atoms.copy()
        self._atoms.set_constraint()
        self._atoms.calc = QFFCalculator(potential)
        self._atoms.get_potential_energy()  # also checks the structure
        self._volume = float(atoms.get_volume()) if atoms.pbc.all() else 0.0

    def begin(self, directory: Path, checkpoint: Mapping[str, Any] | None) -> None:
        """Start, or continue from a checkpoint."""
        self._path, watch = directory / CHECKPOINT, self._watch
        sizes: Mapping[str, int] = {} if checkpoint is None else checkpoint["file_sizes"]
        names = [TRAJECTORY, LOG]
        if EXTRAPOLATING in sizes or (watch is not None and watch.saves):
            names.append(EXTRAPOLATING)
        if checkpoint is None:
            assign_velocities(self._atoms, self._settings.temperature_k, rng=self._rng)
            self._dynamics = build_integrator(self._atoms, self._settings, rng=self._rng)
            (directory / EXTRAPOLATING).unlink(missing_ok=True)  # of a run that is begun anew
        else:
            _check_identity(self._path, checkpoint, self._identity, self._settings.steps)
            self._restore(checkpoint)
        self._recorder = Recorder(directory, names, sizes)
        self.close = self._recorder.close
        if checkpoint is None:
            self._record()
            self._stopped = self._extrapolates()
            self._save()

    def advance(self, progress: Progress, should_stop: Callable[[], bool]) -> bool:
        """Do the remaining steps; returns whether all were done."""
        settings = self._settings
        begin, first_step = time.perf_counter(), self.step
        while self.step < settings.steps and not self._stopped:
            self._dynamics.step()
            self.step += 1
            self._check_motion()
            if self.step % settings.interval == 0:
                now = self._record()
                pace = 1e3 * (time.perf_counter() - begin) / (self.step - first_step)
                progress(f"{now:.0f} K, {pace:.2f} ms/step", self.step, settings.steps)
            self._stopped = self._extrapolates()
            if self._stopped or self.step % settings.checkpoint_interval == 0 or self.step == settings.steps:
                self._save()
            elif should_stop():
                self._save()
                return False
        return not self._stopped

    def _restore(self, checkpoint: Mapping[str, Any]) -> None:
        """Take up atoms, random numbers, the energy of the thermostat, and the counts of the watch."""
        try:
            self._atoms.set_cell(checkpoint["cell"])
            self._atoms.positions[:] = checkpoint["positions"]
            self._atoms.set_momenta(checkpoint["momenta"])
            self._rng.bit_generator.state = checkpoint["random_state"]
        except (KeyError, ValueError, TypeError) as error:
            raise DataError(
                f"{self._path}: damaged checkpoint ({error}). Start the run anew with --restart."
            ) from error
        self.step = checkpoint["step"]
        self._dynamics = build_integrator(self._atoms, self._settings, rng=self._rng)
        if isinstance(self._dynamics, Bussi):
            self._dynamics.transferred_energy = checkpoint["exchanged_ev"]
        else:
            self._restored_ev = checkpoint["exchanged_ev"] - self._exchanged_ev()
        if self._watch is not None:
            self._watch.counts |= checkpoint["watch"] | {"stopped": False}

    def _save(self) -> None:
        """Force the files to disk, then write a checkpoint that knows their length."""
        state = {
            "step": self.step,
            "positions": self._atoms.get_positions(),
            "momenta": self._atoms.get_momenta(),
            "cell": self._atoms.cell.array,
            "exchanged_ev": float(np.nan_to_num(self._exchanged_ev())),
            "random_state": self._rng.bit_generator.state,
            "file_sizes": self._recorder.sync(),
            "identity": self._identity,
            "watch": {} if self._watch is None else self._watch.counts,
        }
        write_checkpoint(self._path, state)

    def _exchanged_ev(self) -> float:
        """Energy in eV that thermostat and barostat have given to the atoms; NaN for Langevin dynamics."""
        match self._dynamics:
            case Bussi():  # before VelocityVerlet, which it is a kind of
                return float(self._dynamics.transferred_energy)
            case LangevinBAOAB():
                return float("nan")
            case VelocityVerlet():
                return 0.0
        return float(self._atoms.get_total_energy() - self._dynamics.get_conserved_energy()) + self._restored_ev

    def _extrapolates(self) -> bool:
        """Whether the extrapolation watch wants the run to stop here."""
        file, time_fs = self._recorder.files.get(EXTRAPOLATING), self.step * self._settings.timestep_fs
        return self._watch is not None and self._watch.check(self._atoms, self.step, time_fs, file)

    def _record(self) -> float:
        """Write a frame and a log entry; returns the temperature in K."""
        atoms, is_periodic = self._atoms, self._volume > 0.0
        kinetic, potential = float(atoms.get_kinetic_energy()), float(atoms.get_potential_energy())
        stress = atoms.get_stress(include_ideal_gas=True) if is_periodic else np.full(6, np.nan)
        temperature = temperature_of(atoms)
        self._recorder.write(
            atoms,
            {
                "step": self.step,
                "time_fs": self.step * self._settings.timestep_fs,
                "temperature_k": temperature,
                "potential_ev": potential,
                "kinetic_ev": kinetic,
                "total_ev": potential + kinetic,
                "conserved_ev": potential + kinetic - self._exchanged_ev(),
                "pressure_gpa": -float(stress[:3].mean()) / units.GPa,
                "volume_ang3": float(atoms.get_volume()) if is_periodic else np.nan,
                "max_force_ev_per_ang": float(np.linalg.norm(atoms.get_forces(), axis=1).max()),
            },
        )
        return temperature

    def _check_motion(self) -> None:
        """Check velocities, temperature and volume after each step."""
        settings = self._settings
        moves: FloatArray = np.linalg.norm(self._atoms.get_velocities(), axis=1) * settings.timestep_fs * units.fs
        now, limit, reason = temperature_of(self._atoms), 5.0 * settings.temperature_k + 1000.0, ""
        # NOTE: the comparisons are written so that NaN fails them.
        if not moves.max() <= MAX_STEP_ANG:
            atom = int(np.argmax(np.where(np.isfinite(moves), moves, np.inf)))
            reason = f"atom {atom} ({self._atoms.symbols[atom]}) moves {moves[atom]:.3g} Å in one step"
        elif not now <= limit:
            reason = f"temperature {now:.0f} K is above the limit of {limit:.0f} K"
        elif settings.ensemble == "npt" and not 0.5 <= (ratio := self._atoms.get_volume() / self._volume) <= 2.0:
            reason = f"volume is {ratio:.2f} times that of the start"
        if reason:
            raise SimulationError(f"step {self.step}: the simulation exploded: {reason}. {_REMEDY}")


def _identity(atoms: Atoms, settings: MDSettings, model: str) -> dict[str, Any]:
    """What must be the same when a run goes on: its settings, its model, and the structure that it began with."""
    arrays = [atoms.numbers.astype(np.int64), atoms.positions, atoms.cell.array, atoms.pbc]
    structure = hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()
    kept = {name: value for name, value in asdict(settings).items() if name not in _FREE_SETTINGS}
    return {"model": model, "structure": structure, **kept}


def _check_identity(path: Path, checkpoint: Mapping[str, Any], identity: Mapping[str, Any], steps: int) -> None:
    """Refuse to continue another run."""
    advice = "Choose another --out, or begin anew with --restart."
    before = checkpoint["identity"]
    for name, value in identity.items():
        if before.get(name) != value:
            what = f"another {name}" if name in {"model", "structure"} else f"{name}={before.get(name)}, not {value}"
            raise ConfigError(f"{path}: the run there was started with {what}. {advice}")
    if checkpoint["step"] > steps:
        raise ConfigError(
            f"{path}: the run there has done {checkpoint['step']} steps already, more than {steps}. {advice}"
        )
