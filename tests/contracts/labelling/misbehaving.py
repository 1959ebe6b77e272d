"""A labeller that does to worker processes what real programs do: it crashes, hangs, raises, and returns NaN.

What it does to a frame is the frame's tag ``does``; otherwise the energy is a sum over squared positions.
"""

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qiskit_qff.labelling.labels import RUN, Label, LabelError
from qiskit_qff.structures.frame import Frame


@dataclass(frozen=True)
class Misbehaving:
    """Springs to the origin of strength 2, and trouble on demand."""

    settings_hash: str = "h1"
    delay: float = 0.0
    healed: bool = False
    name: str = "springs"
    level: str = "harmonic"

    def check(self) -> None:
        """Always there."""

    def label(self, frame: Frame, directory: Path) -> Label:
        """Label, or do what the frame says."""
        (directory / RUN).mkdir(exist_ok=True)
        (directory / RUN / "input").write_text("springs")
        time.sleep(self.delay)
        does = "" if self.healed else frame.tags.get("does", "")
        if does == "crash":
            os.write(2, b"segmentation fault, core dumped\n")
            os._exit(139)
        if does == "hang":
            program = subprocess.Popen(["sleep", "1000"])  # as a labeller that runs a program
            (directory / RUN / "pid").write_text(str(program.pid))
            program.wait()
        if does == "raise":
            raise LabelError("not-converged", "the SCF\nran away")
        forces = -2.0 * frame.positions
        if does == "nan":
            forces[1, 2] = np.nan
        return Label(
            energy=float((frame.positions**2).sum()),
            forces=forces,
            stress=np.eye(3) * 0.01,
            version="springs 1",
            input_hash="0" * 64,
            columns={"spring_lengths": np.arange(frame.n_atoms) * 0.1},
            tags={"label_pid": os.getpid()},
        )
