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

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numba
import numpy as np

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.descriptors.channels import ChannelTables, Described, OwnTables
from qiskit_qff.descriptors.eights import (
    LANES,
    Eight,
    exponential,
    larger,
    load,
    logarithm,
    repeated,
    root,
    smaller,
    store,
)
from qiskit_qff.errors import ConfigError
from qiskit_qff.structures.frame import Frame, species_index
from qiskit_qff.structures.neighbors import NeighborList, neighbor_list


@numba.njit(cache=True)
def fill_polynomials(x: Eight, y: Eight, z: Eight, l_max: int, legendre: FloatArray, circular: FloatArray) -> None:
    """Fill the factors of the harmonics.

    Args:
        legendre: Output Q, place ``l * (l_max + 2) + m``, shape ``(l_max + 1, l_max + 2, 8)``; zero before.
        circular: Output c_m and s_m, shape ``(l_max + 1, 2, 8)``.
    """
    width = l_max + 2
    cosine, sine, diagonal = repeated(1.0), repeated(0.0), 1.0
    for m in range(l_max + 1):
        store(circular, 2 * m, cosine)
        store(circular, 2 * m + 1, sine)
        cosine, sine = x * cosine - y * sine, x * sine + y * cosine
        below, value = repeated(0.0), repeated(diagonal)
        store(legendre, m * width + m, value)
        for degree in range(m + 1, l_max + 1):
            scale = 1.0 / (degree - m)
            below, value = value, z * value * (scale * (2 * degree - 1)) - below * (scale * (degree + m - 1))
            store(legendre, degree * width + m, value)
        diagonal *= 2 * m + 1


@numba.njit(cache=True)
def fill_harmonics(l_max: int, legendre: FloatArray, circular: FloatArray, values: FloatArray) -> None:
    """Fill the harmonics from their factors, shape ``((l_max + 1)**2, 8)``."""
    for m in range(l_max + 1):
        cosine, sine = load(circular, 2 * m), load(circular, 2 * m + 1)
        for degree in range(m, l_max + 1):
            polynomial, center = load(legendre, degree * (l_max + 2) + m), degree * degree + degree
            store(values, center - m, polynomial * sine)
            store(values, center + m, polynomial * cosine)


@numba.njit(cache=True)
def fill_gradients(
    vectors: FloatArray, row: int, l_max: int, legendre: FloatArray, circular: FloatArray, gradients: FloatArray
) -> None:
    """Fill the gradients of the harmonics with respect to the vector to the neighbour, from their factors.

    Args:
        vectors: Unit vectors and distances in Å, shape ``(rows, 4, 8)``.
        gradients: Output in 1/Å, shape ``((l_max + 1)**2, 3, 8)``.
    """
    x, y, z = load(vectors, 4 * row), load(vectors, 4 * row + 1), load(vectors, 4 * row + 2)
    inverse = 1.0 / load(vectors, 4 * row + 3)
    cosine_below, sine_below = repeated(0.0), repeated(0.0)
    for m in range(l_max + 1):
        cosine, sine = load(circular, 2 * m), load(circular, 2 * m + 1)
        for degree in range(m, l_max + 1):
            place = degree * (l_max + 2) + m
            below, slope = m * load(legendre, place), load(legendre, place + 1)
            # The sine of m = 0 is written first, because the cosine has the same place.
            for sign in range(-1, 2, 2):
                if sign < 0:
                    gx, gy, gz = below * sine_below, below * cosine_below, slope * sine
                else:
                    gx, gy, gz = below * cosine_below, -below * sine_below, slope * cosine
                # A harmonic does not depend on the distance: what points along the vector goes.
                along, place = gx * x + gy * y + gz * z, 3 * (degree * degree + degree + sign * m)
                store(gradients, place, (gx - along * x) * inverse)
                store(gradients, place + 1, (gy - along * y) * inverse)
                store(gradients, place + 2, (gz - along * z) * inverse)
        cosine_below, sine_below = cosine, sine


CORE_WIDTH = 0.1
"""Distances stop counting over this fraction of the core's radius."""


@numba.njit(cache=True)
def cutoff_function(r: Eight, r_cut: float) -> tuple[Eight, Eight]:
    """The switch at eight distances and its derivative in 1/Å; both zero from ``r_cut`` on."""
    u = smaller(r * (1.0 / r_cut), repeated(1.0))
    tail = 1.0 - u
    return 1.0 + u * u * u * (-10.0 + u * (15.0 - 6.0 * u)), (-30.0 / r_cut) * u * u * tail * tail


