r"""From the measured Z strings of one PUB to readouts, with the covariances that one shot record implies.

All readouts are diagonal, hence sums of Z strings, :math:`r_k = \sum_a c_{ka} Z_a`, and all strings come from
the same shots. Estimators report a standard error per string but not how strings fluctuate together, although
for N shots

.. math:: \mathrm{cov}(Z_a, Z_b) = (\langle Z_{a \oplus b}\rangle - \langle Z_a\rangle\langle Z_b\rangle) / N.

So all products of the strings are measured too (no extra circuits), the correlations are computed from them,
and scaled to the errors that the estimator reports, which include the price of error mitigation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from qiskit.quantum_info import SparsePauliOp

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.circuit.ansatz import MeasurementTask, walsh_signs
from qiskit_qff.errors import BackendError

Arrays = Mapping[str, FloatArray]
"""Data of a PUB by name, shape ``(n_observables, batch)``; of noise factors with one more axis."""

RESULT_ARRAYS = ("evs", "stds", "evs_noise_factors", "stds_noise_factors", "twirl_stds")
"""What the data of a PUB may hold: values, errors, and what error mitigation adds."""


@dataclass(frozen=True, eq=False)
class StringSet:
    """The Z strings that a set of readouts needs."""

    n_qubits: int
    """Number of qubits."""
    masks: IntArray
    """Qubits of each string as bits, closed under products, without the identity, shape ``(n_strings,)``."""
    coefficients: FloatArray
    """c in ``readouts = constant + c @ strings``, shape ``(n_readouts, n_strings)``."""
    constant: FloatArray
    """Identity part of the readouts, shape ``(n_readouts,)``."""

    def observables(self) -> list[SparsePauliOp]:
        """One observable per string."""
        labels = ["".join("Z" if mask >> q & 1 else "I" for q in reversed(range(self.n_qubits))) for mask in self.masks]
        return [SparsePauliOp(label) for label in labels]

    def readout_values(self, strings: FloatArray) -> FloatArray:
        """Readouts ``(batch, n_readouts)`` from string values ``(batch, n_strings)``."""
        return np.asarray(self.constant + strings @ self.coefficients.T)

    def readout_covariances(self, strings: FloatArray, std_errors: FloatArray, shots: int) -> FloatArray:
        """Covariances ``(batch, n_readouts, n_readouts)`` within each state, from strings and their reported errors."""
        # One imaginary shot spread over all outcomes keeps an error from being zero where no event was seen.
        shrunk = np.clip(strings, -1.0, 1.0) * shots / (shots + 1)
        spread = np.sqrt(1.0 - shrunk**2)
        scale = np.maximum(std_errors, spread / np.sqrt(shots)) / spread
        padded = np.concatenate([np.ones((len(strings), 1)), shrunk], axis=1)
        position = np.zeros(2**self.n_qubits, dtype=np.int64)
        position[self.masks] = np.arange(1, len(self.masks) + 1)
        products = padded[:, position[self.masks[:, None] ^ self.masks[None, :]]]
        covariances = products - shrunk[:, :, None] * shrunk[:, None, :]
        scaled = self.coefficients[None] * scale[:, None, :]
        return np.asarray(scaled @ covariances @ scaled.transpose(0, 2, 1))


@lru_cache(maxsize=1024)
def string_set(task: MeasurementTask) -> StringSet:
    """Z strings for the readouts of a task."""
    readouts = task.readouts
    size = readouts.shape[1]
    spectrum = readouts @ walsh_signs(np.arange(size), size) / size
    spectrum[np.abs(spectrum) < 1e-13 * np.abs(readouts).max()] = 0.0
    group = {0}
    for mask in np.flatnonzero(spectrum.any(axis=0)):
        group |= {int(mask) ^ other for other in group}
    masks = np.array(sorted(group - {0}), dtype=np.int64)
    return StringSet(size.bit_length() - 1, masks, spectrum[:, masks], spectrum[:, 0])


def read_strings(data: Arrays, strings: StringSet, shots: int) -> tuple[FloatArray, FloatArray]:
    """Readouts ``(batch, n_readouts)`` and their covariances from ``evs`` and ``stds`` ``(n_strings, batch)``."""
    values, errors = _finite(data, shots)
    return strings.readout_values(values), strings.readout_covariances(values, errors, shots)


def read_readouts(data: Arrays, shots: int | None) -> tuple[FloatArray, FloatArray]:
    """The same from readouts that an estimator measured one by one with independent normal noise, or exactly."""
    values, errors = _finite(data, shots)
    # StatevectorEstimator adds noise of the requested precision, but reports a standard error of zero.
    errors = np.maximum(errors, 0.0 if shots is None else 1.0 / np.sqrt(shots))
    return values, errors[:, :, None] ** 2 * np.eye(errors.shape[1])


def _finite(data: Arrays, shots: int | None) -> tuple[FloatArray, FloatArray]:
    """Values and errors ``(batch, n_observables)``; failed extrapolations replaced by the lowest noise factor."""
    values, errors = data["evs"].T.astype(float), data["stds"].T.astype(float)
    if "twirl_stds" in data:
        # Random circuits differ by more than their shots, above all under PEC: the larger error is the honest one.
        errors = np.fmax(errors, data["twirl_stds"].T)
    bad = ~(np.isfinite(values) & np.isfinite(errors))
    if not bad.any():
        return values, errors
    if "evs_noise_factors" not in data:
        raise BackendError(
            f"{int(bad.sum())} of {bad.size} expectation values came back without a finite value or error. "
            "Use another mitigation preset or more shots."
        )
    levels, level_errors = (data[name].swapaxes(0, 1) for name in ("evs_noise_factors", "stds_noise_factors"))
    floor = 0.0 if shots is None else 1.0 / np.sqrt(shots)
    # The bias that extrapolation would have removed is unknown: its size at the next noise factor counts as an error.
    step = levels[..., 1] - levels[..., 0]
    fallback = np.hypot(np.nan_to_num(level_errors[..., 0], nan=floor, posinf=floor), step)
    return np.where(bad, levels[..., 0], values), np.where(bad, fallback, errors)
