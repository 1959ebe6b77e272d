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
    if config.loss.shots is None or config.circuit.readout_weights != "balanced":
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
    equations, columns = pool.equations, np.sort(path.columns)
    starts, numbers = pool.tables.channel_start, pool.tables.species.tolist()
    inside = [(columns >= starts[s]) & (columns < starts[s + 1]) for s in range(len(numbers))]
    specs = circuit_specs(config, np.array([mine.sum() + 1 for mine in inside]))
    maps, features = selector.maps(pool, SelectionPath(columns, path.losses)), np.zeros((len(columns), len(columns)))
    for number, mine in zip(numbers, inside, strict=True):
        matrix = maps[number].matrix
        features[np.ix_(mine, mine)] = matrix[:, matrix.any(axis=0)]
    gram = features @ equations.gram[np.ix_(columns, columns)] @ features.T
    moment = features @ equations.moment[columns]
    terms = _solve(gram, moment)
    noise, ridge = 0.0, np.zeros(len(columns))
    for mine, spec in zip(inside, specs, strict=True):
        own = _noise(spec, terms[mine], gram[np.ix_(mine, mine)]) / config.loss.shots
        noise, ridge[mine] = noise + own, own / max(float(terms[mine] @ terms[mine]), 1e-300)
    shrunk = _solve(gram + np.diag(ridge), moment)
    least = equations.constant - float(moment @ shrunk)
    trained = least - float(shrunk**2 @ ridge)
    return NoiseOfChoice(equations.constant - float(terms @ moment), noise, least, trained)


def _solve(gram: FloatArray, moment: FloatArray) -> FloatArray:
    """Least squares on features of any size."""
    scale = 1.0 / np.sqrt(np.diagonal(gram))
    scaled = gram * np.outer(scale, scale) + 1e-12 * np.eye(len(gram))
    solution: FloatArray = scale * np.linalg.solve(scaled, scale * moment)
    return solution


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
