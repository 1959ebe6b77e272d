r"""The list of channels that describe one species' surroundings, in the order the kernels compute them.

A *channel* is one number per atom. Two-body channels sum a radial function over the neighbours of one
species; three-body channels contract two neighbour densities over m,

    D = sum_m A[a, l, m] A[b, l, m],   A[a, l, m] = sum_j g_a(r_ij) Y_lm(r_ij),

where a and b are *slots*: a radial function of one neighbour species. By the addition theorem such a contraction is a
sum over pairs of neighbours j, k of :math:`g_a(r_j) g_b(r_k) P_l(\cos\theta_{jk})`; a weighted sum over l is one of any
polynomial of the cosine and costs the same. A *product* channel
multiplies two channels that come before it, each made to level off (:mod:`~qiskit_qff.descriptors.blocks`). The same
structure holds the pool of all candidates and the few channels that a model uses, so one set of kernels serves both.

:class:`ChannelTables` holds the channel sets of all species as arrays that kernels take.

The pool: every candidate channel of a system, placed by its own bond lengths and no labels.

Two-body candidates of a pair are narrow Gaussians (finer near the bond), broad Gaussians and inverse
powers; three-body candidates combine wide radial functions, and narrow ones that see bonded neighbours only, with
functions of the angle. All radii scale with the shortest distance of the pair seen in the training structures, so C-H
at 1.1 Å and La-O at 2.5 Å are both resolved without tuning. Broad, multi-scale candidates matter more than many fine
ones.

*Descriptors of your own.* Any code that turns an atom's neighbours into numbers can take the place of the channels:
:class:`Descriptor` says what it is, and :class:`OwnSet` and :class:`OwnTables` are to it what :class:`ChannelSet` and
:class:`ChannelTables` are to the kernels. It gives derivatives by the vectors to the neighbours; those by positions and
by strain follow by the chain rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
from ase.data import chemical_symbols
from numpy.polynomial import legendre, polynomial

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.errors import ConfigError


def cosine_power(sign: int, exponent: int) -> FloatArray:
    """Legendre coefficients of ``((1 ± x)/2)^ζ``.

    Args:
        sign: 1 for angles near 0, -1 for angles near 180 degrees.

    Returns:
        Shape ``(ζ + 1,)``.
    """
    return np.asarray(legendre.poly2leg(polynomial.polypow([0.5, 0.5 * sign], exponent)), dtype=np.float64)


def cosine_powers(l_max: int) -> FloatArray:
    """A basis of the polynomials of degree ``l_max``: the constant, and powers with ζ = 2, 4, ... of either sign.

    Args:
        l_max: Degree; where it is odd, ``((1 + x)/2)^l_max`` completes the basis.

    Returns:
        Legendre coefficients in rows, shape ``(l_max + 1, l_max + 1)``.
    """
    powers = [(sign, exponent) for exponent in range(2, l_max + 1, 2) for sign in (1, -1)]
    powers += [(1, l_max)] if l_max % 2 else []
    rows = np.zeros((l_max + 1, l_max + 1))
    rows[0, 0] = 1.0
    for k, (sign, exponent) in enumerate(powers, 1):
        rows[k, : exponent + 1] = cosine_power(sign, exponent)
    return rows


def describe_angular(coefficients: FloatArray) -> str:
    """An angular function in words.

    Args:
        coefficients: Of Legendre polynomials, shape ``(n,)``.

    Returns:
        For example ``l=2`` or ``((1 + cos θ)/2)^4``.
    """
    used = np.flatnonzero(coefficients)
    degree = int(used[-1]) if len(used) else 0
    if len(used) == 1 and coefficients[degree] == 1.0:
        return f"l={degree}"
    for sign, word in ((1, "+"), (-1, "-")):
        if np.allclose(coefficients[: degree + 1], cosine_power(sign, degree), rtol=0.0, atol=1e-12):
            return f"((1 {word} cos θ)/2)^{degree}"
    return "polynomial of cos θ with Legendre coefficients " + ", ".join(f"{c:.3g}" for c in coefficients[: degree + 1])


MAX_L = 6
"""Highest degree of a channel; far beyond what a pool uses."""

SQUARED_NORMS = np.array(
    [
        (1 if m == 0 else 2) * math.factorial(degree - abs(m)) / math.factorial(degree + abs(m))
        for degree in range(MAX_L + 1)
        for m in range(-degree, degree + 1)
    ]
)
""":math:`N_{lm}^2 = (2 - \\delta_{m0}) (l - |m|)! / (l + |m|)!`, shape ``((MAX_L + 1)**2,)``."""

CENTER, SHARPNESS, LENGTH, POWER = 0, 1, 2, 3
"""Columns of a radial function's row: Å, 1/Å^2, Å, no unit."""


