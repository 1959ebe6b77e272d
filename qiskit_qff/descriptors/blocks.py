r"""Eight atoms of one species at a time, with their neighbours sorted by species: what every kernel works on.

*Products of channels* say what two- and three-body channels cannot say with so few numbers:

.. math:: D = \sigma_{w_a}(D_a - c_a)\,\sigma_{w_b}(D_b - c_b),\qquad \sigma_w(v) = \frac{v}{\sqrt{1 + v^2/w^2}}

with a and b channels of the same atom that come before D, products among them. The offsets c were their means over the
training atoms, the widths w some of their standard deviations. Such a channel tells surroundings apart: the pull of a
neighbour is another one where many others are near. In the language of the atomic cluster expansion two three-body
channels give some of the five-body functions, picked one by one instead of all together.

σ is there for dynamics. It is nearly a straight line where training was and levels off outside, so a product never
grows faster than a single channel does: plain products extrapolate like powers, and a model of Li-MOF-5 with plain
products of two fell apart within 3 ps at 300 K, twice of two times.

References:
    R. Drautz, Phys. Rev. B 99, 014104 (2019), doi:10.1103/PhysRevB.99.014104.
"""

from typing import NamedTuple

import numba
import numpy as np

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.descriptors.channels import ChannelTables
from qiskit_qff.descriptors.eights import LANES, Eight, load, logarithm, repeated, root, store
from qiskit_qff.descriptors.functions import (
    core_distance,
    cutoff_function,
    fill_harmonics,
    fill_polynomials,
    radial_function,
)


@numba.njit(cache=True)
def levelled(v: Eight, width: float) -> tuple[Eight, Eight]:
    """σ of eight channels, and its derivative."""
    part = v * (1.0 / width)
    inverse = 1.0 / root(1.0 + part * part)
    return v * inverse, inverse * inverse * inverse


@numba.njit(cache=True)
def fill_products(tables: ChannelTables, s: int, values: FloatArray, weights: FloatArray) -> None:
    """Values of the products of eight atoms, and what each factor's derivative counts in the product rule.

    Args:
        s: Species index of the atoms.
        values: Their channels, shape ``(>= n_channels, 8)``; the products are set, what is before them is there.
        weights: Output, shape ``(>= n_products, 2, 8)``.
    """
    begin, end = tables.product_start[s], tables.product_start[s + 1]
    place = tables.channel_start[s + 1] - tables.channel_start[s] - (end - begin)
    for k in range(end - begin):
        a, b = tables.products[begin + k, 0], tables.products[begin + k, 1]
        one, bend = levelled(load(values, a) - tables.offsets[begin + k, 0], tables.widths[begin + k, 0])
        other, other_bend = levelled(load(values, b) - tables.offsets[begin + k, 1], tables.widths[begin + k, 1])
        store(values, place + k, one * other)
        store(weights, 2 * k, bend * other)
        store(weights, 2 * k + 1, one * other_bend)


@numba.njit(cache=True)
def pull_products(tables: ChannelTables, s: int, weights: FloatArray, gradient: FloatArray) -> None:
    """Chain rule through the products of eight atoms.

    Args:
        s: Species index of the atoms.
        gradient: dE/dD with every channel taken as a variable of its own, shape ``(>= n_channels, 8)``; what the
            products say of their factors is added.
    """
    begin, count = tables.product_start[s], tables.product_start[s + 1] - tables.product_start[s]
    place = tables.channel_start[s + 1] - tables.channel_start[s] - count
    for k in range(count - 1, -1, -1):
        a, b, pull = tables.products[begin + k, 0], tables.products[begin + k, 1], load(gradient, place + k)
        store(gradient, a, load(gradient, a) + pull * load(weights, 2 * k))
        store(gradient, b, load(gradient, b) + pull * load(weights, 2 * k + 1))


class Block(NamedTuple):
    """Work space for eight atoms; a named tuple, because kernels can take one."""

    atoms: IntArray
    """The atoms, shape ``(8,)``; -1 for none."""
    begin: IntArray
    """Row of the first neighbour of each species, shape ``(S + 1,)``."""
    partners: IntArray
    """Pair of each neighbour, shape ``(rows, 8)``; -1 for none."""
    vectors: FloatArray
    """Unit vectors to the neighbours, and their distances in Å, shape ``(rows, 4, 8)``."""
    radial: FloatArray
    """Radial functions of each neighbour, two-body channels before slots, shape ``(rows, most, 8)``."""
    slopes: FloatArray
    """Their derivatives in 1/Å, same shape."""
    density: FloatArray
    """Densities, shape ``(slots, (l_max + 1)**2, 8)``."""
    values: FloatArray
    """Channels, shape ``(channels, 8)``."""
    weights: FloatArray
    """Weights of the factors of products, shape ``(products, 2, 8)``."""
    legendre: FloatArray
    """Work space of the harmonics."""
    circular: FloatArray
    """Work space of the harmonics."""
    harmonics: FloatArray
    """Harmonics of one neighbour, shape ``((l_max + 1)**2, 8)``."""


