"""ASE's effective medium theory, as slow as asked: time enough to kill a run while it labels."""

import time
from dataclasses import dataclass
from pathlib import Path

from qiskit_qff.labelling.labels import Label
from qiskit_qff.labelling.options import AseOptions
from qiskit_qff.labelling.registry import make_labeller
from qiskit_qff.structures.frame import Frame


@dataclass(frozen=True)
class SlowEmt:
    """EMT with a pause before every label."""

    delay: float
    name: str = "emt"
    level: str = "emt {}"
    settings_hash: str = make_labeller("emt", AseOptions()).settings_hash

    def check(self) -> None:
        """Always there."""

    def label(self, frame: Frame, directory: Path) -> Label:
        """Wait, then label."""
        time.sleep(self.delay)
        return make_labeller("emt", AseOptions()).label(frame, directory)
