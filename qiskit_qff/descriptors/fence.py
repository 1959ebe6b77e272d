r"""Walls around the training data: no force inside, a push back outside.

Along each direction k of the centred channels, :math:`v_k = \sum_c F_{kc} (D_c - \bar D_c)`, an atom may be anywhere
from :math:`l_k` to :math:`h_k`; beyond, it pays

.. math:: e = \sum_k \kappa_k \frac{t_k^3}{(L + t_k)^2},\qquad t_k = \max(v_k - h_k,\ l_k - v_k,\ 0).

e has two continuous derivatives and is exactly zero inside; far outside its slope is :math:`\kappa_k`, so that a wall
never gets stiffer than :math:`0.64\,\kappa_k / L`. :mod:`qiskit_qff.model.fence` says which directions and slopes a
model has.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.descriptors.eights import Eight, larger, largest, load, multiply, repeated, store

WIDTH = 12.0
"""L, in units of v: how softly walls begin. With 1, atoms that touched a wall gained energy at steps of 1 fs."""


class Fence(NamedTuple):
    """The walls of all species, laid end to end; a named tuple, because kernels can take one."""

    maps: FloatArray
    """The matrices F, row by row, flattened end to end, shape ``(sum K d,)``."""
    map_start: IntArray
    """Where each begins, shape ``(S + 1,)``."""
    low: FloatArray
    """Least v inside the walls, shape ``(sum d,)``."""
    high: FloatArray
    """Largest v inside the walls, shape ``(sum d,)``."""
    start: IntArray
    """Where the directions of each species begin, shape ``(S + 1,)``."""
    slope: FloatArray
    """κ of each direction in eV, shape ``(sum d,)``."""


def no_fence(n_species: int) -> Fence:
    """Walls nowhere."""
    none, starts = np.zeros(0), np.zeros(n_species + 1, dtype=np.int64)
    return Fence(none, starts, none, none, starts, none)


@numba.njit(cache=True)
def fence_energy(fence: Fence, s: int, centred: FloatArray, n: int, gradient: FloatArray, work: FloatArray) -> Eight:
    """Energy of eight atoms outside the walls; its derivative with respect to the channels is added to a gradient.

    Args:
        s: Species index of the atoms.
        centred: Their channels without their mean, shape ``(>= n, 8)``.
        gradient: dE/dD, shape ``(>= n, 8)``; added to.
        work: Work space for v, shape ``(>= directions, 8)``.

    Returns:
        Energies in eV.
    """
    energy, begin = repeated(0.0), fence.start[s]
    maps = fence.maps[fence.map_start[s] : fence.map_start[s + 1]].reshape((-1, n))
    multiply(maps, centred, work)
    for k in range(fence.start[s + 1] - begin):
        v = load(work, k)
        above = larger(v - fence.high[begin + k], repeated(0.0))
        below = larger(fence.low[begin + k] - v, repeated(0.0))
        t = above + below  # one of them is zero
        if largest(t) == 0.0:
            continue
        part, signed = t / (WIDTH + t), (above - below) / (WIDTH + t)
        energy += fence.slope[begin + k] * t * part * part
        slope = fence.slope[begin + k] * signed * part * (3.0 - 2.0 * part)
        for c in range(n):
            store(gradient, c, load(gradient, c) + slope * maps[k, c])
    return energy
