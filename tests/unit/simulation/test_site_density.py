"""Ion densities on a grid: normalisation, place, isosurfaces, percolation, and the cube file."""

import numpy as np
import pytest
from ase import Atoms
from ase.io.cube import read_cube
from hypothesis import given, settings
from hypothesis import strategies as st

from qiskit_qff.errors import DataError
from qiskit_qff.simulation.site_density import SiteGrid
from qiskit_qff.simulation.trajectory import Snapshot, SnapshotStream

CELL = np.array([[6.0, 0.0, 0.0], [2.0, 7.0, 0.0], [-1.0, 1.5, 8.0]])


def density_of(lithium, *, drift=None, framework=((1.0, 1.0, 1.0), (3.0, 4.0, 5.0)), element="Li"):
    """Density of frames of Li positions, shape (n_frames, n_ions, 3), beside two heavy atoms."""
    n_frames, n_ions, _ = lithium.shape
    numbers = np.array([3] * n_ions + [16] * len(framework))
    drift = np.zeros((n_frames, 3)) if drift is None else drift
    snapshots = [Snapshot(np.vstack([li, framework]) + shift, CELL) for li, shift in zip(lithium, drift, strict=True)]
    grid = SiteGrid(SnapshotStream(numbers, np.ones(3, dtype=bool), n_frames, iter(snapshots)), element)
    for snapshot in snapshots:
        grid.add(snapshot)
    return grid.result()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**16), n_ions=st.integers(1, 5))
def test_integrates_to_the_number_of_ions_wherever_they_are(seed, n_ions):
    rng = np.random.default_rng(seed)
    density = density_of(20.0 * rng.standard_normal((3, n_ions, 3)))
    assert density.values.sum() * density.voxel_ang3 == pytest.approx(n_ions)
    assert density.values.min() >= 0.0


def test_a_resting_ion_is_a_gaussian_of_the_smearing():
    place = np.array([5.9, 6.5, 7.5])  # near a corner, so that it reaches across borders
    drift = 0.1 * np.arange(20)[:, None] * np.ones(3)
    density = density_of(np.tile(place, (20, 1, 1)), drift=drift)
    shape = density.values.shape
    grid = np.stack(np.meshgrid(*(np.arange(n) / n for n in shape), indexing="ij"), axis=-1)
    nearest = np.round(place @ np.linalg.inv(CELL) * shape) / shape
    away = grid - nearest
    squares = (((away - np.round(away)) @ CELL) ** 2).sum(axis=-1)
    near = squares < 1.5
    exact = np.exp(-0.5 * squares / 0.3**2) / (2 * np.pi * 0.3**2) ** 1.5
    np.testing.assert_allclose(density.values[near], exact[near], atol=5e-3)


def test_isosurface_encloses_what_it_says(rng):
    density = density_of(np.array([3.0, 3.0, 3.0]) + 0.5 * rng.standard_normal((200, 3, 3)))
    for fraction in (0.5, 0.9):
        level = density.level_enclosing(fraction)
        inside = density.values[density.values >= level].sum() / density.values.sum()
        assert inside == pytest.approx(fraction, abs=0.02)
    assert 0.0 < density.volume_fraction(density.level_enclosing(0.5)) < density.volume_fraction(level) < 0.5


@pytest.mark.parametrize(
    ("direction", "expected"),
    [((1, 0, 0), (True, False, False)), ((0, 1, 1), (False, True, True)), (None, (False, False, False))],
)
def test_percolation_follows_the_channels(direction, expected):
    places = np.zeros((60, 1, 3)) + 0.4
    if direction is not None:
        places = places + np.linspace(0, 1, 60)[:, None, None] * (np.array(direction) @ CELL)
    density = density_of(places)
    assert density.percolates(density.level_enclosing(0.7)) == expected


def test_cube_file_reads_back(tmp_path, rng):
    density = density_of(rng.standard_normal((5, 2, 3)))
    density.write_cube(tmp_path / "li.cube")
    with (tmp_path / "li.cube").open() as stream:
        cube = read_cube(stream)
    np.testing.assert_allclose(cube["data"], density.values, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(cube["atoms"].cell.array, CELL, atol=1e-4)
    assert cube["atoms"].symbols.get_chemical_formula() == "S2"
    framework = Atoms("S2", positions=[[1.0, 1.0, 1.0], [3.0, 4.0, 5.0]], cell=CELL, pbc=True)
    np.testing.assert_allclose(
        cube["atoms"].get_all_distances(mic=True), framework.get_all_distances(mic=True), atol=1e-3
    )


def test_absent_element():
    with pytest.raises(DataError, match="no 'Na'"):
        density_of(np.zeros((1, 1, 3)), element="Na")
