r"""From the measured Z strings of a register to its readouts, with the covariances that one shot record implies.

All readouts are diagonal, hence sums of Z strings, :math:`r_k = \sum_a c_{ka} Z_a`, and all strings come from
the same shots. Estimators report a standard error per string but not how strings fluctuate together, although
for N shots

.. math:: \mathrm{cov}(Z_a, Z_b) = (\langle Z_{a \oplus b}\rangle - \langle Z_a\rangle\langle Z_b\rangle) / N.

So every string is measured (no extra circuits), the correlations are computed from them, and scaled to the errors that
the estimator reports, which include the price of error mitigation.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from qiskit.quantum_info import SparsePauliOp

from qiskit_qff.array_types import FloatArray
from qiskit_qff.circuit.ansatz import walsh_signs
from qiskit_qff.errors import BackendError
from qiskit_qff.evaluators.protocol import Evaluation

Arrays = Mapping[str, FloatArray]
"""Data of a PUB by name, shape ``(n_observables, batch)``; of noise factors with one more axis."""
RESULT_ARRAYS = ("evs", "stds", "evs_noise_factors", "stds_noise_factors", "twirl_stds")
"""What the data of a PUB may hold: values, errors, and what error mitigation adds."""


def string_observables(n_qubits: int) -> list[SparsePauliOp]:
    """Every Z string but the identity; that of number m acts on the qubits of the bits of m."""
    labels = (f"{mask:0{n_qubits}b}" for mask in range(1, 2**n_qubits))
    return [SparsePauliOp(label.replace("0", "I").replace("1", "Z")) for label in labels]


def read_strings(data: Arrays, readouts: FloatArray, shots: int) -> Evaluation:
    """Readouts of diagonals ``(n_readouts, 2**n)`` from the values and errors of all Z strings."""
    strings, errors = _finite(data, shots)
    masks = np.arange(readouts.shape[1])
    spectrum = readouts @ walsh_signs(masks, len(masks)) / len(masks)
    # One imaginary shot spread over all outcomes keeps an error from being zero where no event was seen.
    shrunk = np.clip(strings, -1.0, 1.0) * shots / (shots + 1)
    spread = np.sqrt(1.0 - shrunk**2)
    scale = np.maximum(errors, spread / np.sqrt(shots)) / spread
    products = np.concatenate([np.ones((len(strings), 1)), shrunk], axis=1)[:, masks[1:, None] ^ masks[1:]]
    covariances = products - shrunk[:, :, None] * shrunk[:, None, :]
    scaled = spectrum[None, :, 1:] * scale[:, None, :]
    return Evaluation(spectrum[:, 0] + strings @ spectrum[:, 1:].T, scaled @ covariances @ scaled.transpose(0, 2, 1))


def read_readouts(data: Arrays, shots: int | None) -> Evaluation:
    """The same from readouts that an estimator measured one by one with independent normal noise, or exactly."""
    values, errors = _finite(data, shots)
    # StatevectorEstimator adds noise of the requested precision, but reports a standard error of zero.
    errors = np.maximum(errors, 0.0 if shots is None else 1.0 / np.sqrt(shots))
    return Evaluation(values, errors[:, :, None] ** 2 * np.eye(errors.shape[1]))


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