def gaussian_rows(centers: FloatArray, widths: FloatArray) -> FloatArray:
    """Rows of Gaussians.

    Args:
        centers: Shape ``(n,)``, in Å.
        widths: Standard deviations, shape ``(n,)``, in Å.

    Returns:
        Shape ``(n, 4)``.
    """
    rows = np.zeros((len(centers), 4))
    rows[:, CENTER] = centers
    rows[:, SHARPNESS] = 0.5 / np.asarray(widths) ** 2
    rows[:, LENGTH] = 1.0
    return rows


def power_rows(powers: FloatArray, length: float) -> FloatArray:
    """Rows of inverse powers ``(length / r)**k``.

    Args:
        powers: Exponents ``k``, shape ``(n,)``.
        length: Distance in Å at which every power is one (before the switch).

    Returns:
        Shape ``(n, 4)``.
    """
    rows = np.zeros((len(powers), 4))
    rows[:, LENGTH] = length
    rows[:, POWER] = powers
    return rows


def kernel_rows(rows: FloatArray) -> FloatArray:
    """Radial functions as the kernels take them: centre, sharpness, power, and power times logarithm of the length.

    Args:
        rows: Shape ``(n, 4)``.
    """
    return np.column_stack([rows[:, [CENTER, SHARPNESS, POWER]], rows[:, POWER] * np.log(rows[:, LENGTH])])


class ChannelTables(NamedTuple):
    """The channel sets of all species, laid end to end; a named tuple, because kernels can take one."""

    species: IntArray  # atomic numbers, ascending; a species index below points into it, shape ``(S,)``
    r_cut: float  # cutoff radius in Å
    l_max: int  # highest degree of any channel
    pair_first: IntArray
    """Per centre s and neighbour t the first two-body channel, shape ``(S, S + 1)``, counted within s."""
    pair_start: IntArray  # where the rows of centre s begin in ``pair_rows``, shape ``(S + 1,)``
    slot_first: IntArray  # as ``pair_first``, for slots, shape ``(S, S + 1)``
    slot_start: IntArray  # as ``pair_start``, for slots, shape ``(S + 1,)``
    function_start: IntArray
    """As ``pair_first``, for all radial functions, those of two-body channels first; counted over all centres."""
    functions: FloatArray
    """Centre, sharpness, power and power times the logarithm of the length of every radial function, shape
    ``(sum n_two + n_slots, 4)``."""
    triple_start: IntArray  # where the three-body channels of centre s begin, shape ``(S + 1,)``
    triples: IntArray  # all three-body channels, slots counted within s, shape ``(sum n_three, 3)``
    first_harmonic: IntArray
    """The first harmonic with a weight in each three-body channel, shape ``(sum n_three,)``; the last is that of its
    degree."""
    angular: FloatArray  # weight of every harmonic in each three-body channel, shape ``(sum n_three, (l_max + 1)**2)``
    product_start: IntArray  # where the products of centre s begin, shape ``(S + 1,)``
    products: IntArray  # the two channels of every product, counted within s, shape ``(sum n_products, 2)``
    offsets: FloatArray  # what is taken off them, shape ``(sum n_products, 2)``
    widths: FloatArray  # how far from there they level off, shape ``(sum n_products, 2)``
    channel_start: IntArray  # where the channels of centre s begin when all are laid end to end, shape ``(S + 1,)``
    core_start: FloatArray
    """Distance in Å per pair of species below which channels level off, shape ``(S, S)``; 0 for never."""


def make_tables(
    sets: Mapping[int, ChannelSet | OwnSet], r_cut: float, *, core_start: FloatArray | None = None
) -> ChannelTables | OwnTables:
    """Lay channel sets end to end.

    Args:
        sets: Channel set per centre atomic number; neighbour species in each are ascending.
        r_cut: Cutoff radius in Å.
        core_start: Distance in Å per pair of species below which channels level off, shape ``(S, S)``; descriptors of
            one's own do not.

    Returns:
        The tables.
    """
    species = sorted(sets)
    own = [s for z in species if isinstance(s := sets[z], OwnSet)]
    if own:
        return OwnTables.of(own, r_cut)
    ordered = [s for z in species if isinstance(s := sets[z], ChannelSet)]
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