@numba.njit(cache=True)
def core_distance(r: Eight, start: float) -> tuple[Eight, Eight]:
    r"""The distances that radial functions see: r itself, and a constant deep inside the core.

    .. math:: \tilde r = r_0 - w\,(t - t^3 + t^4/2),\qquad t = \min(1, (r_0 - r)/w),\quad w = r_0/10

    with :math:`r_0` the start of the core, below every distance of the training data. Nothing trained
    reaches there: without this, inverse powers and steep Gaussians extrapolate to wells of any depth, which
    no core repulsion can fill. Twice continuously differentiable.

    Args:
        r: Eight distances in Å.
        start: Where the core begins, in Å; 0 for none.

    Returns:
        The distances seen, in Å, and their derivatives, no unit.
    """
    width = CORE_WIDTH * start
    t = smaller(larger((start - r) * (1.0 / max(width, 1e-300)), repeated(0.0)), repeated(1.0))
    return larger(r, repeated(start)) - width * (t - t * t * t + 0.5 * t * t * t * t), 1.0 - t * t * (3.0 - 2.0 * t)


@numba.njit(cache=True)
def radial_function(
    r: Eight, log: Eight, switch: Eight, switch_slope: Eight, functions: FloatArray, f: int
) -> tuple[Eight, Eight]:
    """One radial function at eight distances.

    Args:
        r: Distances in Å.
        switch_slope: Its derivative in 1/Å.

    Returns:
        Values (no unit) and derivatives in 1/Å.
    """
    offset, sharpness, power = r - functions[f, 0], functions[f, 1], functions[f, 2]
    bare = exponential(functions[f, 3] - power * log - sharpness * offset * offset)
    return bare * switch, bare * ((-2.0 * sharpness * offset - power / r) * switch + switch_slope)


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


class Surroundings(NamedTuple):
    """The atoms of a structure as the kernels take them: species and neighbours; centres are the first of them."""

    kinds: IntArray  # species index of every atom, shape ``(n,)``
    first: IntArray  # CSR offsets of the centres, shape ``(n_centers + 1,)``
    neighbor: IntArray  # neighbour indices, shape ``(n_pairs,)``
    vectors: FloatArray  # vectors to the neighbours, shape ``(n_pairs, 3)``, in Å
    distances: FloatArray  # their lengths in Å

    @classmethod
    def of(cls, kinds: IntArray, neighbors: NeighborList) -> Surroundings:
        """Join species and a neighbour list."""
        return cls(kinds, neighbors.first, neighbors.neighbor, neighbors.vectors, neighbors.distances)

    @classmethod
    def in_frame(cls, frame: Frame, tables: ChannelTables | OwnTables) -> Surroundings:
        """Those in a frame within the cutoff of some channels; refuses elements that the tables don't have."""
        kinds = species_index(frame.numbers, tuple(tables.species.tolist()), where=frame.where)
        return cls.of(kinds, neighbor_list(frame.positions, frame.cell, frame.pbc, tables.r_cut))

    def described_by(self, tables: OwnTables) -> Iterator[Described]:
        """What a descriptor of one's own says of the centres, species by species."""
        values, slopes = tables.descriptor(tables.species[self.kinds], self.first, self.neighbor, self.vectors)
        n_centers, size = len(self.first) - 1, tables.descriptor.n_features
        expected = (n_centers, size), (len(self.neighbor), 3, size)
        if (values.shape, slopes.shape) != expected:
            raise ConfigError(
                f"The descriptor '{tables.sets[0].name}' returned arrays of shapes {values.shape} and {slopes.shape}; "
                f"{expected[0]} and {expected[1]} are expected here."
            )
        owner, place = np.repeat(np.arange(n_centers), np.diff(self.first)), np.empty(n_centers, dtype=np.int64)
        for s, chosen in enumerate(tables.sets):
            atoms, pairs = np.flatnonzero(self.kinds[:n_centers] == s), np.flatnonzero(self.kinds[owner] == s)
            place[atoms], used = np.arange(len(atoms)), chosen.indices
            yield Described(atoms, pairs, place[owner[pairs]], values[atoms][:, used], slopes[pairs][:, :, used])


