"""``qff analyse`` from files to numbers: one trajectory, several with an activation energy, and what it refuses."""

import html
import json

import numpy as np
import pytest
from ase import Atoms, units
from ase.io import write
from ase.io.cube import read_cube

ACTIVATION, PREFACTOR = 0.15, 2e-3  # eV, cm²/s
CELL = 12.0


def walk(path, temperature, rng, *, n_frames=250, spacing_fs=100.0):
    """Li atoms that walk at random among heavy atoms at rest, put back into the cell."""
    diffusivity = PREFACTOR * np.exp(-ACTIVATION / (units.kB * temperature)) * 1e4  # Å²/ps
    step = np.sqrt(2.0 * diffusivity * spacing_fs / 1e3)
    heavy = np.array([[x, y, 3.0] for x in (1.0, 4.0, 7.0) for y in (2.0, 6.0)])
    lithium = CELL * rng.random((12, 3))
    frames = []
    for index in range(n_frames):
        atoms = Atoms("Li12U6", positions=np.vstack([lithium, heavy]), cell=CELL * np.eye(3), pbc=True)
        atoms.wrap()
        atoms.info |= {"time_fs": spacing_fs * index, "temperature_k": temperature + rng.standard_normal()}
        frames.append(atoms)
        lithium = lithium + step * rng.standard_normal((12, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, frames)
    return diffusivity * 1e-4


@pytest.fixture(scope="module")
def walks(tmp_path_factory):
    rng = np.random.default_rng(4)
    folder = tmp_path_factory.mktemp("walks")
    exact = {t: walk(folder / f"at{t}" / "trajectory.extxyz.gz", t, rng) for t in (500, 700, 1000)}
    return folder, exact


def test_one_trajectory(walks, tmp_path, qff):
    folder, exact = walks
    out = tmp_path / "out"
    found, errors = qff("analyse", folder / "at700/trajectory.extxyz.gz", "--out", out)
    low, high = found["diffusivity_interval95_cm2_per_s"]
    assert low < found["diffusivity_cm2_per_s"] < high
    assert found["diffusivity_cm2_per_s"] == pytest.approx(exact[700], abs=5 * found["diffusivity_error_cm2_per_s"])
    assert found["temperature_k"] == pytest.approx(700.0, abs=0.5)
    assert found["density_g_per_cm3"] == pytest.approx((12 * 6.94 + 6 * 238.02891) * 1.66054 / CELL**3, rel=1e-4)
    assert found["is_caged"] is False
    assert "between two frames" not in errors
    with (out / "sites.cube").open() as stream:
        cube = read_cube(stream)
    assert cube["data"].mean() * CELL**3 == pytest.approx(12.0, rel=1e-3)
    assert {path.name for path in out.iterdir()} == {
        *("analysis.json", "analysis.html", "rdf.csv", "rdf.png", "coordination.csv", "msd.csv", "msd.png"),
        *("sites.cube", "sites.png"),
    }
    assert json.loads((out / "analysis.json").read_text()) == found
    assert "<svg" in (out / "analysis.html").read_text()


def test_several_give_an_activation_energy(walks, tmp_path, qff):
    folder, exact = walks
    paths = [folder / f"at{t}/trajectory.extxyz.gz" for t in exact]
    found, _ = qff("analyse", *paths, "--out", tmp_path / "out")
    line = found["arrhenius"]
    assert line["activation_ev"] == pytest.approx(ACTIVATION, abs=4 * line["activation_error_ev"])
    assert line["activation_error_ev"] < 0.05
    at_300 = PREFACTOR * np.exp(-ACTIVATION / (units.kB * 300.0))
    assert np.log(line["extrapolated_cm2_per_s"] / at_300) == pytest.approx(0.0, abs=4 * line["extrapolated_log_error"])
    assert [one["n_frames"] for one in found["trajectories"]] == [250, 250, 250]
    qff("report", tmp_path / "out", "--out", tmp_path / "page.html")
    told = f"Ea = {line['activation_ev']:.3f} ± {line['activation_error_ev']:.3f} eV"
    assert told in (tmp_path / "page.html").read_text()
    for name in ("arrhenius.png", "analysis.html", "at500/rdf.png", "at1000/sites.cube"):
        assert (tmp_path / "out" / name).stat().st_size > 0


def test_a_caged_ion_gets_a_bound_and_every_caution_is_everywhere(tmp_path, qff, rng):
    sites, heavy = CELL * rng.random((6, 3)), CELL * rng.random((6, 3))
    frames = []
    for index in range(200):
        moved = np.vstack([sites + 0.3 * rng.standard_normal(sites.shape), heavy])
        frames.append(Atoms("Li6U6", positions=moved, cell=CELL * np.eye(3), pbc=True))
        frames[-1].info |= {"time_fs": 100.0 * index, "temperature_k": 300.0 + index}
    write(tmp_path / "a.extxyz", frames)
    found, printed = qff("analyse", tmp_path / "a.extxyz", "--out", tmp_path / "out")
    assert found["is_caged"] is True
    for name in ("diffusivity_cm2_per_s", "conductivity_s_per_cm"):
        assert found[name] is None
    assert 0.0 < found["diffusivity_upper_cm2_per_s"] < 1e-5
    cautions = "\n".join(found["cautions"])
    for words in ("Li stays in its cages", "temperature changes by +160 K"):
        assert words in cautions
    page = html.unescape((tmp_path / "out" / "analysis.html").read_text())
    for caution in found["cautions"]:
        assert f"caution      {caution}" in printed
        assert f"Caution: {caution}." in page
