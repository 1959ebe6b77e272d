"""The watch for extrapolation: every few steps it grades all atoms, and warns, stops or keeps the structure.

An *event* begins when an atom's grade passes its limit and ends when ten checks in a row find none that does; each
event is told once. Kept structures go to ``extrapolating.extxyz``, without energies or forces: they are there to be
labelled. At a restart the file and the counts go back to the checkpoint, like everything else.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import IO, Any

import numpy as np
from ase import Atoms
from ase.io.extxyz import write_extxyz

from qiskit_qff.errors import ConfigError
from qiskit_qff.model.uncertainty import Grades, UncertaintyEstimator
from qiskit_qff.structures.frame import species_index

EXTRAPOLATING = "extrapolating.extxyz"
INTERVAL = 10  # steps between checks: the fastest vibration, C-H or O-H at 0.5 fs a step, is still seen twice a period
CALM = 10  # checks in a row without an atom outside that end an event
SAVE_EVERY = 10  # of an event that goes on, the first structure is kept and then one of so many that are outside
MOST_WARNINGS = 20  # later events are counted, not told
ACTIONS = ("warn", "stop", "save")


@dataclass
class ExtrapolationCounts:
    """What the watch has seen, restarts included."""

    checks: int = 0  # structures graded
    outside: int = 0  # of these, structures with an atom outside
    events: int = 0  # stretches of such structures
    saved: int = 0
    largest_grade: float = 0.0
    largest_grade_step: int = 0
    largest_grade_atom: int = 0
    largest_ratio: float = 0.0  # largest grade in units of the limit
    first_step: int | None = None  # at which an atom was outside
    stopped: bool = False  # whether the run was stopped for it


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
        warn: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """A watch that warns, stops or saves.

        Args:
            estimator: of the model.
            action: ``warn``, ``stop`` or ``save``.
            interval: steps between checks.
            break_at: the run ends, whatever the action, where a grade passes so many times its limit. Such a
                structure is kept only as the first of an event: farther out there may be nothing but nonsense.
            save_every: of an event that goes on, one in so many of its structures is kept.
            warn: told of each event.
        """
        if action not in ACTIONS:
            raise ConfigError(f"on extrapolation: expected one of {', '.join(ACTIONS)}, received {action!r}.")
        self.counts = ExtrapolationCounts()
        self.saves = action == "save"
        self._stops, self._break_at, self._save_every = action == "stop", break_at, save_every
        self._estimator, self._interval, self._warn = estimator, interval, warn
        self._within, self._outside_in_event = CALM, 0

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`state` gave for a checkpoint."""
        self.counts = ExtrapolationCounts(**state["counts"])
        self.counts.stopped = False
        self._within, self._outside_in_event = int(state["within"]), int(state["outside_in_event"])

    def state(self) -> dict[str, Any]:
        """Plain numbers for a checkpoint."""
        return {"counts": asdict(self.counts), "within": self._within, "outside_in_event": self._outside_in_event}

    def check(self, atoms: Atoms, step: int, time_fs: float, file: IO[bytes] | None) -> bool:
        """Grade the atoms, if it is time to, and perhaps keep them in a file; whether the run is to stop."""
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
        # NOTE: written so that NaN is far.
        far = self._break_at is not None and not grades.values.max() / grades.limit <= self._break_at
        kept = self._outside_in_event == 0 or (self._outside_in_event % self._save_every == 0 and not far)
        if file is not None and self.saves and kept:
            file.write(_format(atoms, grades, step, time_fs).encode())
            self.counts.saved += 1
        self._outside_in_event += 1
        self.counts.stopped = far or self._stops
        return self.counts.stopped

    def _count(self, grades: Grades, step: int) -> None:
        """Add one structure."""
        counts, atom = self.counts, int(np.argmax(grades.values))
        largest = float(grades.values[atom])
        counts.checks += 1
        counts.largest_ratio = max(counts.largest_ratio, float(grades.values.max() / grades.limit))
        if largest > counts.largest_grade:
            counts.largest_grade, counts.largest_grade_step, counts.largest_grade_atom = largest, step, atom
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


def _format(atoms: Atoms, grades: Grades, step: int, time_fs: float) -> str:
    """One frame of extended XYZ with a grade for every atom."""
    frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    frame.set_array("grade", grades.values)
    largest = float(f"{grades.values[grades.worst]:.6g}")
    frame.info = {"step": step, "time_fs": float(f"{time_fs:.10g}"), "largest_grade": largest, "atom": grades.worst}
    text = io.StringIO()
    write_extxyz(text, [frame], columns=["symbols", "positions", "grade"], write_results=False)
    return text.getvalue()
