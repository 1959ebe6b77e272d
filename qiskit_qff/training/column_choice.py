r"""Columns that explain energies and forces and can be measured: a choice that knows what shot noise would cost.

A pair of species is seen from either side, and two channels that differ little can be chosen with huge coefficients of
opposite sign. A linear model loses nothing by that, and decorrelating the features of a species does not see it, but
the readouts of a circuit grow with the coefficients and a measured M drowns in noise. So where the noise of the
configured shots would add much to the loss of the linear model, columns are chosen again, of whose norm more must be
new, and the choice with the least sum of loss and noise is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qiskit_qff.circuit.ansatz import AnsatzSpec, angles_for_vector
from qiskit_qff.compression.compressor import PoolStatistics, SizeLimits
from qiskit_qff.compression.forward_selection import ForwardSelection, SelectionPath
from qiskit_qff.model.config import TrainConfig
from qiskit_qff.training.balance import HALF, balanced_vector
from qiskit_qff.training.budget import circuit_specs
from qiskit_qff.training.shot_noise import SpeciesNoise

FloatArray = NDArray[np.float64]

MUCH = 0.02
"""Noise beyond this fraction of the linear model's loss is worth another choice."""
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
    if config.loss.shots is None or config.circuit.readout_weights != "balanced":
        return path
    loss, noise = loss_and_noise(pool, path, config, selector)
    if noise <= MUCH * loss:
        return path
    trials = [(loss + noise, path)]
    for share in STRICTER:
        other = replace(selector, dependent=share).path(pool, limits, progress=progress)
        trials.append((sum(loss_and_noise(pool, other, config, selector)), other))
    return min(trials, key=lambda trial: trial[0])[1]


def loss_and_noise(
    pool: PoolStatistics, path: SelectionPath, config: TrainConfig, selector: ForwardSelection
) -> tuple[float, float]:
    """Loss of the linear model on some columns, and what measuring its balanced readouts would add on average.

    Args:
        pool: Sums over the pool.
        path: The columns.
        config: The configuration, whose shots are counted.
        selector: Who makes features of them.
    """
    equations, columns = pool.equations, np.sort(path.columns)
    block = equations.gram[np.ix_(columns, columns)]
    scale = 1.0 / np.sqrt(np.diagonal(block))
    scaled = block * np.outer(scale, scale) + 1e-12 * np.eye(len(columns))
    coefficients = scale * np.linalg.solve(scaled, scale * equations.moment[columns])
    loss = equations.constant - float(coefficients @ equations.moment[columns])
    starts, numbers = pool.tables.channel_start, pool.tables.species.tolist()
    inside = [(columns >= starts[s]) & (columns < starts[s + 1]) for s in range(len(numbers))]
    specs = circuit_specs(config, np.array([mine.sum() + 1 for mine in inside]))
    noise, maps = 0.0, selector.maps(pool, SelectionPath(columns, path.losses))
    for number, mine, spec in zip(numbers, inside, specs, strict=True):
        matrix = maps[number].matrix
        used = np.flatnonzero(matrix.any(axis=0))
        square = matrix[:, used]
        terms = np.linalg.solve(square.T, coefficients[mine])
        noise += _noise(spec, terms, square @ block[np.ix_(mine, mine)] @ square.T)
    assert config.loss.shots is not None  # for the type checker: nobody asks otherwise
    return loss, noise / config.loss.shots


def _noise(spec: AnsatzSpec, terms: FloatArray, gram: FloatArray) -> float:
    """Loss that one shot a state adds to a balanced readout.

    Args:
        spec: Circuit and readout of the species.
        terms: Linear terms of its features, shape ``(d,)``, in eV.
        gram: Second moments of the features in units of the loss, shape ``(d, d)``.
    """
    size = spec.n_amplitudes
    entries = np.zeros((size * (size + 1) // 2,) * 2)
    # Entry M_0k of the upper triangle stands for 2 M_0k y_k.
    entries[1:size, 1:size] = 4.0 * gram
    theta = angles_for_vector(spec, balanced_vector(np.concatenate([[HALF], terms])))
    return SpeciesNoise.from_gram(spec, entries).value(theta, np.array([np.linalg.norm(terms)]))
