"""Every format in and out, several sources at once, and files that can't be read."""

import bz2
import gzip
import lzma
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.db import connect
from ase.io import write

from qiskit_qff.errors import DataError
from qiskit_qff.structures.dataset import read_frames


def assert_alike(found, wanted, *, tolerance=1e-7):
    assert len(found) == len(wanted)
    for index, (one, other) in enumerate(zip(found, wanted, strict=True)):
        assert one.index == index
        assert one.symbols == other.symbols
        assert one.energy == pytest.approx(other.energy, abs=tolerance)
        for name in ("positions", "cell", "forces", "stress"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=tolerance)
        assert np.array_equal(one.pbc, other.pbc)


@pytest.mark.parametrize("suffix", ["", ".xz", ".gz", ".bz2"])
def test_extended_xyz_compressed_or_not(tmp_path, salts, suffix):
    plain = tmp_path / "salt.extxyz"
    write(plain, [frame.to_atoms() for frame in salts])
    path = tmp_path / f"other.xyz{suffix}"
    opener = {"": open, ".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}[suffix]
    with opener(path, "wt") as handle:
        handle.write(plain.read_text())
    found = read_frames(path)
    assert_alike(found, salts)
    assert found[2].where == f"{path}, frame 2"


def write_database(path, frames):
    with connect(path) as database:
        for frame in frames:
            database.write(frame.to_atoms())


@pytest.mark.parametrize("name", ["vasprun.xml", "run.traj", "data.db"])
def test_vasp_with_all_steps_trajectories_and_databases(tmp_path, salts, vasprun, name):
    path = tmp_path / name
    make = {
        "vasprun.xml": lambda: path.write_text(vasprun(salts)),
        "run.traj": lambda: write(path, [frame.to_atoms() for frame in salts]),
        "data.db": lambda: write_database(path, salts),
    }
    make[name]()
    assert_alike(read_frames(path), salts)


@pytest.mark.parametrize("name", ["positions", "forces", "energy", "stress", "cell"])
def test_numbers_that_are_none_are_refused_unless_asked_for(make_salt, name):
    frame = make_salt()
    value = np.array(getattr(frame, name), dtype=float)
    value[(5, 1) if value.shape == (8, 3) else ...] = np.nan
    bad = replace(frame, **{name: value})
    place = r", atom 5: the (position|force)" if value.shape == (8, 3) else f": the {name}"
    with pytest.raises(DataError, match=rf"salt\.extxyz, frame 0{place} .*not finite"):
        read_frames(bad)
    assert len(read_frames(bad, strict=False)) == 1


def write_bytes(name, content):
    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content)
        return path

    return make


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (write_bytes("a.xyz", b""), "the file is empty"),
        (write_bytes("a.extxyz.xz", b""), "the file is empty"),
        (write_bytes("a.xyz", b"\n \n"), "holds no frame"),
        (write_bytes("a.xyz", b"1\n\nH 0 0 0\n\n2\n\nH 0 0 0\n"), "frame 1: can't be read.* 2 atoms announced"),
        (write_bytes("a.xyz.xz", lzma.compress(b"1\n\nH 0 0 0\n" * 99)[:-30]), "can't be read"),
        (write_bytes("a.xyz.gz", b"2\n\nH 0 0 0\nH 0 0 1\n"), "can't be read"),
        (write_bytes("a.xyz", lzma.compress(b"x" * 99)), "can't be read"),
        (write_bytes("a.traj", b"\x00" * 99), "frame 0: can't be read"),
        (write_bytes("a.db", b"SQLite format 3\x00" + b"\x01" * 99), "frame 0: can't be read"),
        (write_bytes("vasprun.xml", b"<modeling>"), "frame 0: can't be read"),
        (write_bytes("OUTCAR", b"nothing"), "can't be read"),
        (write_bytes("a.json", b"{"), "can't be read"),
        (lambda folder: folder / "absent.xyz", "no such file"),
        (lambda folder: folder, "can't be read"),
    ],
)
def test_unreadable_files_are_named_with_a_remedy(tmp_path, make, message):
    path = make(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        read_frames(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
