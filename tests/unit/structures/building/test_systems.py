"""Supercells, places in pores, ordered, strained and rattled structures, and the crystals to begin with."""

import os
from pathlib import Path

import numpy as np
import pytest
from ase.geometry import get_distances

from qiskit_qff.errors import ConfigError, DataError
from qiskit_qff.structures.building.crystal_symmetry import symmetry_of, wrapped
from qiskit_qff.structures.building.examples import EXAMPLES, example
from qiskit_qff.structures.building.insertion import find_places, insert_ions
from qiskit_qff.structures.building.ordering import order_sites, ordered_frame, read_cif
from qiskit_qff.structures.building.perturbations import parse_amounts, rattled, strained
from qiskit_qff.structures.building.pore_sites import SiteRules, find_sites, least_distances
from qiskit_qff.structures.building.supercells import heights, repeats_for_atoms, repeats_for_size, supercell
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.summary import formula, shortest_distances
from qiskit_qff.structures.validation import check_distances

STARTS = Path(os.environ.get("QFF_DATA", Path(__file__).parents[5] / "shared" / "data")).parent / "reference" / "starts"


@pytest.fixture(scope="module")
def mof5() -> Frame:
    return example("mof5", primitive=True, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("name", "parts", "group", "density", "bonds"),
    [
        ("mof5", "H24C48O26Zn8", "Fm-3m", 0.593, {(6, 8): 1.30, (8, 30): 1.92, (1, 6): 1.09}),
        ("uio66", "H28C48O32Zr6", "F-43m", 1.238, {(8, 40): 2.06, (1, 8): 0.97, (6, 8): 1.26}),
        ("li6ps5cl", "Li6PS5Cl", "P1", 1.860, {(15, 16): 2.05, (3, 16): 2.25}),
        ("lgps", "Li20P4S24Ge2", "P1", 2.036, {(15, 16): 1.99, (16, 32): 2.15, (3, 16): 2.42}),
        ("li3ps4", "Li6P2S8", "Pmn2_1", 1.934, {(15, 16): 1.98, (3, 16): 2.27}),
        ("li7p3s11", "Li14P6S22", "P-1", 1.979, {(15, 16): 1.99, (3, 16): 2.21}),
    ],
)
def test_examples_have_the_right_composition_density_and_bonds(name, parts, group, density, bonds) -> None:
    for primitive, copies in ((True, 1), (False, 4 if name in {"mof5", "uio66", "li6ps5cl"} else 1)):
        frame = example(name, primitive=primitive, rng=np.random.default_rng(1))
        counts = np.bincount(frame.numbers, minlength=50)
        one = np.bincount(example(name, primitive=True, rng=np.random.default_rng(1)).numbers, minlength=50)
        assert (counts == copies * one).all()
        assert frame.to_atoms().get_masses().sum() * 1.66053907 / frame.volume == pytest.approx(density, abs=1e-3)
        assert not list(check_distances(frame))
        shortest = shortest_distances(frame)
        assert {pair: shortest[pair] for pair in bonds} == pytest.approx(bonds, abs=0.01)
    assert formula(example(name, primitive=True, rng=np.random.default_rng(1)).numbers) == parts
    assert symmetry_of(frame).name == group
    assert str(frame.tags["build_doi"]).startswith("10.")


def test_li7p3s11_is_made_of_p2s7_and_ps4() -> None:
    frame = example("li7p3s11", primitive=True, rng=np.random.default_rng(0))
    phosphorus, sulfur = (frame.positions[frame.numbers == number] for number in (15, 16))
    _, apart = get_distances(phosphorus, sulfur, cell=frame.cell, pbc=True)
    bonded = apart < 2.3
    assert (bonded.sum(axis=1) == 4).all()
    shared = bonded.sum(axis=0)
    assert sorted(shared) == [1] * 20 + [2] * 2  # one S of each P2S7 joins its two P; two units in the cell
    assert apart[:, shared == 2][bonded[:, shared == 2]].min() > apart[:, shared == 1][bonded[:, shared == 1]].max()


@pytest.mark.data
@pytest.mark.skipif(not STARTS.is_dir(), reason=f"{STARTS} is not there")
def test_mof5_is_the_crystal_that_the_reference_data_began_with(mof5) -> None:
    from ase.io import read

    start = read(STARTS / "mof5_primitive.extxyz")
    assert np.allclose(np.abs(np.linalg.det(mof5.cell)), start.get_volume())
    for number in (1, 6, 8, 30):
        mine, theirs = mof5.positions[mof5.numbers == number], start.positions[start.numbers == number]
        _, apart = get_distances(mine, theirs, cell=mof5.cell, pbc=True)
        assert apart.min(axis=1).max() < 0.01
        assert len(mine) == len(theirs)


