r"""Products of channels: what two- and three-body channels cannot say with so few numbers.

.. math:: D = \sigma_{w_a}(D_a - c_a)\,\sigma_{w_b}(D_b - c_b),\qquad \sigma_w(v) = \frac{v}{\sqrt{1 + v^2/w^2}}

with a and b channels of the same atom that come before D, products among them. The offsets c were their means over the
training atoms, the widths w some of their standard deviations. Such a channel tells surroundings apart: the pull of a
neighbour is another one where many others are near. In the language of the atomic cluster expansion two three-body
channels give some of the five-body functions, picked one by one instead of all together.

σ is there for dynamics. It is nearly a straight line where training was and levels off outside, so a product never
grows faster than a single channel does: plain products extrapolate like powers, and a model of Li-MOF-5 with plain
products of two fell apart within 3 ps at 300 K, twice of two times.

Levelled ones are no default either. With two rounds of them (``descriptor.products: 2``) and as many parameters, errors
on frames that took no part are smaller: forces of LiPS 63.5 instead of 69.6 meV/Å and energies 0.96 instead of 1.19
meV/atom, of Li-MOF-5 151 instead of 167 and 2.3 instead of 2.8, of UiO-66 75 instead of 83 meV/Å. But where structures
leave those of training, they can be wrong: energies of the last frames of molten Li7P3S11, which have bonds that
training never shows, 14.9 instead of 10.7 meV/atom; and dynamics that lasts 100 ps without them does not with them.
Li-MOF-5 (46 or 67 frames, 300 K) broke after 19 to 87 ps in four of four runs, Li6PS5Cl (600 K) after 9 ps; of LiPS
(520 K) all three runs lasted, but a bond broke in one. More, and less alike, frames are what they wait for.

References:
    R. Drautz, Phys. Rev. B 99, 014104 (2019), doi:10.1103/PhysRevB.99.014104.
"""

import math

import numba
import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.descriptors.tables import ChannelTables


@numba.njit(cache=True, inline="always")
def levelled(v: float, width: float) -> tuple[float, float]:
    """σ and its derivative.

    Args:
        v: A channel without its offset.
        width: w, positive.
    """
    root = 1.0 / math.sqrt(1.0 + (v / width) ** 2)
    return v * root, root * root * root


@numba.njit(cache=True)
def fill_products(tables: ChannelTables, s: int, values: FloatArray) -> None:
    """Values of the products of one atom.

    Args:
        tables: Channels of all species.
        s: Species index of the atom.
        values: Its channels, shape ``(>= n_channels,)``; the products are set, what is before them is there.
    """
    begin, end = tables.product_start[s], tables.product_start[s + 1]
    place = tables.channel_start[s + 1] - tables.channel_start[s] - (end - begin)
    for k in range(begin, end):
        a, b = tables.products[k, 0], tables.products[k, 1]
        one, _ = levelled(values[a] - tables.offsets[k, 0], tables.widths[k, 0])
        other, _ = levelled(values[b] - tables.offsets[k, 1], tables.widths[k, 1])
        values[place] = one * other
        place += 1


@numba.njit(cache=True)
def product_weights(tables: ChannelTables, s: int, values: FloatArray) -> FloatArray:
    """What each factor's derivative counts in the product rule.

    Args:
        tables: Channels of all species.
        s: Species index of the atom.
        values: Its channels, shape ``(>= n_channels,)``.

    Returns:
        Shape ``(n_products, 2)``.
    """
    begin, end = tables.product_start[s], tables.product_start[s + 1]
    weights = np.empty((end - begin, 2))
    for k in range(begin, end):
        a, b = tables.products[k, 0], tables.products[k, 1]
        one, bend = levelled(values[a] - tables.offsets[k, 0], tables.widths[k, 0])
        other, other_bend = levelled(values[b] - tables.offsets[k, 1], tables.widths[k, 1])
        weights[k - begin, 0] = bend * other
        weights[k - begin, 1] = one * other_bend
    return weights


@numba.njit(cache=True)
def pull_products(tables: ChannelTables, s: int, values: FloatArray, gradient: FloatArray) -> None:
    """Chain rule through the products of one atom.

    Args:
        tables: Channels of all species.
        s: Species index of the atom.
        values: Its channels, shape ``(>= n_channels,)``.
        gradient: dE/dD with every channel taken as a variable of its own, same shape; what the products say of their
            factors is added.
    """
    begin, end = tables.product_start[s], tables.product_start[s + 1]
    place = tables.channel_start[s + 1] - tables.channel_start[s]
    for k in range(end - 1, begin - 1, -1):
        place -= 1
        a, b = tables.products[k, 0], tables.products[k, 1]
        one, bend = levelled(values[a] - tables.offsets[k, 0], tables.widths[k, 0])
        other, other_bend = levelled(values[b] - tables.offsets[k, 1], tables.widths[k, 1])
        gradient[a] += gradient[place] * bend * other
        gradient[b] += gradient[place] * one * other_bend


@numba.njit(cache=True)
def fill_product_slopes(tables: ChannelTables, s: int, weights: FloatArray, slopes: FloatArray) -> None:
    """Derivatives of the products of one atom.

    Args:
        tables: Channels of all species.
        s: Species index of the atom.
        weights: What :func:`product_weights` says, shape ``(n_products, 2)``.
        slopes: Derivatives of its channels with respect to one coordinate, shape ``(n_channels,)``; those of the
            products are set.
    """
    begin, count = tables.product_start[s], len(weights)
    place = tables.channel_start[s + 1] - tables.channel_start[s] - count
    for k in range(count):
        a, b = tables.products[begin + k, 0], tables.products[begin + k, 1]
        slopes[place + k] = weights[k, 0] * slopes[a] + weights[k, 1] * slopes[b]
