"""The channel sets of all species as arrays that kernels take."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.descriptors.channels import ChannelSet
from qiskit_qff.descriptors.harmonics import SQUARED_NORMS
from qiskit_qff.descriptors.radial import kernel_rows


class ChannelTables(NamedTuple):
    """The channel sets of all species, laid end to end; a named tuple, because kernels can take one."""

    species: IntArray
    """Atomic numbers, ascending; a species index below points into it, shape ``(S,)``."""
    r_cut: float
    """Cutoff radius in Å."""
    l_max: int
    """Highest degree of any channel."""
    pair_first: IntArray
    """Per centre s and neighbour t the first two-body channel, shape ``(S, S + 1)``, counted within s."""
    pair_start: IntArray
    """Where the rows of centre s begin in ``pair_rows``, shape ``(S + 1,)``."""
    slot_first: IntArray
    """As ``pair_first``, for slots, shape ``(S, S + 1)``."""
    slot_start: IntArray
    """As ``pair_start``, for slots, shape ``(S + 1,)``."""
    function_start: IntArray
    """As ``pair_first``, for all radial functions, those of two-body channels first; counted over all centres."""
    functions: FloatArray
    """Centre, sharpness, power and power times the logarithm of the length of every radial function, shape
    ``(sum n_two + n_slots, 4)``."""
    triple_start: IntArray
    """Where the three-body channels of centre s begin, shape ``(S + 1,)``."""
    triples: IntArray
    """All three-body channels, slots counted within s, shape ``(sum n_three, 3)``."""
    first_harmonic: IntArray
    """The first harmonic with a weight in each three-body channel, shape ``(sum n_three,)``; the last is that of its
    degree."""
    angular: FloatArray
    """Weight of every harmonic in each three-body channel, shape ``(sum n_three, (l_max + 1)**2)``."""
    product_start: IntArray
    """Where the products of centre s begin, shape ``(S + 1,)``."""
    products: IntArray
    """The two channels of every product, counted within s, shape ``(sum n_products, 2)``."""
    offsets: FloatArray
    """What is taken off them, shape ``(sum n_products, 2)``."""
    widths: FloatArray
    """How far from there they level off, shape ``(sum n_products, 2)``."""
    channel_start: IntArray
    """Where the channels of centre s begin when all are laid end to end, shape ``(S + 1,)``."""
    core_start: FloatArray
    """Distance in Å per pair of species below which channels level off, shape ``(S, S)``; 0 for never."""


def make_tables(sets: dict[int, ChannelSet], r_cut: float, *, core_start: FloatArray | None = None) -> ChannelTables:
    """Lay channel sets end to end.

    Args:
        sets: Channel set per centre atomic number; neighbour species in each are ascending.
        r_cut: Cutoff radius in Å.
        core_start: Distance in Å per pair of species below which channels level off, shape ``(S, S)``.

    Returns:
        The tables.
    """
    species = sorted(sets)
    ordered = [sets[number] for number in species]
    bounds = np.array(species, dtype=np.int64)

    def first(columns: list[IntArray]) -> IntArray:
        return np.array([np.append(np.searchsorted(c, bounds), len(c)) for c in columns], dtype=np.int64).reshape(
            len(species), len(species) + 1
        )

    def start(lengths: list[int]) -> IntArray:
        return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)

    l_max = max(s.l_max for s in ordered)
    by_degree = np.concatenate([s.angular_coefficients(l_max) for s in ordered])
    degrees = np.arange(l_max + 1)
    functions = [
        rows[chosen == t]
        for s in ordered
        for t in species
        for chosen, rows in ((s.pair_species, s.pair_rows), (s.slot_species, s.slot_rows))
    ]
    ends = np.cumsum([0] + [len(f) for f in functions])[::2]
    function_start = ends[np.arange(len(species))[:, None] * len(species) + np.arange(len(species) + 1)]
    return ChannelTables(
        species=bounds,
        r_cut=r_cut,
        l_max=l_max,
        pair_first=first([s.pair_species for s in ordered]),
        pair_start=start([len(s.pair_species) for s in ordered]),
        slot_first=first([s.slot_species for s in ordered]),
        slot_start=start([len(s.slot_species) for s in ordered]),
        function_start=function_start,
        functions=kernel_rows(np.concatenate(functions)),
        triple_start=start([len(s.triples) for s in ordered]),
        triples=np.concatenate([s.triples for s in ordered]),
        first_harmonic=(by_degree != 0.0).argmax(axis=1) ** 2,
        angular=np.repeat(by_degree, 2 * degrees + 1, axis=1) * SQUARED_NORMS[: (l_max + 1) ** 2],
        product_start=start([len(s.products) for s in ordered]),
        products=np.concatenate([s.products for s in ordered]),
        offsets=np.concatenate([s.offsets for s in ordered]),
        widths=np.concatenate([s.widths for s in ordered]),
        channel_start=start([s.n_channels for s in ordered]),
        core_start=np.zeros((len(species), len(species))) if core_start is None else core_start,
    )
