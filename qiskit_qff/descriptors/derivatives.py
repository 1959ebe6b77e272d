r"""Derivatives of channels: forward as rows of a design matrix for training, backward as forces for dynamics.

*Forward.* For centre i of species s with neighbours j (see :mod:`~qiskit_qff.descriptors.channels` for D and A)

.. math:: \frac{\partial D_c}{\partial r_{ij}} = g_c'\hat r \;\;(\text{two-body}),\qquad
          \sum_m A_{b,lm}\, \partial(g_a Y_{lm}) + A_{a,lm}\, \partial(g_b Y_{lm})\;\;(\text{three-body}),

where the second form sums over the slots whose species is that of j; products of channels follow by the product rule.

*Backward.* With :math:`z = (1, D - \bar D)` and a symmetric matrix B of its species, atom i has

.. math:: E_i = z^T B z,\qquad \partial E_i/\partial D = 2 (B z)_{1:}.

The gradient flows back through products of channels and the three-body contraction to the densities, and from there to
every neighbour vector. No Jacobian is formed: the cost of a neighbour is that of its slots and harmonics, however many
channels share them.

*Walls* around the training data: no force inside, a push back outside. Along each direction k of the centred channels,
:math:`v_k = \sum_c F_{kc} (D_c - \bar D_c)`, an atom may be anywhere from :math:`l_k` to :math:`h_k`; beyond, it pays

.. math:: e = \sum_k \kappa_k \frac{t_k^3}{(L + t_k)^2},\qquad t_k = \max(v_k - h_k,\ l_k - v_k,\ 0).

e has two continuous derivatives and is exactly zero inside; far outside its slope is :math:`\kappa_k`.
:mod:`qiskit_qff.model.uncertainty` says which directions and slopes a model has.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numba
import numpy as np

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.descriptors.blocks import (
    Block,
    Surroundings,
    fill_gradients,
    fill_harmonics,
    fill_polynomials,
    make_block,
    next_block,
    pull_products,
)
from qiskit_qff.descriptors.channels import ChannelTables, Described, OwnTables
from qiskit_qff.descriptors.eights import LANES, Eight, larger, largest, load, multiply, repeated, store, total

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
def _sum_neighbor(block: Block, p: int, derivatives: FloatArray, columns: IntArray, sums: FloatArray) -> None:
    """Add one neighbour's derivatives, shape ``(n, 3, 8)``, of some columns to the sums over neighbours.

    Args:
        sums: By position and, where there is room, by strain, shape ``(n, 3 or 9, 8)``.
    """
    width, r = sums.shape[1], load(block.vectors, 4 * p + 3)
    for c in columns:
        for axis in range(3):
            store(sums, width * c + axis, load(sums, width * c + axis) + load(derivatives, 3 * c + axis))
        for k in range(width - 3):
            lever = r * load(block.vectors, 4 * p + STRAIN_ROWS[k])
            place = width * c + 3 + k
            store(sums, place, load(sums, place) + lever * load(derivatives, 3 * c + STRAIN_COLUMNS[k]))


@numba.njit(cache=True)
def _add_rows(
    atoms: IntArray, derivatives: FloatArray, columns: IntArray, start: int, sign: float, force_rows: FloatArray
) -> None:
    """Add derivatives, shape ``(n, >= 3, 8)``, to the force rows of eight atoms; -1 stands for no atom."""
    for c in columns:
        for axis in range(3):
            for k in range(LANES):
                if atoms[k] >= 0:
                    force_rows[3 * atoms[k] + axis, start + c] += sign * derivatives[c, axis, k]


class DesignRows(NamedTuple):
    """Output: design rows of one frame for Q columns."""

    energy: FloatArray  # column sums over the atoms, shape ``(Q,)``
    forces: FloatArray  # minus their gradient, shape ``(3 n, Q)``, in 1/Å
    virial: FloatArray
    """Their derivative by strain as xx, yy, zz, yz, xz, xy, shape ``(6, Q)``; or without rows, where not needed."""

    @classmethod
    def of(cls, energy: FloatArray, others: FloatArray, n_atoms: int) -> DesignRows:
        """Rows in arrays of the caller: that of the energy, and those of forces and virial below each other."""
        return cls(energy, others[: 3 * n_atoms], others[3 * n_atoms :])


def linear_design(
    tables: ChannelTables | OwnTables, near: Surroundings, rows: DesignRows, all_values: FloatArray
) -> None:
    """Design rows of a model that is linear in the channels, for one frame.

    Args:
        rows: Output; columns are channels, of atoms of their species.
        all_values: Output, channel values of each atom, shape ``(n, max channels)``.
    """
    if isinstance(tables, ChannelTables):
        _linear_design(tables, near, rows, all_values)
        return
    rows.forces[:] = rows.virial[:] = 0.0  # they may have columns of other terms
    for s, own in enumerate(near.described_by(tables)):
        all_values[own.atoms, : own.values.shape[1]] = own.values
        columns = slice(tables.channel_start[s], tables.channel_start[s + 1])
        _own_rows(near, own, own.values, own.slopes, rows, columns)


def _own_rows(
    near: Surroundings, own: Described, values: FloatArray, slopes: FloatArray, rows: DesignRows, columns: slice
) -> None:
    """Design rows of functions of a species' features, shape ``(n_s, q)``, by their slopes, shape ``(p, 3, q)``."""
    rows.energy[columns] = values.sum(axis=0)
    forces = np.zeros((len(near.kinds), *slopes.shape[1:]))
    np.add.at(forces, own.atoms[own.centers], slopes)
    np.subtract.at(forces, near.neighbor[own.pairs], slopes)
    rows.forces[:, columns] = forces.reshape(-1, slopes.shape[2])
    if len(rows.virial):
        strained = np.einsum("pa,pbq->abq", near.vectors[own.pairs], slopes, optimize=True)
        rows.virial[:, columns] = strained[STRAIN_ROWS, STRAIN_COLUMNS]


