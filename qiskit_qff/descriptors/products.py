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

import numba

from qiskit_qff.array_types import FloatArray
from qiskit_qff.descriptors.eights import Eight, load, root, store
from qiskit_qff.descriptors.tables import ChannelTables


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
