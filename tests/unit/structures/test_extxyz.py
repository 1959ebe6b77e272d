"""Extended XYZ: what is read as ASE reads it, and what is refused with the place named."""

import io
from contextlib import suppress

import numpy as np
import pytest
from ase.io import read, write
from hypothesis import given, settings
from hypothesis import strategies as st

from qiskit_qff.errors import DataError
from qiskit_qff.structures.reading import read_frames

HEADER = 'Lattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3:forces:R:3 energy=-1.5'
ATOMS = ["H 0 0 0 0.1 0.2 0.3", "O 0 0 1 -0.1 -0.2 -0.3"]


@pytest.fixture(scope="module")
def parse(tmp_path_factory):
    path = tmp_path_factory.mktemp("extxyz") / "a.xyz"

    def parsed(text):
        path.write_text(text)
        return read_frames(path, strict=False)

    return parsed


def text_of(header=HEADER, atoms=ATOMS, count=None):
    return "\n".join([str(count or len(atoms)), header, *atoms]) + "\n"


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(1, 1, 1), (1, 0, 1), (0, 0, 0)]), st.booleans())
def test_reads_what_ase_writes_as_ase_reads_it(parse, seed, pbc, has_labels):
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 9))
    atoms = Atoms(rng.integers(1, 90, n), positions=rng.normal(0, 9, (n, 3)), pbc=pbc)
    atoms.cell = rng.normal(0, 5, (3, 3))
    atoms.info.update(replica="A", step=int(rng.integers(99)), note="two words", vector=rng.normal(size=3))
    atoms.set_array("charges", rng.normal(size=n))
    if has_labels:
        atoms.calc = SinglePointCalculator(
            atoms, energy=rng.normal(), forces=rng.normal(size=(n, 3)), stress=rng.normal(size=6)
        )
    text = io.StringIO()
    write(text, [atoms, atoms], format="extxyz")
    frames = parse(text.getvalue())
    text.seek(0)
    wanted = read(text, format="extxyz", index=0)
    assert len(frames) == 2
    assert np.array_equal(frames[0].numbers, wanted.numbers)
    assert np.array_equal(frames[0].positions, wanted.positions)
    assert np.array_equal(frames[0].cell, wanted.cell.array)
    assert np.array_equal(frames[0].pbc, wanted.pbc)
    assert frames[0].tags == {key: atoms.info[key] for key in ("replica", "step", "note")}
    if has_labels:
        assert frames[0].energy == wanted.get_potential_energy()
        assert np.array_equal(frames[0].forces, wanted.get_forces())
        np.testing.assert_allclose(frames[0].stress, wanted.get_stress(voigt=False), atol=1e-15)
    else:
        assert frames[0].energy is None


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_file_is_read_or_refused_but_never_breaks_the_reader(parse, data):
    text = text_of() + text_of()
    start = data.draw(st.integers(0, len(text) - 1))
    stop = data.draw(st.integers(start, min(len(text), start + 30)))
    damaged = text[:start] + data.draw(st.text(max_size=8)) + text[stop:]
    with suppress(DataError):
        assert all(frame.n_atoms > 0 for frame in parse(damaged))
