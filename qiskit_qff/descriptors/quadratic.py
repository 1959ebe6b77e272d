r"""Energies, forces and virial of quadratic forms in the channels, by one backward sweep.

With channels D of atom i, :math:`z = (1, D - \bar D)` and a symmetric matrix B of its species,

.. math:: E_i = z^T B z,\qquad \partial E_i/\partial D = 2 (B z)_{1:}.

The gradient flows back through products of channels and the three-body contraction to the densities, and from there to
every neighbour vector. No per-channel Jacobian is formed: the cost of a neighbour is that of its slots and
harmonics, however many channels share them.

PERF: where the 0.40 ms of lips83 go (83 atoms, 42 neighbours within 6 Å, 99 parameters, one core with AVX-512; 1.27 ms
when numbers were those of one atom): sorting neighbours into blocks 16 %, radial functions 28 %, harmonics and
densities 24 %, quadratic form and products 5 %, the way back to the neighbours 27 %. The form is dense, because it
costs next to nothing: that of each register by itself would save 1 %. Single precision gained 3 to 8 %.

*Walls* around the training data: no force inside, a push back outside. Along each direction k of the centred channels,
:math:`v_k = \sum_c F_{kc} (D_c - \bar D_c)`, an atom may be anywhere from :math:`l_k` to :math:`h_k`; beyond, it pays

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
from qiskit_qff.cores import thread_pool
from qiskit_qff.descriptors.blocks import Block, fill_channels, gather, make_block, next_block, pull_products
from qiskit_qff.descriptors.channels import ChannelTables
from qiskit_qff.descriptors.eights import LANES, Eight, larger, largest, load, multiply, repeated, store, total
from qiskit_qff.descriptors.functions import fill_polynomials

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


LEAST_CENTERS = 500
"""Fewer atoms than this are not worth waking threads for."""
MOST_PARTS, LEAST_PART = 32, 64
"""Parts of a large structure that threads share, and atoms in one: fewer would fill too few blocks of eight."""


def quadratic_forces(
    tables: ChannelTables, means: FloatArray, forms: FloatArray, form_start: IntArray, fence: Fence,
    first: IntArray, neighbor: IntArray, vectors: FloatArray, distances: FloatArray, kinds: IntArray,
) -> tuple[FloatArray, FloatArray, FloatArray]:  # fmt: skip
    """Evaluate one structure, on as many threads as Numba may use; the result does not depend on their number.

    Args:
        means: Channel means of all species end to end, shape ``(C,)``.
        form_start: Where each begins, shape ``(S + 1,)``.
        first: CSR offsets of the centres, shape ``(n_centers + 1,)``; centres are the first of the n atoms.
        neighbor: Neighbour indices, shape ``(n_pairs,)``.
        vectors: Neighbour vectors, shape ``(n_pairs, 3)``, in Å.
        distances: Their lengths in Å.
        kinds: Species index per atom, shape ``(n,)``.

    Returns:
        Energies of the centres in eV, shape ``(n_centers,)``; forces on all atoms in eV/Å, shape ``(n, 3)``; dE/dstrain
        in eV, symmetric, shape ``(3, 3)``.
    """
    n_centers = len(first) - 1
    energies, forces, virial = np.empty(n_centers), np.zeros((len(kinds), 3)), np.zeros((3, 3))
    inputs = tables, means, forms, form_start, fence, first, neighbor, vectors, distances, kinds
    if n_centers < LEAST_CENTERS:
        sweep(0, n_centers, 0, *inputs, energies, forces, virial)
        return energies, forces, virial
    n_parts = min(MOST_PARTS, n_centers // LEAST_PART)
    bounds = [part * n_centers // n_parts for part in range(n_parts + 1)]

    def sweep_part(part: int) -> tuple[slice, FloatArray, FloatArray]:
        """Forces on the window of atoms that some centres reach: threads must not add to the same array."""
        low, high = bounds[part], bounds[part + 1]
        near = neighbor[first[low] : first[high]]
        window = slice(min(low, int(near.min(initial=low))), max(high, int(near.max(initial=0)) + 1))
        own, own_virial = np.zeros((window.stop - window.start, 3)), np.zeros((3, 3))
        sweep(low, high, window.start, *inputs, energies, own, own_virial)
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


@numba.njit(cache=True, nogil=True)
def sweep(
    begin: int, end: int, offset: int, tables: ChannelTables, means: FloatArray, forms: FloatArray,
    form_start: IntArray, fence: Fence, first: IntArray, neighbor: IntArray, vectors: FloatArray,
    distances: FloatArray, kinds: IntArray, energies: FloatArray, forces: FloatArray, virial: FloatArray,
) -> None:  # fmt: skip
    """Evaluate some centres; their energies are set, forces and virial are added to.

    Args:
        offset: The atom that the first row of ``forces`` belongs to.
        vectors: Neighbour vectors in Å.
        distances: Their lengths in Å.
        energies: Output in eV, for all centres.
        forces: Added to, in eV/Å, for a window of the atoms.
        virial: Added to, in eV.
    """
    block = make_block(tables, first)
    pulled, n_rows = np.empty_like(block.density), len(block.values) + 1
    centred, pull, work = np.empty((n_rows, LANES)), np.empty((n_rows, LANES)), np.empty((n_rows, LANES))
    strained = np.zeros((6, LANES))
    for s in range(tables.species.shape[0]):
        start, n_channels = tables.channel_start[s], tables.channel_start[s + 1] - tables.channel_start[s]
        form = forms[form_start[s] : form_start[s + 1]].reshape((n_channels + 1, n_channels + 1))
        following = next_block(block, s, begin, end, kinds)
        while block.atoms[0] >= 0:
            gather(block, tables, first, neighbor, vectors, distances, kinds)
            fill_channels(block, tables, s)
            store(centred, 0, repeated(1.0))
            for c in range(n_channels):
                store(centred, c + 1, load(block.values, c) - means[start + c])
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
            _pull_densities(tables, s, gradient, block.density, pulled)
            _pull_neighbors(block, tables, s, neighbor, gradient, pulled, offset, forces, strained)
            following = next_block(block, s, following, end, kinds)
    for k, (a, b) in enumerate(((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))):
        value = total(strained, k)
        virial[a, b] += value
        if a != b:
            virial[b, a] += value


@numba.njit(cache=True)
def _pull_densities(
    tables: ChannelTables, s: int, gradient: FloatArray, density: FloatArray, pulled: FloatArray
) -> None:
    """From dE/dD of the three-body channels to dE/dA."""
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
    block: Block, tables: ChannelTables, s: int, neighbor: IntArray, gradient: FloatArray, pulled: FloatArray,
    offset: int, forces: FloatArray, strained: FloatArray,
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
                swing, gx, gy, gz = _pull_harmonics(
                    block, tables.l_max, p * width + n_pairs, n_slots, pulled, first_slot
                )
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
    block: Block, l_max: int, function: int, n_slots: int, pulled: FloatArray, first_slot: int
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
                cosine, sine = load(pulled, place + m), load(pulled, place - m)
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
