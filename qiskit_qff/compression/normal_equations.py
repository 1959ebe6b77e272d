r"""Weighted least squares as sums over frames: the memory does not depend on how many there are.

For design rows X, labels y and weights w the loss :math:`\sum w (X\beta - y)^2` is

.. math:: \beta^T G \beta - 2 b^T\beta + c,\qquad G = X^T W X,\; b = X^T W y,\; c = y^T W y.

Sums of two parts of the data add, so parts can be accumulated anywhere and merged.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
from numba.extending import get_cython_function_address

from qiskit_qff.array_types import FloatArray

_Pointer = ctypes.POINTER(ctypes.c_double)
_Count = ctypes.POINTER(ctypes.c_int)
# PERF: scipy.linalg.blas.dsyrk keeps the interpreter's lock, so threads would wait for each other in what takes half
# of a training's time; the same function called through ctypes does not.
_DSYRK = ctypes.CFUNCTYPE(
    None, ctypes.c_char_p, ctypes.c_char_p, _Count, _Count, _Pointer, _Pointer, _Count, _Pointer, _Pointer, _Count
)(get_cython_function_address("scipy.linalg.cython_blas", "dsyrk"))


@dataclass
class NormalEquations:
    """Running sums G, b, c; only the upper triangle of ``gram`` is kept up to date."""

    gram: FloatArray
    """Upper triangle of G, Fortran order, shape ``(C, C)``."""
    moment: FloatArray
    """b, shape ``(C,)``."""
    constant: float = 0.0
    """c."""

    @classmethod
    def empty(cls, n_columns: int) -> NormalEquations:
        """Sums over no data."""
        return cls(np.zeros((n_columns, n_columns), order="F"), np.zeros(n_columns))

    def add(self, rows: FloatArray, labels: FloatArray, weights: FloatArray) -> None:
        """Add weighted rows, shape ``(m, C)``; they are scaled in place and must not be used again."""
        root = np.sqrt(weights)
        rows *= root[:, None]
        scaled = labels * root
        # C-contiguous rows are their own transpose in Fortran order, so nothing is copied.
        assert rows.flags.c_contiguous and self.gram.flags.f_contiguous  # noqa: PT018
        assert rows.dtype == np.float64 and self.gram.shape == (rows.shape[1],) * 2  # noqa: PT018
        size, inner, one = ctypes.c_int(rows.shape[1]), ctypes.c_int(len(rows)), ctypes.c_double(1.0)
        matrix, gram = rows.ctypes.data_as(_Pointer), self.gram.ctypes.data_as(_Pointer)
        _DSYRK(b"U", b"N", size, inner, one, matrix, size, one, gram, size)
        self.moment += rows.T @ scaled
        self.constant += float(scaled @ scaled)

    def merge(self, other: NormalEquations) -> None:
        """Add the sums over another part of the data."""
        self.gram += other.gram
        self.moment += other.moment
        self.constant += other.constant

    def symmetric(self) -> FloatArray:
        """The whole of G, shape ``(C, C)``, completed in place."""
        # PERF: block by block; numpy.triu would hold three copies of a matrix that may fill 0.5 GiB.
        for start in range(0, len(self.gram), 512):
            stop = min(start + 512, len(self.gram))
            square = np.triu(self.gram[start:stop, start:stop])
            self.gram[start:stop, start:stop] = square + np.triu(square, 1).T
            self.gram[stop:, start:stop] = self.gram[start:stop, stop:].T
        return self.gram

    def loss(self, coefficients: FloatArray) -> float:
        """Loss of some coefficients; needs the completed G."""
        return float(coefficients @ (self.gram @ coefficients) - 2.0 * self.moment @ coefficients + self.constant)