@numba.njit(cache=True)
def make_block(tables: ChannelTables, first: IntArray) -> Block:
    """Room for any eight atoms of a neighbour list.

    Args:
        first: CSR offsets, shape ``(n + 1,)``.
    """
    n_species, width = tables.species.shape[0], tables.l_max + 1
    most = 1
    for i in range(first.shape[0] - 1):
        most = max(most, first[i + 1] - first[i])
    rows, functions, slots, channels = n_species * most, 1, 1, 1
    for s in range(n_species):
        slots = max(slots, tables.slot_start[s + 1] - tables.slot_start[s])
        channels = max(channels, tables.channel_start[s + 1] - tables.channel_start[s])
        for t in range(n_species):
            functions = max(
                functions,
                tables.pair_first[s, t + 1] - tables.pair_first[s, t]
                + tables.slot_first[s, t + 1] - tables.slot_first[s, t],
            )  # fmt: skip
    return Block(
        np.full(LANES, -1), np.zeros(n_species + 1, dtype=np.int64), np.empty((rows, LANES), dtype=np.int64),
        np.empty((rows, 4, LANES)), np.empty((rows, functions, LANES)), np.empty((rows, functions, LANES)),
        np.empty((slots, width * width, LANES)), np.empty((channels, LANES)), np.empty((channels, 2, LANES)),
        np.zeros((width, width + 1, LANES)), np.empty((width, 2, LANES)), np.empty((width * width, LANES)),
    )  # fmt: skip


@numba.njit(cache=True)
def next_block(block: Block, s: int, start: int, end: int, kinds: IntArray) -> int:
    """Find the next eight atoms of a species.

    Args:
        s: Species index.
        kinds: Species index per atom.

    Returns:
        Where to go on; the block is empty where there are no more atoms.
    """
    block.atoms[:] = -1
    found = 0
    for i in range(start, end):
        if kinds[i] == s:
            block.atoms[found] = i
            found += 1
            if found == LANES:
                return i + 1
    return end


@numba.njit(cache=True)
def gather(  # noqa: C901 - compiled code, loops inside loops
    block: Block,
    tables: ChannelTables,
    first: IntArray,
    neighbor: IntArray,
    vectors: FloatArray,
    distances: FloatArray,
    kinds: IntArray,
) -> None:
    """Sort the neighbours of a block by species; the shorter rows end in neighbours at the cutoff, which do nothing."""
    n_species = tables.species.shape[0]
    counts = np.zeros((n_species, LANES), dtype=np.int64)
    for k in range(LANES):
        i = block.atoms[k]
        if i >= 0:
            for pair in range(first[i], first[i + 1]):
                if distances[pair] < tables.r_cut:
                    counts[kinds[neighbor[pair]], k] += 1
    row = 0
    for t in range(n_species):
        block.begin[t] = row
        row += counts[t].max()
    block.begin[n_species] = row
    block.partners[:row] = -1
    for p in range(row):
        store(block.vectors, 4 * p, repeated(1.0))
        store(block.vectors, 4 * p + 1, repeated(0.0))
        store(block.vectors, 4 * p + 2, repeated(0.0))
        store(block.vectors, 4 * p + 3, repeated(tables.r_cut))
    for k in range(LANES):
        i = block.atoms[k]
        if i >= 0:
            counts[:, k] = block.begin[:n_species]
            for pair in range(first[i], first[i + 1]):
                if distances[pair] < tables.r_cut:
                    t = kinds[neighbor[pair]]
                    p = counts[t, k]
                    counts[t, k] += 1
                    block.partners[p, k] = pair
                    inverse = 1.0 / distances[pair]
                    block.vectors[p, 0, k] = vectors[pair, 0] * inverse
                    block.vectors[p, 1, k] = vectors[pair, 1] * inverse
                    block.vectors[p, 2, k] = vectors[pair, 2] * inverse
                    block.vectors[p, 3, k] = distances[pair]


