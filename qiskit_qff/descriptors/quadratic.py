r"""Energies, forces and virial of quadratic forms in the channels, by one backward sweep.

With channels D of atom i, :math:`z = (1, D - \bar D)` and a symmetric matrix B of its species,

.. math:: E_i = z^T B z,\qquad \partial E_i/\partial D = 2 (B z)_{1:}.

The gradient flows back through products of channels and the three-body contraction to the densities, and from there to
every neighbour vector. No per-channel Jacobian is formed: the cost of a neighbour is that of its slots and
harmonics, however many channels share them.

PERF: where the time of lips83 goes (83 atoms, 25 neighbours, 1.5 two-body functions and 4.7 slots a neighbour; at
first 0.95 ms on one core, now 0.34; found by leaving parts out): radial functions and what else a neighbour needs a
third, harmonics and sums with them 15 %, the quadratic form and the three-body products 20 %, the way back a third.
What helped: the gradient of the weighted sum of harmonics instead of each one's
(:mod:`~qiskit_qff.descriptors.low_harmonics`) and sums that the compiler may reorder (twice as fast together); one
exponential for a power, and all exponentials of an atom in one loop (:mod:`~qiskit_qff.descriptors.radial_lanes`, 1.35
times). What did not: loops over the harmonics that a slot uses (shorter than a vector, 15 % slower), and neighbours
grouped by species (8 of a species are too few for a vector loop). Nor did float32 throughout, exponential included:
1.03 times as fast on lips83, 1.07 on limof5 (110 atoms), 1.08 on 2,241 atoms, for 0.7 to 1.9 µeV/Å rms of force error
(one core with AVX-512, 99 parameters). Loops over 8 or 16 numbers fill one or two vectors as they are, and the rest is
scalar: functions and densities gained nothing, quadratic form and three-body products a quarter. So there is no
float32 on the CPU.
"""

import numba
import numpy as np

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.descriptors.angular import spherical_harmonics
from qiskit_qff.descriptors.fence import Fence, fence_energy
from qiskit_qff.descriptors.low_harmonics import HIGHEST, low_gradient, low_harmonics
from qiskit_qff.descriptors.products import fill_products, pull_products
from qiskit_qff.descriptors.radial_lanes import Lanes, fill_lanes, make_lanes
from qiskit_qff.descriptors.tables import ChannelTables

# Sums may be reordered and multiplications fused at compile time, so that loops use vector instructions; the
# order is fixed then, and NaN and infinity keep their meaning.
REORDER = {"reassoc", "contract", "nsz"}


@numba.njit(cache=True, fastmath=REORDER, nogil=True)
def quadratic_forces(
    tables: ChannelTables, means: FloatArray, forms: FloatArray, form_start: IntArray, fence: Fence,
    first: IntArray, neighbor: IntArray, vectors: FloatArray, distances: FloatArray, kinds: IntArray,
    energies: FloatArray, forces: FloatArray, virial: FloatArray,
) -> None:  # fmt: skip
    """Evaluate one structure; outputs are overwritten.

    Args:
        tables: Channels in use.
        means: Channel means of all species end to end, shape ``(C,)``.
        forms: The matrices B of all species, flattened end to end.
        form_start: Where each begins, shape ``(S + 1,)``.
        fence: Walls around the training data.
        first: CSR offsets of the centres, shape ``(n_centers + 1,)``; centres are the first of the n atoms.
        neighbor: Neighbour indices, shape ``(n_pairs,)``.
        vectors: Neighbour vectors, shape ``(n_pairs, 3)``, in Å.
        distances: Their lengths in Å.
        kinds: Species index per atom, shape ``(n,)``.
        energies: Output, shape ``(n_centers,)``, in eV.
        forces: Output, shape ``(n, 3)``, in eV/Å.
        virial: Output dE/dstrain, shape ``(3, 3)``, in eV.
    """
    forces[:] = 0.0
    virial[:] = 0.0
    sweep(
        0, first.shape[0] - 1, tables, means, forms, form_start, fence,
        first, neighbor, vectors, distances, kinds, energies, forces, virial,
    )  # fmt: skip


