"""Pictures of structures: molecules in one piece, bonds of the framework only, arrows as long as the forces."""

import numpy as np
import pytest
from ase.build import molecule

from qiskit_qff.report.structure import structure_figure, whole
from qiskit_qff.structures.frame import Frame


def test_a_molecule_across_the_border_is_drawn_whole() -> None:
    atoms = molecule("CH3CH2OH", vacuum=3.0)
    atoms.pbc = True
    expected = atoms.get_all_distances()
    atoms.positions += [0.0, 0.0, 0.5 * atoms.cell[2, 2]]
    atoms.wrap()
    assert not np.allclose(atoms.get_all_distances(), expected)
    drawn, bonds = whole(Frame.from_atoms(atoms))
    np.testing.assert_allclose(drawn.get_all_distances(), expected, atol=1e-9)
    assert len(bonds) == 8
    middle = drawn.cell.scaled_positions(drawn.positions.mean(axis=0))
    assert ((middle >= 0.0) & (middle < 1.0)).all()


@pytest.mark.parametrize("scale", [1.0, 0.0])
def test_arrows_have_the_length_of_the_force(rng, scale) -> None:
    forces = scale * rng.normal(size=(3, 3))
    frame = Frame([3, 8, 30], 5.0 * rng.random((3, 3)), 5.0 * np.eye(3), [True] * 3)
    figure = structure_figure(frame, {"ab initio": forces, "twice": 2.0 * forces})
    one, two = (found for found in figure.axes[0].collections if hasattr(found, "U"))
    np.testing.assert_allclose(two.U, 2.0 * one.U, atol=1e-12)
    np.testing.assert_allclose(two.V, 2.0 * one.V, atol=1e-12)
    lengths, sizes = np.hypot(one.U, one.V), np.linalg.norm(forces, axis=1)
    assert (lengths <= 2.2 / (np.quantile(np.r_[sizes, 2 * sizes], 0.9) or 1.0) * sizes + 1e-9).all()
