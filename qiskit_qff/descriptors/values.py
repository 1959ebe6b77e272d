"""Channel values alone, without a derivative: what an extrapolation grade needs.

Distances are taken as they are, not softened inside the core as energies and forces see them: two atoms that come
closer than any in the training data must stand out.
"""

import math

import numba
import numpy as np

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.descriptors.angular import spherical_harmonics
from qiskit_qff.descriptors.cutoff import cutoff_function
from qiskit_qff.descriptors.low_harmonics import HIGHEST, low_harmonics
from qiskit_qff.descriptors.products import fill_products
from qiskit_qff.descriptors.radial import CENTER, LENGTH, POWER, SHARPNESS
from qiskit_qff.descriptors.tables import ChannelTables

# As for the forces: sums may be reordered at compile time, NaN and infinity keep their meaning.
REORDER = {"reassoc", "contract", "nsz"}


@numba.njit(cache=True, fastmath=REORDER, nogil=True)
def bare_values(
    tables: ChannelTables,
    first: IntArray,
    neighbor: IntArray,
    vectors: FloatArray,
    distances: FloatArray,
    kinds: IntArray,
) -> FloatArray:
    """Channel values of the centres of a neighbour list.

    Args:
        tables: Channels of all species.
        first: CSR offsets of the centres, shape ``(n_centers + 1,)``; centres are the first of the n atoms.
        neighbor: Neighbour indices, shape ``(n_pairs,)``.
        vectors: Neighbour vectors, shape ``(n_pairs, 3)``, in Å.
        distances: Their lengths in Å.
        kinds: Species index per atom, shape ``(n,)``.

    Returns:
        Shape ``(n_centers, most channels of a species)``; unused places are zero.
    """
    n_centers, n_lm = first.shape[0] - 1, (tables.l_max + 1) ** 2
    values = np.zeros((n_centers, np.diff(tables.channel_start).max()))
    density, harmonics = np.empty((np.diff(tables.slot_start).max(), n_lm)), np.empty((1, n_lm))
    for i in range(n_centers):
        _values_of_atom(
            tables, kinds[i], first[i], first[i + 1], neighbor, vectors, distances, kinds, values[i], density, harmonics
        )
    return values


# PERF: one call an atom; handing the tables to a function for every neighbour took as long as its work.
@numba.njit(cache=True, fastmath=REORDER)
def _values_of_atom(
    tables: ChannelTables, s: int, low: int, high: int, neighbor: IntArray, vectors: FloatArray,
    distances: FloatArray, kinds: IntArray,
    values: FloatArray, density: FloatArray, harmonics: FloatArray,
) -> None:  # fmt: skip
    """Channels of one atom with the neighbours ``low`` to ``high``; ``values`` is zero before."""
    pair_start, slot_start = tables.pair_start[s], tables.slot_start[s]
    n_lm, n_two = harmonics.shape[1], tables.pair_start[s + 1] - pair_start
    density[: tables.slot_start[s + 1] - slot_start] = 0.0
    for pair in range(low, high):
        t, r = kinds[neighbor[pair]], distances[pair]
        if r >= tables.r_cut:
            continue
        switch, _ = cutoff_function(r, tables.r_cut)
        for c in range(tables.pair_first[s, t], tables.pair_first[s, t + 1]):
            values[c] += _radial(r, tables.pair_rows, pair_start + c) * switch
        begin, end = tables.slot_first[s, t], tables.slot_first[s, t + 1]
        if begin == end:
            continue
        x, y, z = vectors[pair, 0] / r, vectors[pair, 1] / r, vectors[pair, 2] / r
        if tables.l_max <= HIGHEST:
            low_harmonics(x, y, z, tables.l_max, harmonics, 0)
        else:
            work, unused = np.empty((tables.l_max + 1, tables.l_max + 2)), np.empty((n_lm, 3))
            spherical_harmonics(x, y, z, 1.0 / r, tables.l_max, work, harmonics[0], unused)
        for a in range(begin, end):
            g = _radial(r, tables.slot_rows, slot_start + a) * switch
            for lm in range(n_lm):
                density[a, lm] += g * harmonics[0, lm]
    first_triple = tables.triple_start[s]
    for k in range(first_triple, tables.triple_start[s + 1]):
        a, b, degree = tables.triples[k, 0], tables.triples[k, 1], tables.triples[k, 2]
        total = 0.0
        for lm in range(tables.first_harmonic[k], (degree + 1) * (degree + 1)):
            total += tables.angular[k, lm] * density[a, lm] * density[b, lm]
        values[n_two + k - first_triple] = total
    fill_products(tables, s, values)


@numba.njit(cache=True, inline="always")
def _radial(r: float, rows: FloatArray, row: int) -> float:
    """One radial function without the cutoff; as ``radial_function``, with one exponential."""
    offset = r - rows[row, CENTER]
    exponent = -rows[row, SHARPNESS] * offset * offset
    if rows[row, POWER] > 0.0:
        exponent += rows[row, POWER] * math.log(rows[row, LENGTH] / r)
    return math.exp(exponent)
