r"""A species' energy matrix as a device measured it: what a calibrated model carries in its file.

The variances are those of the states that were measured; with the design they give the covariance of all entries of M,
so every energy and force computed from M has a standard error. Kept in the ``measured`` entry of a species.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.circuit.program import BoundProgram
from qiskit_qff.errors import ConfigError
from qiskit_qff.evaluators.protocol import Cost
from qiskit_qff.evaluators.strategies.designs import DesignName, operator_design
from qiskit_qff.evaluators.strategies.operator import MeasuredOperator, vector_operator
from qiskit_qff.evaluators.strategies.spectrum import known_spectrum
from qiskit_qff.evaluators.strategies.vector import programmed_vector


@dataclass(frozen=True)
class Provenance:
    """Where a measurement comes from; never an account or a token."""

    backend: str
    """Name of the backend."""
    shots: int | None
    """Shots per circuit; None where values are exact."""
    mitigation: str
    """Preset of error mitigation."""
    date: str
    """When it was measured, ISO 8601."""
    seed: int | None = None
    """Seed of a simulated measurement."""
    dynamical_decoupling: bool = False
    """Whether idle qubits were decoupled."""
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
        """Read back what a model file holds.

        Args:
            data: The entries; lists become tuples.
        """
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        return cls(**values)


@dataclass(frozen=True, eq=False)
class CalibratedOperator:
    """M of one species, measured, with its uncertainty."""

    matrix: FloatArray
    """M in eV, symmetric, shape ``(2**n, 2**n)``."""
    variances: FloatArray
    """Variance of each measured state in eV², shape ``(n_states,)``; by design ``settings`` of each error of u."""
    design: DesignName
    """Which states were measured."""
    spectrum_known: bool
    """Whether M was given the eigenvalues that its readout is known to have."""
    provenance: Provenance
    """Where it comes from."""
    modes: FloatArray | None = None
    """By design ``settings`` the directions of the errors of u, shape ``(n_errors, 2**n)``."""

    def __post_init__(self) -> None:
        """Check that the numbers are a symmetric matrix and variances.

        Raises:
            ConfigError: If they are not.
        """
        square = self.matrix.ndim == 2 and self.matrix.shape[0] == self.matrix.shape[1]
        if not square or not np.isfinite(self.matrix).all() or not np.allclose(self.matrix, self.matrix.T, rtol=1e-9):
            raise ConfigError(f"A measured M must be finite and symmetric; shape {self.matrix.shape} was found.")
        if not np.isfinite(self.variances).all() or (self.variances < 0.0).any():
            raise ConfigError("The variances of a measured M must be finite and not negative; measure it again.")

    def operator(self, bound: BoundProgram) -> MeasuredOperator:
        """The measurement, ready to propagate its errors.

        Args:
            bound: Circuit and parameters that were measured.

        Raises:
            ConfigError: If they do not fit each other.
        """
        program = bound.program
        if self.design == "settings":
            return self._by_vector(bound)
        plan = operator_design(program.n_amplitudes, program.n_qubits, self.design)
        if len(self.matrix) != 2**program.n_qubits or self.variances.shape != (plan.n_states,):
            raise ConfigError(
                f"A measured M of {2**program.n_qubits} rows and {plan.n_states} variances are expected; "
                f"shapes {self.matrix.shape} and {self.variances.shape} were found."
            )
        measured = MeasuredOperator(self.matrix, plan, self.variances, Cost())
        spectrum = known_spectrum(bound) if self.spectrum_known else None
        return measured if spectrum is None else measured.with_spectrum(spectrum)

    def _by_vector(self, bound: BoundProgram) -> MeasuredOperator:
        """The measurement of a rank-one readout.

        Raises:
            ConfigError: If its parts do not fit the circuit.
        """
        size = 2**bound.program.n_qubits
        if self.modes is None or self.modes.shape != (len(self.variances), size) or len(self.matrix) != size:
            raise ConfigError(f"A measured vector of {size} amplitudes with its errors is expected; measure it again.")
        weight = float(bound.weights[0])
        row = int(np.argmax(np.abs(np.diagonal(self.matrix))))
        length = np.sqrt(weight * self.matrix[row, row])
        vector = np.sign(weight) * self.matrix[row] / length if length > 0.0 else programmed_vector(bound)
        return vector_operator(bound, vector, self.modes, self.variances, Cost())

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists for a model file."""
        content = {} if self.modes is None else {"modes": self.modes.tolist()}
        return {
            "matrix": self.matrix.tolist(),
            "variances": self.variances.tolist(),
            "design": self.design,
            "spectrum_known": self.spectrum_known,
            "provenance": asdict(self.provenance),
            **content,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CalibratedOperator:
        """Read back what :meth:`to_dict` wrote.

        Args:
            data: The dictionary.
        """
        return cls(
            matrix=np.asarray(data["matrix"], dtype=np.float64),
            variances=np.asarray(data["variances"], dtype=np.float64),
            design=cast("DesignName", data["design"]),
            spectrum_known=bool(data["spectrum_known"]),
            provenance=Provenance.from_dict(data["provenance"]),
            modes=np.asarray(data["modes"], dtype=np.float64) if "modes" in data else None,
        )
