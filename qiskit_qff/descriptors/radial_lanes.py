r"""The radial functions of one atom's neighbours, in the order that vector instructions like.

The functions that a centre has for a neighbour's species lie side by side in rows of eight, two-body channels before
slots; a missing function is one with all parameters zero, a Gaussian is a power with exponent zero. So there is no
branch, and the exponentials of all neighbours are one long loop. They are plain arithmetic,
:math:`e^x = 2^k e^u` with :math:`k = \mathrm{round}(x / \ln 2)` and a polynomial of degree 13 for
:math:`|u| \le \ln 2 / 2`, exact to a unit in the last place: the C library's takes one number at a time.
"""

import math
from typing import NamedTuple

import numba
import numpy as np

from qiskit_qff.array_types import BoolArray, FloatArray, IntArray
from qiskit_qff.descriptors.cutoff import cutoff_function
from qiskit_qff.descriptors.radial import CENTER, LENGTH, POWER, SHARPNESS, core_distance
from qiskit_qff.descriptors.tables import ChannelTables

LANES = 8
"""Functions in a row."""

_PER_LN2 = 1.0 / math.log(2.0)
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10  # their sum is ln 2 to 100 bits
_ROUNDER = 1.5 * 2.0**52  # added to a number it leaves the nearest integer in the lowest bits
_LEAST = -700.0  # below it the exponential is 1e-304, and no power of two is


class Lanes(NamedTuple):
    """Radial functions of one atom's neighbours; a named tuple, because kernels can take one."""

    start: IntArray
    """First row of each centre and neighbour species in ``rows``, shape ``(S*S + 1,)``."""
    rows: FloatArray
    """Centre, sharpness, power and power times the logarithm of the length, shape ``(4, rows, 8)``."""
    has_power: BoolArray
    """Whether a row of the species has a power, shape ``(S*S,)``."""
    places: IntArray
    """First row of each neighbour in ``values``, shape ``(most + 1,)``."""
    switches: FloatArray
    """Cutoff function at each neighbour, shape ``(most,)``."""
    values: FloatArray
    """Radial functions, shape ``(most * rows, 8)``."""
    slopes: FloatArray
    """Their derivatives with the distance in 1/Å, same shape."""
    flat: FloatArray
    """``values`` end to end."""
    work: FloatArray
    """Work space of the exponential, same length."""
    bits: IntArray
    """The same memory as integers."""


@numba.njit(cache=True)
def make_lanes(tables: ChannelTables, most: int) -> Lanes:
    """Parameters of all functions, and room for their values.

    Args:
        tables: Channels in use.
        most: Largest number of neighbours of an atom.
    """
    start, rows, has_power = _parameters(tables)
    n_rows = 1
    for kind in range(start.shape[0] - 1):
        n_rows = max(n_rows, start[kind + 1] - start[kind])
    values, work = np.empty((most * n_rows, LANES)), np.empty(most * n_rows * LANES)
    return Lanes(
        start, rows, has_power, np.empty(most + 1, dtype=np.int64), np.empty(most),
        values, np.empty((most * n_rows, LANES)), values.reshape(-1), work, work.view(np.int64),
    )  # fmt: skip


@numba.njit(cache=True, fastmath={"contract"})
def fill_lanes(
    tables: ChannelTables,
    s: int,
    low: int,
    n_neighbors: int,
    distances: FloatArray,
    kinds: IntArray,
    neighbor: IntArray,
    lanes: Lanes,
) -> None:
    """Radial functions of all neighbours of one atom.

    Args:
        tables: Channels in use.
        s: Species index of the centre.
        low: Its first pair.
        n_neighbors: How many it has.
        distances: Lengths of all pairs in Å.
        kinds: Species index per atom.
        neighbor: Neighbour indices of all pairs.
        lanes: Output.
    """
    start, rows, has_power, places, switches, values, slopes, flat, work, bits = lanes
    place = 0
    for p in range(n_neighbors):
        t = kinds[neighbor[low + p]]
        kind = s * tables.species.shape[0] + t
        seen, bend = core_distance(distances[low + p], tables.core_start[s, t])
        switch, switch_slope = cutoff_function(seen, tables.r_cut)
        log = math.log(seen) if has_power[kind] else 0.0
        inverse, along, across = 1.0 / seen, switch * bend, switch_slope * bend
        places[p], switches[p] = place, switch
        for row in range(start[kind], start[kind + 1]):
            for f in range(LANES):
                offset = seen - rows[0, row, f]
                values[place, f] = rows[3, row, f] - rows[2, row, f] * log - rows[1, row, f] * offset * offset
                slopes[place, f] = (-2.0 * rows[1, row, f] * offset - rows[2, row, f] * inverse) * along + across
            place += 1
    places[n_neighbors] = place
    exponential(flat, work, bits, place * LANES)
    for p in range(n_neighbors):
        for place in range(places[p], places[p + 1]):
            for f in range(LANES):
                bare = values[place, f]
                slopes[place, f] *= bare
                values[place, f] = bare * switches[p]