@numba.njit(cache=True, nogil=True)
def _linear_design(tables: ChannelTables, near: Surroundings, rows: DesignRows, all_values: FloatArray) -> None:
    rows.energy[:] = 0.0
    rows.forces[:] = 0.0
    rows.virial[:] = 0.0
    block, n_atoms, width = make_block(tables, near.first), near.first.shape[0] - 1, 3 + rows.virial.shape[0]
    gradients = np.empty(((tables.l_max + 1) ** 2, 3, LANES))
    for s in range(tables.species.shape[0]):
        column = tables.channel_start[s]
        n_channels = tables.channel_start[s + 1] - column
        columns, sums = np.arange(n_channels), np.empty((n_channels, width, LANES))
        start = next_block(block, tables, s, near, 0, n_atoms)
        while start >= 0:
            sums[:] = 0.0
            for t in range(tables.species.shape[0]):
                moved, jacobian = _moved_by(tables, s, t), np.zeros((n_channels, 3, LANES))
                for p in range(block.begin[t], block.begin[t + 1]):
                    _fill_jacobian(block, tables, s, t, p, moved, gradients, jacobian)
                    _sum_neighbor(block, p, jacobian, moved, sums)
                    _add_rows(_atoms_of(block, near, p), jacobian, moved, column, -1.0, rows.forces)
            _add_rows(block.atoms, sums, columns, column, 1.0, rows.forces)
            for c in range(n_channels):
                for k in range(width - 3):
                    rows.virial[k, column + c] += total(sums, width * c + 3 + k)
                for k in range(LANES):
                    if block.atoms[k] >= 0:
                        all_values[block.atoms[k], c] = block.values[c, k]
                        rows.energy[column + c] += block.values[c, k]
            start = next_block(block, tables, s, near, start, n_atoms)


class RegisterMaps(NamedTuple):
    """Features of all species and their registers, laid end to end; a named tuple, because kernels can take one."""

    means: FloatArray  # channel means, shape ``(C,)``
    matrices: FloatArray  # matrices T of all species, shape ``(d_s, K_s)`` each, flattened
    matrix_start: IntArray  # where each begins, shape ``(S + 1,)``
    registers: IntArray
    """Species, first feature and number of features of each register, in the order of the species, ``(R, 3)``."""
    column_start: IntArray  # where the columns of each register begin, shape ``(R + 1,)``


