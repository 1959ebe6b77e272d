r"""Channel values and their derivatives, atom by atom, for building training blocks.

For centre i of species s with neighbours j: densities :math:`A_{a,lm}`, channels D (see
:mod:`~qiskit_qff.descriptors.channels`), and the Jacobian

.. math:: \frac{\partial D_c}{\partial r_{ij}} = g_c'\hat r \;\;(\text{two-body}),\qquad
          \sum_m A_{b,lm}\, \partial(g_a Y_{lm}) + A_{a,lm}\, \partial(g_b Y_{lm})\;\;(\text{three-body}),

where the second form sums over the slots whose species is that of j; products of channels follow by the product rule.
Dynamics never forms this Jacobian;
it uses the backward sweep of :mod:`~qiskit_qff.descriptors.quadratic`.
"""

import numba
import numpy as np

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.descriptors.angular import spherical_harmonics
from qiskit_qff.descriptors.cutoff import cutoff_function
from qiskit_qff.descriptors.products import fill_product_slopes, fill_products, product_weights
from qiskit_qff.descriptors.radial import core_distance, radial_function
from qiskit_qff.descriptors.tables import ChannelTables

STRAIN_ROWS = (0, 1, 2, 1, 0, 0)
"""First axis of the six components of a strain, xx, yy, zz, yz, xz, xy."""
STRAIN_COLUMNS = (0, 1, 2, 2, 2, 1)
"""Second axis of each."""


@numba.njit(cache=True)
def neighbor_functions(
    vector: FloatArray, r: float, core: float, l_max: int, rows: FloatArray, r_cut: float, legendre: FloatArray,
    radial: FloatArray, radial_slope: FloatArray, harmonics: FloatArray, harmonic_gradients: FloatArray,
) -> None:  # fmt: skip
    """Radial functions and harmonics of one neighbour.

    Args:
        vector: r_j - r_i, shape ``(3,)``, in Å.
        r: Its length in Å.
        core: Where the pair's core begins, in Å.
        l_max: Highest degree.
        rows: Radial rows of the neighbour's slots, shape ``(k, 4)``.
        r_cut: Cutoff radius in Å.
        legendre: Work space of :func:`spherical_harmonics`.
        radial: Output values, shape ``(>= k,)``.
        radial_slope: Output derivatives in 1/Å, shape ``(>= k,)``.
        harmonics: Output, shape ``((l_max + 1)**2,)``.
        harmonic_gradients: Output, shape ``((l_max + 1)**2, 3)``, in 1/Å.
    """
    seen, bend = core_distance(r, core)
    switch, slope = cutoff_function(seen, r_cut)
    for k in range(rows.shape[0]):
        radial[k], derivative = radial_function(seen, rows[k], switch, slope)
        radial_slope[k] = derivative * bend
    inverse = 1.0 / r
    spherical_harmonics(
        vector[0] * inverse, vector[1] * inverse, vector[2] * inverse, inverse, l_max,
        legendre, harmonics, harmonic_gradients,
    )  # fmt: skip


