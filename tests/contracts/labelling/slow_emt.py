"""ASE's effective medium theory, as slow as asked: time enough to kill a run while it labels."""

import time

from ase.calculators.emt import EMT


class SlowEmt(EMT):
    """EMT with a pause before every label."""

    def __init__(self, delay):
        """Pause in s."""
        super().__init__()
        self._delay = delay

    def calculate(self, *arguments, **keywords):
        """Wait, then calculate."""
        time.sleep(self._delay)
        super().calculate(*arguments, **keywords)