def test_unknown_example_names_the_others() -> None:
    with pytest.raises(ConfigError, match=", ".join(EXAMPLES)):
        example("mof6", primitive=True, rng=np.random.default_rng(0))


def test_supercells_hold_the_same_crystal(mof5) -> None:
    big = supercell(mof5, [[-1, 1, 1], [1, -1, 1], [1, 1, -1]])  # the conventional cell
    assert big.n_atoms == 4 * mof5.n_atoms
    assert heights(big.cell) == pytest.approx(25.832)
    assert np.linalg.det(big.cell) > 0.0
    assert shortest_distances(big) == pytest.approx(shortest_distances(mof5))
    assert supercell(mof5, (1, 1, 2)).volume == pytest.approx(2.0 * mof5.volume)
    assert repeats_for_size(mof5, 14.9) == (1, 1, 1)
    assert repeats_for_size(mof5, 15.0) == (2, 2, 2)
    n = np.prod(repeats_for_atoms(mof5, 700)) * mof5.n_atoms
    assert repeats_for_atoms(mof5, 700) == (2, 2, 2)
    assert n >= 700
    long = Frame(numbers=[3], positions=[[0, 0, 0]], cell=np.diag([3.0, 3.0, 12.0]), pbc=[True] * 3)
    assert repeats_for_atoms(long, 16) == (4, 4, 1)


@pytest.mark.parametrize("matrix", [(1, 1), (1.5, 1, 1), [[1, 0, 0], [2, 0, 0], [0, 0, 1]], (1000, 1000, 1000)])
def test_senseless_supercells_are_refused(mof5, matrix) -> None:
    with pytest.raises(ConfigError, match="supercell"):
        supercell(mof5, matrix)


def test_places_keep_their_distances_and_are_closed_under_symmetry(mof5) -> None:
    least = least_distances(mof5, "Li", {"O": 1.9})
    symmetry = symmetry_of(mof5)
    orbits = find_sites(mof5, symmetry, SiteRules(least=least))
    first = orbits[0]
    assert (first.multiplicity, first.n_contacts) == (12, 6)  # above and below the six benzene rings
    assert first.contacts.startswith("6 C")
    limits = np.array([least[symbol] for symbol in mof5.symbols])
    for orbit in orbits[:10]:
        _, apart = get_distances(orbit.fractions @ mof5.cell, mof5.positions, cell=mof5.cell, pbc=True)
        assert (apart > limits - 1e-4).all()
        assert apart.min() == pytest.approx(orbit.nearest)
        for image in symmetry.images(orbit.fractions[0]):
            assert np.linalg.norm(wrapped(orbit.fractions - image) @ mof5.cell, axis=1).min() < 1e-3
    with pytest.raises(DataError, match=r"no place .* search a grid"):
        find_sites(mof5, symmetry, SiteRules(least=least, kind="voronoi"))
    with pytest.raises(ConfigError, match="Mn"):
        least_distances(mof5, "Li", {"Mn": 2.0})


def test_inserted_ions_are_apart_and_counted(mof5, rng) -> None:
    places = find_places(mof5, SiteRules(least=least_distances(mof5, "Li", {})), kinds=2)
    done = insert_ions(places, "Li", 4, apart=3.5, count=5, rng=rng)
    assert len(done.frames) == 5
    assert "772 electrons in all, even" in done.note
    for frame in done.frames:
        assert formula(frame.numbers) == "H24Li4C48O26Zn8"
        assert frame.energy is None
        _, apart = get_distances(frame.positions[-4:], cell=frame.cell, pbc=True)
        assert apart[~np.eye(4, dtype=bool)].min() >= 3.5
        assert not list(check_distances(frame))
    with pytest.raises(DataError, match="only 60 places"):
        insert_ions(places, "Li", 61, apart=0.0, count=1, rng=rng)


CIF = """data_test
_cell_length_a 4.0
_cell_length_b 4.0
_cell_length_c 8.0
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt 'P 4/m m m'
_space_group_IT_number 123
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
S1 S 0 0 0 1
Li1 Li 0.5 0.5 0.25 0.5
Ge1 Ge 0 0.5 0.25 0.25
P1 P 0 0.5 0.25 0.75
"""


