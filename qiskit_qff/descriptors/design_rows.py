r"""Derivatives of channels, and the rows of a design matrix that training makes of them.

For centre i of species s with neighbours j (see :mod:`~qiskit_qff.descriptors.channels` for D and A)

.. math:: \frac{\partial D_c}{\partial r_{ij}} = g_c'\hat r \;\;(\text{two-body}),\qquad
          \sum_m A_{b,lm}\, \partial(g_a Y_{lm}) + A_{a,lm}\, \partial(g_b Y_{lm})\;\;(\text{three-body}),

where the second form sums over the slots whose species is that of j; products of channels follow by the product rule.
Dynamics never forms this Jacobian; it uses the backward sweep of :mod:`~qiskit_qff.descriptors.quadratic`.
"""

import numba
import numpy as np

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.descriptors.blocks import Block, fill_channels, gather, make_block, next_block
from qiskit_qff.descriptors.channels import ChannelTables
from qiskit_qff.descriptors.eights import LANES, load, repeated, store, total
from qiskit_qff.descriptors.functions import fill_gradients, fill_harmonics, fill_polynomials

STRAIN_ROWS = (0, 1, 2, 1, 0, 0)
"""First axis of the six components of a strain, xx, yy, zz, yz, xz, xy."""
STRAIN_COLUMNS = (0, 1, 2, 2, 2, 1)
"""Second axis of each."""


@numba.njit(cache=True)
def _moved_by(tables: ChannelTables, s: int, t: int) -> IntArray:
    """Channels of species s that depend on neighbours of species t."""
    n_two = tables.pair_start[s + 1] - tables.pair_start[s]
    n_channels = tables.channel_start[s + 1] - tables.channel_start[s]
    first_product = n_channels - (tables.product_start[s + 1] - tables.product_start[s])
    low, high = tables.slot_first[s, t], tables.slot_first[s, t + 1]
    moved = np.zeros(n_channels, dtype=np.bool_)
    moved[tables.pair_first[s, t] : tables.pair_first[s, t + 1]] = True
    for c in range(n_two, first_product):
        a, b = tables.triples[tables.triple_start[s] + c - n_two, :2]
        moved[c] = low <= a < high or low <= b < high
    for c in range(first_product, n_channels):
        a, b = tables.products[tables.product_start[s] + c - first_product]
        moved[c] = moved[a] or moved[b]
    return np.flatnonzero(moved)


@numba.njit(cache=True)
def _fill_jacobian(
    block: Block, tables: ChannelTables, s: int, t: int, p: int, moved: IntArray, gradients: FloatArray,
    jacobian: FloatArray,
) -> None:  # fmt: skip
    """Derivatives of channels with respect to the vectors to one neighbour of each atom of a block.

    Args:
        s: Species index of the atoms.
        t: Species index of the neighbours.
        gradients: Work space, shape ``((l_max + 1)**2, 3, 8)``.
        jacobian: Output in 1/Å, shape ``(n_channels, 3, 8)``; other channels have to be zero before.
    """
    width, l_max, n_lm = block.radial.shape[1], tables.l_max, (tables.l_max + 1) ** 2
    n_two = tables.pair_start[s + 1] - tables.pair_start[s]
    first_product = tables.channel_start[s + 1] - tables.channel_start[s]
    first_product -= tables.product_start[s + 1] - tables.product_start[s]
    first_pair, low, high = tables.pair_first[s, t], tables.slot_first[s, t], tables.slot_first[s, t + 1]
    function = p * width + tables.pair_first[s, t + 1] - first_pair - low  # of slot 0, if it were one of this species
    x, y, z = load(block.vectors, 4 * p), load(block.vectors, 4 * p + 1), load(block.vectors, 4 * p + 2)
    if high > low:
        fill_polynomials(x, y, z, l_max, block.legendre, block.circular)
        fill_harmonics(l_max, block.legendre, block.circular, block.harmonics)
        fill_gradients(block.vectors, p, l_max, block.legendre, block.circular, gradients)
    for c in moved:
        gx, gy, gz = repeated(0.0), repeated(0.0), repeated(0.0)
        if c < n_two:
            along = load(block.slopes, p * width + c - first_pair)
            gx, gy, gz = along * x, along * y, along * z
        elif c < first_product:
            k = tables.triple_start[s] + c - n_two
            for side in range(2):
                a, other = tables.triples[k, side], tables.triples[k, 1 - side] * n_lm
                if low <= a < high:
                    along, wx, wy, wz = repeated(0.0), repeated(0.0), repeated(0.0), repeated(0.0)
                    for lm in range(tables.first_harmonic[k], (tables.triples[k, 2] + 1) ** 2):
                        weight = load(block.density, other + lm) * tables.angular[k, lm]
                        along += weight * load(block.harmonics, lm)
                        wx += weight * load(gradients, 3 * lm)
                        wy += weight * load(gradients, 3 * lm + 1)
                        wz += weight * load(gradients, 3 * lm + 2)
                    g, slope = load(block.radial, function + a), along * load(block.slopes, function + a)
                    gx, gy, gz = gx + slope * x + g * wx, gy + slope * y + g * wy, gz + slope * z + g * wz
        else:
            product = c - first_product
            a, b = tables.products[tables.product_start[s] + product]
            one, two = load(block.weights, 2 * product), load(block.weights, 2 * product + 1)
            gx = one * load(jacobian, 3 * a) + two * load(jacobian, 3 * b)
            gy = one * load(jacobian, 3 * a + 1) + two * load(jacobian, 3 * b + 1)
            gz = one * load(jacobian, 3 * a + 2) + two * load(jacobian, 3 * b + 2)
        store(jacobian, 3 * c, gx)
        store(jacobian, 3 * c + 1, gy)
        store(jacobian, 3 * c + 2, gz)