@numba.njit(cache=True)
def atom_channels(
    tables: ChannelTables,
    s: int,
    vectors: FloatArray,
    distances: FloatArray,
    kinds: IntArray,
    values: FloatArray,
    jacobian: FloatArray,
) -> None:
    """Channels of one atom and their Jacobian with respect to every neighbour vector.

    Args:
        tables: Channels of all species.
        s: Species index of the centre.
        vectors: Neighbour vectors, shape ``(k, 3)``, in Å.
        distances: Their lengths, shape ``(k,)``, in Å.
        kinds: Species indices of the neighbours, shape ``(k,)``.
        values: Output, shape ``(n_channels,)``.
        jacobian: Output, shape ``(k, 3, n_channels)``, in 1/Å.
    """
    pair_rows = tables.pair_rows[tables.pair_start[s] : tables.pair_start[s + 1]]
    slot_rows = tables.slot_rows[tables.slot_start[s] : tables.slot_start[s + 1]]
    own = slice(tables.triple_start[s], tables.triple_start[s + 1])
    triples, angular, begin = tables.triples[own], tables.angular[own], tables.first_harmonic[own]
    pair_first, slot_first = tables.pair_first[s], tables.slot_first[s]
    n_neighbors, n_lm = distances.shape[0], (tables.l_max + 1) ** 2
    n_slots, n_two = slot_rows.shape[0], pair_rows.shape[0]
    density = np.zeros((n_slots, n_lm))
    radial = np.zeros((n_neighbors, max(1, n_slots)))
    slope = np.zeros((n_neighbors, max(1, n_slots)))
    harmonics = np.zeros((n_neighbors, n_lm))
    gradients = np.zeros((n_neighbors, n_lm, 3))
    legendre = np.zeros((tables.l_max + 1, tables.l_max + 2))
    values[:] = 0.0
    jacobian[:] = 0.0
    for j in range(n_neighbors):
        t, r = kinds[j], distances[j]
        core = tables.core_start[s, t]
        seen, bend = core_distance(r, core)
        switch, switch_slope = cutoff_function(seen, tables.r_cut)
        for c in range(pair_first[t], pair_first[t + 1]):
            value, derivative = radial_function(seen, pair_rows[c], switch, switch_slope)
            values[c] += value
            for axis in range(3):
                jacobian[j, axis, c] = derivative * bend * vectors[j, axis] / r
        low, high = slot_first[t], slot_first[t + 1]
        neighbor_functions(
            vectors[j], r, core, tables.l_max, slot_rows[low:high], tables.r_cut, legendre,
            radial[j], slope[j], harmonics[j], gradients[j],
        )  # fmt: skip
        for a in range(low, high):
            for lm in range(n_lm):
                density[a, lm] += radial[j, a - low] * harmonics[j, lm]
    for k in range(triples.shape[0]):
        a, b, degree = triples[k, 0], triples[k, 1], triples[k, 2]
        for lm in range(begin[k], (degree + 1) * (degree + 1)):
            values[n_two + k] += angular[k, lm] * density[a, lm] * density[b, lm]
    fill_products(tables, s, values)
    weights = product_weights(tables, s, values)
    for j in range(n_neighbors):
        t = kinds[j]
        _triple_jacobian(
            slot_first[t], slot_first[t + 1], vectors[j], distances[j], density, triples, angular, begin, n_two,
            radial[j], slope[j], harmonics[j], gradients[j], jacobian[j],
        )  # fmt: skip
        for axis in range(3):
            fill_product_slopes(tables, s, weights, jacobian[j, axis])


@numba.njit(cache=True)
def _triple_jacobian(
    low: int, high: int, vector: FloatArray, r: float, density: FloatArray, triples: IntArray, angular: FloatArray,
    begin: IntArray, n_two: int,
    radial: FloatArray, slope: FloatArray, harmonics: FloatArray, gradients: FloatArray, jacobian: FloatArray,
) -> None:  # fmt: skip
    """Add the three-body part of one neighbour's Jacobian, shape ``(3, n_channels)``."""
    for k in range(triples.shape[0]):
        degree = triples[k, 2]
        for side in range(2):
            a, b = triples[k, side], triples[k, 1 - side]
            if a < low or a >= high:
                continue
            along, gx, gy, gz = 0.0, 0.0, 0.0, 0.0
            for lm in range(begin[k], (degree + 1) * (degree + 1)):
                other = angular[k, lm] * density[b, lm]
                along += other * harmonics[lm]
                gx += other * gradients[lm, 0]
                gy += other * gradients[lm, 1]
                gz += other * gradients[lm, 2]
            along *= slope[a - low] / r
            g = radial[a - low]
            jacobian[0, n_two + k] += along * vector[0] + g * gx
            jacobian[1, n_two + k] += along * vector[1] + g * gy
            jacobian[2, n_two + k] += along * vector[2] + g * gz


