r"""An estimate of the time that measurements take on a quantum processor.

.. math:: t = t_{job} + N_{shots}\,f\,(t_{delay} + t_{circuit})

with one overhead per job, the idle time between two shots, the duration of a circuit and a factor f for what
error mitigation runs in addition. An estimate for planning: a provider's own accounting decides.
"""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_REPETITION_DELAY = 250e-6
"""What IBM documents for its Eagle and Heron processors, in s; Nighthawk ones state 1 to 4 ms."""


@dataclass(frozen=True)
class TimingModel:
    """Times that make up a job, in s."""

    job_overhead: float = 2.0
    """Loading and compiling one job."""
    repetition_delay: float = DEFAULT_REPETITION_DELAY
    """Time between two shots; a backend states its own as ``default_rep_delay``."""
    circuit_duration: float = 10e-6
    """Duration of one execution, reset and readout included."""
    mitigation_factor: float = 1.0
    """Executions per shot that error mitigation adds: noise factors, calibration circuits, sampling
    overhead."""

    def seconds(self, *, shots: int, jobs: int) -> float:
        """Estimated processor time in s."""
        per_shot = self.repetition_delay + self.circuit_duration
        return jobs * self.job_overhead + shots * self.mitigation_factor * per_shot