MOST_FACTORS = 64
"""Two- and three-body channels that a product may hold, far more than any pool makes. Each product can double the
number, so without a bound a short model file could ask for a description of any length."""


@dataclass(frozen=True)
class ChannelSet:
    """Channels of one centre species: two-body first, then three-body, then products of channels before them."""

    center: int  # atomic number of the centre atom
    pair_species: IntArray  # neighbour atomic number of each two-body channel, shape ``(n_two,)``
    pair_rows: FloatArray  # radial function rows of the two-body channels, shape ``(n_two, 4)``
    slot_species: IntArray  # neighbour atomic number of each slot, ascending, shape ``(n_slots,)``
    slot_rows: FloatArray  # radial function rows of the slots, shape ``(n_slots, 4)``
    triples: IntArray  # slot, slot and highest degree l of each three-body channel, shape ``(n_three, 3)``
    angular: FloatArray | None = None
    """Legendre coefficients of each three-body channel's function of cos θ, shape ``(n_three, >= l_max + 1)``, zero
    above its degree; None where each is the Legendre polynomial of its degree."""
    products: IntArray = field(default_factory=lambda: np.zeros((0, 2), dtype=np.int64))
    """The two channels that each product multiplies, both before it, shape ``(n_products, 2)``."""
    offsets: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))
    """What is taken off each of them first, shape ``(n_products, 2)``."""
    widths: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))
    """How far from there they level off, positive, shape ``(n_products, 2)``."""

    def __post_init__(self) -> None:
        """Check what the kernels rely on; they do not check bounds.

        Raises:
            ConfigError: If anything does not fit.
        """
        n_slots, slots, degrees = len(self.slot_species), self.triples[:, :2], self.triples[:, 2]
        species = np.concatenate([[self.center], self.pair_species, self.slot_species])
        self._require(
            self.pair_rows.shape == (len(self.pair_species), 4) and self.slot_rows.shape == (n_slots, 4),
            "radial rows of a wrong shape",
        )
        self._require(
            not (np.any(np.diff(self.pair_species) < 0) or np.any(np.diff(self.slot_species) < 0)),
            "neighbour species must ascend",
        )
        self._require(
            np.isfinite(self.pair_rows).all() and np.isfinite(self.slot_rows).all(), "a radial row is not finite"
        )
        self._require(np.all((species >= 1) & (species < len(chemical_symbols))), "holds what is no atomic number")
        self._require(
            np.all((slots >= 0) & (slots < n_slots)) and np.all((degrees >= 0) & (degrees <= MAX_L)),
            "a three-body channel points nowhere",
        )
        if self.angular is not None:
            degree = np.arange(self.angular.shape[-1])
            fits = self.angular.shape == (len(self.triples), len(degree)) and len(degree) > self.l_max
            self._require(
                fits and not self.angular[degree > degrees[:, None]].any() and np.isfinite(self.angular).all(),
                "angular functions do not fit the channels",
            )
        before = self.n_simple + np.arange(len(self.products))
        self._require(
            self.products.shape == self.offsets.shape == self.widths.shape
            and np.all((self.products >= 0) & (self.products < before[:, None])),
            "a product of channels that are not before it",
        )
        orders = [1] * self.n_simple
        for one, other in self.products.tolist():
            orders.append(min(orders[one] + orders[other], MOST_FACTORS + 1))
        self._require(max(orders, default=1) <= MOST_FACTORS, f"a product of more than {MOST_FACTORS} channels in all")
        self._require(
            np.isfinite(self.offsets).all() and np.isfinite(self.widths).all() and np.all(self.widths > 0.0),
            "a product's offset or width is no such number",
        )

    def _require(self, holds: np.bool_ | bool, problem: str) -> None:  # noqa: FBT001
        if not holds:
            raise ConfigError(f"channel set of element {self.center}: {problem}.")

    @property
    def n_simple(self) -> int:
        """Number of two- and three-body channels: the first product comes after them."""
        return len(self.pair_species) + len(self.triples)

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return self.n_simple + len(self.products)

    @property
    def l_max(self) -> int:
        """Highest degree among the three-body channels; zero without any."""
        return int(self.triples[:, 2].max()) if len(self.triples) else 0

    def angular_coefficients(self, l_max: int) -> FloatArray:
        """Legendre coefficients of every three-body channel up to a degree, shape ``(n_three, l_max + 1)``."""
        if self.angular is None:
            return np.eye(l_max + 1)[self.triples[:, 2]]
        found = np.zeros((len(self.triples), l_max + 1))
        width = min(l_max + 1, self.angular.shape[1])
        found[:, :width] = self.angular[:, :width]
        return found

    def factors(self, channel: int) -> frozenset[int]:
        """The two- and three-body channels that a channel is made of: itself, or what a product multiplies."""
        if channel < self.n_simple:
            return frozenset([channel])
        first, second = (int(c) for c in self.products[channel - self.n_simple])
        return self.factors(first) | self.factors(second)

    def subset(self, indices: IntArray) -> tuple[ChannelSet, IntArray]:
        """Keep some channels and what they are products of, drop the slots nobody uses.

        Args:
            indices: Channel numbers, any order, no repeats, shape ``(k,)``.

        Returns:
            The smaller set, and which channel of this set each of its channels is; those that are there only as
            factors of a product are among them.
        """
        wanted = np.zeros(self.n_channels, dtype=np.bool_)
        wanted[indices] = True
        # Factors come before their product, so one pass from the last to the first finds them all.
        for k in range(len(self.products) - 1, -1, -1):
            if wanted[self.n_simple + k]:
                wanted[self.products[k]] = True
        closed = np.flatnonzero(wanted)
        n_two, n_simple = len(self.pair_species), self.n_simple
        two, three, many = (
            closed[(closed >= low) & (closed < high)]
            for low, high in ((0, n_two), (n_two, n_simple), (n_simple, self.n_channels))
        )
        two = two[np.argsort(self.pair_species[two], kind="stable")]
        triples = self.triples[three - n_two]
        used = np.unique(triples[:, :2])
        renumber = np.full(len(self.slot_species), -1, dtype=np.int64)
        renumber[used] = np.arange(len(used))
        triples = triples.copy()
        triples[:, :2] = renumber[triples[:, :2]]
        kept = np.concatenate([two, three, many])
        place = np.full(self.n_channels, -1, dtype=np.int64)
        place[kept] = np.arange(len(kept))
        smaller = ChannelSet(
            center=self.center,
            pair_species=self.pair_species[two],
            pair_rows=self.pair_rows[two],
            slot_species=self.slot_species[used],
            slot_rows=self.slot_rows[used],
            triples=triples,
            angular=None if self.angular is None or not len(three) else self.angular[three - n_two],
            products=place[self.products[many - n_simple]],
            offsets=self.offsets[many - n_simple],
            widths=self.widths[many - n_simple],
        )
        return smaller, kept

    def with_products(self, products: IntArray, offsets: FloatArray, widths: FloatArray) -> ChannelSet:
        """The same channels and some products more."""
        return replace(
            self,
            products=np.concatenate([self.products, products]),
            offsets=np.concatenate([self.offsets, offsets]),
            widths=np.concatenate([self.widths, widths]),
        )

    def describe(self, channel: int) -> str:
        """A channel in words, such as ``P-S two-body at 2.05 Å``."""
        own = chemical_symbols[self.center]
        n_two = len(self.pair_species)
        if channel < n_two:
            other = chemical_symbols[int(self.pair_species[channel])]
            return f"{own}-{other} two-body {describe_radial(self.pair_rows[channel])}"
        if channel >= self.n_simple:
            return " x ".join(f"({self.describe(int(c))})" for c in self.products[channel - self.n_simple])
        a, b, degree = (int(v) for v in self.triples[channel - n_two])
        arms = " / ".join(
            f"{chemical_symbols[int(self.slot_species[k])]} {describe_radial(self.slot_rows[k])}" for k in (a, b)
        )
        shape = f"l={degree}" if self.angular is None else describe_angular(self.angular[channel - n_two])
        return f"{own} three-body {shape}: {arms}"

    def to_dict(self) -> dict[str, Any]:
        """Plain lists for a model file."""
        content = {
            "center": self.center,
            "pair_species": self.pair_species.tolist(),
            "pair_rows": self.pair_rows.tolist(),
            "slot_species": self.slot_species.tolist(),
            "slot_rows": self.slot_rows.tolist(),
            "triples": self.triples.tolist(),
        }
        if self.angular is not None:
            content["angular"] = self.angular.tolist()
        if len(self.products):
            content["products"] = self.products.tolist()
            content |= {"offsets": self.offsets.tolist(), "widths": self.widths.tolist()}
        return content

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ChannelSet:
        """Read back what :meth:`to_dict` wrote."""
        return cls(
            center=int(data["center"]),
            pair_species=np.asarray(data["pair_species"], dtype=np.int64),
            pair_rows=np.asarray(data["pair_rows"], dtype=np.float64).reshape(-1, 4),
            slot_species=np.asarray(data["slot_species"], dtype=np.int64),
            slot_rows=np.asarray(data["slot_rows"], dtype=np.float64).reshape(-1, 4),
            triples=np.asarray(data["triples"], dtype=np.int64).reshape(-1, 3),
            angular=np.asarray(data["angular"], dtype=np.float64) if "angular" in data else None,
            products=np.asarray(data.get("products", []), dtype=np.int64).reshape(-1, 2),
            offsets=np.asarray(data.get("offsets", []), dtype=np.float64).reshape(-1, 2),
            widths=np.asarray(data.get("widths", []), dtype=np.float64).reshape(-1, 2),
        )