@numba.njit(cache=True, nogil=True)
def linear_design(
    tables: ChannelTables, first: IntArray, neighbor: IntArray, vectors: FloatArray, distances: FloatArray,
    kinds: IntArray,
    energy_row: FloatArray, force_rows: FloatArray, virial_rows: FloatArray, all_values: FloatArray,
) -> None:  # fmt: skip
    """Design rows of a model that is linear in the channels, for one frame.

    Args:
        tables: Channels of all species.
        first: CSR offsets, shape ``(n + 1,)``.
        neighbor: Neighbour indices, shape ``(n_pairs,)``.
        vectors: Neighbour vectors, shape ``(n_pairs, 3)``, in Å.
        distances: Their lengths in Å.
        kinds: Species index per atom, shape ``(n,)``.
        energy_row: Output, channel sums over the atoms of each species, shape ``(C,)``.
        force_rows: Output, minus the gradient of ``energy_row``, shape ``(3 n, C)``, in 1/Å.
        virial_rows: Output, its derivative by strain as xx, yy, zz, yz, xz, xy, shape ``(6, C)``; or without rows,
            where nobody needs it.
        all_values: Output, channel values of each atom, shape ``(n, max channels)``.
    """
    energy_row[:] = 0.0
    force_rows[:] = 0.0
    virial_rows[:] = 0.0
    for i in range(first.shape[0] - 1):
        s, low, high = kinds[i], first[i], first[i + 1]
        start = tables.channel_start[s]
        n_channels = tables.channel_start[s + 1] - start
        jacobian = np.empty((high - low, 3, n_channels))
        values = all_values[i, :n_channels]
        atom_channels(tables, s, vectors[low:high], distances[low:high], kinds[neighbor[low:high]], values, jacobian)
        energy_row[start : start + n_channels] += values
        for p in range(high - low):
            j = neighbor[low + p]
            for axis in range(3):
                for c in range(n_channels):
                    force_rows[3 * j + axis, start + c] -= jacobian[p, axis, c]
                    force_rows[3 * i + axis, start + c] += jacobian[p, axis, c]
            for k in range(virial_rows.shape[0]):
                along, axis = vectors[low + p, STRAIN_ROWS[k]], STRAIN_COLUMNS[k]
                for c in range(n_channels):
                    virial_rows[k, start + c] += along * jacobian[p, axis, c]


@numba.njit(cache=True, nogil=True)
def quadratic_design(  # noqa: C901 - compiled code; a call per register would cost more than it holds
    tables: ChannelTables, means: FloatArray, maps: FloatArray, map_start: IntArray, sizes: IntArray,
    registers: IntArray, product_start: IntArray,
    first: IntArray, neighbor: IntArray, vectors: FloatArray, distances: FloatArray, kinds: IntArray,
    energy_row: FloatArray, force_rows: FloatArray, virial_rows: FloatArray,
) -> None:  # fmt: skip
    """Design rows of a model that is quadratic in the compressed channels of each register, for one frame.

    The columns of a register with features y are ``x_a x_b`` (a <= b, doubled off the diagonal) with x = (1, y), in
    the order of ``numpy.triu_indices``: contracting them with the upper triangle of M gives ``x^T M x``.

    Args:
        tables: Channels in use.
        means: Channel means end to end, shape ``(C,)``.
        maps: Matrices T of all species, shape ``(d_s, K_s)`` each, flattened end to end.
        map_start: Where each begins, shape ``(S + 1,)``.
        sizes: Features d_s of each species, shape ``(S,)``.
        registers: Species, first feature and number of features of each register, in the order of the species, shape
            ``(R, 3)``.
        product_start: Where the columns of each register begin, shape ``(R + 1,)``.
        first: CSR offsets, shape ``(n + 1,)``.
        neighbor: Neighbour indices, shape ``(n_pairs,)``.
        vectors: Neighbour vectors, shape ``(n_pairs, 3)``, in Å.
        distances: Their lengths in Å.
        kinds: Species index per atom, shape ``(n,)``.
        energy_row: Output, column sums over atoms, shape ``(Q,)``.
        force_rows: Output, minus their gradient, shape ``(3 n, Q)``, in 1/Å.
        virial_rows: Output, their derivative by strain as xx, yy, zz, yz, xz, xy, shape ``(6, Q)``; or without rows,
            where nobody needs it.
    """
    energy_row[:] = 0.0
    force_rows[:] = 0.0
    virial_rows[:] = 0.0
    for i in range(first.shape[0] - 1):
        s, low, high = kinds[i], first[i], first[i + 1]
        start, stop = tables.channel_start[s], tables.channel_start[s + 1]
        values, jacobian = np.empty(stop - start), np.empty((high - low, 3, stop - start))
        atom_channels(tables, s, vectors[low:high], distances[low:high], kinds[neighbor[low:high]], values, jacobian)
        compress = maps[map_start[s] : map_start[s + 1]].reshape((sizes[s], stop - start))
        y = compress @ (values - means[start:stop])
        transposed = np.ascontiguousarray(compress.T)
        for r in range(registers.shape[0]):
            if registers[r, 0] != s:
                continue
            own = y[registers[r, 1] : registers[r, 1] + registers[r, 2]]
            column = product_start[r]
            energy_row[column] += 1.0
            column += 1
            for b in range(own.shape[0]):
                energy_row[column] += 2.0 * own[b]
                column += 1
            for a in range(own.shape[0]):
                energy_row[column] += own[a] * own[a]
                column += 1
                for b in range(a + 1, own.shape[0]):
                    energy_row[column] += 2.0 * own[a] * own[b]
                    column += 1
        total, strained = np.zeros((3, sizes[s])), np.zeros((virial_rows.shape[0], sizes[s]))
        for p in range(high - low):
            slopes = jacobian[p] @ transposed
            total += slopes
            for k in range(virial_rows.shape[0]):
                strained[k] += vectors[low + p, STRAIN_ROWS[k]] * slopes[STRAIN_COLUMNS[k]]
            j = neighbor[low + p]
            for axis in range(3):
                _add_products(s, y, slopes[axis], registers, product_start, force_rows[3 * j + axis], -1.0)
        # PERF: products are linear in the slope, so the centre's own row is added once, not per neighbour.
        for axis in range(3):
            _add_products(s, y, total[axis], registers, product_start, force_rows[3 * i + axis], 1.0)
        for k in range(virial_rows.shape[0]):
            _add_products(s, y, strained[k], registers, product_start, virial_rows[k], 1.0)