@numba.njit(cache=True, fastmath=REORDER)
def sweep(
    begin: int, end: int, tables: ChannelTables, means: FloatArray, forms: FloatArray, form_start: IntArray,
    fence: Fence,
    first: IntArray, neighbor: IntArray, vectors: FloatArray, distances: FloatArray, kinds: IntArray,
    energies: FloatArray, forces: FloatArray, virial: FloatArray,
) -> None:  # fmt: skip
    """Evaluate the centres from ``begin`` to ``end``; their energies are set, forces and virial are added to.

    Args:
        begin: First centre.
        end: The one after the last.
        tables: As for :func:`quadratic_forces`, like all that follow.
        means: Channel means.
        forms: Matrices B.
        form_start: Where each begins.
        fence: Walls around the training data.
        first: CSR offsets.
        neighbor: Neighbour indices.
        vectors: Neighbour vectors in Å.
        distances: Their lengths in Å.
        kinds: Species indices.
        energies: Output in eV.
        forces: Added to, in eV/Å.
        virial: Added to, in eV.
    """
    n_lm = (tables.l_max + 1) ** 2
    most, widest, channels = 1, 1, 1
    for i in range(begin, end):
        most = max(most, first[i + 1] - first[i])
    for s in range(tables.species.shape[0]):
        widest = max(widest, tables.slot_start[s + 1] - tables.slot_start[s])
        channels = max(channels, tables.channel_start[s + 1] - tables.channel_start[s])
    lanes, harmonics = make_lanes(tables, most), np.empty((most, n_lm))
    density, pulled = np.empty((widest, n_lm)), np.empty((widest, n_lm))
    values, centred, gradient = np.empty(channels), np.empty(channels), np.empty(channels)
    for i in range(begin, end):
        s, low = kinds[i], first[i]
        n_neighbors = first[i + 1] - low
        fill_lanes(tables, s, low, n_neighbors, distances, kinds, neighbor, lanes)
        _forward(tables, s, low, n_neighbors, vectors, distances, kinds, neighbor, values, density, harmonics, lanes)
        energies[i] = _quadratic(
            tables.channel_start[s], tables.channel_start[s + 1] - tables.channel_start[s],
            forms, form_start[s], means, values, centred, gradient,
        )  # fmt: skip
        energies[i] += fence_energy(fence, s, centred, tables.channel_start[s + 1] - tables.channel_start[s], gradient)
        pull_products(tables, s, values, gradient)
        _pull_densities(tables, s, gradient, density, pulled)
        _backward(
            tables, s, i, low, n_neighbors, vectors, distances, kinds, neighbor, gradient, pulled, harmonics, lanes,
            forces, virial,
        )  # fmt: skip


@numba.njit(cache=True, fastmath=REORDER)
def _forward(
    tables: ChannelTables, s: int, low: int, n_neighbors: int, vectors: FloatArray, distances: FloatArray,
    kinds: IntArray, neighbor: IntArray,
    values: FloatArray, density: FloatArray, harmonics: FloatArray, lanes: Lanes,
) -> None:  # fmt: skip
    """Channels of one atom from its radial functions, keeping the harmonics for the way back."""
    radial, places = lanes.values, lanes.places
    n_lm, n_two = harmonics.shape[1], tables.pair_start[s + 1] - tables.pair_start[s]
    density[: tables.slot_start[s + 1] - tables.slot_start[s]] = 0.0
    values[:n_two] = 0.0
    for p in range(n_neighbors):
        pair = low + p
        t, r, base = kinds[neighbor[pair]], distances[pair], places[p]
        first_pair, first_slot = tables.pair_first[s, t], tables.slot_first[s, t]
        n_pairs, n_slots = tables.pair_first[s, t + 1] - first_pair, tables.slot_first[s, t + 1] - first_slot
        for c in range(n_pairs):
            values[first_pair + c] += radial[base + (c >> 3), c & 7]
        if n_slots == 0:
            continue
        inverse = 1.0 / r
        x, y, z = vectors[pair, 0] * inverse, vectors[pair, 1] * inverse, vectors[pair, 2] * inverse
        if tables.l_max <= HIGHEST:
            low_harmonics(x, y, z, tables.l_max, harmonics, p)
        else:
            legendre, unused = np.empty((tables.l_max + 1, tables.l_max + 2)), np.empty((n_lm, 3))
            spherical_harmonics(x, y, z, inverse, tables.l_max, legendre, harmonics[p], unused)
        for a in range(n_slots):
            f = n_pairs + a
            g = radial[base + (f >> 3), f & 7]
            for lm in range(n_lm):
                density[first_slot + a, lm] += g * harmonics[p, lm]
    first_triple = tables.triple_start[s]
    for k in range(first_triple, tables.triple_start[s + 1]):
        a, b, degree = tables.triples[k, 0], tables.triples[k, 1], tables.triples[k, 2]
        total = 0.0
        for lm in range(tables.first_harmonic[k], (degree + 1) * (degree + 1)):
            total += tables.angular[k, lm] * density[a, lm] * density[b, lm]
        values[n_two + k - first_triple] = total
    fill_products(tables, s, values)


@numba.njit(cache=True, fastmath=REORDER)
def _quadratic(
    start: int, n: int, forms: FloatArray, form_start: int, means: FloatArray, values: FloatArray,
    centred: FloatArray, gradient: FloatArray
) -> float:  # fmt: skip
    """Energy of z = (1, values - mean), and its gradient dE/dD."""
    width = n + 1
    energy: float = forms[form_start]
    for c in range(n):
        centred[c] = values[c] - means[start + c]
    for c in range(n):
        row = form_start + (c + 1) * width
        product = 0.0
        for k in range(n):
            product += forms[row + 1 + k] * centred[k]
        product += forms[row]
        gradient[c] = 2.0 * product
        energy += centred[c] * (product + forms[form_start + 1 + c])
    return energy


