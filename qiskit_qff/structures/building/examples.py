"""Crystals to begin with, built from their published space groups and coordinates.

============  ==================================================================================================
mof5          MOF-5 (IRMOF-1), Zn4O(BDC)3: Fm-3m, a = 25.832 Å. Eddaoudi et al., Science 295, 469 (2002),
              https://doi.org/10.1126/science.1067208. H moved out along C-H from the X-ray distance to 1.09 Å.
uio66         UiO-66, Zr6O4(OH)4(BDC)6, without defects and guests: Fm-3m, a = 20.7465 Å at 100 K. Øien et al.,
              Cryst. Growth Des. 14, 5370 (2014), https://doi.org/10.1021/cg501386j (COD 4512072, public domain).
              Linker and carboxylate of the refinement's main part. Its two split positions above the faces of the
              Zr octahedron are μ3-O and μ3-OH, here alternating (F-43m). H at 1.08 (C-H) and 0.97 Å (O-H).
li6ps5cl      Li6PS5Cl, argyrodite: F-43m, a = 9.859 Å. Deiseroth et al., Angew. Chem. Int. Ed. 47, 755 (2008),
              https://doi.org/10.1002/anie.200703900. S and Cl ordered (4d, 4a); one Li of every pair of neighbouring
              48h sites, drawn at random. Free coordinates are rounded: S (16e) puts P-S at 2.05 Å, Li is at
              (0.183, 0.183, 0.024). Equilibrate before use.
lgps          Li10GeP2S12: P4_2/nmc, a = 8.71771, c = 12.63452 Å. Kamaya et al., Nature Mater. 10, 682 (2011),
              https://doi.org/10.1038/nmat3066. Ge and P share 4d at random; Li takes 11 of 16 sites 16h, 5 of 8
              sites 8f, and all of 4d, so three pairs of neighbouring 16h sites, 1.82 Å apart, hold two each. Relax
              before use.
li3ps4        γ-Li3PS4: Pmn2_1, a = 7.70829, b = 6.53521, c = 6.1365 Å at 297 K. Homma et al., Solid State Ionics 182,
              53 (2011), https://doi.org/10.1016/j.ssi.2010.10.001. Sites of S that the refinement leaves 1 to 3 %
              empty are full.
li7p3s11      Li7P3S11: P-1, a = 12.5009, b = 6.0316, c = 12.5303 Å, α = 102.845, β = 113.202, γ = 74.467°. Yamane et
              al., Solid State Ionics 178, 1163 (2007), https://doi.org/10.1016/j.ssi.2007.05.020. Positions are not
              those of the refinement: they were relaxed in its cell with GFN1-xTB, to 0.03 eV/Å, from a structure
              relaxed by density functional theory (github.com/atomisticnet/xas-tools). Equilibrate before use.
============  ==================================================================================================

Other crystals: bring a CIF file, with ``qff build order`` first where its sites are partly occupied.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from qiskit_qff.errors import ConfigError
from qiskit_qff.structures.building.ordering import order_sites
from qiskit_qff.structures.frame import Frame

SPLIT_48H = 2.0
"""Å; the two 48h sites of a pair in argyrodite are 1.87 Å apart, those of different pairs 2.22 Å or more."""

LI7P3S11: dict[str, list[tuple[float, ...]]] = {
    "Li": [
        (0.6581, 0.3798, 0.085),
        (0.6103, 0.7552, 0.8812),
        (0.1777, 0.008, 0.7294),
        (0.9886, 0.3903, 0.2114),
        (0.3, 0.211, 0.3242),
        (0.7218, 0.2834, 0.5199),
        (0.149, 0.6983, 0.1364),
    ],
    "P": [
        (0.7821, 0.6303, 0.439),
        (0.4644, 0.7657, 0.2805),
        (0.8326, 0.9307, 0.0413),
    ],
    "S": [
        (0.8565, 0.5439, 0.6029),
        (0.8154, 0.4227, 0.2982),
        (0.7977, 0.9485, 0.4377),
        (0.6072, 0.6346, 0.4327),
        (0.3177, 0.7653, 0.314),
        (0.4722, 0.5659, 0.1302),
        (0.4859, 0.0879, 0.294),
        (0.8335, 0.736, 0.8833),
        (0.8383, 0.262, 0.0384),
        (0.6806, 0.9408, 0.0725),
        (0.9751, 0.817, 0.1854),
    ],
}
"""One position of each orbit of Li7P3S11, in fractions of the cell."""

CLOSEST_LI = 1.5
"""Å; less than any distance between lithium sites of LGPS: occupancies above one half fill some close pairs."""


def example(name: str, *, primitive: bool, rng: np.random.Generator) -> Frame:
    """One of the crystals by name.

    Args:
        name: ``mof5``, ``uio66``, ``li6ps5cl``, ``lgps``, ``li3ps4`` or ``li7p3s11``.
        primitive: the primitive cell instead of the conventional one.
        rng: random numbers, for crystals with partly occupied sites.

    Raises:
        ConfigError: if there is none of that name.
    """
    if name not in EXAMPLES:
        raise ConfigError(
            f"example {name!r}: there is none of that name. Choose from {', '.join(EXAMPLES)}; "
            "build others from a CIF file."
        )
    frame = EXAMPLES[name](primitive, rng)
    tags = {**frame.tags, "build": "example", "build_example": name, "build_doi": SOURCES[name]}
    return Frame(
        numbers=frame.numbers, positions=frame.positions, cell=frame.cell, pbc=frame.pbc, source=name, tags=tags
    )


def _mof5(primitive: bool, _: np.random.Generator) -> Frame:  # noqa: FBT001 - one of a table of builders
    """Zn4O(BDC)3: two formula units in the primitive cell, 106 atoms."""
    sites = {
        "Zn": [(0.2934, 0.2066, 0.2066)],
        "O": [(0.25, 0.25, 0.25), (0.2819, 0.2181, 0.1340)],
        "C": [(0.25, 0.25, 0.1113), (0.25, 0.25, 0.0538), (0.2829, 0.2171, 0.0269)],
        "H": [(0.30876, 0.19124, 0.04794)],
    }
    return _cubic(225, 25.832, sites, primitive=primitive)


def _uio66(primitive: bool, _: np.random.Generator) -> Frame:  # noqa: FBT001 - one of a table of builders
    """Zr6O4(OH)4(BDC)6: one formula unit in the primitive cell, 114 atoms."""
    lattice = 20.7465
    carbon, hydrogen = np.array((0.26712, 0.0, 0.18534)), np.array((0.2789, 0.0, 0.1411))
    bond = (hydrogen - carbon) * lattice
    hydrogen = carbon + bond * 1.08 / np.linalg.norm(bond) / lattice
    linker = {
        "Zr": [(0.0, 0.0, 0.11975)],
        "O": [(0.0940, 0.0, 0.17023)],
        "C": [(0.15179, 0.0, 0.15179), (0.20279, 0.0, 0.20279), tuple(carbon)],
        "H": [tuple(hydrogen)],
    }
    hydroxyl = 0.0674
    proton = hydroxyl + 0.97 / np.sqrt(3.0) / lattice
    caps = {"O": [(0.0505,) * 3, (-hydroxyl,) * 3], "H": [(-proton,) * 3]}
    framework = _cubic(225, lattice, linker, primitive=primitive)
    cluster = _cubic(216, lattice, caps, primitive=primitive)
    return Frame(
        numbers=np.concatenate([framework.numbers, cluster.numbers]),
        positions=np.concatenate([framework.positions, cluster.positions]),
        cell=framework.cell,
        pbc=framework.pbc,
    )


def _li6ps5cl(primitive: bool, rng: np.random.Generator) -> Frame:  # noqa: FBT001 - one of a table of builders
    """Four formula units in the conventional cell, 52 atoms."""
    from pymatgen.core.lattice import Lattice
    from pymatgen.core.structure import Structure

    lattice = 9.859
    sulfur = 2.05 / np.sqrt(3.0) / lattice
    species: list[Any] = [{"Li": 0.5}, "P", "S", "S", "Cl"]
    structure = Structure.from_spacegroup(
        "F-43m",
        Lattice.cubic(lattice),
        species,
        [(0.183, 0.183, 0.024), (0.0, 0.0, 0.5), (sulfur, -sulfur, 0.5 + sulfur), (0.25, 0.25, 0.75), (0.0, 0.0, 0.0)],
    )
    if primitive:
        structure = structure.get_primitive_structure()
    return order_sites(structure, apart=SPLIT_48H, count=1, rng=rng).frames[0]


def _lgps(primitive: bool, rng: np.random.Generator) -> Frame:  # noqa: FBT001 - one of a table of builders
    """Two formula units, 50 atoms; the conventional cell is primitive."""
    from ase.spacegroup import crystal
    from pymatgen.core.lattice import Lattice
    from pymatgen.core.structure import Structure

    sites: list[tuple[Any, tuple[float, ...]]] = [
        ({"Li": 0.691}, (0.257, 0.273, 0.180)),
        ("Li", (0.0, 0.5, 0.944)),
        ({"Li": 0.643}, (0.247, 0.247, 0.0)),
        ({"Ge": 0.5, "P": 0.5}, (0.0, 0.5, 0.69084)),
        ("P", (0.0, 0.0, 0.5)),
        ("S", (0.0, 0.1849, 0.4081)),
        ("S", (0.0, 0.2960, 0.0943)),
        ("S", (0.0, 0.6994, 0.7910)),
    ]
    cell = [8.71771, 8.71771, 12.63452, 90.0, 90.0, 90.0]
    species: list[Any] = []
    fractions = []
    for occupants, position in sites:  # pymatgen expands the other choice of origin only
        orbit = crystal("S", [position], spacegroup=137, setting=1, cellpar=cell, primitive_cell=primitive)
        fractions.append(orbit.get_scaled_positions())
        species += [occupants] * len(orbit)
    average = Structure(Lattice.from_parameters(*cell), species, np.concatenate(fractions))
    return order_sites(average, apart=CLOSEST_LI, count=1, rng=rng).frames[0]


def _cubic(
    space_group: int, lattice: float, sites: Mapping[str, Sequence[Sequence[float]]], *, primitive: bool
) -> Frame:
    """A cubic crystal from one position of each orbit, in fractions of the conventional cell."""
    return _crystal(space_group, (lattice, lattice, lattice, 90.0, 90.0, 90.0), sites, primitive=primitive)


def _crystal(
    space_group: int,
    cell: tuple[float, ...],
    sites: Mapping[str, Sequence[Sequence[float]]],
    *,
    primitive: bool,
) -> Frame:
    """A crystal from one position of each orbit, in fractions of the conventional cell (lengths in Å, angles in °)."""
    from ase.spacegroup import crystal

    symbols = [symbol for symbol, positions in sites.items() for _ in positions]
    basis = [position for positions in sites.values() for position in positions]
    atoms = crystal(symbols, basis, spacegroup=space_group, cellpar=list(cell), primitive_cell=primitive)
    return Frame(
        numbers=atoms.numbers, positions=atoms.positions, cell=np.array(atoms.cell.array), pbc=np.ones(3, dtype=bool)
    )


def _li3ps4(primitive: bool, _: np.random.Generator) -> Frame:  # noqa: FBT001 - one of a table of builders
    """Two formula units, 16 atoms; the conventional cell is primitive."""
    sites: dict[str, list[tuple[float, ...]]] = {
        "Li": [(0.2502, 0.3309, 0.0179), (0.0, 0.145, 0.486)],
        "P": [(0.0, 0.8218, 0.9942)],
        "S": [(0.2185, 0.6717, 0.8857), (0.0, 0.1083, 0.888), (0.0, 0.8049, 0.3230)],
    }
    return _crystal(31, (7.70829, 6.53521, 6.1365, 90.0, 90.0, 90.0), sites, primitive=primitive)


def _li7p3s11(primitive: bool, _: np.random.Generator) -> Frame:  # noqa: FBT001 - one of a table of builders
    """Two formula units, 42 atoms; the conventional cell is primitive."""
    return _crystal(2, (12.5009, 6.0316, 12.5303, 102.845, 113.2024, 74.467), LI7P3S11, primitive=primitive)


EXAMPLES: dict[str, Callable[[bool, np.random.Generator], Frame]] = {
    "mof5": _mof5,
    "uio66": _uio66,
    "li6ps5cl": _li6ps5cl,
    "lgps": _lgps,
    "li3ps4": _li3ps4,
    "li7p3s11": _li7p3s11,
}
"""Builders by name; they take whether the primitive cell is wanted, and random numbers."""
SOURCES = {
    "mof5": "10.1126/science.1067208",
    "uio66": "10.1021/cg501386j",
    "li6ps5cl": "10.1002/anie.200703900",
    "lgps": "10.1038/nmat3066",
    "li3ps4": "10.1016/j.ssi.2010.10.001",
    "li7p3s11": "10.1016/j.ssi.2007.05.020",
}
"""DOI of the structure's publication."""