class Descriptor(Protocol):
    """Numbers that describe the surroundings of an atom, and do not change when all is rotated."""

    n_features: int
    """How many there are, the same for atoms of every element."""

    def __call__(
        self, numbers: IntArray, first: IntArray, neighbor: IntArray, vectors: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Describe atoms by all their neighbours within the cutoff, periodic images among them.

        Args:
            numbers: Atomic number of every atom, shape ``(n,)``.
            first: Where the pairs of each centre begin, shape ``(n_centers + 1,)``; centres are the first atoms.
            neighbor: Index of the neighbour in each pair, shape ``(n_pairs,)``.
            vectors: From the centre to the neighbour, shape ``(n_pairs, 3)``, in Å.

        Returns:
            Features, shape ``(n_centers, n_features)``, and for each pair the derivative of the centre's features with
            respect to the vector, shape ``(n_pairs, 3, n_features)``, in 1/Å.
        """
        ...  # pragma: no cover


DescriptorMaker = Callable[..., Descriptor]
"""Makes a descriptor, called with ``species`` (atomic numbers, ascending), ``r_cut`` in Å and the arguments of the
configuration, by name."""
DESCRIPTORS: dict[str, DescriptorMaker] = {}


def register_descriptor(name: str, maker: DescriptorMaker) -> None:
    """Make a class of descriptors a choice of ``descriptor.own``, in configurations and in model files.

    Entry points of the group ``qiskit_qff.descriptor`` are found by themselves, from the command line too.
    """
    if DESCRIPTORS.setdefault(name, maker) is not maker:
        raise ConfigError(f"The descriptor '{name}' exists already; choose another name.")


def find_descriptor(name: str) -> DescriptorMaker:
    """What makes the descriptor of a name."""
    if name not in DESCRIPTORS:
        found = entry_points(group="qiskit_qff.descriptor", name=name)
        if not found:
            raise ConfigError(
                f"Unknown descriptor '{name}'; register it with qiskit_qff.register_descriptor or as an entry point of "
                "the group 'qiskit_qff.descriptor', or leave descriptor.own out for the channels of this package."
            )
        register_descriptor(name, next(iter(found)).load())
    return DESCRIPTORS[name]


@dataclass(frozen=True, eq=False)
class OwnSet:
    """Some features of a registered descriptor, for one centre species."""

    center: int  # atomic number of the centre atom
    name: str  # of the descriptor
    arguments: Mapping[str, Any]  # plain values that it is made with
    indices: IntArray  # which of its features, shape ``(k,)``
    products: ClassVar[IntArray] = np.zeros((0, 2), dtype=np.int64)  # there are none

    @property
    def n_channels(self) -> int:
        """Number of features."""
        return len(self.indices)

    n_simple = n_channels

    def subset(self, indices: IntArray) -> tuple[OwnSet, IntArray]:
        """Keep some features: the smaller set, and which feature of this one each of its features is."""
        kept = np.sort(indices)
        return replace(self, indices=self.indices[kept]), kept

    def describe(self, channel: int) -> str:
        """A feature in words."""
        return f"{chemical_symbols[self.center]} {self.name}, feature {self.indices[channel]}"

    def to_dict(self) -> dict[str, Any]:
        """Plain lists for a model file."""
        own = {"descriptor": self.name, "arguments": dict(self.arguments)}
        return {"center": self.center, **own, "indices": self.indices.tolist()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> OwnSet:
        """Read back what :meth:`to_dict` wrote; fails where the descriptor is unknown."""
        find_descriptor(str(data["descriptor"]))
        indices = np.asarray(data["indices"], dtype=np.int64)
        return cls(int(data["center"]), str(data["descriptor"]), dict(data["arguments"]), indices)


class Described(NamedTuple):
    """The atoms of one species as a descriptor of one's own sees them."""

    atoms: IntArray  # the centres, shape ``(n_s,)``
    pairs: IntArray  # all their pairs, shape ``(p,)``
    centers: IntArray  # place of each pair's centre among ``atoms``, shape ``(p,)``
    values: FloatArray  # features in use, shape ``(n_s, k)``
    slopes: FloatArray  # their derivatives by the vectors to the neighbours, shape ``(p, 3, k)``, in 1/Å


@dataclass(frozen=True, eq=False)
class OwnTables:
    """The sets of all species that belong to one descriptor."""

    species: IntArray  # atomic numbers, ascending, shape ``(S,)``
    r_cut: float  # cutoff radius in Å
    channel_start: IntArray  # where the features of each species begin, laid end to end, shape ``(S + 1,)``
    sets: tuple[OwnSet, ...]  # in the order of the species
    descriptor: Descriptor

    @classmethod
    def of(cls, sets: list[OwnSet], r_cut: float) -> OwnTables:
        """Make the descriptor of some sets, ordered by their centres."""
        first, species = sets[0], [s.center for s in sets]
        descriptor = make_descriptor(first.name, first.arguments, species, r_cut)
        if any(s.indices.size and not 0 <= s.indices.min() <= s.indices.max() < descriptor.n_features for s in sets):
            raise ConfigError(
                f"The model uses features that the descriptor '{first.name}' lacks: it has {descriptor.n_features}."
            )
        start = np.concatenate([[0], np.cumsum([s.n_channels for s in sets])]).astype(np.int64)
        return cls(np.array(species, dtype=np.int64), r_cut, start, tuple(sets), descriptor)


def make_descriptor(name: str, arguments: Mapping[str, Any], species: list[int], r_cut: float) -> Descriptor:
    """Make a registered descriptor; arguments that it does not take are an error that says so."""
    try:
        return find_descriptor(name)(species=species, r_cut=r_cut, **arguments)
    except TypeError as error:
        raise ConfigError(f"The descriptor '{name}' cannot be made with {dict(arguments)}: {error}.") from error


def describe_radial(row: FloatArray) -> str:
    """A radial function in words, such as ``at 2.05 Å (width 0.2 Å)`` or ``~(2.1 Å/r)^6``."""
    if row[POWER] > 0:
        return f"~({row[LENGTH]:.2f} Å/r)^{row[POWER]:g}"
    width = np.sqrt(0.5 / row[SHARPNESS])
    return f"at {row[CENTER]:.2f} Å (width {width:.2f} Å)"


BONDS = ((1.05, 0.2), (1.3, 0.5))
"""Three-body radial Gaussians of bonded neighbours: centre in units of the pair's shortest distance, width in Å."""
THREE_BODY_WIDTH = 0.75
"""Width in Å of the three-body radial Gaussians: they overlap, which beat finer ones on every set measured."""


@dataclass(frozen=True, kw_only=True)
class PoolSettings:
    """How large the pool is and how far it sees."""

    r_cut: float = 5.0  # cutoff radius in Å
    n_narrow: int = 14  # narrow two-body Gaussians per pair
    n_broad: int = 6  # broad two-body Gaussians per pair
    powers: tuple[float, ...] = (1.0, 2.0, 4.0, 6.0, 9.0, 12.0)  # exponents of the two-body inverse powers
    n_radial: int = 5  # radial functions per neighbour species in the three-body channels
    l_max: int = 4  # highest degree of the three-body channels
    bonds: bool = True  # whether there are three-body channels of bonded neighbours
    radial_pairs: Literal["all", "same"] = "all"
    """Whether a three-body channel may combine radial functions of different rank, or only the same."""

    def n_channels(self, n_species: int) -> int:
        """Number of channels per centre species."""
        two = n_species * (self.n_narrow + self.n_broad + len(self.powers))
        if self.radial_pairs == "all":
            slots = n_species * self.n_radial
            couples = slots * (slots + 1) // 2
        else:
            couples = self.n_radial * n_species * (n_species + 1) // 2
        bonded = n_species * len(BONDS) if self.bonds else 0
        return two + (couples + bonded * (bonded + 1) // 2) * (self.l_max + 1)


def two_body_rows(settings: PoolSettings, shortest: float) -> FloatArray:
    """Radial rows of the two-body candidates of one pair."""
    inner = 0.95 * shortest
    narrow = _spaced(inner, settings.r_cut, settings.n_narrow, stretch=1.5)
    gaps = np.gradient(narrow) if len(narrow) > 1 else np.ones_like(narrow)
    broad = np.linspace(inner, settings.r_cut, settings.n_broad)
    wide = np.full(settings.n_broad, (settings.r_cut - inner) / 4.0)
    return np.concatenate(
        [
            gaussian_rows(narrow, gaps),
            gaussian_rows(broad, wide),
            power_rows(np.asarray(settings.powers), shortest),
        ]
    )


def three_body_rows(settings: PoolSettings, shortest: float) -> FloatArray:
    """Radial rows of the three-body slots of one pair; those of bonded neighbours come last."""
    centers = np.linspace(0.8 * shortest, settings.r_cut - 0.5, settings.n_radial)
    wide = gaussian_rows(centers, np.full(settings.n_radial, THREE_BODY_WIDTH))
    if not settings.bonds:
        return wide
    ratios, widths = np.array(BONDS).T
    return np.concatenate([wide, gaussian_rows(ratios * shortest, widths)])


def _couple(a: int, b: int, settings: PoolSettings) -> bool:
    """Whether radial functions of these ranks make channels together: wide ones with wide ones, bonds with bonds."""
    if (a < settings.n_radial) != (b < settings.n_radial):
        return False
    return a >= settings.n_radial or settings.radial_pairs == "all" or a == b


def with_angular_functions(channels: ChannelSet, settings: PoolSettings) -> ChannelSet:
    """The same couples of radial functions, but with powers of the cosine, a basis of the same polynomials."""
    rows = cosine_powers(settings.l_max)
    degrees = [int(np.flatnonzero(row)[-1]) for row in rows]
    count = len(channels.triples) // len(rows)
    triples = channels.triples.copy()
    triples[:, 2] = np.tile(degrees, count)
    return replace(channels, triples=triples, angular=np.tile(rows, (count, 1)))


def _spaced(low: float, high: float, count: int, *, stretch: float) -> FloatArray:
    """Points from low to high whose spacing grows by a power law: finer near the bond."""
    return low + (high - low) * np.linspace(0.0, 1.0, count) ** stretch


def build_channels(center: int, shortest: dict[int, float], settings: PoolSettings) -> ChannelSet:
    """All candidates of one centre species, each angular function a Legendre polynomial.

    Args:
        shortest: Shortest distance in Å per neighbour atomic number; pairs that never come within the
            cutoff are absent and get no channels.
    """
    neighbors = sorted(shortest)
    pairs = [two_body_rows(settings, shortest[t]) for t in neighbors]
    slots = [three_body_rows(settings, shortest[t]) for t in neighbors]
    slot_species = np.repeat(neighbors, [len(rows) for rows in slots]).astype(np.int64)
    rank = np.concatenate([np.arange(len(rows)) for rows in slots]) if slots else np.zeros(0, dtype=int)
    triples = [
        (a, b, degree)
        for a in range(len(slot_species))
        for b in range(a, len(slot_species))
        if _couple(int(rank[a]), int(rank[b]), settings)
        for degree in range(settings.l_max + 1)
    ]
    return ChannelSet(
        center=center,
        pair_species=np.repeat(neighbors, [len(rows) for rows in pairs]).astype(np.int64),
        pair_rows=np.concatenate(pairs) if pairs else np.zeros((0, 4)),
        slot_species=slot_species,
        slot_rows=np.concatenate(slots) if slots else np.zeros((0, 4)),
        triples=np.asarray(triples, dtype=np.int64).reshape(-1, 3),
    )
