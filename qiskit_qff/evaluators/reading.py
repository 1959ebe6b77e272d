"""From the result of one PUB to readout values and covariances, here or on another machine later."""

from __future__ import annotations

from typing import Any

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.errors import BackendError
from qiskit_qff.evaluators.z_strings import StringSet

RESULT_ARRAYS = ("evs", "stds", "evs_noise_factors", "stds_noise_factors", "twirl_stds")
"""What the data of a PUB may hold: values, errors, and what error mitigation adds."""


def read_strings(data: Any, strings: StringSet, shots: int) -> tuple[FloatArray, FloatArray, int]:
    """Readouts from measured Z strings.

    Args:
        data: ``evs`` and ``stds`` of shape ``(n_strings, batch)``, and what the mitigation adds to them.
        strings: The strings, in the order of the first axis.
        shots: Executions per parameter set.

    Returns:
        Values ``(batch, n_readouts)``, covariances ``(batch, n_readouts, n_readouts)``, and the number of values that
        fell back to the unextrapolated ones.

    Raises:
        BackendError: If values are not finite and there is nothing to fall back to.
    """
    values, errors, replaced = _finite(data, shots)
    return strings.readout_values(values), strings.readout_covariances(values, errors, shots), replaced


def read_readouts(data: Any, shots: int | None) -> tuple[FloatArray, FloatArray, int]:
    """Readouts that were measured one by one by an estimator with independent normal noise.

    Args:
        data: ``evs`` and ``stds`` of shape ``(n_readouts, batch)``.
        shots: Executions per parameter set; None for exact values.

    Returns:
        As :func:`read_strings`.

    Raises:
        BackendError: If values are not finite.
    """
    values, errors, replaced = _finite(data, shots)
    # StatevectorEstimator adds noise of the requested precision, but reports a standard error of zero.
    errors = np.maximum(errors, 0.0 if shots is None else 1.0 / np.sqrt(shots))
    return values, errors[:, :, None] ** 2 * np.eye(errors.shape[1]), replaced


def _finite(data: Any, shots: int | None) -> tuple[FloatArray, FloatArray, int]:
    """Values and errors ``(batch, n_observables)``; failed extrapolations replaced by the lowest noise factor."""
    values, errors = np.array(data.evs, dtype=float).T, np.array(data.stds, dtype=float).T
    if getattr(data, "twirl_stds", None) is not None:
        # Random circuits differ by more than their shots, above all under PEC: the larger error is the honest one.
        errors = np.fmax(errors, np.array(data.twirl_stds, dtype=float).T)
    bad = ~(np.isfinite(values) & np.isfinite(errors))
    if not bad.any():
        return values, errors, 0
    if getattr(data, "evs_noise_factors", None) is None:
        raise BackendError(
            f"{int(bad.sum())} of {bad.size} expectation values came back without a finite value or error. "
            "Use another mitigation preset or more shots."
        )
    levels = np.asarray(data.evs_noise_factors, dtype=float).swapaxes(0, 1)
    raw_errors = np.asarray(data.stds_noise_factors, dtype=float).swapaxes(0, 1)[..., 0]
    floor = 0.0 if shots is None else 1.0 / np.sqrt(shots)
    # The bias that extrapolation would have removed is unknown: its size at the next noise factor counts as an error.
    step = levels[..., 1] - levels[..., 0]
    fallback = np.hypot(np.nan_to_num(raw_errors, nan=floor, posinf=floor), step)
    return np.where(bad, levels[..., 0], values), np.where(bad, fallback, errors), int(bad.sum())
