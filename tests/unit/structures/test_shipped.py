"""The shipped data set is what its card says."""

import itertools
import json
import re
from collections import Counter

import ase.io
import numpy as np
import pytest
from ase.units import GPa

from qiskit_qff.cli.main import run
from qiskit_qff.errors import ConfigError
from qiskit_qff.structures.framework import missing_bonds
from qiskit_qff.structures.neighbors import neighbor_list
from qiskit_qff.structures.shipped import is_shipped, read_shipped, read_source, shipped_path
from qiskit_qff.structures.splitting import balanced_split, near_copies, tag_groups


@pytest.fixture(scope="module")
def frames():
    return read_shipped()


@pytest.fixture(scope="module")
def card():
    return (shipped_path().parent / "README.md").read_text()


FRAMEWORK = {"Zn": 8, "C": 48, "H": 24, "O": 26}


def test_composition_and_cell(frames):
    assert len(frames) >= 80
    loadings = Counter()
    for frame in frames:
        counts = Counter(frame.symbols)
        loadings[counts.pop("Li", 0)] += 1
        assert counts == FRAMEWORK
        assert frame.pbc.all()
        assert frame.volume == pytest.approx(2 * 12.916**3)
        assert set(frame.tags) >= {"replica", "chunk", "snapshot", "temperature_K", "rattle", "level"}
    assert set(loadings) == {0, 2, 4}
    assert {frame.tags["temperature_K"] for frame in frames} == {300.0, 450.0, 600.0, 900.0}
    assert len({frame.positions.tobytes() for frame in frames}) == len(frames)


def test_figures_of_the_card(frames, card):
    forces = np.concatenate([frame.forces.ravel() for frame in frames])
    energies = np.array([frame.energy / frame.n_atoms for frame in frames if frame.n_atoms == 110])
    assert f"| frames | {len(frames)}: {sum(not f.tags['rattle'] for f in frames)} snapshots" in card
    assert f"{energies.min():.3f} to {energies.max():.3f} eV/atom" in card
    assert f"spread {energies.std() * 1e3:.1f} meV/atom" in card
    assert f"standard deviation {forces.std():.2f} eV/Å" in card
    assert f"largest component {np.abs(forces).max():.1f} eV/Å" in card
    assert f"reaches {max(np.abs(f.forces.sum(axis=0)).max() for f in frames):.2f} eV/Å" in card


def test_rattled_copies_stay_with_their_origin(frames):
    units = near_copies(frames)
    pairs = [(17, 0), (18, 2), (19, 4), (20, 11), (21, 13), (22, 15)]
    assert all(units[copy] == units[origin] for copy, origin in pairs)
    assert len(set(units)) == len(frames) - len(pairs)
    for seed in range(10):
        split = balanced_split(tag_groups(frames, "replica"), 0.2, np.random.default_rng(seed), units=units)
        assert 0.1 * len(frames) <= len(split.test) <= 0.3 * len(frames)
        assert not {units[k] for k in split.test} & {units[k] for k in split.train}


def test_cp2k_input_belongs_to_the_first_frame(frames):
    text = (shipped_path().parent / "limof5_cp2k.inp").read_text()
    coordinates = re.search(r"^    &COORD\n(.*)    &END COORD", text, re.DOTALL | re.MULTILINE)[1].split()
    positions = np.array(coordinates).reshape(-1, 4)
    assert positions[:, 0].tolist() == frames[0].symbols
    np.testing.assert_allclose(positions[:, 1:].astype(float), frames[0].positions, atol=1e-7)
    assert "CUTOFF 300" in text
    assert "DFTD3(BJ)" in text


def test_broken_nodes_are_labelled_as_the_framework_is(frames, card):
    nodes = read_shipped("limof5_nodes")
    assert len(nodes) == len(re.findall(r"^\| N\d+ \|", card, re.MULTILINE)) > 4
    levels = {f.tags["label_settings"] for f in frames if "label_settings" in f.tags}
    for frame in nodes:
        assert Counter(frame.symbols) == FRAMEWORK | {"Li": 2 if frame.n_atoms == 108 else 4}
        np.testing.assert_allclose(frame.cell, frames[0].cell)
        assert {frame.tags["label_settings"]} == levels
        begun_broken = "origin" in frame.tags
        near = neighbor_list(frame.positions, frame.cell, frame.pbc, 2.82 if begun_broken else 2.7)
        bonds = np.sum((frame.numbers[near.centers] == 30) & (frame.numbers[near.neighbor] == 8))
        missing = frame.tags["broken_bonds"]
        # Of runs that began whole: bonds that broke, while others may have formed.
        assert bonds == 32 - missing if begun_broken else (bonds == 32) == (missing == 0)


def test_zinc_that_left_its_node_has_taken_an_electron(frames):
    broken = missing_bonds(frames)
    least = np.array(
        [a.arrays["mulliken_charges"][a.numbers == 30].min() for a in ase.io.read(shipped_path("limof5"), ":")]
    )
    assert least[list(broken)].max() < 0.21
    whole = np.delete(least, list(broken))
    assert np.sum(whole > 0.36) == 65
    assert len(whole) == 69
    assert all(frames[index].tags.get("n_li", frames[index].symbols.count("Li")) > 0 for index in broken)


@pytest.fixture(scope="module")
def electrolyte():
    return read_shipped("li6ps5cl")