class Block(NamedTuple):
    """Work space for eight atoms; a named tuple, because kernels can take one."""

    atoms: IntArray  # the atoms, shape ``(8,)``; -1 for none
    begin: IntArray  # row of the first neighbour of each species, shape ``(S + 1,)``
    partners: IntArray  # pair of each neighbour, shape ``(rows, 8)``; -1 for none
    vectors: FloatArray  # unit vectors to the neighbours, and their distances in Å, shape ``(rows, 4, 8)``
    radial: FloatArray  # radial functions of each neighbour, two-body channels before slots, shape ``(rows, most, 8)``
    slopes: FloatArray  # their derivatives in 1/Å, same shape
    density: FloatArray  # densities A, shape ``(slots, (l_max + 1)**2, 8)``
    pulled: FloatArray  # room for dE/dA, same shape
    values: FloatArray  # channels, shape ``(channels, 8)``
    weights: FloatArray  # weights of the factors of products, shape ``(products, 2, 8)``
    legendre: FloatArray  # work space of the harmonics
    circular: FloatArray  # work space of the harmonics
    harmonics: FloatArray  # harmonics of one neighbour, shape ``((l_max + 1)**2, 8)``


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
        np.empty((slots, width * width, LANES)), np.empty((slots, width * width, LANES)),
        np.empty((channels, LANES)), np.empty((channels, 2, LANES)),
        np.zeros((width, width + 1, LANES)), np.empty((width, 2, LANES)), np.empty((width * width, LANES)),
    )  # fmt: skip


@numba.njit(cache=True)
def gather(block: Block, tables: ChannelTables, near: Surroundings) -> None:  # noqa: C901 - loops inside loops
    """Sort the neighbours of a block by species; the shorter rows end in neighbours at the cutoff, which do nothing."""
    n_species = tables.species.shape[0]
    counts = np.zeros((n_species, LANES), dtype=np.int64)
    for k in range(LANES):
        i = block.atoms[k]
        if i >= 0:
            for pair in range(near.first[i], near.first[i + 1]):
                if near.distances[pair] < tables.r_cut:
                    counts[near.kinds[near.neighbor[pair]], k] += 1
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
            for pair in range(near.first[i], near.first[i + 1]):
                if near.distances[pair] < tables.r_cut:
                    t = near.kinds[near.neighbor[pair]]
                    p = counts[t, k]
                    counts[t, k] += 1
                    block.partners[p, k] = pair
                    inverse = 1.0 / near.distances[pair]
                    block.vectors[p, 0, k] = near.vectors[pair, 0] * inverse
                    block.vectors[p, 1, k] = near.vectors[pair, 1] * inverse
                    block.vectors[p, 2, k] = near.vectors[pair, 2] * inverse
                    block.vectors[p, 3, k] = near.distances[pair]


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


@numba.njit(cache=True)
def next_block(block: Block, tables: ChannelTables, s: int, near: Surroundings, start: int, end: int) -> int:
    """Describe the next eight atoms of a species: neighbours, radial functions, densities and channels.

    Args:
        s: Species index.

    Returns:
        Where to go on; -1 where there are no more atoms.
    """
    block.atoms[:] = -1
    found, i = 0, start
    while i < end and found < LANES:
        if near.kinds[i] == s:
            block.atoms[found] = i
            found += 1
        i += 1
    if found == 0:
        return -1
    gather(block, tables, near)
    fill_channels(block, tables, s)
    return i


def channel_values(tables: ChannelTables | OwnTables, near: Surroundings) -> FloatArray:
    """Channel values of the centres, shape ``(n_centers, most channels of a species)``; unused places are zero."""
    if isinstance(tables, ChannelTables):
        return np.asarray(_values_of(tables, near))
    values = np.zeros((len(near.first) - 1, int(np.diff(tables.channel_start).max())))
    for own in near.described_by(tables):
        values[own.atoms, : own.values.shape[1]] = own.values
    return values


@numba.njit(cache=True, nogil=True)
def _values_of(tables: ChannelTables, near: Surroundings) -> FloatArray:
    n_centers, block = near.first.shape[0] - 1, make_block(tables, near.first)
    values = np.zeros((n_centers, np.diff(tables.channel_start).max()))
    for s in range(tables.species.shape[0]):
        n_channels = tables.channel_start[s + 1] - tables.channel_start[s]
        start = next_block(block, tables, s, near, 0, n_centers)
        while start >= 0:
            for k in range(LANES):
                if block.atoms[k] >= 0:
                    values[block.atoms[k], :n_channels] = block.values[:n_channels, k]
            start = next_block(block, tables, s, near, start, n_centers)
    return values
