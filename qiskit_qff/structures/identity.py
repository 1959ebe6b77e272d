"""Which geometry a frame is, as a short hash: to tell whether a model has seen a frame before.

Hashing rounded coordinates fails: of 300 coordinates one is always about to round the other way. So the geometry is
reduced to :data:`PROJECTIONS` numbers in Å, weighted sums over all atoms of sines of the fractional coordinates
(which do not change when an atom is moved by a lattice vector), of positions across non-periodic directions, and of
the cell. The hash is of these numbers in steps of :data:`STEP`. Noise of 1e-6 Å in every coordinate changes them by
at most 2e-5 Å, an atom moved by 0.01 Å by several steps. A number within :data:`TOLERANCE` of the end of a step may
fall into the next one in another file; :func:`is_among` therefore tries both.
"""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from hashlib import sha256, shake_256
from itertools import product

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.structures.frame import Frame

PROJECTIONS = 4
"""Numbers that a geometry is reduced to."""
STEP = 1e-3
"""Å; what they are rounded to."""
TOLERANCE = 1e-4
"""Å; five times the largest change seen when 2,861 frames of 50 to 114 atoms were rounded to 1e-6 Å."""
DIGITS = 16
"""Hexadecimal digits of a hash."""


def frame_hash(frame: Frame) -> str:
    """Hash of elements, periodicity, positions and periodic cell vectors; labels and tags do not count.

    Atoms moved by lattice vectors leave it unchanged, and so do files that keep 8 decimals, but for one frame in
    thousands (with 6 decimals: one in 100); :func:`is_among` finds these too. It differs for another order of the
    atoms and for a frame that was rotated or moved as a whole.

    Args:
        frame: Finite positions and cell.

    Returns:
        16 hexadecimal digits.
    """
    return _digest(frame, np.floor(_projections(frame) / STEP).astype(np.int64).tolist())


def is_among(frame: Frame, hashes: AbstractSet[str]) -> bool:
    """Whether one of the hashes is that of this frame, whatever noise below 1e-6 Å was added to it.

    Args:
        frame: Finite positions and cell.
        hashes: From :func:`frame_hash`.
    """
    return any(candidate in hashes for candidate in _candidates(frame))


def _candidates(frame: Frame) -> Iterator[str]:
    """The hashes that the frame may have in another file."""
    places = _projections(frame) / STEP
    margin = TOLERANCE / STEP
    ends = [sorted({int(np.floor(place - margin)), int(np.floor(place + margin))}) for place in places]
    for steps in product(*ends):
        yield _digest(frame, steps)


def _projections(frame: Frame) -> FloatArray:
    """The numbers a geometry is reduced to, shape ``(PROJECTIONS,)``, in Å."""
    cell = frame.cell[frame.pbc]
    fractional = frame.positions @ np.linalg.pinv(cell)
    across = frame.positions - fractional @ cell
    lengths = np.linalg.norm(cell, axis=1) / (2.0 * np.pi)
    sizes = [fractional.size, fractional.size, across.size, cell.size]
    result = np.empty(PROJECTIONS)
    for k in range(PROJECTIONS):
        phases, *weights = np.split(_uniform(sum(sizes), seed=k), np.cumsum(sizes)[:-1])
        turns = 2.0 * np.pi * (fractional.ravel() + phases)
        waves = np.sin(turns).reshape(fractional.shape) * lengths
        parts = zip(weights, (waves, across, cell), strict=True)
        result[k] = sum(float((2.0 * weight - 1.0) @ part.ravel()) for weight, part in parts)
    return result


def _uniform(count: int, *, seed: int) -> FloatArray:
    """Numbers in [0, 1) that are the same with every version of NumPy, unlike those of its generators."""
    stream = shake_256(f"qiskit_qff frame {seed}".encode()).digest(4 * count)
    return np.frombuffer(stream, dtype="<u4") / 2.0**32


def _digest(frame: Frame, steps: Sequence[int]) -> str:
    """Hash of the elements, the periodicity and the rounded numbers."""
    text = f"{frame.numbers.tolist()} {frame.pbc.tolist()} {list(steps)}"
    return sha256(text.encode()).hexdigest()[:DIGITS]