def test_electrolyte_is_one_trajectory(electrolyte, card):
    assert len(electrolyte) >= 50
    for k, frame in enumerate(electrolyte):
        assert Counter(frame.symbols) == {"Li": 48, "P": 8, "S": 40, "Cl": 8}
        assert frame.volume == pytest.approx(19.718 * 9.859**2)
        assert frame.tags["time_fs"] == pytest.approx(2.0 * frame.tags["step"])
        assert np.abs(frame.forces.sum(axis=0)).max() < 0.05
        if k and frame.tags["step"] == electrolyte[k - 1].tags["step"] + 1:
            moved = np.linalg.norm(frame.positions - electrolyte[k - 1].positions, axis=1)
            assert 0.0 < moved.max() < 0.2
    times = [frame.tags["time_fs"] for frame in electrolyte]
    assert times == sorted(set(times))
    for part in ("equilibration", "trajectory"):
        own = [frame for frame in electrolyte if frame.tags["part"] == part]
        assert f"| {part} | {len(own)} | {own[0].tags['time_fs']:.0f} to {own[-1].tags['time_fs']:.0f} fs |" in card


def test_forces_of_the_trajectory_are_slopes_of_its_energies(electrolyte):
    """Along each step the energy falls by the work of the mean force: labels, units and order belong together."""
    falls, works = [], []
    for one, other in itertools.pairwise(electrolyte):
        if other.tags["step"] == one.tags["step"] + 1:
            falls.append(other.energy - one.energy)
            works.append(-0.5 * np.sum((one.forces + other.forces) * (other.positions - one.positions)))
    assert np.corrcoef(falls, works)[0, 1] > 0.999
    np.testing.assert_allclose(falls, works, atol=0.02)


def test_input_of_the_electrolyte_is_that_of_its_first_frame(electrolyte):
    text = (shipped_path().parent / "li6ps5cl_cp2k.inp").read_text()
    coordinates = re.search(r"^    &COORD\n(.*)    &END COORD", text, re.DOTALL | re.MULTILINE)[1].split()
    positions = np.array(coordinates).reshape(-1, 4)
    assert positions[:, 0].tolist() == electrolyte[0].symbols
    np.testing.assert_allclose(positions[:, 1:].astype(float), electrolyte[0].positions, atol=1e-7)


def test_stresses_of_the_electrolyte_are_derivatives_of_its_energy(electrolyte):
    """By the volumes of the fine grid; and corrected ones of the coarse grid are those of the fine one."""
    known = [frame for frame in electrolyte if frame.stress is not None]
    assert len(known) == 28
    assert {frame.tags["stress_shift_gpa"] for frame in known} == {-3.3578}
    volumes = read_shipped("li6ps5cl_volumes")
    assert [(frame.tags["linear_scale"], frame.tags["row"]) for frame in volumes] == [
        (0.98, 122), (1.0, 0), (1.0, 122), (1.02, 122)
    ]  # fmt: skip
    for fine in volumes[1:3]:
        (same,) = (frame for frame in known if np.abs(frame.positions - fine.positions).max() < 1e-6)
        assert np.abs(same.stress - fine.stress).max() < 0.01 * GPa
        assert np.sqrt(np.mean((same.forces - fine.forces) ** 2)) < 0.008
    low, _, middle, high = volumes
    # Along the path of the three the PS4 tetrahedra keep their bonds, while all else scales with the cell.
    velocity, slopes = (high.positions - low.positions) / 0.04, []
    for frame, places in (
        (low, low.positions),
        (middle, 0.5 * (low.positions + high.positions)),
        (high, high.positions),
    ):
        scale = frame.tags["linear_scale"]
        beside = velocity - places / scale
        slopes.append(frame.volume * np.trace(frame.stress) / scale - float((frame.forces * beside).sum()))
    by_slopes = 0.04 / 6.0 * (slopes[0] + 4.0 * slopes[1] + slopes[2])
    assert by_slopes == pytest.approx(high.energy - low.energy, abs=0.03)


def test_names_of_the_sets(electrolyte, frames, tmp_path, monkeypatch):
    known = ("shipped", "limof5", "li6ps5cl", "limof5_nodes", "li6ps5cl_volumes")
    assert [is_shipped(name) for name in (*known, "./li6ps5cl", "other.xyz")] == [*(True for _ in known), False, False]
    assert len(read_source("shipped")) == len(read_source("limof5")) == len(frames)
    with pytest.raises(ConfigError, match="limof5, li6ps5cl, limof5_nodes, li6ps5cl_volumes"):
        read_shipped("mof74")
    monkeypatch.chdir(tmp_path)
    electrolyte[0].to_atoms().write("li6ps5cl", format="extxyz")
    assert len(read_source("li6ps5cl")) == len(electrolyte)


def test_commands_know_the_electrolyte_by_its_name(electrolyte, tmp_path, capsys):
    small = tmp_path / "small.yaml"
    small.write_text(
        "data: {path: [li6ps5cl], split: block}\nmax_parameters: 12\noptimizer: {restarts: 1, max_iterations: 5}\n"
        "descriptor: {r_cut: 4.0, n_narrow: 2, n_broad: 2, powers: [2], n_radial: 2, l_max: 1}\n"
        "compression: {search_rounds: 0}\ncircuit: {n_qubits: 2}\n"
    )
    assert run(["train", str(small), "--out", str(tmp_path / "run"), "--json"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert sorted([*last["train_frames"], *last["test_frames"]]) == list(range(len(electrolyte)))
    assert min(last["test_frames"]) > max(last["train_frames"])
    assert run(["validate", "li6ps5cl"]) == 0
