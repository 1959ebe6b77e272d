"""A calculator that does to worker processes what real programs do: it crashes, hangs, raises, and returns NaN.

What it does is up to the element of the first atom; otherwise the energy is the sum of the squared positions.
"""

import os
import subprocess
import time
from pathlib import Path

import numpy as np
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes

CRASH, HANG, FAIL, NAN = "He", "Ne", "Ar", "Kr"


class Springs(Calculator):
    """Springs to the origin of strength 2, and trouble on demand."""

    implemented_properties = ("energy", "forces", "stress", "charges")

    def __init__(self, delay=0.0, healed=False, pid_file="", strength=2.0):
        """Delay in s; healed: no trouble; pid_file: gets the id of a program that hangs."""
        super().__init__()
        self._delay, self._healed, self._pid_file, self._strength = delay, healed, pid_file, strength

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        """Calculate, or do what the first atom says."""
        super().calculate(atoms, properties, system_changes)
        time.sleep(self._delay)
        does = "" if self._healed else atoms.symbols[0]
        if does == CRASH:
            os.write(2, b"heap corrupted\n")
            os.abort()
        if does == HANG:
            program = subprocess.Popen(["sleep", "1000"])
            Path(self._pid_file).write_text(str(program.pid))
            program.wait()
        if does == FAIL:
            raise CalculationFailed("the SCF\nran away")
        forces = -self._strength * atoms.positions
        if does == NAN:
            forces[1, 2] = np.nan
        self.results = {
            "energy": 0.5 * self._strength * float((atoms.positions**2).sum()),
            "forces": forces,
            "stress": np.array([0.01, 0.01, 0.01, 0.0, 0.0, 0.0]),
            "charges": np.arange(len(atoms)) * 0.1,
            "scf_iterations": os.getpid(),
        }
