"""Frames whose framework lacks bonds that others have."""

import numpy as np
from ase import Atoms
from ase.build import molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from qiskit_qff.structures.dataset import missing_bonds, whole_frames
from qiskit_qff.structures.frame import Frame

CELL = 14.0


def frame_of(atoms):
    return Frame(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)


def box(seed):
    """Two methanols and a lithium in a periodic box, a little shaken."""
    first, second = molecule("CH3OH"), molecule("CH3OH")
    second.translate([6.0, 1.0, 0.5])
    atoms = first + second + Atoms("Li", positions=[[3.0, 3.0, 3.0]])
    atoms.set_cell([CELL] * 3)
    atoms.pbc = True
    atoms.positions += np.random.default_rng(seed).normal(scale=0.03, size=atoms.positions.shape)
    return atoms


def opened(atoms, symbol="O"):
    """The same with the first atom of a kind far from the rest."""
    broken = atoms.copy()
    broken.positions[broken.symbols.search(symbol)[0]] += [0.0, 0.0, 5.0]
    return broken


def test_a_broken_frame_is_found_and_named():
    frames = [frame_of(box(seed)) for seed in range(5)]
    frames[3] = frame_of(opened(box(3)))
    assert missing_bonds(frames) == {3: "1 of 2 H-O bonds, 1 of 2 C-O bonds"}
    assert whole_frames(frames) == [frames[k] for k in (0, 1, 2, 4)]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), broken=st.booleans())
def test_order_place_orientation_and_ions_do_not_matter(seed, broken):
    rng = np.random.default_rng(seed)
    frames = []
    for k in range(4):
        atoms = opened(box(k)) if broken and k == 1 else box(k)
        axis = rng.normal(size=3)
        atoms.rotate(float(rng.uniform(0, 360)), axis, rotate_cell=True)
        atoms.translate(rng.uniform(0, CELL, size=3))
        atoms.wrap()
        atoms.positions[-1] = rng.uniform(0, CELL, size=3)  # the lithium, next to anything
        frames.append(frame_of(atoms[rng.permutation(len(atoms))]))
    frames.append(frame_of(box(9)[:-1]))  # no lithium at all
    assert list(missing_bonds(frames)) == ([1] if broken else [])
