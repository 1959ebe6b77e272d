"""The shipped data set is what its card says."""

import re
from collections import Counter

import numpy as np
import pytest

from qiskit_qff.structures.shipped import read_shipped, shipped_path
from qiskit_qff.structures.splitting import balanced_split, near_copies, tag_groups


@pytest.fixture(scope="module")
def frames():
    return read_shipped()


@pytest.fixture(scope="module")
def card():
    return (shipped_path().parent / "README.md").read_text()


def test_composition_and_cell(frames):
    assert len(frames) == 38
    for frame in frames:
        assert Counter(frame.symbols) == {"Zn": 8, "C": 48, "H": 24, "O": 26, "Li": 4}
        assert frame.pbc.all()
        assert frame.volume == pytest.approx(2 * 12.916**3)
        assert set(frame.tags) >= {"replica", "chunk", "snapshot", "temperature_K", "rattle", "level"}


def test_table_of_the_card_is_that_of_the_file(frames, card):
    rows = [line.strip("| ").split("|") for line in card.splitlines() if re.match(r"\| \d+ \|", line)]
    assert len(rows) == len(frames)
    lowest = min(frame.energy for frame in frames)
    for frame, row in zip(frames, rows, strict=True):
        tags = frame.tags
        assert [cell.strip() for cell in row[:4]] == [
            str(value) for value in (frame.index, tags["replica"], tags["chunk"], tags["snapshot"])
        ]
        assert float(row[4]) == tags["temperature_K"]
        assert ("yes" in row[5]) == (tags["rattle"] > 0)
        measured = [
            (frame.energy - lowest) / frame.n_atoms * 1e3,
            np.sqrt((frame.forces**2).mean()),
            np.linalg.norm(frame.forces, axis=1).max(),
            np.abs(frame.forces.sum(axis=0)).max(),
        ]
        np.testing.assert_allclose([float(cell) for cell in row[6:]], measured, atol=0.0501)


def test_figures_of_the_card(frames, card):
    forces = np.array([frame.forces for frame in frames])
    energies = np.array([frame.energy / frame.n_atoms for frame in frames])
    assert f"{energies.min():.3f} to {energies.max():.3f} eV/atom" in card
    assert f"spread {energies.std() * 1e3:.1f} meV/atom" in card
    assert f"standard deviation {forces.std():.2f} eV/Å" in card
    assert f"largest component {np.abs(forces).max():.1f} eV/Å" in card
    assert f"reaches {np.abs(forces.sum(axis=1)).max():.2f} eV/Å" in card


def test_rattled_copies_stay_with_their_origin(frames):
    units = near_copies(frames)
    pairs = [(17, 0), (18, 2), (19, 4), (20, 11), (21, 13), (22, 15)]
    assert all(units[copy] == units[origin] for copy, origin in pairs)
    assert len(set(units)) == len(frames) - len(pairs)
    for seed in range(10):
        split = balanced_split(tag_groups(frames, "replica"), 0.2, np.random.default_rng(seed), units=units)
        assert 6 <= len(split.test) <= 10
        assert not {units[k] for k in split.test} & {units[k] for k in split.train}


def test_cp2k_input_belongs_to_the_first_frame(frames):
    text = (shipped_path().parent / "limof5_cp2k.inp").read_text()
    coordinates = re.search(r"^    &COORD\n(.*)    &END COORD", text, re.DOTALL | re.MULTILINE)[1].split()
    positions = np.array(coordinates).reshape(-1, 4)
    assert positions[:, 0].tolist() == frames[0].symbols
    np.testing.assert_allclose(positions[:, 1:].astype(float), frames[0].positions, atol=1e-7)
    assert "CUTOFF 300" in text
    assert "DFTD3(BJ)" in text