@numba.njit(cache=True, fastmath={"contract"})
def exponential(x: FloatArray, work: FloatArray, bits: IntArray, n: int) -> None:
    """Replace numbers by their exponentials.

    Args:
        x: Numbers below 700, shape ``(>= n,)``; those below -700 count as -700.
        work: Work space, same shape.
        bits: The same memory as integers.
        n: How many.
    """
    for i in range(n):
        value = max(x[i], _LEAST)
        shifted = value * _PER_LN2 + _ROUNDER
        work[i] = shifted
        k = shifted - _ROUNDER
        u = (value - k * _LN2_HIGH) - k * _LN2_LOW
        # 1 + u + u²/2! + ... + u¹³/13!
        p = 1.0 / 6227020800.0
        p = p * u + 1.0 / 479001600.0
        p = p * u + 1.0 / 39916800.0
        p = p * u + 1.0 / 3628800.0
        p = p * u + 1.0 / 362880.0
        p = p * u + 1.0 / 40320.0
        p = p * u + 1.0 / 5040.0
        p = p * u + 1.0 / 720.0
        p = p * u + 1.0 / 120.0
        p = p * u + 1.0 / 24.0
        p = p * u + 1.0 / 6.0
        p = p * u + 0.5
        p = p * u + 1.0
        x[i] = p * u + 1.0
    for i in range(n):
        bits[i] = (bits[i] + 1023) << 52  # the bits of 2^k; those above k fall out
    for i in range(n):
        x[i] *= work[i]


@numba.njit(cache=True)
def _parameters(tables: ChannelTables) -> tuple[IntArray, FloatArray, BoolArray]:
    """Parameters of all functions in rows: ``start``, ``rows`` and ``has_power`` of :class:`Lanes`."""
    n_species = tables.species.shape[0]
    start, has_power = np.zeros(n_species * n_species + 1, dtype=np.int64), np.zeros(n_species**2, dtype=np.bool_)
    for s in range(n_species):
        for t in range(n_species):
            count = tables.pair_first[s, t + 1] - tables.pair_first[s, t]
            count += tables.slot_first[s, t + 1] - tables.slot_first[s, t]
            kind = s * n_species + t
            start[kind + 1] = start[kind] + (count + LANES - 1) // LANES
    rows = np.zeros((4, start[-1], LANES))
    for s in range(n_species):
        for t in range(n_species):
            kind, f = s * n_species + t, 0
            for c in range(tables.pair_first[s, t], tables.pair_first[s, t + 1]):
                has_power[kind] |= _put(tables.pair_rows[tables.pair_start[s] + c], rows, start[kind], f)
                f += 1
            for a in range(tables.slot_first[s, t], tables.slot_first[s, t + 1]):
                has_power[kind] |= _put(tables.slot_rows[tables.slot_start[s] + a], rows, start[kind], f)
                f += 1
    return start, rows, has_power


@numba.njit(cache=True)
def _put(function: FloatArray, rows: FloatArray, start: int, f: int) -> bool:
    """Write one function to its place; gives whether it has a power."""
    row, lane = start + f // LANES, f % LANES
    rows[0, row, lane], rows[1, row, lane], rows[2, row, lane] = function[CENTER], function[SHARPNESS], function[POWER]
    if function[POWER] > 0.0:
        rows[3, row, lane] = function[POWER] * math.log(function[LENGTH])
    return bool(function[POWER] > 0.0)