@numba.njit(cache=True, fastmath=REORDER)
def _pull_densities(
    tables: ChannelTables, s: int, gradient: FloatArray, density: FloatArray, pulled: FloatArray
) -> None:
    """From dE/dD of the three-body channels to dE/dA."""
    pulled[: tables.slot_start[s + 1] - tables.slot_start[s]] = 0.0
    n_two = tables.pair_start[s + 1] - tables.pair_start[s]
    for k in range(tables.triple_start[s], tables.triple_start[s + 1]):
        a, b, degree = tables.triples[k, 0], tables.triples[k, 1], tables.triples[k, 2]
        g = gradient[n_two + k - tables.triple_start[s]]
        for lm in range(tables.first_harmonic[k], (degree + 1) * (degree + 1)):
            weight = g * tables.angular[k, lm]
            pulled[a, lm] += weight * density[b, lm]
            pulled[b, lm] += weight * density[a, lm]


@numba.njit(cache=True, fastmath=REORDER)
def _backward(
    tables: ChannelTables, s: int, i: int, low: int, n_neighbors: int, vectors: FloatArray, distances: FloatArray,
    kinds: IntArray,
    neighbor: IntArray, gradient: FloatArray, pulled: FloatArray, harmonics: FloatArray, lanes: Lanes,
    forces: FloatArray, virial: FloatArray,
) -> None:  # fmt: skip
    """From dE/dD and dE/dA to the forces on the centre i and its neighbours, and to the virial."""
    radial, slope, places = lanes.values, lanes.slopes, lanes.places
    n_lm = harmonics.shape[1]
    weight = np.empty(n_lm)
    # PERF: sums in registers; in memory each addition waits for the one before.
    fx, fy, fz = 0.0, 0.0, 0.0
    xx, xy, xz, yx, yy, yz, zx, zy, zz = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for p in range(n_neighbors):
        pair = low + p
        j = neighbor[pair]
        t, inverse = kinds[j], 1.0 / distances[pair]
        x, y, z = vectors[pair, 0] * inverse, vectors[pair, 1] * inverse, vectors[pair, 2] * inverse
        first_pair, first_slot = tables.pair_first[s, t], tables.slot_first[s, t]
        n_pairs, n_slots = tables.pair_first[s, t + 1] - first_pair, tables.slot_first[s, t + 1] - first_slot
        along, base = 0.0, places[p]
        for c in range(n_pairs):
            along += gradient[first_pair + c] * slope[base + (c >> 3), c & 7]
        gx, gy, gz = 0.0, 0.0, 0.0
        if n_slots:
            for lm in range(n_lm):
                weight[lm] = 0.0
            for a in range(n_slots):
                f = n_pairs + a
                g, own = radial[base + (f >> 3), f & 7], 0.0
                for lm in range(n_lm):
                    weight[lm] += pulled[first_slot + a, lm] * g
                    own += pulled[first_slot + a, lm] * harmonics[p, lm]
                along += own * slope[base + (f >> 3), f & 7]
            if tables.l_max <= HIGHEST:
                gx, gy, gz = low_gradient(x, y, z, tables.l_max, weight)
            else:
                gx, gy, gz = _high_gradient(x, y, z, tables.l_max, weight)
            gx, gy, gz = gx * inverse, gy * inverse, gz * inverse
            # The harmonics do not depend on the length of the vector: what points along it goes.
            along -= gx * x + gy * y + gz * z
        gx, gy, gz = gx + along * x, gy + along * y, gz + along * z
        fx, fy, fz = fx + gx, fy + gy, fz + gz
        forces[j, 0] -= gx
        forces[j, 1] -= gy
        forces[j, 2] -= gz
        vx, vy, vz = vectors[pair, 0], vectors[pair, 1], vectors[pair, 2]
        xx += vx * gx
        xy += vx * gy
        xz += vx * gz
        yx += vy * gx
        yy += vy * gy
        yz += vy * gz
        zx += vz * gx
        zy += vz * gy
        zz += vz * gz
    forces[i, 0] += fx
    forces[i, 1] += fy
    forces[i, 2] += fz
    for axis, (u, v, w) in enumerate(((xx, xy, xz), (yx, yy, yz), (zx, zy, zz))):
        virial[axis, 0] += u
        virial[axis, 1] += v
        virial[axis, 2] += w


@numba.njit(cache=True)
def _high_gradient(x: float, y: float, z: float, l_max: int, weight: FloatArray) -> tuple[float, float, float]:
    """As ``low_gradient``, for any degree."""
    n_lm = (l_max + 1) ** 2
    values, gradients = np.empty(n_lm), np.empty((n_lm, 3))
    spherical_harmonics(x, y, z, 1.0, l_max, np.empty((l_max + 1, l_max + 2)), values, gradients)
    gx, gy, gz = 0.0, 0.0, 0.0
    for lm in range(n_lm):
        gx += weight[lm] * gradients[lm, 0]
        gy += weight[lm] * gradients[lm, 1]
        gz += weight[lm] * gradients[lm, 2]
    return gx, gy, gz
