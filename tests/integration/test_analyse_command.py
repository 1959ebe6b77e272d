"""``qff analyse`` from files to numbers: one trajectory, several with an activation energy, and what it refuses."""

import json

import numpy as np
import pytest
from ase import Atoms, units
from ase.io import write
from ase.io.cube import read_cube

from qiskit_qff.cli.main import run
from qiskit_qff.simulation.analysis import AnalysisSettings, analyse_stream
from qiskit_qff.simulation.trajectory import stream_trajectory

ACTIVATION, PREFACTOR = 0.15, 2e-3  # eV, cm²/s
CELL = 12.0


def walk(path, temperature, rng, *, n_frames=250, spacing_fs=100.0, tags=True):
    """Li atoms that walk at random among heavy atoms at rest, put back into the cell."""
    diffusivity = PREFACTOR * np.exp(-ACTIVATION / (units.kB * temperature)) * 1e4  # Å²/ps
    step = np.sqrt(2.0 * diffusivity * spacing_fs / 1e3)
    heavy = np.array([[x, y, 3.0] for x in (1.0, 4.0, 7.0) for y in (2.0, 6.0)])
    lithium = CELL * rng.random((12, 3))
    frames = []
    for index in range(n_frames):
        atoms = Atoms("Li12U6", positions=np.vstack([lithium, heavy]), cell=CELL * np.eye(3), pbc=True)
        atoms.wrap()
        atoms.set_velocities(rng.standard_normal((18, 3)))
        if tags:
            atoms.info |= {"time_fs": spacing_fs * index, "temperature_k": temperature + rng.standard_normal()}
        frames.append(atoms)
        lithium = lithium + step * rng.standard_normal((12, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, frames)
    return diffusivity * 1e-4


def analyse(capsys, *arguments):
    code = run(["analyse", *map(str, arguments)])
    output, errors = capsys.readouterr()
    return code, json.loads(output.splitlines()[-1]) if code == 0 else None, errors


@pytest.fixture(scope="module")
def walks(tmp_path_factory):
    rng = np.random.default_rng(4)
    folder = tmp_path_factory.mktemp("walks")
    exact = {t: walk(folder / f"at{t}" / "trajectory.extxyz.gz", t, rng) for t in (500, 700, 1000)}
    return folder, exact


def test_one_trajectory(walks, tmp_path, capsys):
    folder, exact = walks
    out = tmp_path / "out"
    code, found, errors = analyse(capsys, folder / "at700/trajectory.extxyz.gz", "--out", out, "--json")
    assert code == 0, errors
    low, high = found["diffusivity_interval95_cm2_per_s"]
    assert low < found["diffusivity_cm2_per_s"] < high
    assert found["diffusivity_cm2_per_s"] == pytest.approx(exact[700], abs=5 * found["diffusivity_error_cm2_per_s"])
    assert found["temperature_k"] == pytest.approx(700.0, abs=0.5)
    assert found["conductivity_s_per_cm"] / found["charge_conductivity_s_per_cm"] == pytest.approx(found["haven_ratio"])
    assert found["density_g_per_cm3"] == pytest.approx((12 * 6.94 + 6 * 238.02891) * 1.66054 / CELL**3, rel=1e-4)
    assert found["density_error_g_per_cm3"] == 0.0
    assert found["vibrations"]["highest_thz"] == pytest.approx(5.0)
    assert "between two frames" not in errors
    with (out / "sites.cube").open() as stream:
        cube = read_cube(stream)
    assert cube["data"].mean() * CELL**3 == pytest.approx(12.0, rel=1e-3)
    assert {path.name for path in out.iterdir()} == {
        *("analysis.json", "analysis.html", "rdf.csv", "rdf.png", "coordination.csv", "msd.csv", "msd.png", "vacf.csv"),
        *("vdos.csv", "vibrations.png", "sites.cube", "sites.png"),
    } | {path.name for path in out.glob("coordination.png")}
    assert json.loads((out / "analysis.json").read_text()) == found
    assert "<svg" in (out / "analysis.html").read_text()


def test_a_reference_of_other_elements_is_told(walks, tmp_path, capsys, rng):
    folder, _ = walks
    walk(tmp_path / "same.extxyz", 700, rng, n_frames=20)
    other = Atoms("Na4S2", positions=CELL * rng.random((6, 3)), cell=CELL * np.eye(3), pbc=True)
    write(tmp_path / "other.extxyz", other)
    for name, told in (("same", False), ("other", True)):
        reference = ("--reference", tmp_path / f"{name}.extxyz", "--out", tmp_path / name, "--json")
        code, found, errors = analyse(capsys, folder / "at700/trajectory.extxyz.gz", *reference)
        assert code == 0
        assert ("not compared: Li-Li" in errors) == told
        assert bool(found["rdf_mae_partial"]) != told


def test_several_give_an_activation_energy(walks, tmp_path, capsys):
    folder, exact = walks
    paths = [folder / f"at{t}/trajectory.extxyz.gz" for t in exact]
    code, found, errors = analyse(capsys, *paths, "--out", tmp_path / "out", "--extrapolate", 400, "--json")
    assert code == 0, errors
    line = found["arrhenius"]
    assert line["activation_ev"] == pytest.approx(ACTIVATION, abs=4 * line["activation_error_ev"])
    assert line["activation_error_ev"] < 0.05
    at_400 = PREFACTOR * np.exp(-ACTIVATION / (units.kB * 400.0))
    assert np.log(line["extrapolated_cm2_per_s"] / at_400) == pytest.approx(0.0, abs=4 * line["extrapolated_log_error"])
    assert [one["n_frames"] for one in found["trajectories"]] == [250, 250, 250]
    for name in ("arrhenius.png", "analysis.html", "at500/rdf.png", "at1000/sites.cube"):
        assert (tmp_path / "out" / name).stat().st_size > 0


def test_frames_too_far_apart_are_noticed(tmp_path, rng):
    walk(tmp_path / "a.extxyz", 1000, rng, n_frames=20, spacing_fs=2000.0)
    found = analyse_stream(stream_trajectory(tmp_path / "a.extxyz"), AnalysisSettings())
    assert 0.4 < found.largest_move <= 0.5
    assert found.diffusivity is None
    assert "at least 2 blocks" in found.missing["diffusivity"]


def test_files_without_times_and_temperatures(tmp_path, capsys, rng):
    for name in ("cold.extxyz", "hot.extxyz"):
        walk(tmp_path / name, 700 if name == "hot.extxyz" else 500, rng, n_frames=120, tags=False)
    paths = [tmp_path / "cold.extxyz", tmp_path / "hot.extxyz"]
    code, found, errors = analyse(capsys, paths[0], "--json")
    assert code == 0
    assert found["diffusivity_cm2_per_s"] is None
    assert "--frame-time" in errors
    options = ("--frame-time", 100, "--temperature", 500, "--temperature", 700, "--relative-to", "framework")
    code, found, _ = analyse(capsys, *paths, *options, "--json")
    assert code == 0
    assert found["arrhenius"]["n_temperatures"] == 2
    assert found["arrhenius"]["reduced_chi_square"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--temperature", 300, "--temperature", 400), "--temperature: expected once for each of 1"),
        (("--relative-to", "sulfur"), "--relative-to: expected all or framework"),
        (("--skip", 1e6), "nothing is left"),
    ],
)
def test_wrong_options_are_one_line_and_exit_code_2(walks, tmp_path, capsys, options, message):
    folder, _ = walks
    code, _, errors = analyse(capsys, folder / "at500/trajectory.extxyz.gz", "--out", tmp_path / "out", *options)
    assert code == 2
    assert message in errors
    assert len(errors.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
