"""Kernels of eight numbers, called with arrays of any length."""

from functools import cache

import numba
import numpy as np

from qiskit_qff.descriptors.eights import LANES, load, store


@cache
def _over_rows(function):
    """A loop that calls a compiled function."""

    @numba.njit
    def run(padded, one, other, constants):
        for k in range(len(padded)):
            a, b = function(load(padded, k), *constants)
            store(one, k, a)
            store(other, k, b)

    return run


def eightwise(function, x, *constants):
    """Values of a compiled function of an eight that gives two of them, shape ``(2, n)``."""
    padded = np.resize(np.asarray(x, dtype=np.float64), (-(-np.size(x) // LANES), LANES))
    out = np.empty((2, *padded.shape))
    _over_rows(function)(padded, out[0], out[1], constants)
    return out.reshape(2, -1)[:, : np.size(x)]
