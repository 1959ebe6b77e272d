"""The watch over a run: stops it when it has exploded or lost an atom, instead of writing nonsense."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms, units

from qiskit_qff.array_types import BoolArray, FloatArray, IntArray
from qiskit_qff.errors import SimulationError
from qiskit_qff.simulation.settings import MDSettings
from qiskit_qff.simulation.velocities import kinetic_energy, temperature

_REMEDY = (
    "Use a shorter time step or a lower temperature, or train on data that cover these structures; "
    "the last checkpoint is kept."
)


@dataclass(frozen=True)
class StabilityWatch:
    """Limits that no sound run of these atoms crosses."""

    masses: FloatArray
    """Masses, shape ``(n_atoms,)``, in u."""
    symbols: tuple[str, ...]
    """Chemical symbols, for the messages."""
    volume: float
    """Volume at the start in Å³; 0 for a structure without."""
    bonded: BoolArray
    """Which atoms had a neighbour within the cutoff at the start, shape ``(n_atoms,)``."""
    settings: MDSettings
    """The limits themselves and the time step."""

    def check_motion(self, atoms: Atoms, step: int) -> None:
        """Check, after each step, velocities and volume.

        Raises:
            SimulationError: if a number is not finite, an atom moves too far, or it is too hot.
        """
        momenta = atoms.get_momenta()
        timestep = self.settings.timestep_fs * units.fs
        moves = np.sqrt(np.einsum("ij,ij->i", momenta, momenta)) / self.masses * timestep
        # NOTE: the comparisons are written so that NaN fails them.
        if not moves.max() <= self.settings.maximum_step_ang:
            atom = int(np.argmax(np.where(np.isfinite(moves), moves, np.inf)))
            self._explode(step, f"atom {atom} ({self.symbols[atom]}) moves {moves[atom]:.3g} Å in one step")
        now = temperature(kinetic_energy(momenta, self.masses), len(self.masses))
        if not now <= self.settings.temperature_limit_k:
            limit = self.settings.temperature_limit_k
            self._explode(step, f"temperature {now:.0f} K is above the limit of {limit:.0f} K")
        if self.settings.ensemble == "npt":
            ratio = atoms.get_volume() / self.volume
            if not 0.5 <= ratio <= 2.0:
                self._explode(step, f"volume is {ratio:.2f} times that of the start")

    def check_neighbors(self, n_neighbors: IntArray, step: int) -> None:
        """Check, at each line of the log, that no atom has left all others.

        Raises:
            SimulationError: naming the atom that has no neighbour within the cutoff any more.
        """
        lost = np.flatnonzero((n_neighbors == 0) & self.bonded)
        if len(lost):
            atom = int(lost[0])
            raise SimulationError(
                f"step {step}: lost atom {atom} ({self.symbols[atom]}): no other atom within the cutoff "
                f"({len(lost)} lost in all). {_REMEDY}"
            )

    def _explode(self, step: int, what: str) -> None:
        """Stop the run.

        Raises:
            SimulationError: always.
        """
        raise SimulationError(f"step {step}: the simulation exploded: {what}. {_REMEDY}")
