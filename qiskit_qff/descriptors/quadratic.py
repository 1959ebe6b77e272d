r"""Energies, forces and virial of quadratic forms in the channels, by one backward sweep.

With channels D of atom i, :math:`z = (1, D - \bar D)` and a symmetric matrix B of its species,

.. math:: E_i = z^T B z,\qquad \partial E_i/\partial D = 2 (B z)_{1:}.

The gradient flows back through the three-body contraction to the densities, and from there to every
neighbour vector. No per-channel Jacobian is formed: the cost of a neighbour is that of its slots and
harmonics, however many channels share them.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from qiskit_qff.descriptors.channels import ChannelTables
from qiskit_qff.descriptors.cutoff import cutoff_function
from qiskit_qff.descriptors.kernels import neighbor_functions
from qiskit_qff.descriptors.radial import core_distance, radial_function

F = NDArray[np.float64]
I = NDArray[np.int64]  # noqa: E741 - the pair F, I keeps kernel signatures readable


@numba.njit(cache=True)
def quadratic_forces(
    tables: ChannelTables, means: F, forms: F, form_start: I,
    first: I, neighbor: I, vectors: F, distances: F, kinds: I,
    energies: F, forces: F, virial: F,
) -> None:  # fmt: skip
    """Evaluate one structure; outputs are overwritten.

    Args:
        tables: Channels in use.
        means: Channel means of all species end to end, shape ``(C,)``.
        forms: The matrices B of all species, flattened end to end.
        form_start: Where each begins, shape ``(S + 1,)``.
        first: CSR offsets of the centres, shape ``(n_centers + 1,)``; centres are the first of the n atoms.
        neighbor: Neighbour indices, shape ``(n_pairs,)``.
        vectors: Neighbour vectors, shape ``(n_pairs, 3)``, in Å.
        distances: Their lengths in Å.
        kinds: Species index per atom, shape ``(n,)``.
        energies: Output, shape ``(n_centers,)``, in eV.
        forces: Output, shape ``(n, 3)``, in eV/Å.
        virial: Output dE/dstrain, shape ``(3, 3)``, in eV.
    """
    n_atoms, n_lm = first.shape[0] - 1, (tables.l_max + 1) ** 2
    most, widest = 1, 1
    for i in range(n_atoms):
        most = max(most, first[i + 1] - first[i])
    for s in range(tables.species.shape[0]):
        widest = max(widest, tables.slot_start[s + 1] - tables.slot_start[s])
    pair_slopes = np.empty((most, tables.pair_rows.shape[0] + 1))
    radial, slope = np.empty((most, widest)), np.empty((most, widest))
    harmonics, gradients = np.empty((most, n_lm)), np.empty((most, n_lm, 3))
    density, pulled = np.empty((widest, n_lm)), np.empty((widest, n_lm))
    legendre = np.zeros((tables.l_max + 1, tables.l_max + 2))
    forces[:] = 0.0
    virial[:] = 0.0
    for i in range(n_atoms):
        s, low, high = kinds[i], first[i], first[i + 1]
        start, stop = tables.channel_start[s], tables.channel_start[s + 1]
        values = np.zeros(stop - start)
        _forward(
            tables, s, vectors[low:high], distances[low:high], kinds, neighbor[low:high], values,
            density, pair_slopes, radial, slope, harmonics, gradients, legendre,
        )  # fmt: skip
        width = stop - start + 1
        form = forms[form_start[s] : form_start[s + 1]].reshape((width, width))
        energies[i] = _quadratic(form, means[start:stop], values)
        _pull_densities(tables, s, values, density, pulled)
        _backward(
            tables, s, i, vectors[low:high], distances[low:high], kinds, neighbor[low:high], values,
            pulled, pair_slopes, radial, slope, harmonics, gradients, forces, virial,
        )  # fmt: skip


@numba.njit(cache=True)
def _forward(
    tables: ChannelTables, s: int, vectors: F, distances: F, kinds: I, neighbor: I, values: F,
    density: F, pair_slopes: F, radial: F, slope: F, harmonics: F, gradients: F, legendre: F,
) -> None:  # fmt: skip
    """Channels of one atom, keeping what the way back needs."""
    pair_first, slot_first = tables.pair_first[s], tables.slot_first[s]
    pair_start, slot_start = tables.pair_start[s], tables.slot_start[s]
    n_lm = harmonics.shape[1]
    density[: tables.slot_start[s + 1] - slot_start] = 0.0
    for p in range(distances.shape[0]):
        t, r = kinds[neighbor[p]], distances[p]
        low, high = slot_first[t], slot_first[t + 1]
        core = tables.core_start[s, t]
        seen, bend = core_distance(r, core)
        switch, switch_slope = cutoff_function(seen, tables.r_cut)
        for c in range(pair_first[t], pair_first[t + 1]):
            value, derivative = radial_function(seen, tables.pair_rows[pair_start + c], switch, switch_slope)
            values[c] += value
            pair_slopes[p, c] = derivative * bend
        if high == low:
            continue
        neighbor_functions(
            vectors[p], r, core, tables.l_max, tables.slot_rows[slot_start + low : slot_start + high], tables.r_cut,
            legendre, radial[p], slope[p], harmonics[p], gradients[p],
        )  # fmt: skip
        for a in range(low, high):
            g = radial[p, a - low]
            for lm in range(n_lm):
                density[a, lm] += g * harmonics[p, lm]
    n_two = tables.pair_start[s + 1] - pair_start
    for k in range(tables.triple_start[s], tables.triple_start[s + 1]):
        a, b, degree = tables.triples[k, 0], tables.triples[k, 1], tables.triples[k, 2]
        total = 0.0
        for lm in range(degree * degree, (degree + 1) * (degree + 1)):
            total += density[a, lm] * density[b, lm]
        values[n_two + k - tables.triple_start[s]] = total


@numba.njit(cache=True)
def _quadratic(form: F, mean: F, values: F) -> float:
    """Energy of z = (1, values - mean); ``values`` is replaced by the gradient dE/dD."""
    n = values.shape[0]
    centred = values - mean
    energy: float = form[0, 0]
    for c in range(n):
        product = form[c + 1, 0]
        for k in range(n):
            product += form[c + 1, k + 1] * centred[k]
        values[c] = 2.0 * product
        energy += centred[c] * (product + form[0, c + 1])
    return energy


@numba.njit(cache=True)
def _pull_densities(tables: ChannelTables, s: int, gradient: F, density: F, pulled: F) -> None:
    """From dE/dD of the three-body channels to dE/dA."""
    pulled[: tables.slot_start[s + 1] - tables.slot_start[s]] = 0.0
    n_two = tables.pair_start[s + 1] - tables.pair_start[s]
    for k in range(tables.triple_start[s], tables.triple_start[s + 1]):
        a, b, degree = tables.triples[k, 0], tables.triples[k, 1], tables.triples[k, 2]
        g = gradient[n_two + k - tables.triple_start[s]]
        for lm in range(degree * degree, (degree + 1) * (degree + 1)):
            pulled[a, lm] += g * density[b, lm]
            pulled[b, lm] += g * density[a, lm]


@numba.njit(cache=True)
def _backward(
    tables: ChannelTables, s: int, i: int, vectors: F, distances: F, kinds: I, neighbor: I, gradient: F,
    pulled: F, pair_slopes: F, radial: F, slope: F, harmonics: F, gradients: F, forces: F, virial: F,
) -> None:  # fmt: skip
    """From dE/dD and dE/dA to the forces on the centre i and its neighbours, and to the virial."""
    pair_first, slot_first = tables.pair_first[s], tables.slot_first[s]
    n_lm = harmonics.shape[1]
    for p in range(distances.shape[0]):
        j = neighbor[p]
        t = kinds[j]
        along = 0.0
        for c in range(pair_first[t], pair_first[t + 1]):
            along += gradient[c] * pair_slopes[p, c]
        low, high = slot_first[t], slot_first[t + 1]
        gx, gy, gz = 0.0, 0.0, 0.0
        if high > low:
            for lm in range(n_lm):
                weight, radial_part = 0.0, 0.0
                for a in range(low, high):
                    weight += pulled[a, lm] * radial[p, a - low]
                    radial_part += pulled[a, lm] * slope[p, a - low]
                along += radial_part * harmonics[p, lm]
                gx += weight * gradients[p, lm, 0]
                gy += weight * gradients[p, lm, 1]
                gz += weight * gradients[p, lm, 2]
        along /= distances[p]
        x, y, z = vectors[p, 0], vectors[p, 1], vectors[p, 2]
        gx += along * x
        gy += along * y
        gz += along * z
        forces[i, 0] += gx
        forces[i, 1] += gy
        forces[i, 2] += gz
        forces[j, 0] -= gx
        forces[j, 1] -= gy
        forces[j, 2] -= gz
        for axis in range(3):
            component = gx if axis == 0 else (gy if axis == 1 else gz)
            virial[axis, 0] += component * x
            virial[axis, 1] += component * y
            virial[axis, 2] += component * z
