r"""Columns that explain energies and forces and can be measured: a choice that knows what shot noise would cost.

A pair of species is seen from either side, and two channels that differ little can be chosen with huge coefficients of
opposite sign. A linear model loses nothing by that, and decorrelating the features of a species does not see it, but
the readouts of a circuit grow with the coefficients and a measured M drowns in noise. So where the noise of the
configured shots would add much to the loss of the linear model, columns are chosen again, of whose norm more must be
new. Training lowers the sum of loss and noise, and a balanced readout's noise is a multiple of the square of its terms,
so where it ends on each choice is a ridge regression away. Another choice is taken where the loss that is left there,
noise not counted, falls by much: noise can be bought off with shots, the errors of a model can't.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.compression.compressor import PoolStatistics, SizeLimits
from qiskit_qff.compression.forward_selection import ForwardSelection, SelectionPath, linear_terms
from qiskit_qff.model.config import TrainConfig
from qiskit_qff.training.balance import BalancedRegister
from qiskit_qff.training.budget import is_balanced, register_sizes
from qiskit_qff.training.objective import solve_scaled

MUCH = 0.02
"""Noise beyond this fraction of the linear model's loss is worth another choice."""
GAIN = 0.05
"""Fraction of the loss after training that another choice must save."""
STRICTER = (1e-3, 3e-3, 1e-2)
"""Shares of a column's norm that have to be new, in the choices that follow; more cost more than noise did."""


def choose_columns(
    pool: PoolStatistics,
    config: TrainConfig,
    limits: SizeLimits,
    selector: ForwardSelection,
    *,
    progress: Callable[[int], None],
) -> SelectionPath:
    """Select columns, again where shot noise would cost much.

    Args:
        pool: Sums over the pool.
        config: The configuration.
        limits: Numbers of features allowed.
        selector: How columns are selected.
        progress: Called with the number of kicks done.
    """
    path = selector.path(pool, limits, progress=progress)
    if config.loss.shots is None or not is_balanced(config):
        return path
    first = noise_of_choice(pool, path, config, selector)
    if first.noise <= MUCH * first.loss:
        return path
    best, least = path, (1.0 - GAIN) * first.trained
    for share in STRICTER:
        other = replace(selector, dependent=share).path(pool, limits, progress=progress)
        found = noise_of_choice(pool, other, config, selector)
        if found.trained < least:
            best, least = other, found.trained
    return best


@dataclass(frozen=True)
class NoiseOfChoice:
    """What some columns come to, in units of the loss."""

    loss: float
    """Loss of the linear model."""
    noise: float
    """What measuring its balanced readouts would add on average."""
    reachable: float
    """Least sum of both over the linear terms."""
    trained: float
    """The loss in this sum."""


def noise_of_choice(
    pool: PoolStatistics, path: SelectionPath, config: TrainConfig, selector: ForwardSelection
) -> NoiseOfChoice:
    """Loss of linear models on some columns, and the noise of measuring them.

    Args:
        pool: Sums over the pool.
        path: The columns.
        config: The configuration, whose shots are counted.
        selector: Who makes features of them.
    """
    assert config.loss.shots is not None  # for the type checker: nobody asks otherwise
    equations = pool.equations
    linear = linear_terms(pool, path, selector.sorted_maps(pool, path))
    noise, ridge = 0.0, np.zeros(len(linear.terms))
    n_qubits, begin = config.circuit.n_qubits, 0
    for count in linear.counts:
        for size in register_sizes(config, count):
            own = slice(begin, begin + size)
            added = _noise(linear.terms[own], linear.gram[own, own], n_qubits) / config.loss.shots
            noise, ridge[own] = noise + added, added / max(float(linear.terms[own] @ linear.terms[own]), 1e-300)
            begin += size
    shrunk = solve_scaled(linear.gram + np.diag(ridge), linear.moment)
    least = equations.constant - float(linear.moment @ shrunk)
    trained = least - float(shrunk**2 @ ridge)
    return NoiseOfChoice(equations.constant - float(linear.terms @ linear.moment), noise, least, trained)


def _noise(terms: FloatArray, gram: FloatArray, n_qubits: int) -> float:
    """Loss that one shot per setting adds to a balanced register.

    Args:
        terms: Linear terms of its features, shape ``(d,)``, in eV.
        gram: Second moments of the features in units of the loss, shape ``(d, d)``.
        n_qubits: Qubits of the register.
    """
    size = len(terms) + 1
    entries = np.zeros((size * (size + 1) // 2,) * 2)
    # Entry M_0k of the upper triangle stands for 2 M_0k y_k.
    entries[1:size, 1:size] = 4.0 * gram
    return BalancedRegister.of(entries, size, n_qubits).shot_noise(terms, 1.0)[0]