@numba.njit(cache=True)
def _add_strain(block: Block, p: int, derivatives: FloatArray, columns: IntArray, strained: FloatArray) -> None:
    """Add one neighbour's part of the derivatives by strain, shape ``(n, 6, 8)``, to those of some columns."""
    r = load(block.vectors, 4 * p + 3)
    for c in columns:
        for k in range(6):
            lever = r * load(block.vectors, 4 * p + STRAIN_ROWS[k])
            place = 6 * c + k
            store(strained, place, load(strained, place) + lever * load(derivatives, 3 * c + STRAIN_COLUMNS[k]))


@numba.njit(cache=True)
def _add_rows(
    atoms: IntArray, derivatives: FloatArray, columns: IntArray, start: int, sign: float, force_rows: FloatArray
) -> None:
    """Add derivatives, shape ``(n, 3, 8)``, to the force rows of eight atoms; -1 stands for no atom."""
    for c in columns:
        for axis in range(3):
            for k in range(LANES):
                if atoms[k] >= 0:
                    force_rows[3 * atoms[k] + axis, start + c] += sign * derivatives[c, axis, k]


@numba.njit(cache=True, nogil=True)
def linear_design(  # noqa: C901 - compiled code, loops inside loops
    tables: ChannelTables, first: IntArray, neighbor: IntArray, vectors: FloatArray, distances: FloatArray,
    kinds: IntArray, energy_row: FloatArray, force_rows: FloatArray, virial_rows: FloatArray, all_values: FloatArray,
) -> None:  # fmt: skip
    """Design rows of a model that is linear in the channels, for one frame.

    Args:
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
    block, n_atoms = make_block(tables, first), first.shape[0] - 1
    gradients = np.empty(((tables.l_max + 1) ** 2, 3, LANES))
    for s in range(tables.species.shape[0]):
        column = tables.channel_start[s]
        n_channels = tables.channel_start[s + 1] - column
        own, partners = np.empty((n_channels, 3, LANES)), np.empty(LANES, dtype=np.int64)
        strained = np.empty((n_channels, 6, LANES))
        start = next_block(block, s, 0, n_atoms, kinds)
        while block.atoms[0] >= 0:
            gather(block, tables, first, neighbor, vectors, distances, kinds)
            fill_channels(block, tables, s)
            own[:] = 0.0
            strained[:] = 0.0
            for t in range(tables.species.shape[0]):
                moved, jacobian = _moved_by(tables, s, t), np.zeros((n_channels, 3, LANES))
                for p in range(block.begin[t], block.begin[t + 1]):
                    _fill_jacobian(block, tables, s, t, p, moved, gradients, jacobian)
                    for c in moved:
                        for axis in range(3 * c, 3 * c + 3):
                            store(own, axis, load(own, axis) + load(jacobian, axis))
                    if virial_rows.shape[0] > 0:
                        _add_strain(block, p, jacobian, moved, strained)
                    for k in range(LANES):
                        partners[k] = neighbor[block.partners[p, k]] if block.partners[p, k] >= 0 else -1
                    _add_rows(partners, jacobian, moved, column, -1.0, force_rows)
            _add_rows(block.atoms, own, np.arange(n_channels), column, 1.0, force_rows)
            for c in range(n_channels):
                for k in range(virial_rows.shape[0]):
                    virial_rows[k, column + c] += total(strained, 6 * c + k)
                for k in range(LANES):
                    if block.atoms[k] >= 0:
                        all_values[block.atoms[k], c] = block.values[c, k]
                        energy_row[column + c] += block.values[c, k]
            start = next_block(block, s, start, n_atoms, kinds)


@numba.njit(cache=True, nogil=True)
def quadratic_design(  # noqa: C901, PLR0912 - compiled code, loops inside loops
    tables: ChannelTables, means: FloatArray, maps: FloatArray, map_start: IntArray, sizes: IntArray,
    registers: IntArray, product_start: IntArray, first: IntArray, neighbor: IntArray, vectors: FloatArray,
    distances: FloatArray, kinds: IntArray, energy_row: FloatArray, force_rows: FloatArray, virial_rows: FloatArray,
) -> None:  # fmt: skip
    """Design rows of a model that is quadratic in the compressed channels of each register, for one frame.

    The columns of a register with features y are ``x_a x_b`` (a <= b, doubled off the diagonal) with x = (1, y), in
    the order of ``numpy.triu_indices``: contracting them with the upper triangle of M gives ``x^T M x``.

    Args:
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
    block, n_atoms = make_block(tables, first), first.shape[0] - 1
    gradients, partners = np.empty(((tables.l_max + 1) ** 2, 3, LANES)), np.empty(LANES, dtype=np.int64)
    for s in range(tables.species.shape[0]):
        n_channels = tables.channel_start[s + 1] - tables.channel_start[s]
        size, mean = sizes[s], means[tables.channel_start[s] : tables.channel_start[s + 1]]
        compress = maps[map_start[s] : map_start[s + 1]].reshape((size, n_channels))
        pairs = _register_pairs(registers[registers[:, 0] == s])
        columns = np.arange(pairs.shape[0])
        column = product_start[np.searchsorted(registers[:, 0], s)]
        features, moves, own = np.empty((size, LANES)), np.empty((size, 3, LANES)), np.empty((size, 3, LANES))
        strained, rows = np.empty((size, 6, LANES)), np.empty((pairs.shape[0], 3, LANES))
        start = next_block(block, s, 0, n_atoms, kinds)
        while block.atoms[0] >= 0:
            gather(block, tables, first, neighbor, vectors, distances, kinds)
            fill_channels(block, tables, s)
            for f in range(size):
                y = repeated(0.0)
                for c in range(n_channels):
                    y += (load(block.values, c) - mean[c]) * compress[f, c]
                store(features, f, y)
            own[:] = 0.0
            strained[:] = 0.0
            for t in range(tables.species.shape[0]):
                moved, jacobian = _moved_by(tables, s, t), np.zeros((n_channels, 3, LANES))
                for p in range(block.begin[t], block.begin[t + 1]):
                    _fill_jacobian(block, tables, s, t, p, moved, gradients, jacobian)
                    for f in range(size):
                        gx, gy, gz = repeated(0.0), repeated(0.0), repeated(0.0)
                        for c in moved:
                            gx += load(jacobian, 3 * c) * compress[f, c]
                            gy += load(jacobian, 3 * c + 1) * compress[f, c]
                            gz += load(jacobian, 3 * c + 2) * compress[f, c]
                        store(moves, 3 * f, gx)
                        store(moves, 3 * f + 1, gy)
                        store(moves, 3 * f + 2, gz)
                        for axis in range(3 * f, 3 * f + 3):
                            store(own, axis, load(own, axis) + load(moves, axis))
                    if virial_rows.shape[0] > 0:
                        _add_strain(block, p, moves, np.arange(size), strained)
                    for k in range(LANES):
                        partners[k] = neighbor[block.partners[p, k]] if block.partners[p, k] >= 0 else -1
                    _products_of(pairs, features, moves, rows)
                    _add_rows(partners, rows, columns, column, -1.0, force_rows)
            # PERF: products are linear in the slope, so the centre's own rows are added once, not per neighbour.
            _products_of(pairs, features, own, rows)
            _add_rows(block.atoms, rows, columns, column, 1.0, force_rows)
            for half in range(0, virial_rows.shape[0], 3):
                moves[:] = strained[:, half : half + 3]
                _products_of(pairs, features, moves, rows)
                for c in range(pairs.shape[0]):
                    for k in range(3):
                        virial_rows[half + k, column + c] += total(rows, 3 * c + k)
            for c in range(pairs.shape[0]):
                a, b = pairs[c]
                for k in range(LANES):
                    if block.atoms[k] >= 0:
                        one, two = features[a, k] if a >= 0 else 1.0, features[b, k] if b >= 0 else 1.0
                        energy_row[column + c] += (1.0 if a == b else 2.0) * one * two
            start = next_block(block, s, start, n_atoms, kinds)


