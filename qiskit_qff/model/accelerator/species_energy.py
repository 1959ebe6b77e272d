r"""Energies of the centres of one species as array operations on padded neighbours.

The same numbers as :mod:`~qiskit_qff.descriptors.quadratic` and the core repulsion, in the order that a graphics
processor likes: each centre has the same number of places for neighbours, every radial function of the centre's
species is evaluated for every neighbour and counts where the species fits, densities are one batched matrix product
:math:`A_{a,lm} = \sum_j g_a(r_j) Y_{lm}(\hat r_j)`, and the slots of the three-body channels are picked by products
with constant matrices, whose way back needs no scattered additions. JAX differentiates it.

PERF: harmonics as matrix products with the l-fold outer products of the unit vector compile in three quarters of the
time, but run 1.8 times as long on the processor: 27 columns instead of 7 for l = 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qiskit_qff.descriptors.radial import CENTER, CORE_WIDTH, LENGTH, POWER, SHARPNESS
from qiskit_qff.descriptors.tables import ChannelTables
from qiskit_qff.model.accelerator.library import load_jax
from qiskit_qff.model.core_kernels import (
    COULOMB_CONSTANT,
    INNER_FRACTION,
    OUTER_FRACTION,
    SCREENING_AMPLITUDES,
    SCREENING_EXPONENT,
    SCREENING_LENGTH,
    SCREENING_RATES,
)
from qiskit_qff.model.evaluation import FoldedForceField

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class _Constants:
    """What one species needs, channels ordered two-body, then three-body by their harmonics, then products."""

    rows: FloatArray
    """Radial functions, two-body channels before slots, shape ``(F, 4)``."""
    seen_by: NDArray[np.int64]
    """Neighbour species index of each function, shape ``(F,)``."""
    n_two: int
    """How many of them are two-body channels."""
    triples: NDArray[np.int64]
    """Slot, slot, first harmonic and the one after the last, by the latter two, shape ``(n_three, 4)``."""
    angular: FloatArray
    """Weight of every harmonic in each of them, shape ``(n_three, (l_max + 1)**2)``."""
    products: NDArray[np.int64]
    """The two channels of each product, in this order, shape ``(n_products, 2)``."""
    offsets: FloatArray
    """What is taken off them, shape ``(n_products, 2)``."""
    widths: FloatArray
    """How far from there they level off, shape ``(n_products, 2)``."""
    mean: FloatArray
    """Channel means, shape ``(C,)``."""
    form: FloatArray
    """Quadratic form B in (1, D - mean), shape ``(C + 1, C + 1)``, in eV."""
    core: FloatArray
    """Where the core of each neighbour species begins, in Å; 0 for none, shape ``(S,)``."""


def make_species_energy(folded: FoldedForceField, s: int, dtype: str) -> Callable[[Any, Any], Any]:
    """The energy function of one species.

    Args:
        folded: The force field.
        s: Species index of the centres.
        dtype: ``float64`` or ``float32``: that of vectors and energies.

    Returns:
        A function of neighbour vectors, shape ``(B, K, 3)``, in Å, and their species indices, shape ``(B, K)``, -1
        for a place that is empty; there the vector must not be zero. It gives energies without the reference and the
        constant of the form, shape ``(B,)``, in eV.
    """
    jnp = load_jax().numpy
    constants = _constants(folded, s)
    repulsion = _make_repulsion(folded, s, dtype)
    n_slots = len(constants.rows) - constants.n_two
    mean, form = constants.mean.astype(dtype), constants.form.astype(dtype)
    picks = []
    for begin, end in np.unique(constants.triples[:, 2:], axis=0).tolist():
        mine = (constants.triples[:, 2:] == (begin, end)).all(axis=1)
        chosen = np.eye(n_slots, dtype=dtype)[constants.triples[mine, :2].T]
        picks.append((slice(begin, end), chosen, constants.angular[mine, begin:end].astype(dtype)))
    generations = _generations(constants, dtype)
    highest = math.isqrt(max((int(end) for end in constants.triples[:, 3]), default=1)) - 1

    def energy(vectors: Any, kinds: Any) -> Any:
        distances = jnp.sqrt((vectors * vectors).sum(axis=-1))
        radial = _radial(jnp, constants, folded.tables.r_cut, dtype, distances, kinds)
        channels = [radial[..., : constants.n_two].sum(axis=1)]
        if picks:
            harmonics = _harmonics(jnp, vectors / distances[..., None], highest)
            density = jnp.einsum("bka,bkm->bam", radial[..., constants.n_two :], harmonics)
        for inside, (left, right), weights in picks:
            own = density[:, :, inside]
            products = jnp.einsum("ta,bam->btm", left, own) * jnp.einsum("ta,bam->btm", right, own)
            channels.append((products * weights).sum(axis=-1))
        values = jnp.concatenate(channels, axis=1)
        for picks_two, offsets, widths in generations:
            first, second = (
                _levelled(jnp, values @ pick - offset, width)
                for pick, offset, width in zip(picks_two, offsets, widths, strict=True)
            )
            values = jnp.concatenate([values, first * second], axis=1)
        centred = values - mean
        bent = centred @ form[1:, 1:] + 2.0 * form[0, 1:]
        return (centred * bent).sum(axis=1) + repulsion(distances, kinds)

    return energy


def make_step(folded: FoldedForceField, s: int, precision: str) -> Callable[..., Any]:
    """What a device does with one block of centres.

    Args:
        folded: The force field.
        s: Species index of the centres.
        precision: ``float64`` or ``float32``: that of the model; vectors and sums are float64.

    Returns:
        A function of the sums so far (forces, virials per structure, shortest distance), of the inputs (positions,
        cells) and of the arrays of a :class:`~qiskit_qff.model.accelerator.layout.Block`. It gives the energies of the
        block's places and the new sums.
    """
    jax = load_jax()
    jnp, energy, far = jax.numpy, make_species_energy(folded, s, precision), 2.0 * folded.tables.r_cut
    # Hundreds of eV, which single precision would round to what an atom's surroundings change.
    constant = float(folded.forms[folded.form_start[s]])

    def step(sums: tuple[Any, Any, Any], inputs: tuple[Any, Any], arrays: tuple[Any, ...]) -> Any:
        (forces, virials, shortest), (positions, cells) = sums, inputs
        centers, frames, neighbors, shifts, kinds = arrays
        cell = cells[frames][:, None]
        vectors = positions[neighbors] - positions[centers][:, None]
        vectors += sum(shifts[..., axis, None] * cell[..., axis, :] for axis in range(3))
        # Where there is no neighbour, a vector that ends beyond the cutoff: zero has no direction.
        vectors = jnp.where((kinds >= 0)[..., None], vectors, jnp.array([far, 0.0, 0.0]))

        def total(seen: Any) -> Any:
            energies = energy(seen, kinds)
            return energies.sum(), energies

        pulls, energies = jax.grad(total, has_aux=True)(vectors.astype(precision))
        pulls = pulls.astype("float64")
        forces = forces.at[centers].add(pulls.sum(axis=1)).at[neighbors].add(-pulls)
        virials = virials.at[frames].add((vectors[..., :, None] * pulls[..., None, :]).sum(axis=1))
        nearest = jnp.sqrt((vectors * vectors).sum(axis=-1).min())
        return energies.astype("float64") + constant, (forces, virials, jnp.minimum(shortest, nearest))

    return step


def _constants(folded: FoldedForceField, s: int) -> _Constants:
    """Take the arrays of one species apart, and sort its channels."""
    tables: ChannelTables = folded.tables
    n_species = len(tables.species)
    pairs = slice(tables.pair_start[s], tables.pair_start[s + 1])
    slots = slice(tables.slot_start[s], tables.slot_start[s + 1])
    inside = slice(tables.triple_start[s], tables.triple_start[s + 1])
    triples = np.column_stack(
        [tables.triples[inside, :2], tables.first_harmonic[inside], (tables.triples[inside, 2] + 1) ** 2]
    )
    order = np.lexsort((triples[:, 3], triples[:, 2]))
    n_two = len(tables.pair_rows[pairs])
    many = slice(tables.product_start[s], tables.product_start[s + 1])
    n_simple, products = n_two + len(order), tables.products[many]
    later = np.argsort(_generation(products, n_simple), kind="stable")
    channels = np.concatenate([np.arange(n_two), n_two + order, n_simple + later]).astype(np.int64)
    renumbered = np.argsort(channels)
    width = len(channels) + 1
    form = folded.forms[folded.form_start[s] : folded.form_start[s + 1]].reshape(width, width)
    places = np.concatenate([[0], channels + 1]).astype(np.int64)
    return _Constants(
        rows=np.concatenate([tables.pair_rows[pairs], tables.slot_rows[slots]]),
        seen_by=np.concatenate([
            np.repeat(np.arange(n_species), np.diff(tables.pair_first[s])),
            np.repeat(np.arange(n_species), np.diff(tables.slot_first[s])),
        ]),
        n_two=n_two,
        triples=triples[order],
        angular=tables.angular[inside][order],
        products=renumbered[products[later]],
        offsets=tables.offsets[many][later],
        widths=tables.widths[many][later],
        mean=folded.means[tables.channel_start[s] : tables.channel_start[s + 1]][channels],
        form=form[np.ix_(places, places)],
        core=tables.core_start[s],
    )  # fmt: skip


def _generation(products: NDArray[np.int64], n_simple: int) -> NDArray[np.int64]:
    """One for a product of simple channels, one more than that of its factors for others, shape ``(n_products,)``."""
    found = np.zeros(n_simple + len(products), dtype=np.int64)
    for k, factors in enumerate(products, n_simple):
        found[k] = 1 + found[factors].max()
    return found[n_simple:]


def _levelled(jnp: Any, v: Any, width: Any) -> Any:
    """A straight line that levels off, as :mod:`~qiskit_qff.descriptors.products` has it."""
    return v / jnp.sqrt(1.0 + (v / width) ** 2)


def _generations(constants: _Constants, dtype: str) -> list[tuple[tuple[FloatArray, ...], FloatArray, FloatArray]]:
    """Per generation of products what picks their factors from the channels before, their offsets and widths."""
    n_simple = len(constants.mean) - len(constants.products)
    generation, found = _generation(constants.products, n_simple), []
    for g in range(1, 1 + int(generation.max(initial=0))):
        mine = np.flatnonzero(generation == g)
        before = np.eye(n_simple + int(mine[0]), dtype=dtype)
        picks = tuple(before[:, constants.products[mine, side]] for side in (0, 1))
        found.append((picks, constants.offsets[mine].T.astype(dtype), constants.widths[mine].T.astype(dtype)))
    return found


def _radial(jnp: Any, constants: _Constants, r_cut: float, dtype: str, distances: Any, kinds: Any) -> Any:
    """All radial functions for all places, zero where the species does not fit, shape ``(B, K, F)``."""
    rows = constants.rows.astype(dtype)
    core = jnp.asarray(constants.core.astype(dtype))[kinds]
    # No division by zero, not even in the branch that is not taken: its gradient would spoil the other's.
    width = jnp.where(core > 0.0, CORE_WIDTH * core, 1.0)
    t = jnp.minimum(1.0, (core - distances) / width)
    seen = jnp.where(distances >= core, distances, core - width * (t - t**3 + 0.5 * t**4))
    u = seen / r_cut
    switch = jnp.where(u < 1.0, 1.0 + u**3 * (-10.0 + u * (15.0 - 6.0 * u)), 0.0)
    offset, log = seen[..., None] - rows[:, CENTER], jnp.log(seen)[..., None]
    lengths = np.where(rows[:, POWER] > 0.0, rows[:, POWER] * np.log(rows[:, LENGTH]), 0.0).astype(dtype)
    exponents = lengths - rows[:, POWER] * log - rows[:, SHARPNESS] * offset * offset
    fits = kinds[..., None] == constants.seen_by
    return jnp.where(fits, jnp.exp(exponents) * switch[..., None], 0.0)


def _harmonics(jnp: Any, unit: Any, l_max: int) -> Any:
    """Real spherical harmonics, Racah-normalised, as :mod:`~qiskit_qff.descriptors.angular` orders them."""
    x, y, z = unit[..., 0], unit[..., 1], unit[..., 2]
    values: list[Any] = [None] * (l_max + 1) ** 2
    cosine, sine, diagonal = jnp.ones_like(z), jnp.zeros_like(z), 1.0
    for m in range(l_max + 1):
        below, here = jnp.zeros_like(z), jnp.full_like(z, diagonal)
        for degree in range(m, l_max + 1):
            center = degree * degree + degree
            norm = math.sqrt((2 if m else 1) * math.factorial(degree - m) / math.factorial(degree + m))
            values[center + m] = norm * here * cosine
            if m:
                values[center - m] = norm * here * sine
            below, here = here, ((2 * degree + 1) * z * here - (degree + m) * below) / (degree - m + 1)
        cosine, sine = x * cosine - y * sine, x * sine + y * cosine
        diagonal *= 2 * m + 1
    return jnp.stack(values, axis=-1)


def _make_repulsion(folded: FoldedForceField, s: int, dtype: str) -> Callable[[Any, Any], Any]:
    """Core repulsion of a centre, half of each pair's, as :mod:`~qiskit_qff.model.core_kernels` has it."""
    jnp = load_jax().numpy
    core = folded.repulsion
    charges = np.asarray(core.species, dtype=np.float64)
    lengths = SCREENING_LENGTH / (core.scale[s] * (charges[s] ** SCREENING_EXPONENT + charges**SCREENING_EXPONENT))
    strengths = 0.5 * COULOMB_CONSTANT * charges[s] * charges / core.scale[s]
    whole = INNER_FRACTION / OUTER_FRACTION * core.level[s]
    radii = (core.inner[s], core.outer[s], whole, core.level[s])
    per_species = [array.astype(dtype) for array in (*radii, lengths, strengths)]

    def switch(distances: Any, inner: Any, outer: Any) -> Any:
        t = jnp.clip((distances - inner) / (outer - inner), 0.0, 1.0)
        return 1.0 + t**3 * (-10.0 + t * (15.0 - 6.0 * t))

    def energy(distances: Any, kinds: Any) -> Any:
        inner, outer, whole, level, length, strength = (jnp.asarray(array)[kinds] for array in per_species)
        screening = sum(
            amplitude * jnp.exp(-rate * distances / length)
            for amplitude, rate in zip(SCREENING_AMPLITUDES, SCREENING_RATES, strict=True)
        )
        bare, high = strength * screening / distances, switch(distances, inner, outer)
        pairs = bare * high
        if core.height > 0.0:
            most = 0.5 * core.height
            pairs += most * jnp.tanh(bare * (switch(distances, whole, level) - high) / most)
        return jnp.where((kinds >= 0) & (distances < level), pairs, 0.0).sum(axis=1)

    return energy