@numba.njit(cache=True)
def fill_radial(block: Block, tables: ChannelTables, s: int) -> None:
    """Radial functions of all neighbours of a block."""
    width = block.radial.shape[1]
    for t in range(tables.species.shape[0]):
        begin, end, has_power = tables.function_start[s, t], tables.function_start[s, t + 1], False
        for f in range(begin, end):
            has_power |= tables.functions[f, 2] > 0.0
        for p in range(block.begin[t], block.begin[t + 1]):
            seen, bend = core_distance(load(block.vectors, 4 * p + 3), tables.core_start[s, t])
            switch, switch_slope = cutoff_function(seen, tables.r_cut)
            log = logarithm(seen) if has_power else repeated(0.0)
            for f in range(begin, end):
                value, slope = radial_function(seen, log, switch, switch_slope, tables.functions, f)
                store(block.radial, p * width + f - begin, value)
                store(block.slopes, p * width + f - begin, slope * bend)


@numba.njit(cache=True)
def fill_channels(block: Block, tables: ChannelTables, s: int) -> None:
    """Radial functions, densities and channels of a gathered block."""
    fill_radial(block, tables, s)
    width, l_max, n_lm = block.radial.shape[1], tables.l_max, (tables.l_max + 1) ** 2
    n_two = tables.pair_start[s + 1] - tables.pair_start[s]
    n_slots = tables.slot_start[s + 1] - tables.slot_start[s]
    block.density[:n_slots] = 0.0
    block.values[:n_two] = 0.0
    for t in range(tables.species.shape[0]):
        first_pair, first_slot = tables.pair_first[s, t], tables.slot_first[s, t]
        n_pairs, n_slots = tables.pair_first[s, t + 1] - first_pair, tables.slot_first[s, t + 1] - first_slot
        for p in range(block.begin[t], block.begin[t + 1]):
            for c in range(n_pairs):
                value = load(block.values, first_pair + c) + load(block.radial, p * width + c)
                store(block.values, first_pair + c, value)
            if n_slots == 0:
                continue
            x, y, z = load(block.vectors, 4 * p), load(block.vectors, 4 * p + 1), load(block.vectors, 4 * p + 2)
            fill_polynomials(x, y, z, l_max, block.legendre, block.circular)
            fill_harmonics(l_max, block.legendre, block.circular, block.harmonics)
            for a in range(n_slots):
                g, place = load(block.radial, p * width + n_pairs + a), (first_slot + a) * n_lm
                for lm in range(n_lm):
                    store(block.density, place + lm, load(block.density, place + lm) + g * load(block.harmonics, lm))
    first_triple = tables.triple_start[s]
    for k in range(first_triple, tables.triple_start[s + 1]):
        a, b, degree = tables.triples[k, 0] * n_lm, tables.triples[k, 1] * n_lm, tables.triples[k, 2]
        value = repeated(0.0)
        for lm in range(tables.first_harmonic[k], (degree + 1) * (degree + 1)):
            value += load(block.density, a + lm) * load(block.density, b + lm) * tables.angular[k, lm]
        store(block.values, n_two + k - first_triple, value)
    fill_products(tables, s, block.values, block.weights)


@numba.njit(cache=True, nogil=True)
def channel_values(
    tables: ChannelTables, first: IntArray, neighbor: IntArray, vectors: FloatArray, distances: FloatArray,
    kinds: IntArray,
) -> FloatArray:  # fmt: skip
    """Channel values of the centres of a neighbour list.

    Args:
        first: CSR offsets of the centres, shape ``(n_centers + 1,)``; centres are the first of the n atoms.
        neighbor: Neighbour indices, shape ``(n_pairs,)``.
        vectors: Neighbour vectors, shape ``(n_pairs, 3)``, in Å.
        distances: Their lengths in Å.
        kinds: Species index per atom, shape ``(n,)``.

    Returns:
        Shape ``(n_centers, most channels of a species)``; unused places are zero.
    """
    n_centers, block = first.shape[0] - 1, make_block(tables, first)
    values = np.zeros((n_centers, np.diff(tables.channel_start).max()))
    for s in range(tables.species.shape[0]):
        n_channels = tables.channel_start[s + 1] - tables.channel_start[s]
        start = next_block(block, s, 0, n_centers, kinds)
        while block.atoms[0] >= 0:
            gather(block, tables, first, neighbor, vectors, distances, kinds)
            fill_channels(block, tables, s)
            for k in range(LANES):
                if block.atoms[k] >= 0:
                    values[block.atoms[k], :n_channels] = block.values[:n_channels, k]
            start = next_block(block, s, start, n_centers, kinds)
    return values
