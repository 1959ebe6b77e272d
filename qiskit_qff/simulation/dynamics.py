"""Molecular dynamics that can be killed at any moment and goes on where its last checkpoint was.

A run lives in a directory: its trajectory, ``log.csv`` and ``checkpoint.npz``. Starting the same run
there again restores atoms, thermostat and random numbers from the checkpoint, cuts trajectory and log back to
it, and goes on; what comes out is, bit for bit, what an uninterrupted run would have written.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units

from qiskit_qff.errors import DataError
from qiskit_qff.simulation.calculator import Potential, QFFCalculator
from qiskit_qff.simulation.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from qiskit_qff.simulation.extrapolation import EXTRAPOLATING, ExtrapolationCounts, ExtrapolationWatch
from qiskit_qff.simulation.identity import check_identity, digest_structure
from qiskit_qff.simulation.integrators import Integrator, build_integrator
from qiskit_qff.simulation.recording import LOG, LogEntry, Recorder, read_log, trajectory_name
from qiskit_qff.simulation.settings import MDSettings
from qiskit_qff.simulation.stability import StabilityWatch
from qiskit_qff.simulation.velocities import allowing_for_kept, assign_velocities, keep_velocities, temperature

CHECKPOINT = "checkpoint.npz"

# Settings that may change when a run goes on: they do not touch the physics.
_FREE_SETTINGS = ("steps", "checkpoint_interval", "maximum_temperature_k", "maximum_step_ang")

Progress = Callable[[str, int, int], None]
"""Takes a few words, the steps done and the steps in all."""


@dataclass(frozen=True)
class MDSummary:
    """What a run did, over all of its restarts."""

    completed: bool
    """Whether all steps were done; False if the run was asked to stop."""
    steps: int
    """Number of steps done since the start of the run."""
    time_ps: float
    """Simulated time in ps."""
    ensemble: str
    """``nve``, ``nvt`` or ``npt``."""
    temperature_mean_k: float
    """Mean temperature in K over the log, a ramp included."""
    temperature_std_k: float
    """Standard deviation of the temperature in K."""
    drift_mev_per_atom_per_ps: float
    """Slope of a straight line through the conserved quantity, in meV/atom/ps."""
    pressure_mean_gpa: float
    """Mean pressure in GPa; NaN unless periodic in all directions."""
    ms_per_step: float
    """Wall time per step in ms, of the steps done by this process; NaN if there were none."""
    lost_atoms: int
    """Atoms that lost all their neighbours; a run that loses one stops with an error, so this is 0."""
    resumed_from_step: int | None
    """Step of the checkpoint that this process started from; None for a new run."""
    trajectory: Path
    """The trajectory, extended XYZ, compressed or not."""
    log: Path
    """The log, CSV."""
    extrapolation: ExtrapolationCounts | None = None
    """What the watch for extrapolation has seen; None where there was none."""


def run_dynamics(
    atoms: Atoms,
    potential: Potential,
    settings: MDSettings,
    directory: Path,
    *,
    model_digest: str = "",
    log_note: str = "",
    restart: bool = False,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
    extrapolation: ExtrapolationWatch | None = None,
) -> MDSummary:
    """Run molecular dynamics in a directory, or go on with the run that is there.

    Args:
        atoms: the initial structure; not changed.
        potential: the force field.
        settings: what to run.
        directory: where trajectory, log and checkpoint are; made when missing.
        model_digest: what identifies the model, so that a run is not continued with another one.
        log_note: remark for the top of a new log, for example where the force field comes from.
        restart: begin anew even if there is a checkpoint.
        progress: told, at each line of the log, how far the run is.
        should_stop: asked after each step; when it says so, a checkpoint is written and the run ends.
        extrapolation: grades the atoms every few steps; the run may end for it as for ``should_stop``.

    Raises:
        ConfigError: if the checkpoint there belongs to another run.
        DataError: if the structure does not fit the model, or the checkpoint is damaged.
        SimulationError: if the run explodes or loses an atom; the last checkpoint is kept.
    """
    directory.mkdir(parents=True, exist_ok=True)
    moving = atoms.copy()
    moving.set_constraint()
    moving.calc = QFFCalculator(potential)
    identity = {
        "settings": {name: value for name, value in asdict(settings).items() if name not in _FREE_SETTINGS},
        "model": model_digest,
        "structure": digest_structure(atoms, velocities=settings.keep_velocities),
    }
    run = _Run(moving, allowing_for_kept(settings, atoms), directory, identity, log_note=log_note, guard=extrapolation)
    resumed = None if restart else run.resume()
    if resumed is None:
        run.start()
    begin, first_step = time.perf_counter(), run.step
    try:
        completed = run.advance(progress or _silent, should_stop or _never)
    finally:
        run.close()
    elapsed = time.perf_counter() - begin
    n_done = run.step - first_step
    return _summarise(
        settings,
        directory,
        n_atoms=len(atoms),
        completed=completed,
        steps=run.step,
        resumed=resumed,
        ms_per_step=1e3 * elapsed / n_done if n_done else float("nan"),
        extrapolation=None if extrapolation is None else extrapolation.counts,
    )


class _Run:
    """One run at work: the moving atoms, the integrator, and the files that are open."""

    def __init__(
        self,
        atoms: Atoms,
        settings: MDSettings,
        directory: Path,
        identity: Mapping[str, Any],
        *,
        log_note: str,
        guard: ExtrapolationWatch | None,
    ) -> None:
        self.step, self._stopped = 0, False
        self._guard = guard
        self._log_note = log_note
        self._atoms = atoms
        self._settings = settings
        self._directory = directory
        self._identity = identity
        self._rng = np.random.default_rng(settings.seed)
        self._watch = self._watch_from_start()
        self._integrator: Integrator
        self._recorder: Recorder

    def start(self) -> None:
        """Begin a new run: draw velocities, write the first frame and checkpoint."""
        if self._settings.keep_velocities:
            keep_velocities(self._atoms)
        else:
            assign_velocities(self._atoms, self._settings.temperature_k, rng=self._rng)
        self._integrator = build_integrator(self._atoms, self._settings, rng=self._rng)
        (self._directory / CHECKPOINT).unlink(missing_ok=True)
        self._recorder = Recorder(self._directory, self._settings, log_note=self._log_note)
        if self._guard is not None:
            self._guard.open(self._directory)
        self._record()
        self._stopped = self._extrapolates()
        self._save()

    def resume(self) -> int | None:
        """Take up the run of the checkpoint, if there is one; gives its step.

        Raises:
            ConfigError: if the checkpoint belongs to another run.
            DataError: if the checkpoint is damaged, or a file is shorter than at the checkpoint.
        """
        path = self._directory / CHECKPOINT
        if not path.exists():
            return None
        checkpoint = read_checkpoint(path)
        check_identity(path, checkpoint, self._identity, self._settings)
        try:
            self._restore(checkpoint)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: damaged checkpoint ({error}). Start the run anew with --restart.") from error
        self.step = checkpoint.step
        return self.step

    def _restore(self, checkpoint: Checkpoint) -> None:
        """Take up atoms, integrator, random numbers and files."""
        self._atoms.set_cell(checkpoint.cell)
        self._atoms.positions[:] = checkpoint.positions
        self._atoms.set_momenta(checkpoint.momenta)
        self._integrator = build_integrator(self._atoms, self._settings, rng=self._rng)
        self._integrator.restore(checkpoint.integrator)
        self._rng.bit_generator.state = dict(checkpoint.random_state)
        self._recorder = Recorder(self._directory, self._settings, file_sizes=checkpoint.file_sizes)
        if self._guard is not None:
            size = checkpoint.file_sizes.get(EXTRAPOLATING)
            self._guard.open(self._directory, size=size, state=checkpoint.watch)

    def advance(self, progress: Progress, should_stop: Callable[[], bool]) -> bool:
        """Do the remaining steps; gives whether all were done.

        Raises:
            SimulationError: if the run explodes or loses an atom.
        """
        settings = self._settings
        begin, first_step = time.perf_counter(), self.step
        if self._stopped:
            return False
        while self.step < settings.steps:
            if settings.to_temperature_k is not None:
                self._integrator.set_temperature(settings.temperature_at(self.step))
            self._integrator.step()
            self.step += 1
            self._watch.check_motion(self._atoms, self.step)
            if self.step % settings.interval == 0:
                entry = self._record()
                pace = 1e3 * (time.perf_counter() - begin) / (self.step - first_step)
                words = f"{entry.temperature_k:.0f} K, {pace:.2f} ms/step"
                progress(words, self.step, settings.steps)
            stopped = self._extrapolates()
            if stopped or self.step % settings.checkpoint_interval == 0 or self.step == settings.steps:
                self._save()
            elif should_stop():
                self._save()
                return False
            if stopped:
                return False
        return True

    def _extrapolates(self) -> bool:
        """Whether the watch for extrapolation wants the run to stop here."""
        return self._guard is not None and self._guard.check(
            self._atoms, self.step, self.step * self._settings.timestep_fs
        )

    def close(self) -> None:
        """Close the files."""
        self._recorder.close()
        if self._guard is not None:
            self._guard.close()

    def _watch_from_start(self) -> StabilityWatch:
        """Limits that follow from the initial structure; its first evaluation also checks it."""
        atoms = self._atoms
        atoms.get_potential_energy()
        return StabilityWatch(
            masses=atoms.get_masses(),
            symbols=tuple(atoms.symbols),
            volume=atoms.get_volume() if atoms.cell.rank == 3 else 0.0,
            bonded=atoms.calc.n_neighbors > 0,
            settings=self._settings,
        )

    def _record(self) -> LogEntry:
        """Write a frame and a line of the log, and check that no atom is lost."""
        entry = _measure(self._atoms, self._integrator, self.step, self.step * self._settings.timestep_fs)
        self._recorder.write(self._atoms, entry)
        self._watch.check_neighbors(self._atoms.calc.n_neighbors, self.step)
        return entry

    def _save(self) -> None:
        """Bring the files to the disk, then write a checkpoint that knows their length."""
        kept = {} if self._guard is None else self._guard.sync()
        write_checkpoint(
            self._directory / CHECKPOINT,
            Checkpoint(
                step=self.step,
                positions=self._atoms.get_positions(),
                momenta=self._atoms.get_momenta(),
                cell=self._atoms.cell.array,
                integrator=self._integrator.state(),
                random_state=self._rng.bit_generator.state,
                file_sizes=self._recorder.sync() | kept,
                identity=self._identity,
                watch={} if self._guard is None else self._guard.state(),
            ),
        )


def _measure(atoms: Atoms, integrator: Integrator, step: int, time_fs: float) -> LogEntry:
    """One line of the log for the atoms as they are."""
    kinetic, potential = float(atoms.get_kinetic_energy()), float(atoms.get_potential_energy())
    pressure = volume = float("nan")
    if atoms.pbc.all():
        volume = float(atoms.get_volume())
        virial_pressure = -atoms.get_stress()[:3].sum() / 3.0
        pressure = float(virial_pressure + 2.0 * kinetic / (3.0 * volume)) / units.GPa
    return LogEntry(
        step=step,
        time_fs=time_fs,
        temperature_k=temperature(kinetic, len(atoms)),
        potential_ev=potential,
        kinetic_ev=kinetic,
        total_ev=potential + kinetic,
        conserved_ev=integrator.conserved_energy(),
        pressure_gpa=pressure,
        volume_ang3=volume,
        max_force_ev_per_ang=float(np.sqrt((atoms.get_forces() ** 2).sum(axis=1).max())),
    )


def _summarise(
    settings: MDSettings,
    directory: Path,
    *,
    n_atoms: int,
    completed: bool,
    steps: int,
    resumed: int | None,
    ms_per_step: float,
    extrapolation: ExtrapolationCounts | None,
) -> MDSummary:
    """Read the whole log, restarts included, and reduce it."""
    log = read_log(directory / LOG)
    temperatures = log["temperature_k"]
    time_ps, conserved = log["time_fs"] / 1e3, log["conserved_ev"]
    slope = float(np.polyfit(time_ps, conserved, 1)[0]) if len(time_ps) > 2 else float("nan")
    return MDSummary(
        completed=completed,
        steps=steps,
        time_ps=steps * settings.timestep_fs / 1e3,
        ensemble=settings.ensemble,
        temperature_mean_k=float(temperatures.mean()),
        temperature_std_k=float(temperatures.std()),
        drift_mev_per_atom_per_ps=1e3 * slope / n_atoms,
        pressure_mean_gpa=float(log["pressure_gpa"].mean()),
        ms_per_step=ms_per_step,
        lost_atoms=0,
        resumed_from_step=resumed,
        trajectory=directory / trajectory_name(settings),
        log=directory / LOG,
        extrapolation=extrapolation,
    )


def _silent(_words: str, _done: int, _total: int) -> None:
    """Progress that nobody watches."""


def _never() -> bool:
    """A run that nobody stops."""
    return False