@numba.njit(cache=True)
def _register_pairs(registers: IntArray) -> IntArray:
    """Features a and b of each column x_a x_b of the registers of a species, -1 for x_0 = 1; shape ``(n, 2)``."""
    count = 0
    for r in range(registers.shape[0]):
        count += (registers[r, 2] + 1) * (registers[r, 2] + 2) // 2
    pairs, row = np.empty((count, 2), dtype=np.int64), 0
    for r in range(registers.shape[0]):
        for a in range(-1, registers[r, 2]):
            for b in range(a, registers[r, 2]):
                pairs[row, 0] = -1 if a < 0 else registers[r, 1] + a
                pairs[row, 1] = -1 if b < 0 else registers[r, 1] + b
                row += 1
    return pairs


@numba.njit(cache=True)
def _products_of(pairs: IntArray, features: FloatArray, moves: FloatArray, rows: FloatArray) -> None:
    """Derivatives of all columns x_a x_b, shape ``(n, 3, 8)``, from those of the features, shape ``(d, 3, 8)``."""
    for c in range(pairs.shape[0]):
        a, b = pairs[c]
        for axis in range(3):
            move = repeated(0.0)
            if a >= 0:
                move += load(features, a) * load(moves, 3 * b + axis)
                move += load(features, b) * load(moves, 3 * a + axis)
                store(rows, 3 * c + axis, move if a == b else 2.0 * move)
            else:
                store(rows, 3 * c + axis, move if b < 0 else 2.0 * load(moves, 3 * b + axis))