def quadratic_design(
    tables: ChannelTables | OwnTables, maps: RegisterMaps, near: Surroundings, rows: DesignRows
) -> None:
    """Design rows of a model that is quadratic in the compressed channels of each register, for one frame.

    The columns of a register with features y are ``x_a x_b`` (a <= b, doubled off the diagonal) with x = (1, y), in
    the order of ``numpy.triu_indices``: contracting them with the upper triangle of M gives ``x^T M x``.
    """
    if isinstance(tables, ChannelTables):
        _quadratic_design(tables, maps, near, rows)
        return
    rows.forces[:] = rows.virial[:] = 0.0
    for s, own in enumerate(near.described_by(tables)):
        mean = maps.means[tables.channel_start[s] : tables.channel_start[s + 1]]
        compress = maps.matrices[maps.matrix_start[s] : maps.matrix_start[s + 1]].reshape(-1, len(mean)).T
        a, b = _register_pairs(maps.registers[maps.registers[:, 0] == s]).T
        x = np.insert((own.values - mean) @ compress, 0, 1.0, axis=1)  # x_a stands at a + 1
        moved = np.insert(own.slopes @ compress, 0, 0.0, axis=2)
        twice = np.where(a == b, 1.0, 2.0)
        x_a, x_b = x[:, a + 1], x[:, b + 1]
        slopes = x_a[own.centers, None] * moved[:, :, b + 1] + x_b[own.centers, None] * moved[:, :, a + 1]
        begin = int(maps.column_start[np.searchsorted(maps.registers[:, 0], s)])
        _own_rows(near, own, twice * x_a * x_b, twice * slopes, rows, slice(begin, begin + len(a)))


@numba.njit(cache=True, nogil=True)
def _quadratic_design(  # noqa: C901, PLR0912 - compiled code, loops inside loops
    tables: ChannelTables, maps: RegisterMaps, near: Surroundings, rows: DesignRows
) -> None:
    rows.energy[:] = 0.0
    rows.forces[:] = 0.0
    rows.virial[:] = 0.0
    block, n_atoms, width = make_block(tables, near.first), near.first.shape[0] - 1, 3 + rows.virial.shape[0]
    gradients = np.empty(((tables.l_max + 1) ** 2, 3, LANES))
    for s in range(tables.species.shape[0]):
        n_channels = tables.channel_start[s + 1] - tables.channel_start[s]
        mean = maps.means[tables.channel_start[s] : tables.channel_start[s + 1]]
        compress = maps.matrices[maps.matrix_start[s] : maps.matrix_start[s + 1]].reshape((-1, n_channels))
        size, pairs = compress.shape[0], _register_pairs(maps.registers[maps.registers[:, 0] == s])
        every, columns = np.arange(size), np.arange(pairs.shape[0])
        column = maps.column_start[np.searchsorted(maps.registers[:, 0], s)]
        features, moves, sums = np.empty((size, LANES)), np.empty((size, 3, LANES)), np.empty((size, width, LANES))
        products = np.empty((pairs.shape[0], 3, LANES))
        start = next_block(block, tables, s, near, 0, n_atoms)
        while start >= 0:
            for f in range(size):
                y = repeated(0.0)
                for c in range(n_channels):
                    y += (load(block.values, c) - mean[c]) * compress[f, c]
                store(features, f, y)
            sums[:] = 0.0
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
                    _sum_neighbor(block, p, moves, every, sums)
                    _products_of(pairs, features, moves, products)
                    _add_rows(_atoms_of(block, near, p), products, columns, column, -1.0, rows.forces)
            # PERF: products are linear in the slope, so the centre's own rows are added once, not per neighbour.
            for begin in range(0, width, 3):
                moves[:] = sums[:, begin : begin + 3]
                _products_of(pairs, features, moves, products)
                if begin == 0:
                    _add_rows(block.atoms, products, columns, column, 1.0, rows.forces)
                    continue
                for c in range(len(columns)):
                    for k in range(3):
                        rows.virial[begin - 3 + k, column + c] += total(products, 3 * c + k)
            for c in range(len(columns)):
                a, b = pairs[c]
                for k in range(LANES):
                    if block.atoms[k] >= 0:
                        one, two = features[a, k] if a >= 0 else 1.0, features[b, k] if b >= 0 else 1.0
                        rows.energy[column + c] += (1.0 if a == b else 2.0) * one * two
            start = next_block(block, tables, s, near, start, n_atoms)


@numba.njit(cache=True)
def _atoms_of(block: Block, near: Surroundings, p: int) -> IntArray:
    """The neighbours in one row of a block, shape ``(8,)``; -1 for none."""
    atoms = np.full(LANES, -1)
    for k in range(LANES):
        if block.partners[p, k] >= 0:
            atoms[k] = near.neighbor[block.partners[p, k]]
    return atoms


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


WIDTH = 12.0
"""L, in units of v: how softly walls begin. With 1, atoms that touched a wall gained energy at steps of 1 fs."""


