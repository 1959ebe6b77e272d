"""The watch for extrapolation: every few steps it grades all atoms, and warns, stops or keeps the structure.

An *event* begins when an atom's grade passes its limit and ends when ten checks in a row find none that does; each
event is told once. Kept structures go to ``extrapolating.extxyz``, without energies or forces: they are there to be
labelled. At a restart the file and the counts go back to the checkpoint, like everything else.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal, get_args

import numpy as np
from ase import Atoms

from qiskit_qff.errors import ConfigError
from qiskit_qff.model.uncertainty import Grades, UncertaintyEstimator
from qiskit_qff.simulation.recording import open_at
from qiskit_qff.structures.frame import species_index

EXTRAPOLATING = "extrapolating.extxyz"
INTERVAL = 10
"""Steps between checks: the fastest vibration, C-H or O-H at 0.5 fs a step, is still seen twice a period."""
CALM = 10
"""Checks in a row without an atom outside that end an event."""
SAVE_EVERY = 10
"""Of an event that goes on, the first structure is kept and then one of so many that are outside."""
MOST_WARNINGS = 20
"""Later events are counted, not told."""

Action = Literal["warn", "stop", "save"]


@dataclass
class ExtrapolationCounts:
    """What the watch has seen, restarts included."""

    checks: int = 0
    """Structures graded."""
    outside: int = 0
    """Of these, structures with an atom outside."""
    events: int = 0
    """Stretches of such structures."""
    saved: int = 0
    """Structures kept."""
    largest_grade: float = 0.0
    """Largest grade of an atom."""
    largest_grade_step: int = 0
    """Step at which it was."""
    largest_grade_atom: int = 0
    """Index of that atom."""
    largest_ratio: float = 0.0
    """Largest grade in units of the limit."""
    first_step: int | None = None
    """Step at which an atom was outside for the first time."""
    stopped: bool = False
    """Whether the run was stopped for it."""


class ExtrapolationWatch:
    """Grades the atoms of one run."""

    def __init__(
        self,
        estimator: UncertaintyEstimator,
        *,
        action: str,
        interval: int = INTERVAL,
        break_at: float | None = None,
        save_every: int = SAVE_EVERY,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        """Make ready.

        Args:
            action: ``warn``, ``stop`` or ``save``.
        """
        if action not in get_args(Action):
            raise ConfigError(f"on extrapolation: expected one of {', '.join(get_args(Action))}, received {action!r}.")
        if interval < 1:
            raise ConfigError(f"grade interval: expected at least 1 step, received {interval}.")
        if break_at is not None and not break_at >= 1.0:
            raise ConfigError(f"break_at: expected at least 1, received {break_at}.")
        self.counts = ExtrapolationCounts()
        self._break_at = np.inf if break_at is None else break_at
        self._save_every = save_every
        self._estimator, self._action, self._interval = estimator, action, interval
        self._warn = warn or _silent
        self._within = CALM
        self._outside_in_event = 0
        self._file: IO[bytes] | None = None

    def open(self, directory: Path, *, size: int | None = None, state: Mapping[str, Any] | None = None) -> None:
        """Open the file of kept structures, cut back to a checkpoint, and take up its counts.

        Args:
            size: Length of the file at the checkpoint, in bytes; None where it had none.
        """
        path = directory / EXTRAPOLATING
        if state:
            self.counts = ExtrapolationCounts(**state["counts"])
            self.counts.stopped = False
            self._within, self._outside_in_event = int(state["within"]), int(state["outside_in_event"])
        if self._action == "save" or size is not None:
            self._file = open_at(path, size)
        else:
            path.unlink(missing_ok=True)  # of a run that is begun anew

    def check(self, atoms: Atoms, step: int, time_fs: float) -> bool:
        """Grade the atoms, if it is time to.

        Args:
            time_fs: Simulated time in fs.

        Returns:
            Whether the run is to stop.
        """
        if step % self._interval:
            return False
        atoms.get_potential_energy()  # computed already, unless the integrator moved atoms since
        kinds = species_index(atoms.numbers, self._estimator.species, where="structure")
        grades = self._estimator.grades(kinds, atoms.calc.neighbors)
        self._count(grades, step)
        if not grades.outside.any():
            self._within += 1
            return False
        if self._within >= CALM:
            self._begin_event(grades, atoms, step)
        self._within = 0
        far = not grades.values.max() / grades.limit <= self._break_at
        kept = self._outside_in_event == 0 or (self._outside_in_event % self._save_every == 0 and not far)
        if self._file is not None and self._action == "save" and kept:
            self._file.write(_format(atoms, grades, step, time_fs).encode())
            self.counts.saved += 1
        self._outside_in_event += 1
        self.counts.stopped = far or self._action == "stop"
        return self.counts.stopped

    def _count(self, grades: Grades, step: int) -> None:
        """Add one structure."""
        counts = self.counts
        counts.checks += 1
        largest = int(np.argmax(grades.values))
        counts.largest_ratio = max(counts.largest_ratio, float(grades.values.max() / grades.limit))
        if grades.values[largest] > counts.largest_grade:
            counts.largest_grade = float(grades.values[largest])
            counts.largest_grade_step, counts.largest_grade_atom = step, largest
        if grades.outside.any():
            counts.outside += 1
            counts.first_step = step if counts.first_step is None else counts.first_step

    def _begin_event(self, grades: Grades, atoms: Atoms, step: int) -> None:
        """Count it and tell it."""
        self.counts.events += 1
        self._outside_in_event = 0
        if self.counts.events > MOST_WARNINGS:
            return
        atom, others = grades.worst, int(grades.outside.sum()) - 1
        more = f"; {others} more with it" if others else ""
        self._warn(
            f"step {step}: atom {atom} ({atoms.symbols[atom]}) is outside the training data: extrapolation grade "
            f"{grades.values[atom]:.2f}, limit {grades.limit:.2f}{more}"
        )
        if self.counts.events == MOST_WARNINGS:
            self._warn("further events are counted, not told")

    def state(self) -> dict[str, Any]:
        """Plain numbers for a checkpoint."""
        return {"counts": asdict(self.counts), "within": self._within, "outside_in_event": self._outside_in_event}

    def sync(self) -> dict[str, int]:
        """Bring kept structures to the disk and give the length of their file in bytes, if there is one."""
        if self._file is None:
            return {}
        self._file.flush()
        os.fsync(self._file.fileno())
        return {EXTRAPOLATING: self._file.tell()}

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def _format(atoms: Atoms, grades: Grades, step: int, time_fs: float) -> str:
    """One frame of extended XYZ with a grade for every atom."""
    atom = grades.worst
    lattice = " ".join(f"{value:.10g}" for value in atoms.cell.array.ravel())
    pbc = " ".join("T" if periodic else "F" for periodic in atoms.pbc)
    cell = f'Lattice="{lattice}" ' if atoms.cell.rank else ""
    header = (
        f"{len(atoms)}\n{cell}Properties=species:S:1:pos:R:3:grade:R:1 step={step} time_fs={time_fs:.10g} "
        f'largest_grade={grades.values[atom]:.6g} atom={atom} pbc="{pbc}"\n'
    )
    rows = zip(atoms.symbols, atoms.positions, grades.values, strict=True)
    return header + "".join(
        f"{symbol:2s} {x:14.8f} {y:14.8f} {z:14.8f} {grade:10.4f}\n" for symbol, (x, y, z), grade in rows
    )


def _silent(_text: str) -> None:
    """A watch that nobody listens to."""