@numba.njit(cache=True)
def _add_products(
    s: int, y: FloatArray, slope: FloatArray, registers: IntArray, product_start: IntArray, row: FloatArray, sign: float
) -> None:
    """Add the derivative of all products x_a x_b of the registers of a species along one axis to an atom's row."""
    for r in range(registers.shape[0]):
        if registers[r, 0] != s:
            continue
        low, count, column = registers[r, 1], registers[r, 2], product_start[r] + 1
        for b in range(low, low + count):
            row[column] += 2.0 * sign * slope[b]
            column += 1
        for a in range(low, low + count):
            ya, sa = 2.0 * sign * y[a], 2.0 * sign * slope[a]
            row[column] += ya * slope[a]
            column += 1
            for b in range(a + 1, low + count):
                row[column] += ya * slope[b] + sa * y[b]
                column += 1


@numba.njit(cache=True)
def channel_values(
    tables: ChannelTables,
    first: IntArray,
    neighbor: IntArray,
    vectors: FloatArray,
    distances: FloatArray,
    kinds: IntArray,
) -> FloatArray:
    """Channel values of every atom.

    Args:
        tables: Channels of all species.
        first: CSR offsets, shape ``(n + 1,)``.
        neighbor: Neighbour indices, shape ``(n_pairs,)``.
        vectors: Neighbour vectors, shape ``(n_pairs, 3)``, in Å.
        distances: Their lengths in Å.
        kinds: Species index per atom, shape ``(n,)``.

    Returns:
        Shape ``(n, most channels of a species)``; unused places are zero.
    """
    widths = tables.channel_start[1:] - tables.channel_start[:-1]
    values = np.zeros((kinds.shape[0], widths.max()))
    for i in range(kinds.shape[0]):
        low, high = first[i], first[i + 1]
        jacobian = np.empty((high - low, 3, widths[kinds[i]]))
        atom_channels(
            tables, kinds[i], vectors[low:high], distances[low:high], kinds[neighbor[low:high]],
            values[i, : widths[kinds[i]]], jacobian,
        )  # fmt: skip
    return values