class Fence(NamedTuple):
    """The walls of all species, laid end to end; a named tuple, because kernels can take one."""

    maps: FloatArray  # the matrices F, row by row, flattened end to end, shape ``(sum K d,)``
    map_start: IntArray  # where each begins, shape ``(S + 1,)``
    low: FloatArray  # least v inside the walls, shape ``(sum d,)``
    high: FloatArray  # largest v inside the walls, shape ``(sum d,)``
    start: IntArray  # where the directions of each species begin, shape ``(S + 1,)``
    slope: FloatArray  # κ of each direction in eV, shape ``(sum d,)``


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


LEAST_CENTERS = 500
"""Fewer atoms than this are not worth waking threads for."""
MOST_PARTS, LEAST_PART = 32, 64
"""Parts of a large structure that threads share, and atoms in one: fewer would fill too few blocks of eight."""


class QuadraticForms(NamedTuple):
    """Quadratic forms of all species in their centred channels; a named tuple, because kernels can take one."""

    means: FloatArray  # channel means end to end, shape ``(C,)``
    matrices: FloatArray  # the matrices B, flattened end to end, in eV
    start: IntArray  # where each begins, shape ``(S + 1,)``
    fence: Fence  # walls around the training data


def thread_pool(count: int) -> ThreadPoolExecutor:
    """Threads that share the cores: kernels called by one of them start no more."""
    return ThreadPoolExecutor(count, initializer=numba.set_num_threads, initargs=(1,))


