r"""A register's energy matrix as a device measured it: what a calibrated model carries in its file.

The variances are those of the independent errors of what was measured, the vector u of a rank-one readout or the values
in pair states; they give the covariance of all entries of M, so every energy and force computed from M has a standard
error. Kept in the ``measured`` entry of a register.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.errors import ConfigError

Design = Literal["settings", "pairs", "signed_pairs", "first_column"]
"""How M was measured: n + 1 settings of its vector, or pair states; in files of version 0.1 also in two ways of which
only M itself is read, not its errors."""


@dataclass(frozen=True)
class Provenance:
    """Where a measurement comes from; never an account or a token."""

    backend: str
    """Name of the backend."""
    shots: int | None
    """Shots per circuit; None where values are exact."""
    mitigation: str = "none"
    """Preset of error mitigation."""
    date: str = ""
    """When it was measured, ISO 8601."""
    seed: int | None = None
    """Seed of a simulated measurement."""
    dynamical_decoupling: bool = False
    """Whether idle qubits were decoupled."""
    options: Mapping[str, Any] | None = None
    """Options of the runtime's Estimator that replaced those of the preset."""
    noise_model: str = ""
    """Where the noise model of the mitigation came from, for example a job of the noise learner; empty without one."""
    qubits: tuple[int, ...] = ()
    """Physical qubits of the device, along their line; empty where there is no device."""
    two_qubit_errors: tuple[float, ...] = ()
    """Error of the two-qubit gate on each bond of the line when it was measured."""
    readout_errors: tuple[float, ...] = ()
    """Readout error of each of the qubits when it was measured."""
    job_ids: tuple[str, ...] = ()
    """The server's ids of the jobs that measured it."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Provenance:
        """Read back what a model file holds."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        return cls(**values)


@dataclass(frozen=True, eq=False)
class MeasuredOperator:
    """M of one register, measured, with its uncertainty."""

    matrix: FloatArray
    """M in eV, symmetric, shape ``(2**n, 2**n)``; zero beyond the program's amplitudes."""
    variances: FloatArray
    """Variance of each independent error, shape ``(n_errors,)``: in eV² of a state's value, or of u by settings."""
    design: Design
    """How it was measured."""
    modes: FloatArray | None = None
    """By settings the directions of the errors of u, shape ``(n_errors, 2**n)``."""
    provenance: Provenance = Provenance("", None)
    """Where it comes from."""

    def __post_init__(self) -> None:
        """Check that the numbers are a symmetric matrix and variances."""
        square = self.matrix.ndim == 2 and self.matrix.shape[0] == self.matrix.shape[1]
        if not square or not np.isfinite(self.matrix).all() or not np.allclose(self.matrix, self.matrix.T, rtol=1e-9):
            raise ConfigError(f"A measured M must be finite and symmetric; shape {self.matrix.shape} was found.")
        if not np.isfinite(self.variances).all() or (self.variances < 0.0).any():
            raise ConfigError("The variances of a measured M must be finite and not negative; measure it again.")
        if self.design not in get_args(Design):
            raise ConfigError(f"M was measured by an unknown design '{self.design}'; measure it again.")

    def check(self, n_qubits: int, n_amplitudes: int) -> None:
        """Refuse what was not measured of a register of this size."""
        size, n_errors = 2**n_qubits, len(self.variances)
        if len(self.matrix) != size:
            raise ConfigError(f"A measured M of {size} rows is expected; {len(self.matrix)} were found.")
        if self.design == "settings" and (self.modes is None or self.modes.shape != (n_errors, size)):
            raise ConfigError(
                f"The calibration in this model file is incomplete: {size} amplitudes with their errors are expected. "
                "Calibrate again."
            )
        n_states = n_amplitudes * (n_amplitudes + 1) // 2
        if self.design == "pairs" and self.variances.shape != (n_states,):
            raise ConfigError(f"{n_states} variances of M are expected; shape {self.variances.shape} was found.")

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists for a model file."""
        content = {} if self.modes is None else {"modes": self.modes.tolist()}
        return {
            "matrix": self.matrix.tolist(),
            "variances": self.variances.tolist(),
            "design": self.design,
            "provenance": asdict(self.provenance),
            **content,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> MeasuredOperator:
        """Read back what :meth:`to_dict` wrote."""
        return cls(
            matrix=np.asarray(data["matrix"], dtype=np.float64),
            variances=np.asarray(data["variances"], dtype=np.float64),
            design=data["design"],
            modes=np.asarray(data["modes"], dtype=np.float64) if "modes" in data else None,
            provenance=Provenance.from_dict(data["provenance"]),
        )
