"""The watch for extrapolation: every few steps it grades all atoms, and warns, stops or keeps the structure.

Kept structures go to ``extrapolating.extxyz``, without energies or forces: they are there to be labelled. At a restart
the file and the counts go back to the checkpoint, like everything else.
"""

import io
from collections.abc import Callable
from typing import IO, Any

import numpy as np
from ase import Atoms
from ase.io.extxyz import write_extxyz

from qiskit_qff.errors import ConfigError
from qiskit_qff.model.uncertainty import Grades, UncertaintyEstimator
from qiskit_qff.structures.frame import species_index

EXTRAPOLATING = "extrapolating.extxyz"
INTERVAL = 10  # steps between checks: the fastest vibration, C-H or O-H at 0.5 fs a step, is still seen twice a period
SAVE_EVERY = 10  # of the structures with an atom outside, the first is kept, and then one of so many
ACTIONS = ("warn", "stop", "save")


class ExtrapolationWatch:
    """Grades the atoms of one run.

    ``counts`` is what it has seen, restarts included: structures graded (``checks``), those with an atom outside, and
    those saved; the first step with an atom outside; the largest grade, at which step and atom, and as a multiple of
    the limit; and whether the run was stopped.
    """

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
                structure is kept only if it is the first outside: farther out there may be nothing but nonsense.
            save_every: of the structures with an atom outside, one in so many is kept.
            warn: told of the first one.
        """
        if action not in ACTIONS:
            raise ConfigError(f"on extrapolation: expected one of {', '.join(ACTIONS)}, received {action!r}.")
        self.counts: dict[str, Any] = {"checks": 0, "outside": 0, "saved": 0, "first_step": None, "stopped": False}
        self.counts |= {"largest_grade": 0.0, "largest_grade_step": 0, "largest_grade_atom": 0, "largest_ratio": 0.0}
        self.saves = action == "save"
        self._stops, self._break_at, self._save_every = action == "stop", break_at, save_every
        self._estimator, self._interval, self._warn = estimator, interval, warn

    def check(self, atoms: Atoms, step: int, time_fs: float, file: IO[bytes] | None) -> bool:
        """Grade the atoms, if it is time to, and perhaps keep them in a file; whether the run is to stop."""
        if step % self._interval:
            return False
        atoms.get_potential_energy()  # computed already, unless the integrator moved atoms since
        kinds = species_index(atoms.numbers, self._estimator.species, where="structure")
        grades, counts = self._estimator.grades(kinds, atoms.calc.neighbors), self.counts
        atom = int(np.argmax(grades.values))
        counts["checks"] += 1
        counts["largest_ratio"] = max(counts["largest_ratio"], float(grades.values.max() / grades.limit))
        if (largest := float(grades.values[atom])) > counts["largest_grade"]:
            counts |= {"largest_grade": largest, "largest_grade_step": step, "largest_grade_atom": atom}
        if not grades.outside.any():
            return False
        if counts["first_step"] is None:
            counts["first_step"] = step
            self._warn(
                f"step {step}: atom {grades.worst} ({atoms.symbols[grades.worst]}) is outside the training data: "
                f"extrapolation grade {grades.values[grades.worst]:.2f}, limit {grades.limit:.2f}"
            )
        # NOTE: written so that NaN is far.
        far = self._break_at is not None and not grades.values.max() / grades.limit <= self._break_at
        kept = counts["outside"] == 0 or (counts["outside"] % self._save_every == 0 and not far)
        if file is not None and self.saves and kept:
            file.write(_format(atoms, grades, step, time_fs).encode())
            counts["saved"] += 1
        counts["outside"] += 1
        counts["stopped"] = far or self._stops
        return far or self._stops


def _format(atoms: Atoms, grades: Grades, step: int, time_fs: float) -> str:
    """One frame of extended XYZ with a grade for every atom."""
    frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    frame.set_array("grade", grades.values)
    largest = float(f"{grades.values[grades.worst]:.6g}")
    frame.info = {"step": step, "time_fs": float(f"{time_fs:.10g}"), "largest_grade": largest, "atom": grades.worst}
    text = io.StringIO()
    write_extxyz(text, [frame], columns=["symbols", "positions", "grade"], write_results=False)
    return text.getvalue()