def quadratic_forces(
    tables: ChannelTables | OwnTables, forms: QuadraticForms, near: Surroundings
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Evaluate one structure, on as many threads as Numba may use; the result does not depend on their number.

    Returns:
        Energies of the centres in eV, shape ``(n_centers,)``; forces on all atoms in eV/Å, shape ``(n, 3)``; dE/dstrain
        in eV, symmetric, shape ``(3, 3)``.
    """
    if isinstance(tables, OwnTables):
        return _own_forces(tables, forms, near)
    n_centers = len(near.first) - 1
    energies, forces, virial = np.empty(n_centers), np.zeros((len(near.kinds), 3)), np.zeros((3, 3))
    if n_centers < LEAST_CENTERS:
        sweep(tables, forms, near, (0, n_centers, 0), energies, forces, virial)
        return energies, forces, virial
    n_parts = min(MOST_PARTS, n_centers // LEAST_PART)
    bounds = [part * n_centers // n_parts for part in range(n_parts + 1)]

    def sweep_part(part: int) -> tuple[slice, FloatArray, FloatArray]:
        """Forces on the window of atoms that some centres reach: threads must not add to the same array."""
        low, high = bounds[part], bounds[part + 1]
        reached = near.neighbor[near.first[low] : near.first[high]]
        window = slice(min(low, int(reached.min(initial=low))), max(high, int(reached.max(initial=0)) + 1))
        own, own_virial = np.zeros((window.stop - window.start, 3)), np.zeros((3, 3))
        sweep(tables, forms, near, (low, high, window.start), energies, own, own_virial)
        return window, own, own_virial

    threads = min(numba.get_num_threads(), n_parts)
    if threads == 1:
        parts = [sweep_part(part) for part in range(n_parts)]
    else:
        with thread_pool(threads) as pool:
            parts = list(pool.map(sweep_part, range(n_parts)))
    for window, own, own_virial in parts:
        forces[window] += own
        virial += own_virial
    return energies, forces, virial


def _own_forces(
    tables: OwnTables, forms: QuadraticForms, near: Surroundings
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The same where a descriptor of one's own describes the atoms."""
    energies, forces, virial = np.empty(len(near.first) - 1), np.zeros((len(near.kinds), 3)), np.zeros((3, 3))
    fence = forms.fence
    for s, own in enumerate(near.described_by(tables)):
        low, high = tables.channel_start[s], tables.channel_start[s + 1]
        form = forms.matrices[forms.start[s] : forms.start[s + 1]].reshape(high - low + 1, -1)
        centred = own.values - forms.means[low:high]
        z = np.insert(centred, 0, 1.0, axis=1)
        pull = z @ form
        energies[own.atoms], gradient = np.sum(z * pull, axis=1), 2.0 * pull[:, 1:]
        walls = slice(fence.start[s], fence.start[s + 1])
        if walls.stop > walls.start:
            maps = fence.maps[fence.map_start[s] : fence.map_start[s + 1]].reshape(-1, high - low)
            v = centred @ maps.T
            signed = np.maximum(v - fence.high[walls], 0.0) - np.maximum(fence.low[walls] - v, 0.0)
            t, part = np.abs(signed), np.abs(signed) / (WIDTH + np.abs(signed))
            energies[own.atoms] += (t * part * part) @ fence.slope[walls]
            gradient += (np.sign(signed) * part * part * (3.0 - 2.0 * part) * fence.slope[walls]) @ maps
        slopes = np.einsum("pak,pk->pa", own.slopes, gradient[own.centers])
        np.add.at(forces, own.atoms[own.centers], slopes)
        np.subtract.at(forces, near.neighbor[own.pairs], slopes)
        strained = near.vectors[own.pairs].T @ slopes
        virial += 0.5 * (strained + strained.T)
    return energies, forces, virial


@numba.njit(cache=True, nogil=True)
def sweep(
    tables: ChannelTables, forms: QuadraticForms, near: Surroundings, part: tuple[int, int, int],
    energies: FloatArray, forces: FloatArray, virial: FloatArray,
) -> None:  # fmt: skip
    """Evaluate some centres; their energies are set, forces and virial are added to.

    Args:
        part: First centre, where they end, and the atom that the first row of ``forces`` belongs to.
        energies: Output in eV, for all centres.
        forces: Added to, in eV/Å, for a window of the atoms.
        virial: Added to, in eV.
    """
    begin, end, offset = part
    block, fence = make_block(tables, near.first), forms.fence
    n_rows = len(block.values) + 1
    centred, pull, work = np.empty((n_rows, LANES)), np.empty((n_rows, LANES)), np.empty((n_rows, LANES))
    strained = np.zeros((6, LANES))
    for s in range(tables.species.shape[0]):
        start, n_channels = tables.channel_start[s], tables.channel_start[s + 1] - tables.channel_start[s]
        form = forms.matrices[forms.start[s] : forms.start[s + 1]].reshape((n_channels + 1, n_channels + 1))
        following = next_block(block, tables, s, near, begin, end)
        while following >= 0:
            store(centred, 0, repeated(1.0))
            for c in range(n_channels):
                store(centred, c + 1, load(block.values, c) - forms.means[start + c])
            multiply(form, centred, pull)
            energy = load(pull, 0)
            for c in range(1, n_channels + 1):
                energy += load(centred, c) * load(pull, c)
                store(pull, c, 2.0 * load(pull, c))
            gradient = pull[1:]
            if fence.start[s + 1] > fence.start[s]:
                energy += fence_energy(fence, s, centred[1:], n_channels, gradient, work)
            store(work, 0, energy)
            for k in range(LANES):
                if block.atoms[k] >= 0:
                    energies[block.atoms[k]] = work[0, k]
            pull_products(tables, s, block.weights, gradient)
            _pull_densities(block, tables, s, gradient)
            _pull_neighbors(block, tables, s, near.neighbor, gradient, offset, forces, strained)
            following = next_block(block, tables, s, near, following, end)
    for k in range(6):
        a, b, value = STRAIN_ROWS[k], STRAIN_COLUMNS[k], total(strained, k)
        virial[a, b] += value
        if a != b:
            virial[b, a] += value


@numba.njit(cache=True)
def _pull_densities(block: Block, tables: ChannelTables, s: int, gradient: FloatArray) -> None:
    """From dE/dD of the three-body channels to dE/dA."""
    density, pulled = block.density, block.pulled
    pulled[: tables.slot_start[s + 1] - tables.slot_start[s]] = 0.0
    n_two, n_lm = tables.pair_start[s + 1] - tables.pair_start[s], (tables.l_max + 1) ** 2
    for k in range(tables.triple_start[s], tables.triple_start[s + 1]):
        a, b, degree = tables.triples[k, 0] * n_lm, tables.triples[k, 1] * n_lm, tables.triples[k, 2]
        g = load(gradient, n_two + k - tables.triple_start[s])
        for lm in range(tables.first_harmonic[k], (degree + 1) * (degree + 1)):
            weight = g * tables.angular[k, lm]
            store(pulled, a + lm, load(pulled, a + lm) + weight * load(density, b + lm))
            store(pulled, b + lm, load(pulled, b + lm) + weight * load(density, a + lm))


@numba.njit(cache=True)
def _pull_neighbors(  # noqa: C901 - compiled code, loops inside loops
    block: Block, tables: ChannelTables, s: int, neighbor: IntArray, gradient: FloatArray, offset: int,
    forces: FloatArray, strained: FloatArray,
) -> None:  # fmt: skip
    """From dE/dD and dE/dA to the forces on the atoms of a block and their neighbours, and to the virial."""
    width, own, work = block.radial.shape[1], np.zeros((3, LANES)), np.empty((3, LANES))
    for t in range(tables.species.shape[0]):
        first_pair, first_slot = tables.pair_first[s, t], tables.slot_first[s, t]
        n_pairs, n_slots = tables.pair_first[s, t + 1] - first_pair, tables.slot_first[s, t + 1] - first_slot
        for p in range(block.begin[t], block.begin[t + 1]):
            x, y, z = load(block.vectors, 4 * p), load(block.vectors, 4 * p + 1), load(block.vectors, 4 * p + 2)
            r, along = load(block.vectors, 4 * p + 3), repeated(0.0)
            gx, gy, gz = repeated(0.0), repeated(0.0), repeated(0.0)
            for c in range(n_pairs):
                along += load(gradient, first_pair + c) * load(block.slopes, p * width + c)
            if n_slots > 0:
                fill_polynomials(x, y, z, tables.l_max, block.legendre, block.circular)
                swing, gx, gy, gz = _pull_harmonics(block, tables.l_max, p * width + n_pairs, n_slots, first_slot)
                gx, gy, gz = gx / r, gy / r, gz / r
                # The harmonics do not depend on the distance: what points along the vector goes.
                along += swing - gx * x - gy * y - gz * z
            gx, gy, gz = gx + along * x, gy + along * y, gz + along * z
            store(work, 0, gx)
            store(work, 1, gy)
            store(work, 2, gz)
            for axis in range(3):
                store(own, axis, load(own, axis) + load(work, axis))
            for k in range(LANES):
                if block.partners[p, k] >= 0:
                    j = neighbor[block.partners[p, k]] - offset
                    forces[j, 0] -= work[0, k]
                    forces[j, 1] -= work[1, k]
                    forces[j, 2] -= work[2, k]
            x, y, z = x * r, y * r, z * r
            store(strained, 0, load(strained, 0) + x * gx)
            store(strained, 1, load(strained, 1) + y * gy)
            store(strained, 2, load(strained, 2) + z * gz)
            store(strained, 3, load(strained, 3) + y * gz)
            store(strained, 4, load(strained, 4) + x * gz)
            store(strained, 5, load(strained, 5) + x * gy)
    for k in range(LANES):
        if block.atoms[k] >= 0:
            for axis in range(3):
                forces[block.atoms[k] - offset, axis] += own[axis, k]


@numba.njit(cache=True)
def _pull_harmonics(
    block: Block, l_max: int, function: int, n_slots: int, first_slot: int
) -> tuple[Eight, Eight, Eight, Eight]:
    """From dE/dA to derivatives by distance, and by x, y and z as free variables of the harmonics, of one neighbour."""
    along, gx, gy, gz = repeated(0.0), repeated(0.0), repeated(0.0), repeated(0.0)
    cosine_below, sine_below, n_lm = repeated(0.0), repeated(0.0), (l_max + 1) ** 2
    for m in range(l_max + 1):
        # Sums over l with Q_l^m and Q_l^(m + 1), for cosine and sine, and of the first with slopes of radial functions.
        cq, sq, cq_above, sq_above = repeated(0.0), repeated(0.0), repeated(0.0), repeated(0.0)
        cq_slope, sq_slope = repeated(0.0), repeated(0.0)
        for degree in range(m, l_max + 1):
            c, s, c_slope, s_slope = repeated(0.0), repeated(0.0), repeated(0.0), repeated(0.0)
            place = first_slot * n_lm + degree * degree + degree
            for a in range(function, function + n_slots):
                g, slope = load(block.radial, a), load(block.slopes, a)
                cosine, sine = load(block.pulled, place + m), load(block.pulled, place - m)
                c += g * cosine
                s += g * sine
                c_slope += slope * cosine
                s_slope += slope * sine
                place += n_lm
            q = load(block.legendre, degree * (l_max + 2) + m)
            above = load(block.legendre, degree * (l_max + 2) + m + 1)
            cq += c * q
            sq += s * q
            cq_above += c * above
            sq_above += s * above
            cq_slope += c_slope * q
            sq_slope += s_slope * q
        cosine, sine = load(block.circular, 2 * m), load(block.circular, 2 * m + 1)
        along += cq_slope * cosine + sq_slope * sine
        gx += m * (cq * cosine_below + sq * sine_below)
        gy += m * (sq * cosine_below - cq * sine_below)
        gz += cq_above * cosine + sq_above * sine
        cosine_below, sine_below = cosine, sine
    return along, gx, gy, gz