def test_partly_occupied_sites_are_ordered_not_overlooked(tmp_path, rng) -> None:
    path = tmp_path / "disordered.cif"
    path.write_text(CIF)
    with pytest.raises(DataError, match="qff build order"):
        ordered_frame(path)
    structure, _ = read_cif(path)
    done = order_sites(structure, apart=1.0, count=50, rng=rng)
    assert done.choices.complete
    assert {formula(frame.numbers) for frame in done.frames} == {"LiP3SGe"}
    assert done.groups == ("Li 0.50 on 2 sites: 1 atoms", "Ge 0.25 on 4 sites: 1 atoms, 3 P")
    path.write_text(CIF.replace("0.25 0.5\n", "0.25 0.33\n"))
    changed = order_sites(read_cif(path)[0], apart=1.0, count=1, rng=rng)
    assert changed.groups[0].startswith("Li 0.33 on 2 sites: 1 atoms (0.50: the cell is too small")
    # 2 ways for Li times 4 for Ge; mirror and fourfold axis make all of them one of 2 kinds: same side or not.
    assert sorted(int(frame.tags["build_multiplicity"]) for frame in done.frames) == [4, 4]
    path.write_text("nonsense")
    with pytest.raises(DataError, match="can't be read as CIF"):
        ordered_frame(path)


def test_a_full_cif_is_read_as_it_is(tmp_path, rng) -> None:
    path = tmp_path / "ordered.cif"
    lines = CIF.replace("0.25 0.5\n", "0.25 1\n").splitlines()
    path.write_text("\n".join([*lines[:-2], "P1 P 0 0.5 0.25 1"]) + "\n")
    frame, _ = ordered_frame(path)
    assert formula(frame.numbers) == "Li2P4S"
    with pytest.raises(ConfigError, match="nothing to order"):
        order_sites(read_cif(path)[0], apart=1.0, count=1, rng=rng)


def test_shared_by_three_is_refused(tmp_path, rng) -> None:
    path = tmp_path / "disordered.cif"
    path.write_text(CIF.replace("0.25 0.75", "0.25 0.5"))
    with pytest.raises(ConfigError, match="and a vacancy"):
        order_sites(read_cif(path)[0], apart=1.0, count=1, rng=rng)


def test_strains_are_what_they_say(mof5) -> None:
    shear = strained(mof5, count=4, largest=0.02, mode="shear", rng=np.random.default_rng(2))
    for frame in shear:
        strain = np.linalg.solve(mof5.cell, frame.cell) - np.eye(3)
        assert np.trace(strain) == pytest.approx(0.0, abs=1e-12)
        assert strain == pytest.approx(strain.T, abs=1e-12)
        assert 0.0 < np.abs(strain).max() < 0.04
        assert np.linalg.solve(frame.cell.T, frame.positions.T) == pytest.approx(
            np.linalg.solve(mof5.cell.T, mof5.positions.T)
        )
    volumes = [f.volume for f in strained(mof5, count=3, largest=0.01, mode="volume", rng=np.random.default_rng(0))]
    assert volumes == pytest.approx(mof5.volume * np.array([0.99, 1.0, 1.01]) ** 3)
    with pytest.raises(ConfigError, match=r"between 0 and 0\.5"):
        strained(mof5, count=1, largest=3.0, mode="all", rng=np.random.default_rng(0))


def test_rattled_copies_are_normal_centred_and_seeded(mof5) -> None:
    first, again = (
        rattled(mof5, count=20, amplitude=0.05, amplitudes={"H": 0.02}, rng=np.random.default_rng(7)) for _ in range(2)
    )
    moves = np.array([frame.positions - mof5.positions for frame in first])
    hydrogen = mof5.numbers == 1
    assert moves[:, hydrogen].std() == pytest.approx(0.02, rel=0.1)
    assert moves[:, ~hydrogen].std() == pytest.approx(0.05, rel=0.1)
    masses = mof5.to_atoms().get_masses()
    assert np.abs(np.einsum("fai,a->fi", moves, masses)).max() < 1e-9
    assert all((one.positions == other.positions).all() for one, other in zip(first, again, strict=True))
    with pytest.raises(DataError, match="Lower the amplitude"):
        rattled(mof5, count=1, amplitude=2.0, amplitudes={}, rng=np.random.default_rng(7))
    with pytest.raises(ConfigError, match="only C, H, O, Zn"):
        rattled(mof5, count=1, amplitude=0.1, amplitudes={"Mn": 0.1}, rng=np.random.default_rng(7))


def test_amounts_by_element() -> None:
    assert parse_amounts(["Li=2", "H=0.03"], what="--x") == {"Li": 2.0, "H": 0.03}
    for word in ("Li", "Li=two", "Xx=1"):
        with pytest.raises(ConfigError, match="--x"):
            parse_amounts([word], what="--x")
